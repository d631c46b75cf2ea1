"""Models on disk: safetensors files and folders, sharded or not, pickles that are trusted, and bases with an adapter."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from corrigible._core.tensor_blocks import FLOAT_KINDS, InMemory, Tensor, widened
from corrigible._core.tensor_files import TensorFiles
from corrigible._utils.optional import require
from corrigible.errors import DataError, UnsafeFileError, nearest

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ADAPTER = "adapter_model.safetensors"


class Checkpoint:
    """Tensors by name, and the configuration beside them.

    Parameters
    ----------
    reference : str
        A safetensors file or a folder; ``"base+adapter"`` is a folder with a PEFT adapter applied. An adapter's folder
        by itself stands for its base, as its configuration names it, with the adapter applied.
    trust_pickle : bool
        Read ``.bin`` files of torch.
    default_base : str, optional
        Base of an adapter that is named by itself.
    """

    def __init__(self, reference: str, *, trust_pickle: bool = False, default_base: str | None = None) -> None:
        self.reference = reference
        path, _, adapter = reference.partition("+") if not Path(reference).exists() else (reference, "", "")
        if not adapter and (Path(path) / _ADAPTER).is_file():
            path, adapter = _base_of(Path(path), default_base), path
        self.path = Path(path)
        self.folder = self.path if self.path.is_dir() else self.path.parent
        if not self.path.exists():
            siblings = [p.name for p in self.path.parent.iterdir()] if self.path.parent.is_dir() else []
            raise DataError(
                f"There is no model at {path!r}.{nearest(self.path.name, siblings)} Models must be local files or folders."
            )
        self.tensors, self._files = _opened(self.path, reference, trust_pickle)
        self._adapter: TensorFiles | None = None
        if adapter:
            self._adapter = TensorFiles([_adapter_file(Path(adapter))], reference)
            self.tensors = _adapted(self.tensors, self._adapter, Path(adapter), reference)
        self.config: dict[str, Any] = {}
        if self.path.is_dir():
            self.config = read_json(self.folder / "config.json")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {name: t.shape for name, t in self.tensors.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for files in (self._files, self._adapter):
            if files is not None:
                files.close()


class _Adapted:
    """A weight with a low-rank product added, computed for the rows that are asked for."""

    def __init__(self, weight: Tensor, up: NDArray[Any], down: NDArray[Any], scale: float, *, turned: bool) -> None:
        self.shape, self.label = weight.shape, weight.label
        self.kind = "float64" if weight.kind == "float64" else "float32"
        self._weight = weight
        # A layer that keeps its weight as (inputs, outputs) has the product turned: (B A)^T = A^T B^T.
        self._left, self._right = (down.T, up.T) if turned else (up, down)
        self._scale = scale

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return values ``start`` to ``stop`` of the flattened weight with the adapter applied."""
        wide = np.dtype(self.kind)
        values = widened(self._weight.read(start, stop), self._weight.kind, wide).copy()
        width = self.shape[1]
        first, last = start // width, -(-stop // width)
        product = (self._left[first:last] @ self._right).reshape(-1)
        values += wide.type(self._scale) * product[start - first * width : stop - first * width]
        return values


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The file {str(path)!r} is no readable JSON ({error}).") from error
    if not isinstance(found, dict):
        raise DataError(f"The file {str(path)!r} must hold a JSON object.")
    return found


def _opened(path: Path, owner: str, trust_pickle: bool) -> tuple[dict[str, Tensor], TensorFiles | None]:
    files = [path] if path.is_file() else _files_of(path)
    if all(f.suffix == ".safetensors" for f in files):
        opened = TensorFiles(files, owner)
        return dict(opened.tensors), opened
    if not trust_pickle:
        raise UnsafeFileError(
            f"The weights {str(files[0])!r} are no safetensors file but a pickle, which can run code when loaded. Save "
            "them with save_pretrained(safe_serialization=True), or pass --trust-pickle if you made the file yourself."
        )
    return _unpickled(files, owner), None


def _files_of(folder: Path) -> list[Path]:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            where = read_json(folder / f"{name}.index.json").get("weight_map", {})
            files = [folder / shard for shard in dict.fromkeys(where.values())]
            if absent := [f.name for f in files if not f.is_file()]:
                raise DataError(f"The model {str(folder)!r} lacks its shard {absent[0]!r}, which the index names.")
            return files
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found
    raise DataError(f"The folder {str(folder)!r} holds no model: neither model.safetensors nor an index of shards.")


def _unpickled(files: list[Path], owner: str) -> dict[str, Tensor]:
    torch = require("torch", extra="torch", by="Reading a .bin file")
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # whatever a damaged pickle raises
            raise DataError(f"The weights {str(path)!r} cannot be loaded ({type(error).__name__}).") from error
        for name, value in state.items():
            half = value.dtype == torch.bfloat16
            array = (value.view(torch.uint16) if half else value).numpy()
            tensor = InMemory(array, f"{name} of {owner}")
            tensor.kind = "bfloat16" if half else tensor.kind
            found[name] = tensor
    return found


def _base_of(adapter: Path, default: str | None) -> str:
    named = read_json(adapter / "adapter_config.json").get("base_model_name_or_path")
    for base in (default, named):
        if base and Path(base).exists():
            return str(base)
    raise DataError(
        f"The adapter {str(adapter)!r} needs its base {named!r} as a local folder. Name it as base_model, or write the "
        "model as 'base+adapter'."
    )


def _adapter_file(folder: Path) -> Path:
    path = folder / _ADAPTER
    if not path.is_file():
        raise DataError(f"The adapter {str(folder)!r} holds no {_ADAPTER}.")
    return path


def _adapted(tensors: dict[str, Tensor], adapter: TensorFiles, folder: Path, owner: str) -> dict[str, Tensor]:
    """Return the tensors with the low-rank products of a PEFT adapter applied."""
    config = read_json(folder / "adapter_config.json")
    if config.get("use_dora") or config.get("peft_type", "LORA") != "LORA":
        raise DataError(f"The adapter {str(folder)!r} must be plain LoRA. Merge it into its base with PEFT first.")
    found, turned = dict(tensors), bool(config.get("fan_in_fan_out"))
    downs = [name for name in adapter.tensors if name.endswith(".lora_A.weight")]
    for name in downs:
        stem = name.removesuffix(".lora_A.weight")
        module = stem.removeprefix("base_model.model.")
        target = next(
            (t for t in (f"{module}.weight", f"{module.removeprefix('model.')}.weight") if t in tensors), None
        )
        if target is None:
            raise DataError(f"The adapter {owner!r} changes {module!r}, which its base does not have.")
        down, up = (_matrix(adapter.tensors[f"{stem}.lora_{x}.weight"]) for x in "AB")
        rank = len(down)
        alpha = config.get("alpha_pattern", {}).get(module, config.get("lora_alpha", rank))
        scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
        weight = tensors[target]
        if tuple(weight.shape) != ((down.shape[1], up.shape[0]) if turned else (up.shape[0], down.shape[1])):
            raise DataError(f"The adapter {owner!r} does not fit {target!r}, whose shape is {weight.shape}.")
        found[target] = _Adapted(weight, up, down, scale, turned=turned)
    if not downs:
        raise DataError(f"The adapter {owner!r} holds no lora_A weights.")
    return found


def _matrix(tensor: Any) -> NDArray[np.float32]:
    size = math.prod(tensor.shape)
    return widened(tensor.read(0, size), tensor.kind, np.dtype(np.float32)).reshape(tensor.shape).astype(np.float32)


def tokenizer_bytes(folder: Path) -> tuple[bytes, ...]:
    """Return the files that number a folder's tokens, as they are."""
    files = (folder / name for name in ("tokenizer.json", "vocab.json"))
    return tuple(f.read_bytes() if f.is_file() else b"" for f in files)


def vocabulary(folder: Path) -> dict[str, int] | None:
    """Return token to number of a folder's tokenizer, or None if it has none that can be read."""
    found: dict[str, int] = {}
    with suppress(DataError):
        tokenizer = read_json(folder / "tokenizer.json")
        model = tokenizer.get("model", {}).get("vocab")
        if isinstance(model, list):  # unigram: pairs of token and score
            model = {pair[0]: i for i, pair in enumerate(model)}
        found = dict(model or read_json(folder / "vocab.json"))
        found |= {t["content"]: t["id"] for t in tokenizer.get("added_tokens", [])}
    return found or None


def is_float(tensor: Tensor) -> bool:
    """Whether a tensor can be merged; others, such as integer buffers, are copied."""
    return tensor.kind in FLOAT_KINDS
