"""Paired bootstrap of weighted means over rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Beyond this many rows, rows are first summed in random blocks of equal size: for a mean over
# exchangeable rows the block bootstrap has the same law up to O(1/blocks), at bounded cost.
MAX_UNITS = 10_000
_CHUNK = 8  # draws whose counts stay in a processor's cache


def bootstrap_means(
    rows: Floats, *, sample_weight: Floats | None = None, n_resamples: int = 1000, rng: np.random.Generator
) -> Floats:
    """Bootstrap the (weighted) means of several columns over the same resampled rows.

    Parameters
    ----------
    rows : ndarray of shape (n, m)
        One column a quantity; columns are resampled together, so differences of columns stay paired.
    sample_weight : ndarray of shape (n,), optional
        Weights of the rows.
    n_resamples : int
        Number of bootstrap draws.
    rng : Generator
        Source of randomness.

    Returns
    -------
    ndarray of shape (n_resamples, m)
        Means of each draw. Time O(min(n, MAX_UNITS) n_resamples m).
    """
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim == 1:
        rows = rows[:, None]
    sums = _with_weight(rows, sample_weight)
    if len(sums) > MAX_UNITS:
        sums = BlockSums(rows.shape[1], rng=rng).update(rows, sample_weight).sums
    return _resample(sums, n_resamples, rng)


class BlockSums:
    """Sums of rows in random blocks: what a bootstrap of means needs of data larger than memory.

    Parameters
    ----------
    n_columns : int
        Number of quantities.
    rng : Generator
        Assigns rows to blocks.
    """

    def __init__(self, n_columns: int, *, rng: np.random.Generator) -> None:
        self.rng = rng
        self.sums = np.zeros((MAX_UNITS, n_columns + 1))
        self._seen = 0

    def update(self, rows: Floats, sample_weight: Floats | None = None) -> BlockSums:
        """Take in rows of shape (n, n_columns)."""
        # Consecutive numbers, shuffled: every block gets the same number of rows, up to one.
        block = self.rng.permutation(np.arange(self._seen, self._seen + len(rows)) % MAX_UNITS)
        self._seen += len(rows)
        for j, column in enumerate(rows.T):
            weighted = column if sample_weight is None else column * sample_weight
            self.sums[:, j] += np.bincount(block, weights=weighted, minlength=MAX_UNITS)
        self.sums[:, -1] += np.bincount(block, weights=sample_weight, minlength=MAX_UNITS)
        return self

    def means(self) -> Floats:
        """Return the weighted means of all rows seen, shape (n_columns,)."""
        total = self.sums.sum(axis=0)
        return np.asarray(total[:-1] / total[-1])

    def draws(self, *, n_resamples: int = 1000) -> Floats:
        """Return bootstrap draws of the means, shape (n_resamples, n_columns)."""
        filled = self.sums[: min(self._seen, MAX_UNITS)]
        return _resample(filled, n_resamples, self.rng)


def _with_weight(rows: Floats, sample_weight: Floats | None) -> Floats:
    weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return np.column_stack([rows * weight[:, None], weight])


def _resample(sums: Floats, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap the units whose sums are given; the last column holds their weights."""
    n = len(sums)
    draws = np.empty((n_resamples, sums.shape[1]))
    for start in range(0, n_resamples, _CHUNK):
        size = min(_CHUNK, n_resamples - start)
        picks = rng.integers(n, size=(size, n), dtype=np.int32)
        picks += np.arange(size, dtype=np.int32)[:, None] * n
        counts = np.bincount(picks.ravel(), minlength=size * n).reshape(size, n)
        draws[start : start + size] = counts @ sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(draws[:, :-1] / draws[:, -1:])


def percentile_interval(draws: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the central percentile interval of bootstrap draws along the first axis."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    return low, high
