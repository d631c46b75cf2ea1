"""What stands beside merged weights: configuration, tokenizer, model card; and whether the model still speaks."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from corrigible._registry import bibliography, card
from corrigible.merging._checkpoints import Checkpoint, read_json
from corrigible.merging._recipe import Recipe

MARKER = "merge.json"
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt",
    "tokenizer.model", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
# Ours; a few sentences such as any language model has seen the like of.
_TEXT = """The heart pumps blood through the body. Each beat sends it to the lungs, where it takes up oxygen, and on to
every other organ. Rivers carry water from the mountains to the sea, and the sun lifts it again as vapour, which falls as
rain or snow. In 1969 two astronauts walked on the Moon while a third circled above them. To bake bread, mix flour, water,
salt and yeast, let the dough rise for an hour, and put it in a hot oven until the crust is brown."""


@dataclass(frozen=True)
class Perplexities:
    """Perplexity by model, or why there is none."""

    values: dict[str, float]
    reason: str = ""


def write_companions(folder: Path, plan: Recipe, opened: Mapping[str, Checkpoint], *, depth: int) -> None:
    """Copy configuration and tokenizer, and write the recipe and the model card."""
    first = opened[plan.base or plan.models[0]]
    config = dict(first.config)
    if config:
        if plan.dtype:
            config.pop("torch_dtype", None)
            config["dtype"] = plan.dtype
        if plan.slices[0].sources[0].layers is not None:
            for key in ("num_hidden_layers", "n_layer", "num_layers"):
                if key in config:
                    config[key] = depth
            config.pop("layer_types", None)  # one entry a layer; transformers fills it in
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if first.path.is_dir():
        source = opened.get(plan.tokenizer or "", first).folder
        for name in _TOKENIZER:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        if (first.folder / "generation_config.json").is_file():
            shutil.copyfile(first.folder / "generation_config.json", folder / "generation_config.json")
    (folder / "merge.yaml").write_text(plan.text, encoding="utf-8")
    (folder / "README.md").write_text(model_card(plan), encoding="utf-8")


def model_card(plan: Recipe) -> str:
    """Return a model card: method, papers, models and parameters."""
    names = list(dict.fromkeys(n for n in (plan.method.merger, "merge_models") if n))
    cards = [card(n) for n in names]
    entries = [bibliography()[key] for c in cards for key in c.refs]
    summary = cards[0].summary if plan.method.merger else "Copies layers."
    lines = [
        "---", "library_name: transformers", "tags: [merge, corrigible]", "---", "",
        f"# A merge by {plan.name}", "", summary,
        *([f"Differences from the paper: {cards[0].differs}"] if plan.method.merger and cards[0].differs else []), "",
        "## Models", "", *(f"- `{m}`{' (base)' if m == plan.base else ''}" for m in plan.models), "",
        "## Recipe", "", "```yaml", plan.text.strip(), "```", "",
        "## Papers", "", "```bibtex", "\n\n".join(entries), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def perplexities(folder: Path, opened: Mapping[str, Checkpoint], text: str | None) -> Perplexities:
    """Return the perplexity of the merged model and of its parts, or why it cannot be measured."""
    if find_spec("transformers") is None or find_spec("torch") is None:
        return Perplexities({}, "transformers is not installed (pip install 'corrigible[lm]')")
    config = read_json(folder / "config.json")
    if not any("CausalLM" in a or "LMHead" in a for a in config.get("architectures") or []):
        return Perplexities({}, "the configuration names no causal language model")
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        return Perplexities({}, "there is no tokenizer")
    plain = {n: c.folder for n, c in opened.items() if c.path.is_dir() and c._adapter is None}
    folders = {"merged": folder, **plain}
    return Perplexities({name: perplexity(path, text or _TEXT) for name, path in folders.items()})


def perplexity(folder: Path, text: str) -> float:
    """Return the perplexity of a causal language model's folder on a text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    longest = min(getattr(model.config, "max_position_embeddings", 512) or 512, 512)
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :longest]
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    return math.exp(min(loss, 700.0))
