"""What mergers of task vectors share: sums of differences from a base, and the election of signs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.tensor_blocks import Aligned, Floats, Sink, kth_largest
from corrigible.errors import DataError, InvalidParameterError

Deltas = Callable[[int, int], list[Floats]]
_NOTHING = 1e-8  # a sum of weights that is not divided by


def with_base(tensors: Sequence[Any], base: Any, *, by: str) -> Aligned:
    """Return the tensors aligned with the base that the merger cannot do without."""
    if base is None:
        raise DataError(f"{by} compares models with their base. Pass the base model (base_model in a recipe).")
    return Aligned(tensors, base, by=by)


def total(deltas: Sequence[Floats], weights: NDArray[np.float64], normalize: bool) -> Floats:
    """Return the weighted sum of task vectors, or their average."""
    share = weights.sum()
    w = weights / share if normalize and abs(share) >= _NOTHING else weights
    found = deltas[0] * deltas[0].dtype.type(w[0])
    for weight, delta in zip(w[1:], deltas[1:], strict=True):
        found += delta * delta.dtype.type(weight)
    return found


def elected(
    deltas: Sequence[Floats], weights: NDArray[np.float64], votes: NDArray[np.float64], normalize: bool
) -> Floats:
    """Return the sum, or the average, over those task vectors that have the sign of the sum of all, weighted by votes.

    A zero has no sign: what was trimmed neither votes nor counts.
    """
    wide = deltas[0].dtype.type
    weighted = [d * wide(w) for d, w in zip(deltas, weights, strict=True)]
    up = (total(weighted, np.ones(len(weights)), False) if votes is weights else total(deltas, votes, False)) >= 0
    found, share = np.zeros_like(deltas[0]), np.zeros_like(deltas[0])
    for part, weight in zip(weighted, weights, strict=True):
        agrees = ((part > 0) == up) & (part != 0)
        found += np.multiply(part, agrees, out=part)  # products: masked arithmetic takes ten times as long
        if normalize:
            share += agrees * wide(weight)
    if normalize:
        share += np.abs(share) < _NOTHING
        found /= share
    return found


def added_to_base(
    aligned: Aligned,
    deltas: Deltas,
    weights: NDArray[np.float64],
    *,
    scale: float,
    normalize: bool,
    votes: NDArray[np.float64] | None,
    out: Sink | None,
) -> Any:
    """Return ``base + scale * combined``; where there are votes, of the task vectors that have the elected signs."""

    def values(start: int, stop: int) -> Floats:
        parts = deltas(start, stop)
        found = total(parts, weights, normalize) if votes is None else elected(parts, weights, votes, normalize)
        found *= aligned.wide.type(scale)
        found += aligned.base_values(start, stop)
        return found

    return aligned.fill(values, out)


def densities(density: Any, n: int, *, by: str) -> NDArray[np.float64]:
    """Return one share in [0, 1] a task vector."""
    found = np.asarray(density, dtype=np.float64)
    found = np.full(n, found) if found.ndim == 0 else found
    if found.shape != (n,) or not ((found >= 0) & (found <= 1)).all():
        raise InvalidParameterError(
            f"'density' of {by} must be a number in [0, 1], or {n} of them, one a tensor. Got {density!r}."
        )
    return found


def ranked(aligned: Aligned, i: int, k: int) -> float:
    """Return the k-th largest magnitude of task vector i; infinity for k = 0, and 0 where all are wanted."""
    if k >= aligned.size:
        return 0.0

    def magnitudes() -> Iterator[Floats]:
        for start, stop in aligned.parts():
            delta = aligned.delta(i, start, stop)
            yield np.abs(delta, out=delta)

    return kth_largest(magnitudes, k) if k > 0 else np.inf
