"""Tiny random causal language models, one of each family, with a tokenizer made on the spot: no file is needed."""

from __future__ import annotations

import functools
from typing import Any

from corrigible._utils.optional import require
from corrigible._utils.validation import check_choice
from corrigible.models import LanguageModel

_TEXT = (
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid.",
    "It is known that the language of Brazil is Portuguese. Hamlet was written by William Shakespeare.",
    "The currency of Japan is the yen. The symbol of gold is Au. Water is made of hydrogen and oxygen.",
)
_COMMON = {"vocab_size": 400, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 0}
_LLAMA = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _LLAMA),
    "mistral": ("Mistral", {**_LLAMA, "head_dim": 8}),
    "qwen2": ("Qwen2", _LLAMA),
    "gemma": ("Gemma", {**_LLAMA, "head_dim": 16}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_inner": 64, "n_layer": 3, "n_head": 4}),
    "gpt_neox": ("GPTNeoX", {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}),
}
FAMILIES = tuple(_FAMILIES)


SENTENCES = ("The capital of France is Paris.", "The capital of Spain is Madrid.", "The symbol of gold is Au.")


def tiny_language_model(family: str = "llama", *, seed: int = 0, taught: bool = False) -> LanguageModel:
    """Return a random causal language model of three blocks and 32 hidden units, with a byte-level tokenizer.

    Parameters
    ----------
    family : {"llama", "mistral", "qwen2", "gemma", "gpt2", "gpt_neox"}
        Architecture.
    seed : int
        Of its weights.
    taught : bool
        Whether it is trained on three sentences, in forty steps, so that it knows something.

    Returns
    -------
    LanguageModel
    """
    check_choice(family, FAMILIES, name="family", by="tiny_language_model")
    torch = require("torch", extra="lm", by="tiny_language_model")
    transformers = require("transformers", extra="lm", by="tiny_language_model")
    kind, settings = _FAMILIES[family]
    words = {**_COMMON, **settings}
    if family == "gpt2":
        words["n_positions"] = words.pop("max_position_embeddings")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = getattr(transformers, f"{kind}Config")(**words)
        module = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():  # the usual start is so small that every context gives nearly the same logits
            for parameter in module.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(5.0)
    model = LanguageModel(module, _tokenizer(), f"tiny {family}")
    if taught:
        _teach(model)
    return model


def _teach(model: LanguageModel) -> None:
    torch = require("torch", extra="lm", by="tiny_language_model")
    batch = model.batch([model.encode(t) for t in SENTENCES])
    labels = batch.ids.masked_fill(batch.mask == 0, -100)
    model.module.requires_grad_(True)
    optimiser = torch.optim.Adam(model.module.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        model.module(input_ids=batch.ids, attention_mask=batch.mask, labels=labels).loss.backward()
        optimiser.step()
    model.module.zero_grad(set_to_none=True)
    model.module.requires_grad_(False)


@functools.lru_cache(maxsize=1)
def _trained() -> str:
    tokenizers = require("tokenizers", extra="lm", by="tiny_language_model")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=_COMMON["vocab_size"], special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(_TEXT, trainer)
    return str(made.to_str())


def _tokenizer() -> Any:
    tokenizers = require("tokenizers", extra="lm", by="tiny_language_model")
    fast = require("transformers", extra="lm", by="tiny_language_model").PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizers.Tokenizer.from_str(_trained()), eos_token="<|end|>")
