"""Merge models on disk by a recipe, tensor by tensor and block by block.

Paper: Arcee's MergeKit: A Toolkit for Merging Large Language Models (Goddard, Siriwardhana, Ehghaghi, Meyers, Karpukhin,
Benedict, McQuade, Solawetz, EMNLP Industry 2024).
Original: https://github.com/arcee-ai/mergekit
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from corrigible._card import Card
from corrigible._core.model_weights import differences
from corrigible._core.tensor_blocks import Aligned, Tensor
from corrigible._core.tensor_files import StoredSink, TensorWriter, stored_dtype
from corrigible._registry import load
from corrigible._utils.folders import check_folder, new_folder
from corrigible._utils.validation import check_count
from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging._checkpoints import Checkpoint, is_float, tokenizer_bytes, vocabulary
from corrigible.merging._folder import MARKER, Perplexities, perplexities, write_companions
from corrigible.merging._recipe import Recipe, Slice, Source, read_recipe

CARD = Card(
    name="merge_models",
    kind="merger",
    obj="merge_models",
    also=("MergeReport",),
    papers=("merge_survey",),
    refs=("goddard2024arcee",),
    source="https://github.com/arcee-ai/mergekit",
    differs="Reads mergekit's recipes for the methods both have, from local files. Sums are taken in float32 whatever "
    "the dtype. Tokenizers must hold the same tokens; nothing is added to or cut from embeddings.",
    inputs="recipe, out",
    stochastic=True,
    cost="As the recipe's merger, one pass over the files or a few; memory of a few blocks a thread",
    use_when="Models of any size are merged on a machine that need not hold one of them.",
    avoid_when="Models differ in architecture or tokens.",
)

_LAYER = re.compile(r"^(?P<head>(?:[^.]*\.)*?)(?P<number>\d+)\.")


@dataclass(frozen=True)
class MergeReport:
    """Outcome of `merge_models`.

    Attributes
    ----------
    out : Path
        The merged model's folder.
    method : str
        As the recipe names it.
    n_tensors, n_parameters : int
        What was written.
    seconds : float
        Merging and writing, without the check.
    perplexities : dict of str to float
        Of the merged model (``"merged"``) and each model that went into it; empty if not measured.
    unchecked : str
        Why perplexities were not measured; empty if they were.
    """

    out: Path
    method: str
    n_tensors: int
    n_parameters: int
    seconds: float
    perplexities: dict[str, float] = field(default_factory=dict)
    unchecked: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-ready dict."""
        return {**vars(self), "out": str(self.out)}


@dataclass(frozen=True)
class _Task:
    """One tensor of the result."""

    name: str
    inputs: list[Tensor]
    base: Tensor | None
    kind: str
    arguments: dict[str, Any]


def merge_models(
    recipe: str | Path | dict[str, Any],
    out: str | Path,
    *,
    n_threads: int | None = None,
    shard_bytes: int = 5_000_000_000,
    trust_pickle: bool = False,
    check: bool = True,
    text: str | None = None,
    overwrite: bool = False,
    rng: int = 0,
) -> MergeReport:
    """Merge models on disk into a new folder that loads as they do.

    Parameters
    ----------
    recipe : str, Path or dict
        A YAML file with ``merge_method``, ``models`` (or ``slices``), ``base_model``, ``parameters``, ``dtype`` and
        ``tokenizer_source``, as mergekit reads; or what such a file holds. A model is a local folder or safetensors
        file, sharded or not; a PEFT adapter's folder, or ``"base+adapter"``.
    out : str or Path
        Folder to write: weights, configuration, tokenizer, a model card and the recipe. Nothing is left of it if
        anything fails.
    n_threads : int, optional
        Tensors merged at once; by default the number of cores, at most 8. It changes no bit of the result.
    shard_bytes : int, default=5_000_000_000
        Size of a file of weights from which on a further one is begun.
    trust_pickle : bool, default=False
        Read pickled ``.bin`` files, which can run code.
    check : bool, default=True
        Load the result and its parts, and measure their perplexity, where transformers is installed and the models
        are language models.
    text : str, optional
        What perplexity is measured on; by default a few sentences of general knowledge.
    overwrite : bool, default=False
        Replace an earlier merge in the folder.
    rng : int, default=0
        Seed of methods that drop weights at random; every tensor has a stream of its own.

    Returns
    -------
    MergeReport
        What was written, and how the result fares beside its parts.

    Raises
    ------
    DataError
        If models differ in architecture or tokens, a file is damaged, or a weight is not finite.
    UnknownNameError
        If the recipe has a key or method that is not known.
    UnsafeFileError
        If weights are pickled and not trusted.

    References
    ----------
    .. [1] Goddard, C. et al. (2024). Arcee's MergeKit: A Toolkit for Merging Large Language Models. EMNLP Industry.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from corrigible._core.tensor_files import read_tensors, write_tensors
    >>> from corrigible.merging import merge_models
    >>> folder = Path(tempfile.mkdtemp())
    >>> for i in range(2):
    ...     write_tensors(folder / f"{i}.safetensors", {"w": np.full(3, float(i))})
    >>> models = [{"model": str(folder / f"{i}.safetensors")} for i in range(2)]
    >>> report = merge_models({"merge_method": "linear", "models": models}, folder / "merged")
    >>> read_tensors(report.out / "model.safetensors")["w"]
    array([0.5, 0.5, 0.5])
    """
    threads = (
        min(8, os.cpu_count() or 1)
        if n_threads is None
        else check_count(n_threads, name="n_threads", by="merge_models")
    )
    check_count(shard_bytes, name="shard_bytes", by="merge_models")
    check_folder(out, marker=MARKER, overwrite=overwrite)
    plan = read_recipe(recipe)
    start = time.perf_counter()
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(Checkpoint(name, trust_pickle=trust_pickle, default_base=plan.base))
            for name in plan.models
        }
        _check_same(plan, opened)
        tasks = list(_tasks(plan, opened))
        written = [(t.name, tuple((t.inputs[0]).shape), t.kind) for t in tasks]
        with new_folder(out, marker=MARKER, overwrite=overwrite) as folder:
            with TensorWriter(folder, written, shard_bytes=shard_bytes) as writer:
                _run(tasks, writer, plan, threads, rng)
            depth = _depth(t.name for t in tasks)
            write_companions(folder, plan, opened, depth=depth)
            seconds = time.perf_counter() - start
            measured = Perplexities({}, "not asked for")
            if check:
                measured = perplexities(folder, opened, text)
            report = MergeReport(
                Path(out), plan.name, len(tasks), sum(int(np.prod(shape, dtype=np.int64)) for _, shape, _ in written),
                round(seconds, 3), measured.values, measured.reason,
            )  # fmt: skip
            (folder / MARKER).write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    return report


def _run(tasks: list[_Task], writer: TensorWriter, plan: Recipe, threads: int, seed: int) -> None:
    """Merge all tensors, the largest first, so that none is left for the end."""
    order = sorted(tasks, key=lambda t: -int(np.prod(t.inputs[0].shape, dtype=np.int64)))
    merger = load(plan.method.merger) if plan.method.merger else None
    stochastic = plan.method.merger == "dare"

    def one(task: _Task) -> None:
        sink = writer.sinks[task.name]
        if merger is None or not is_float(task.inputs[0]):
            return _copy(task, sink)
        words = dict(task.arguments)
        if stochastic:
            digest = hashlib.sha256(task.name.encode()).digest()
            words["rng"] = np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])
        merger(task.inputs, task.base, **words, out=sink)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(one, task) for task in order]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _copy(task: _Task, sink: StoredSink) -> None:
    tensor = task.inputs[0]
    if is_float(tensor):
        aligned = Aligned([tensor], by="passthrough")
        aligned.fill(lambda start, stop: aligned.values(tensor, start, stop), sink)
        return
    size = int(np.prod(tensor.shape, dtype=np.int64))
    sink.write(0, tensor.read(0, size).astype(stored_dtype(sink.kind), copy=False))


def _tasks(plan: Recipe, opened: dict[str, Checkpoint]) -> Iterator[_Task]:
    """Yield what is to be computed for each tensor of the result."""
    offset = 0
    for position, part in enumerate(plan.slices):
        layer_of = _layers(opened[part.sources[0].model].tensors)
        span = part.sources[0].layers or (0, _depth(layer_of))
        for source in part.sources:
            if source.layers and source.layers[1] > (there := _depth(opened[source.model].tensors)):
                raise InvalidParameterError(
                    f"The recipe takes layers {list(source.layers)} of {source.model!r}, which has {there}."
                )
        for name, number in layer_of.items():
            if number is None:
                # What stands outside the layers comes with the first slice if it is an embedding, else with the last.
                if position != (0 if _is_embedding(name) else len(plan.slices) - 1):
                    continue
                yield _task(plan, part, opened, [name] * len(part.sources), name, 0.0)
            elif span[0] <= number < span[1]:
                depth = number - span[0]
                t = depth / (span[1] - span[0] - 1) if span[1] - span[0] > 1 else 1.0
                names = [_moved(name, depth + (s.layers or (0, 0))[0]) for s in part.sources]
                yield _task(plan, part, opened, names, _moved(name, depth + offset), t)
        offset += span[1] - span[0]


def _task(plan: Recipe, part: Slice, opened: dict[str, Checkpoint], names: list[str], made: str, t: float) -> _Task:
    pairs = list(zip(part.sources, names, strict=True))
    base = None
    if plan.method.base:
        assert plan.base is not None
        base_name = next((n for s, n in pairs if s.model == plan.base), names[0])
        base = _tensor(opened, plan.base, base_name)
        pairs = [(s, n) for s, n in pairs if s.model != plan.base] or pairs
    elif plan.name == "slerp":
        pairs = _ends(plan, pairs)
    inputs = [_tensor(opened, s.model, n) for s, n in pairs]
    first = inputs[0] if base is None else base
    kind = plan.dtype if plan.dtype and is_float(first) else first.kind
    return _Task(made, inputs, base, kind, plan.arguments(part, [s for s, _ in pairs], made, t))


def _ends(plan: Recipe, pairs: list[tuple[Source, str]]) -> list[tuple[Source, str]]:
    """Return the two ends of a slerp: the base, at t = 0, and the other."""
    if plan.base is not None:
        others = [p for p in pairs if p[0].model != plan.base]
        here = next((p for p in pairs if p[0].model == plan.base), (Source(plan.base, {}), pairs[0][1]))
        pairs = [here, *others]
    if len(pairs) != 2:
        raise InvalidParameterError(f"slerp merges two models. The recipe has {len(pairs)}.")
    return pairs


def _tensor(opened: dict[str, Checkpoint], model: str, name: str) -> Tensor:
    tensors = opened[model].tensors
    if name not in tensors:
        raise DataError(f"The model {model!r} has no tensor {name!r}. Check the recipe's layer_range.")
    return tensors[name]


def _layers(names: Iterable[str]) -> dict[str, int | None]:
    """Return the number of each tensor's layer: the first number of its name; None outside of layers."""
    return {name: int(m["number"]) if (m := _LAYER.match(name)) else None for name in names}


def _moved(name: str, number: int) -> str:
    return _LAYER.sub(lambda m: f"{m['head']}{number}.", name, count=1)


def _is_embedding(name: str) -> bool:
    return "emb" in name or name.rsplit(".", 2)[-2:-1] in (["wte"], ["wpe"])


def _depth(names: Iterable[str]) -> int:
    return max((n for n in _layers(names).values() if n is not None), default=-1) + 1


def _check_same(plan: Recipe, opened: dict[str, Checkpoint]) -> None:
    """Refuse models of other architectures or tokens."""
    names = list(opened)
    if plan.slices[0].sources[0].layers is None:
        if differing := differences([opened[n].shapes for n in names], [repr(n) for n in names]):
            raise DataError(f"The models differ in architecture: {differing}.")
    for key in ("model_type", "num_attention_heads", "num_key_value_heads", "hidden_size", "hidden_act"):
        said = {n: opened[n].config[key] for n in names if key in opened[n].config}
        if len(set(map(str, said.values()))) > 1:
            listed = ", ".join(f"{v} in {n!r}" for n, v in said.items())
            raise DataError(f"The models differ in architecture: {key} is {listed}.")
    if plan.tokenizer not in (None, "base", *opened):
        raise InvalidParameterError(
            f"tokenizer_source must be 'base' or one of the models. Got {plan.tokenizer!r}."
        )
    if plan.tokenizer is not None:  # the user has chosen, knowing the models
        return
    _check_same_tokens({n: opened[n].folder for n in names if opened[n].path.is_dir()})


def _check_same_tokens(folders: dict[str, Path]) -> None:
    """Refuse tokenizers that number tokens otherwise; files that are the same byte for byte need no reading."""
    if len({tokenizer_bytes(folder) for folder in folders.values()}) <= 1:
        return
    words = {n: vocabulary(folder) for n, folder in folders.items()}
    known = {n: v for n, v in words.items() if v is not None}
    for other in list(known)[1:]:
        first = next(iter(known))
        if known[first] != known[other]:
            apart = sorted(
                k for k in known[first].keys() | known[other].keys() if known[first].get(k) != known[other].get(k)
            )
            shown = ", ".join(
                f"{t!r} ({known[first].get(t, 'absent')} in {first!r}, {known[other].get(t, 'absent')} in {other!r})"
                for t in apart[:10]
            )
            raise DataError(
                f"The tokenizers differ in {len(apart)} tokens: {shown}. Name the one to keep with tokenizer_source if "
                "the rows of the embeddings agree all the same."
            )
