"""Tensors of one shape taken block by block: read, widened, combined, narrowed, written.

A merger written on blocks needs the memory of a few blocks, however large its tensors are, whether these lie in memory
or in a file. Blocks are taken in order and each is reduced by itself, so that a result has the same bits in any number
of threads. Half precision is widened to float32 and rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corrigible.errors import DataError, InvalidParameterError

Floats = NDArray[np.floating]
FLOAT_KINDS = ("float16", "bfloat16", "float32", "float64")
BLOCK = 1 << 17  # values: half a megabyte of float32, so that the few arrays of a step stay in the cache


class Tensor(Protocol):
    """What a merger reads: a tensor whose values are taken as a flat slice.

    ``kind`` is the name of a dtype; bfloat16 is read as the uint16 that stores it. ``label`` names the tensor in errors.
    """

    shape: tuple[int, ...]
    kind: str
    label: str

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the stored values ``start`` to ``stop`` of the flattened tensor."""


class Sink(Protocol):
    """Where a merger writes its result."""

    kind: str

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Store values, in the form of `kind`, from position `start` of the flattened tensor."""


class InMemory:
    """An array as `Tensor` and `Sink`.

    Parameters
    ----------
    array : ndarray
        Any dtype of `FLOAT_KINDS`; bfloat16 as ml_dtypes has it.
    label : str
        For errors.
    """

    def __init__(self, array: NDArray[Any], label: str) -> None:
        self.shape, self.kind, self.label = array.shape, array.dtype.name, label
        flat = array.reshape(-1)
        self._flat = flat.view(np.uint16) if self.kind == "bfloat16" else flat

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a view of the values ``start`` to ``stop``."""
        return self._flat[start:stop]

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Copy the values in."""
        self._flat[start : start + len(values)] = values


class Aligned:
    """Tensors of one shape, and a base where there is one, as a merger sees them.

    Parameters
    ----------
    tensors : sequence of ndarray or Tensor
        At least one, of one shape and of floating point.
    base : ndarray, Tensor or None
        What the tensors are compared with.
    by : str
        The merger, for errors.
    """

    def __init__(self, tensors: Sequence[Any], base: Any = None, *, by: str) -> None:
        if len(tensors) == 0:
            raise DataError(f"{by} needs at least one tensor. Got none.")
        self.by = by
        self.tensors = [_as_tensor(t, f"tensors[{i}]", by) for i, t in enumerate(tensors)]
        self.base = None if base is None else _as_tensor(base, "base", by)
        self.shape = self.tensors[0].shape
        for t in self.all[1:]:
            if t.shape != self.shape:
                raise DataError(
                    f"The tensors of {by} must have one shape. {self.tensors[0].label} has {self.shape} and "
                    f"{t.label} has {t.shape}."
                )
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.wide = np.dtype("float64" if any(t.kind == "float64" for t in self.all) else "float32")

    @property
    def all(self) -> list[Tensor]:
        """The tensors, and the base last if there is one."""
        return self.tensors if self.base is None else [*self.tensors, self.base]

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yield start and stop of each block."""
        for start in range(0, self.size, BLOCK):
            yield start, min(start + BLOCK, self.size)

    def values(self, tensor: Tensor, start: int, stop: int) -> Floats:
        """Return values of one tensor, widened; not to be changed."""
        return widened(tensor.read(start, stop), tensor.kind, self.wide)

    def base_values(self, start: int, stop: int) -> Floats:
        """Return values of the base, widened; not to be changed."""
        assert self.base is not None
        return self.values(self.base, start, stop)

    def delta(self, i: int, start: int, stop: int) -> Floats:
        """Return what tensor i adds to the base, in a new array."""
        return self.values(self.tensors[i], start, stop) - self.base_values(start, stop)

    def fill(self, combine: Callable[[int, int], Floats], out: Sink | None = None) -> Any:
        """Write ``combine(start, stop)`` of every block, narrowed to the result's dtype.

        Parameters
        ----------
        combine : callable
            Gives the values of a block.
        out : Sink, optional
            Where they go; by default to a new array of the dtype of the base, or else of the first tensor.

        Returns
        -------
        ndarray or None
            The new array; None if `out` is given.
        """
        first = self.tensors[0] if self.base is None else self.base
        array = None
        if out is None:
            array = np.empty(self.shape, dtype=_dtype(first.kind))
            out = InMemory(array, "result")
        for start, stop in self.parts():
            with np.errstate(over="ignore", invalid="ignore"):
                values = combine(start, stop)
            self._check(values, start, stop)
            narrow = narrowed(values, out.kind)
            if out.kind != self.wide.name:
                self._check_range(narrow, out.kind)
            out.write(start, narrow)
        return array

    def _check(self, values: Floats, start: int, stop: int) -> None:
        """Raise if a block of the result is not finite, naming the input that is to blame."""
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(values.sum()) or np.isfinite(values).all():
                return
        for t in self.all:
            bad = ~np.isfinite(self.values(t, start, stop))
            if bad.any():
                at = start + int(bad.argmax())
                raise DataError(
                    f"{self.by} cannot merge {t.label}: value {at} of the flattened tensor is "
                    f"{self.values(t, at, at + 1)[0]}. Weights must be finite."
                )
        raise DataError(f"{self.by} leaves the range of {self.wide} in {self.tensors[0].label}. Lower the weights.")

    def _check_range(self, narrow: NDArray[Any], kind: str) -> None:
        infinite = (narrow & 0x7FFF) == 0x7F80 if kind == "bfloat16" else np.isinf(narrow)
        if infinite.any():
            raise DataError(
                f"The result of {self.by} leaves the range of {kind} in {self.tensors[0].label}. "
                "Write it as float32 or bfloat16."
            )


def widened(stored: NDArray[Any], kind: str, wide: np.dtype[Any]) -> Floats:
    """Return stored values in a wide dtype; float32 and float64 that fit stay as they are."""
    if kind == "bfloat16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(wide, copy=False)


def narrowed(values: Floats, kind: str) -> NDArray[Any]:
    """Return finite values in the stored form of a dtype, rounded to the nearest, ties to even."""
    if kind != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(kind, copy=False)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def kth_largest(blocks: Callable[[], Iterator[Floats]], k: int) -> float:
    """Return the k-th largest of values >= 0 that come block by block.

    The bits of such floats are ordered as the floats are, so histograms of 16 bits at a time find the value exactly, in
    two passes over float32 and four over float64, with no sort and no memory beyond the histogram.

    Parameters
    ----------
    blocks : callable
        Gives the blocks; called once a pass.
    k : int
        At least 1 and at most their number.
    """
    prefix, shift, wide = 0, None, np.dtype("float32")
    while True:
        counts: NDArray[np.int64] = np.zeros(1 << 16, dtype=np.int64)
        for block in blocks():
            wide = block.dtype
            bits = block.view(f"u{wide.itemsize}")
            top = 8 * wide.itemsize
            here = top - 16 if shift is None else shift
            if here < top - 16:  # what the bits above have settled
                bits = bits[(bits >> (here + 16)) == prefix]
            # Cast before counting: bincount's own cast takes ten times as long.
            counts += np.bincount(((bits >> here) & 0xFFFF).astype(np.int64), minlength=1 << 16)
        shift = 8 * wide.itemsize - 16 if shift is None else shift
        above = np.cumsum(counts[::-1])
        digit = int(np.searchsorted(above, k))  # how many bins from the top
        k -= int(above[digit - 1]) if digit else 0
        prefix = (prefix << 16) | (0xFFFF - digit)
        if shift == 0:
            return float(np.array([prefix], dtype=f"u{wide.itemsize}").view(wide)[0])
        shift -= 16


def model_weights(weights: Any, n: int, *, by: str) -> NDArray[np.float64]:
    """Return one finite weight a tensor; ones for None, and a single number for all."""
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=np.float64)
    w = np.full(n, w) if w.ndim == 0 else w
    if w.shape != (n,) or not np.isfinite(w).all():
        raise InvalidParameterError(f"'weights' of {by} must be {n} finite numbers, one a tensor. Got {weights!r}.")
    return w


def _as_tensor(value: Any, label: str, by: str) -> Tensor:
    tensor: Tensor = value if hasattr(value, "read") else InMemory(np.asarray(value), label)
    if tensor.kind not in FLOAT_KINDS:
        raise DataError(f"{tensor.label} of {by} must hold {', '.join(FLOAT_KINDS)}. Got {tensor.kind}.")
    return tensor


def _dtype(kind: str) -> np.dtype[Any]:
    if kind != "bfloat16":
        return np.dtype(kind)
    import ml_dtypes  # the caller has it: the array came in this dtype

    return np.dtype(ml_dtypes.bfloat16)
