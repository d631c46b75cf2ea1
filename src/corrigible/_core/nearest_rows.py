"""The exact nearest other rows of every row, by a float32 product that keeps only who can be among them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info, threadpool_limits

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

# Rows and columns of the products: a block of results stays within a core's cache.
_ROWS, _COLUMNS = 256, 1024
# A sample of one row in so many, and of no fewer rows than that, says how far the k-th neighbour can be.
_EVERY, _SAMPLE = 16, 1024
# More candidates a row than that are ties; a plain search then does as well.
_CROWD = 1000


def nearest_rows(points: NDArray[np.float32], k: int, *, n_jobs: int | None = None) -> tuple[Floats, Ints]:
    r"""Return Euclidean distances (n, k) and numbers (n, k) of the k nearest other rows, nearest first.

    Parameters
    ----------
    points : ndarray of float32 of shape (n, d)
        Finite, at most about 1e15 in size.
    k : int
        At most n - 1.
    n_jobs : int, optional
        Threads, as in joblib; None takes as many as the linear algebra of this process does.

    Notes
    -----
    With :math:`\delta` above the relative rounding error of a float32 product, :math:`(1 - \delta)(|x|^2 + |y|^2) - 2xy`
    is never above the squared distance, and :math:`(1 + \delta)(|x|^2 + |y|^2) - 2xy` never below. The k-th smallest
    upper bound among a sample of the rows bounds the distance of the k-th neighbour, so that every neighbour is among the
    rows whose lower bound is not above it, which are some dozens. Their distances are then taken in float64. Of rows at
    the same distance the first in a fixed random order is taken.
    """
    order = np.random.default_rng(0).permutation(len(points))
    search = _Search.of(points[order], k)
    starts = range(0, len(points), _ROWS)
    found_distances, found = np.empty((len(points), k)), np.empty((len(points), k), dtype=np.intp)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_n_threads(n_jobs)) as threads:
        for start, (distances, indices) in zip(starts, threads.map(search.block, starts), strict=True):
            rows = order[start : start + _ROWS]
            found_distances[rows], found[rows] = distances, order[indices]
    return found_distances, found


def _n_threads(n_jobs: int | None) -> int:
    if n_jobs is not None:
        return int(effective_n_jobs(n_jobs))
    return max([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"], default=1)


@dataclass(frozen=True)
class _Search:
    """Points in random order, and factors whose product is a bound of the squared distances.

    Parameters
    ----------
    points : ndarray of shape (n, d)
    k : int
    left : ndarray of shape (n, d + 2)
        Points, ones, and squared lengths lessened.
    right, above : ndarray of shape (d + 2, n), (d + 2, m)
        The other factor of the lower bounds with all rows, and of upper bounds, less the row's own slack, with a sample.
    slack : ndarray of shape (n,)
        What separates both bounds of a pair is the sum of its rows' slacks.
    """

    points: NDArray[np.float32]
    k: int
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    above: NDArray[np.float32]
    slack: NDArray[np.float32]

    @classmethod
    def of(cls, points: NDArray[np.float32], k: int) -> _Search:
        n, d = points.shape
        centred = points - np.median(points, axis=0)  # far rows would draw a mean away from all others
        square = np.einsum("ij,ij->i", centred, centred)
        delta = np.float32(4 * (d + 8) * np.finfo(np.float32).eps / 2)
        low, high = square * (1 - delta), square * (1 + delta)
        ones = np.ones(n, dtype=np.float32)
        m = min(n, max(_SAMPLE, n // _EVERY, 4 * (k + 1)))
        return cls(
            points,
            k,
            left=np.column_stack([centred, ones, low]),
            right=np.ascontiguousarray(np.column_stack([-2 * centred, low, ones]).T),
            above=np.ascontiguousarray(np.column_stack([-2 * centred[:m], high[:m], ones[:m]]).T),
            slack=3 * delta * square,
        )

    def block(self, start: int) -> tuple[Floats, Ints]:
        """Return the neighbours of a block of rows."""
        rows = np.arange(start, min(start + _ROWS, len(self.points)))
        limit = self._limit(rows)
        column, lower, counts = self._candidates(rows, limit)
        width = int(counts.max())
        if width > _CROWD:
            return self._plain(rows)
        # A row's candidates side by side, padded with infinity.
        at = (
            np.repeat(np.arange(len(rows)), counts),
            np.arange(len(column)) - np.repeat(counts.cumsum() - counts, counts),
        )
        upper = np.full((len(rows), width), np.inf, dtype=np.float32)
        upper[at] = lower + self.slack[rows][at[0]] + self.slack[column]
        limit = np.partition(upper, self.k - 1, axis=1)[:, self.k - 1]
        kept = np.flatnonzero(lower <= limit[at[0]])
        row, column = at[0][kept], column[kept]
        gap = self.points[rows[row]].astype(np.float64) - self.points[column]
        square = np.einsum("ij,ij->i", gap, gap)
        first = np.lexsort((column, square, row))
        starts = np.searchsorted(row, np.arange(len(rows)))
        chosen = first[starts[:, None] + np.arange(self.k)]
        return np.sqrt(square[chosen]), column[chosen]

    def _limit(self, rows: Ints) -> NDArray[np.float32]:
        """Return what the squared distance of each row's k-th neighbour is not above."""
        bound = self.left[rows] @ self.above
        inside = rows[rows < bound.shape[1]]
        bound[inside - rows[0], inside] = np.inf
        bound.partition(self.k - 1, axis=1)
        return np.asarray(bound[:, self.k - 1] + self.slack[rows])

    def _candidates(self, rows: Ints, limit: NDArray[np.float32]) -> tuple[Ints, NDArray[np.float32], Ints]:
        """Return columns and lower bounds of all pairs within the limits, row by row, and their number a row."""
        n, found = len(self.points), []
        left = self.left[rows]
        for first in range(0, n, _COLUMNS):
            bound = left @ self.right[:, first : first + _COLUMNS]
            own = np.arange(max(first, rows[0]), min(first + _COLUMNS, rows[-1] + 1))
            bound[own - rows[0], own - first] = np.inf
            flat = np.flatnonzero(bound <= limit[:, None])
            row, column = np.divmod(flat, bound.shape[1])
            found.append((row.astype(np.int16), column + first, bound.ravel()[flat]))
        row, column, lower = (np.concatenate(parts) for parts in zip(*found, strict=True))
        grouped = np.argsort(row, kind="stable")
        return column[grouped], lower[grouped], np.bincount(row, minlength=len(rows))

    def _plain(self, rows: Ints) -> tuple[Floats, Ints]:
        search = NearestNeighbors(n_neighbors=self.k + 1, algorithm="brute").fit(self.points)
        distances, indices = search.kneighbors(self.points[rows])
        return _without_self(distances, indices, rows)


def _without_self(distances: Floats, indices: Ints, rows: Ints) -> tuple[Floats, Ints]:
    """Drop each row from its own neighbours; where equal rows crowded it out, drop the last neighbour."""
    n, k = indices.shape
    own = indices == rows[:, None]
    own[~own.any(axis=1), -1] = True
    kept = ~own
    return distances[kept].reshape(n, k - 1), indices[kept].reshape(n, k - 1)
