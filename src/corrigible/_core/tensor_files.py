"""Safetensors files read and written tensor by tensor, any slice at a time, so that memory does not grow with them.

The format is eight bytes of header length, a JSON header of name to dtype, shape and offsets, and the values. A header
is checked against the file before anything is read.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from corrigible.errors import DataError

_KINDS = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I8": "int8", "I16": "int16",
    "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
_NAMES = {kind: name for name, kind in _KINDS.items()}
_LONGEST_HEADER = 100_000_000  # as the format's own reader


class StoredTensor:
    """A tensor in a file, read slice by slice; a `corrigible._core.tensor_blocks.Tensor`."""

    def __init__(self, file: _File, start: int, shape: tuple[int, ...], kind: str, label: str) -> None:
        self.shape, self.kind, self.label = shape, kind, label
        self.size = math.prod(shape)
        self._file, self._start, self._dtype = file, start, stored_dtype(kind)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the stored values ``start`` to ``stop`` of the flattened tensor, in a new array."""
        values = np.empty(stop - start, dtype=self._dtype)
        self._file.read_into(values, self._start + start * self._dtype.itemsize)
        return values


class StoredSink:
    """A place for a tensor in a file that is being written; a `corrigible._core.tensor_blocks.Sink`."""

    def __init__(self, file: _File, start: int, kind: str) -> None:
        self.kind, self._file, self._start = kind, file, start

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Store values, in the form of `kind`, from position `start` of the flattened tensor."""
        self._file.write(values, self._start + start * stored_dtype(self.kind).itemsize)


class TensorFiles:
    """The tensors of one or more safetensors files by name, opened for reading.

    Parameters
    ----------
    paths : iterable of Path
        Files; no name may occur twice.
    owner : str
        The model, as the user knows it, for the tensors' labels.
    """

    def __init__(self, paths: Iterable[Path], owner: str) -> None:
        self.tensors: dict[str, StoredTensor] = {}
        self._stack = ExitStack()
        try:
            for path in paths:
                self._open(path, owner)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, owner: str) -> None:
        header, begin = read_header(path)
        file = self._stack.enter_context(_File(path, os.O_RDONLY))
        for name, entry in header.items():
            if name in self.tensors:
                raise DataError(
                    f"The tensor {name!r} of {owner!r} stands in two files. One of them is {path.name!r}."
                )
            start = begin + entry["data_offsets"][0]
            label = f"{name} of {owner}"
            kind = _KINDS.get(entry["dtype"], entry["dtype"])
            self.tensors[name] = StoredTensor(file, start, tuple(entry["shape"]), kind, label)

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TensorWriter:
    """Safetensors files whose tensors are written in any order, from any number of threads.

    Parameters
    ----------
    folder : Path
        Where; it must exist.
    tensors : list of (name, shape, kind)
        What will be written.
    shard_bytes : int
        Size from which on a further file is begun; several files get an index.
    metadata : dict of str to str, optional
        For the headers.
    stem : str
        Name of the files, before their number.
    """

    def __init__(
        self,
        folder: Path,
        tensors: list[tuple[str, tuple[int, ...], str]],
        *,
        shard_bytes: int = 5_000_000_000,
        metadata: dict[str, str] | None = None,
        stem: str = "model",
    ) -> None:
        self.sinks: dict[str, StoredSink] = {}
        self.paths: list[Path] = []
        self._stack = ExitStack()
        shards = _shards(tensors, shard_bytes)
        names = [f"{stem}.safetensors"]
        if len(shards) > 1:
            names = [f"{stem}-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
            where = {t[0]: name for name, shard in zip(names, shards, strict=True) for t in shard}
            total = sum(_bytes(t) for t in tensors)
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
            (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        try:
            for name, shard in zip(names, shards, strict=True):
                self._create(folder / name, shard, metadata or {"format": "pt"})
        except BaseException:
            self._stack.close()
            raise

    def _create(
        self, path: Path, tensors: list[tuple[str, tuple[int, ...], str]], metadata: dict[str, str]
    ) -> None:
        header: dict[str, Any] = {"__metadata__": metadata}
        end = 0
        for name, shape, kind in tensors:
            start, end = end, end + _bytes((name, shape, kind))
            header[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = self._stack.enter_context(_File(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        begin = 8 + len(text)
        os.truncate(path, begin + end)
        file.write(np.frombuffer(len(text).to_bytes(8, "little") + text, dtype=np.uint8), 0)
        for name, _, kind in tensors:
            self.sinks[name] = StoredSink(file, begin + header[name]["data_offsets"][0], kind)
        self.paths.append(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the entries of a safetensors file and where its values begin.

    Raises
    ------
    DataError
        If the file is no safetensors file, or is shorter or longer than its header says.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise DataError(
                    f"{str(path)!r} is truncated or no safetensors file: its header does not fit in it."
                )
            header = json.loads(file.read(length))
    except OSError as error:
        raise DataError(f"The weights {str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} is no safetensors file: its header is no JSON.") from error
    if not isinstance(header, dict):
        raise DataError(f"{str(path)!r} is no safetensors file: its header is no mapping.")
    header.pop("__metadata__", None)
    try:
        spans = sorted(tuple(e["data_offsets"]) for e in header.values())
        fits = all(
            entry["data_offsets"][1] - entry["data_offsets"][0]
            == math.prod(entry["shape"]) * stored_dtype(_KINDS[entry["dtype"]]).itemsize
            for entry in header.values()
            if entry["dtype"] in _KINDS
        )
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{str(path)!r} is no safetensors file: its header lacks a dtype, shape or offset."
        ) from error
    ends = [0, *(end for _, end in spans)]
    if not fits or any(start != end for (start, _), end in zip(spans, ends, strict=False)):
        raise DataError(f"The header of {str(path)!r} is damaged: offsets and shapes of its tensors do not fit.")
    begin = 8 + length
    if begin + ends[-1] != size:
        word = "truncated" if size < begin + ends[-1] else "damaged"
        raise DataError(
            f"{str(path)!r} is {word}: its header speaks of {ends[-1]:,} bytes of weights, there are "
            f"{size - begin:,}. Download or save it again."
        )
    return header, begin


def write_tensors(path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> None:
    """Write arrays to one safetensors file; bfloat16 as ml_dtypes has it."""
    entries = [(name, t.shape, t.dtype.name) for name, t in tensors.items()]
    with TensorWriter(path.parent, entries, shard_bytes=2**62, metadata=metadata, stem=path.stem) as writer:
        for name, t in tensors.items():
            flat = np.ascontiguousarray(t).reshape(-1)
            writer.sinks[name].write(0, flat.view(np.uint16) if t.dtype.name == "bfloat16" else flat)


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of one safetensors file; bfloat16 widened to float32."""
    with TensorFiles([path], str(path)) as files:
        found = {}
        for name, t in files.tensors.items():
            flat = t.read(0, t.size)
            if t.kind == "bfloat16":
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            found[name] = flat.reshape(t.shape)
        return found


def stored_dtype(kind: str) -> np.dtype[Any]:
    """Return the numpy dtype in which values of a kind are read and written."""
    if kind == "bfloat16":
        return np.dtype(np.uint16)
    return np.dtype(kind) if kind in _NAMES else np.dtype(np.uint8)


def _bytes(tensor: tuple[str, tuple[int, ...], str]) -> int:
    return math.prod(tensor[1]) * stored_dtype(tensor[2]).itemsize


def _shards(tensors: list[tuple[str, tuple[int, ...], str]], limit: int) -> list[list[Any]]:
    shards: list[list[Any]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + _bytes(tensor) > limit:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += _bytes(tensor)
    return shards


class _File:
    """A file read and written at positions, from any thread."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self._handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)
        self._lock = threading.Lock()

    def read_into(self, values: NDArray[Any], offset: int) -> None:
        left = values.data.cast("B") if values.size else memoryview(b"")
        while left:
            got = self._read(left, offset)
            if got == 0:
                raise DataError(f"The weights {str(self.path)!r} ended while they were read. Has the file changed?")
            left, offset = left[got:], offset + got

    def _read(self, into: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._handle, [into], offset)
        with self._lock:
            os.lseek(self._handle, offset, os.SEEK_SET)
            got = os.read(self._handle, len(into))
            into[: len(got)] = got
            return len(got)

    def write(self, values: NDArray[Any], offset: int) -> None:
        left = np.ascontiguousarray(values).data.cast("B") if values.size else memoryview(b"")
        while left:
            if hasattr(os, "pwrite"):
                done = os.pwrite(self._handle, left, offset)
            else:
                with self._lock:
                    os.lseek(self._handle, offset, os.SEEK_SET)
                    done = os.write(self._handle, left)
            left, offset = left[done:], offset + done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
