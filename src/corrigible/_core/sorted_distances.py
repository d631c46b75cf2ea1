"""Distances of two sorted samples: Kolmogorov-Smirnov and Wasserstein, without merging all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# A bin holds so many values of the first sample at least; bins in which nothing is open are not looked into.
_BIN = 64
_MAX_BINS = 16_384


def sorted_distances(a: Floats, b: Floats) -> tuple[float, float]:
    """Return the largest gap between two empirical distribution functions, and the area between them.

    Parameters
    ----------
    a, b : ndarray of shape (n,), (m,)
        Sorted, without NaN.

    Returns
    -------
    distance : float
        Kolmogorov-Smirnov distance, exact; NaN if a sample is empty.
    area : float
        Wasserstein distance of order 1, in units of the values; NaN if a value is infinite.

    Notes
    -----
    Between two edges the gap ``F_a - F_b`` rises by no more than the bin's share of a and falls by no more than that of
    b. Where neither its sign nor the largest gap can be decided by that, the bin's values are merged; elsewhere the area
    follows from the bin's sums. On samples of a million, some percent are merged.
    """
    if not len(a) or not len(b):
        return float("nan"), float("nan")
    if not np.isfinite([a[0], a[-1], b[0], b[-1]]).all():
        return _largest_gap(a, b), float("nan")
    edges = np.unique(a[:: max(_BIN, -(-len(a) // _MAX_BINS))])
    start_a, start_b = (np.r_[0, np.searchsorted(x, edges, side="left")] for x in (a, b))
    left = np.r_[min(a[0], b[0]), edges]
    right = np.r_[edges, max(a[-1], b[-1])]
    n_a, n_b = (np.diff(np.r_[s, len(x)]) for s, x in ((start_a, a), (start_b, b)))
    # Gaps are whole numbers of 1 / (n m), so that sums of them are exact.
    gap = start_a * len(b) - start_b * len(a)
    lowest, highest = gap - n_b * len(a), gap + n_a * len(b)
    distance = int(np.abs(gap).max())
    one_sign = (lowest >= 0) | (highest <= 0)
    open_ = ~one_sign | (np.maximum(np.abs(lowest), np.abs(highest)) > distance)
    middle = a[len(a) // 2]
    closed = (
        gap * (right - left)
        + len(b) * _above(a, start_a, n_a, right, middle)
        - len(a) * _above(b, start_b, n_b, right, middle)
    )
    merged, areas = _merged(a[np.repeat(open_, n_a)], b[np.repeat(open_, n_b)], n_a[open_], n_b[open_], gap[open_],
                            left[open_], right[open_], (len(a), len(b)))  # fmt: skip
    size = len(a) * len(b)
    return max(distance, merged) / size, float((np.abs(closed[~open_]).sum() + areas) / size)


def _above(x: Floats, start: NDArray[np.intp], count: NDArray[np.intp], right: Floats, middle: float) -> Floats:
    """Return, by bin, the sum of right end less value."""
    sums = np.zeros(len(start))
    sums[start < len(x)] = np.add.reduceat(x - middle, start[start < len(x)])
    return np.asarray(count * (right - middle) - np.where(count > 0, sums, 0.0))


def _merged(
    a: Floats,
    b: Floats,
    n_a: NDArray[np.intp],
    n_b: NDArray[np.intp],
    gap: NDArray[np.intp],
    left: Floats,
    right: Floats,
    sizes: tuple[int, int],
) -> tuple[int, float]:
    """Return the largest gap inside some bins, and their area, from the merged values."""
    if not len(n_a):
        return 0, 0.0
    values = np.concatenate([a, b])
    order = np.argsort(values, kind="stable")  # two runs: a merge
    x = values[order]
    bins = np.repeat(np.arange(len(n_a)), n_a + n_b)
    first = np.cumsum(n_a + n_b) - (n_a + n_b)
    steps = np.where(order < len(a), sizes[1], -sizes[0])
    total = np.cumsum(steps)
    before = np.where(first > 0, total[np.minimum(first, len(x)) - 1], 0) if len(x) else first
    after = total + np.repeat(gap - before, n_a + n_b)
    following = np.append(x[1:], 0.0)
    ends = (first + n_a + n_b)[n_a + n_b > 0] - 1
    following[ends] = right[bins[ends]]
    width = following - x
    # Within ties the gap is not that of the distribution functions.
    inside = np.abs(after[width > 0])
    filled = n_a + n_b > 0
    lead = np.where(filled, x[np.minimum(first, len(x) - 1)] if len(x) else right, right) - left
    return int(inside.max(initial=0)), float((np.abs(after) * width).sum() + (np.abs(gap) * lead).sum())


def _largest_gap(a: Floats, b: Floats) -> float:
    order = np.argsort(np.concatenate([a, b]), kind="stable")
    x = np.concatenate([a, b])[order]
    gap = np.cumsum(np.where(order < len(a), len(b), -len(a)))
    last = np.append(x[1:] != x[:-1], True)
    return float(np.abs(gap[last]).max() / (len(a) * len(b)))
