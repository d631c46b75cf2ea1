"""Mathematics of conformal prediction: ranks, thresholds by group and weight, order statistics of shifted scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from corrigible._core.blocks import row_blocks
from corrigible._utils.validation import check_number, check_sample_weight, check_vector
from corrigible.errors import DataError

Floats = NDArray[np.floating]

# (n + 1) (1 - alpha) of 10 x 0.9 may come out as 9.000000000000002; without slack its ceiling would be 10.
_SLACK = 1e-9
# Candidates a row that are gathered and sorted once the search has come this close.
_NEAR = 32
_MANY_PARTS = 64


def check_alpha(alpha: Any, *, by: str) -> float:
    """Return the miscoverage if it lies strictly between 0 and 1."""
    return float(check_number(alpha, name="alpha", by=by, low=0.0, high=1.0, closed="neither"))


def upper_rank(n: int, alpha: float) -> int:
    """Return ceil((1 - alpha)(n + 1)), the rank of the conformal quantile among n scores; n + 1 stands for infinity."""
    return min(n + 1, max(1, math.ceil((1.0 - alpha) * (n + 1) - _SLACK)))


def least_rows(alpha: float) -> int:
    """Return the least number of calibration rows whose conformal quantile is finite."""
    return max(1, math.ceil((1.0 - alpha) / alpha - _SLACK))


def check_enough(n: int, alpha: float, *, by: str, what: str = "calibration rows") -> None:
    """Raise a DataError if n rows are too few for a finite threshold."""
    if n < least_rows(alpha):
        raise DataError(
            f"{by} needs at least {least_rows(alpha)} {what} for alpha={alpha:g}. Got {n}. Add rows or raise alpha."
        )


def upper_quantile(scores: Floats, alpha: float) -> float:
    """Return the conformal quantile of unsorted scores, infinite if they are too few."""
    rank = upper_rank(len(scores), alpha)
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])


def predictions(estimator: Any, X: Any, *, name: str = "prediction", by: str, n: int | None = None) -> Floats:
    """Return finite predictions (n,): those of a fitted estimator, or X itself where there is none."""
    values = X if estimator is None else estimator.predict(X)
    return check_vector(values, n=n, name=name, by=by).astype(np.float64, copy=False)


def bounds(estimators: Any, X: Any, *, by: str) -> Floats:
    """Return lower and upper predictions (n, 2): of two fitted estimators, or X itself where there are none."""
    if estimators is not None:
        low, high = estimators
        X = np.column_stack([predictions(e, X, name="quantiles", by=by) for e in (low, high)])
    q = np.asarray(X, dtype=np.float64)
    if q.ndim != 2 or q.shape[1] != 2 or q.shape[0] == 0:
        raise DataError(
            f"'quantiles' of {by} must have shape (n_samples, 2), lower and upper. Got shape {q.shape}."
        )
    if not np.isfinite(q).all():
        row = int(np.flatnonzero(~np.isfinite(q).all(axis=1))[0])
        raise DataError(f"'quantiles' of {by} must be finite. Row {row} is {q[row]}.")
    return q


def check_scale(scale: ArrayLike, n: int, *, by: str) -> Floats:
    """Return positive scales (n,)."""
    s = check_vector(scale, n=n, name="scale", by=by, minimum=0.0).astype(np.float64, copy=False)
    if s.min() <= 0:
        raise DataError(f"'scale' of {by} must be positive. Row {int(s.argmin())} is 0. Add a small number to all.")
    return s


@dataclass(frozen=True)
class SortedScores:
    """Calibration scores sorted within groups, so that a threshold of any level is a look-up.

    Parameters
    ----------
    groups : Index or None
        Values of the groups; None for one group of all rows.
    parts : tuple of ndarray
        Sorted scores, an array a group.
    weights : tuple of ndarray or None
        Cumulative weights in the same order.
    """

    groups: pd.Index | None
    parts: tuple[Floats, ...]
    weights: tuple[Floats, ...] | None

    @classmethod
    def of(
        cls, scores: Floats, *, groups: ArrayLike | None = None, weight: ArrayLike | None = None, by: str
    ) -> SortedScores:
        """Sort the scores."""
        n = len(scores)
        w = None if weight is None else check_sample_weight(weight, n, by=by)
        known, rows = _split(groups, n, by)
        parts, sums = [], []
        for index in rows:
            s = scores[index]
            if w is None:
                parts.append(np.sort(s))
                continue
            order = np.argsort(s, kind="stable")
            parts.append(s[order])
            sums.append(np.cumsum(w[index][order]))
        return cls(known, tuple(parts), None if w is None else tuple(sums))

    def check_enough(self, alpha: float, *, by: str) -> None:
        """Raise a DataError if a group has too few rows; weighted scores may have infinite thresholds instead."""
        if self.weights is not None:
            return
        for number, part in enumerate(self.parts):
            what = "calibration rows" if self.groups is None else f"rows of group {self.groups[number]!r}"
            check_enough(len(part), alpha, by=by, what=what)

    def codes(self, groups: ArrayLike | None, n: int, *, by: str) -> NDArray[np.intp]:
        """Return the part of each of n rows."""
        if (self.groups is None) != (groups is None):
            raise DataError(f"'groups' of {by} must be given to both fit and predict, or to neither.")
        if self.groups is None:
            return np.zeros(n, dtype=np.intp)
        values = np.asarray(groups)
        if values.shape != (n,):
            raise DataError(f"'groups' of {by} must have {n} entries, one a row. Got shape {values.shape}.")
        found = self.groups.get_indexer(pd.Index(values))
        if (found < 0).any():
            raise DataError(f"'groups' of {by} holds {values[found.argmin()]!r}, which no calibration row has.")
        return np.asarray(found, dtype=np.intp)

    def thresholds(
        self, alpha: float, n: int, *, groups: ArrayLike | None = None, weight: ArrayLike | None = None, by: str
    ) -> Floats:
        """Return the conformal quantile of each of n rows: (1,) if it is the same for all, else (n,)."""
        if (self.weights is None) != (weight is None):
            raise DataError(f"'sample_weight' of {by} must be given to both fit and predict, or to neither.")
        codes = self.codes(groups, n, by=by)
        if self.weights is None or weight is None:
            each = np.array([_at(part, upper_rank(len(part), alpha)) for part in self.parts])
            return each if self.groups is None else each[codes]
        w = check_vector(weight, n=n, name="sample_weight", by=by, minimum=0.0)
        out = np.empty(n)
        for number, (part, sums) in enumerate(zip(self.parts, self.weights, strict=True)):
            rows = codes == number
            level = (1.0 - alpha) * (sums[-1] + w[rows])
            out[rows] = np.append(part, np.inf)[np.searchsorted(sums, level * (1 - 1e-12), side="left")]
        return out


def _at(part: Floats, rank: int) -> float:
    return math.inf if rank > len(part) else float(part[rank - 1])


def _split(groups: ArrayLike | None, n: int, by: str) -> tuple[pd.Index | None, list[Any]]:
    if groups is None:
        return None, [slice(None)]
    values = np.asarray(groups)
    if values.shape != (n,):
        raise DataError(f"'groups' of {by} must have {n} entries, one a row. Got shape {values.shape}.")
    codes, known = pd.factorize(values, use_na_sentinel=False)
    order = np.argsort(codes, kind="stable")
    return pd.Index(known), np.split(order, np.cumsum(np.bincount(codes))[:-1])


def shifted_order_statistic(parts: Sequence[Floats], shifts: Floats, rank: int) -> Floats:
    """Return for each row the rank-th smallest of the union over parts j of ``parts[j] + shifts[row, j]``.

    Jackknife+, CV+ and nested masking ask for it. The union is never formed: its counting function is searched
    in all rows at once, and the few values left between two counts are sorted.

    Parameters
    ----------
    parts : sequence of ndarray
        Sorted scores, an array a part; all finite.
    shifts : ndarray of shape (m, n_parts)
        What is added to a part in a row.
    rank : int
        From 1; 0 gives minus infinity and one more than the number of scores infinity.
    """
    n = sum(map(len, parts))
    if rank < 1 or rank > n:
        return np.full(len(shifts), -np.inf if rank < 1 else np.inf)
    if len(parts) > _MANY_PARTS:
        return _by_partition(parts, shifts, rank)
    pooled = np.sort(np.concatenate(parts))[rank - 1]
    out = np.empty(len(shifts))
    order = np.argsort(shifts.mean(axis=1))  # neighbouring queries search the same part of memory
    for block in row_blocks(len(order), 1, cells=8192):
        rows = order[block]
        out[rows] = _by_search(parts, np.ascontiguousarray(shifts[rows].T), rank, pooled)
    return out


def _by_partition(parts: Sequence[Floats], shifts: Floats, rank: int) -> Floats:
    scores, part = np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    out = np.empty(len(shifts))
    for rows in row_blocks(len(shifts), len(scores), cells=1 << 20):
        union = shifts[rows][:, part] + scores
        union.partition(rank - 1, axis=1)
        out[rows] = union[:, rank - 1]
    return out


def _by_search(parts: Sequence[Floats], shifts: Floats, rank: int, pooled: float) -> Floats:
    """Search one block; `shifts` is (n_parts, m). Invariant: fewer than `rank` values <= low, and at least that <= high."""
    reach = np.abs(pooled) + np.abs(shifts).max(axis=0)
    low = pooled + shifts.min(axis=0) - 1e-12 * reach - np.finfo(float).tiny
    high = pooled + shifts.max(axis=0) + 1e-12 * reach
    under, over = _counts(parts, shifts, low), _counts(parts, shifts, high)
    for step in range(80):
        if (over.sum(axis=0) - under.sum(axis=0)).max() <= _NEAR:
            break
        below, above = under.sum(axis=0), over.sum(axis=0)
        # Every third step halves, so that steps of the counts cannot stall the interpolation.
        share = 0.5 if step % 3 == 2 else np.clip((rank - 0.5 - below) / np.maximum(above - below, 1), 0.02, 0.98)
        # Overshoot in turn, so that both ends close in.
        nudge = 0.0 if step % 3 == 2 else (_NEAR / 3 if step % 3 else -_NEAR / 3) / np.maximum(above - below, 1)
        middle = low + np.clip(share + nudge, 0.01, 0.99) * (high - low)
        counts = _counts(parts, shifts, middle)
        right = counts.sum(axis=0) >= rank
        high, low = np.where(right, middle, high), np.where(right, low, middle)
        over, under = np.where(right, counts, over), np.where(right, under, counts)
    width = max(1, int((over - under).max()))
    if width > 4 * _NEAR:  # ties: all that is left between two neighbouring floats is one value
        return high
    union = np.full((shifts.shape[1], len(parts), width), np.inf)
    for j, part in enumerate(parts):
        index = under[j][:, None] + np.arange(width)
        inside = index < over[j][:, None]
        union[:, j][inside] = (part[np.minimum(index, len(part) - 1)] + shifts[j][:, None])[inside]
    flat = np.sort(union.reshape(len(union), -1), axis=1)
    left = rank - 1 - under.sum(axis=0)
    return np.asarray(flat[np.arange(len(flat)), left])


def _counts(parts: Sequence[Floats], shifts: Floats, values: Floats) -> NDArray[np.intp]:
    """Return how many scores of each part, shifted, are at most the value, (n_parts, m)."""
    return np.array([np.searchsorted(p, values - s, side="right") for p, s in zip(parts, shifts, strict=True)])


def label_scores(p: Floats, y: NDArray[np.intp], *, penalty: tuple[float, int] | None, u: Floats | float) -> Floats:
    """Return the adaptive score of each row's label: mass above it, u of its own, and RAPS's penalty of its rank.

    Parameters
    ----------
    p : ndarray of shape (n, k)
        Probabilities.
    y : ndarray of shape (n,)
        Labels.
    penalty : (float, int) or None
        RAPS's lambda and number of classes that go free.
    u : ndarray of shape (n,) or float
        Share of the label's own probability.
    """
    out = np.empty(len(p))
    for rows in row_blocks(*p.shape):
        block = p[rows]
        own = block[np.arange(len(block)), y[rows]]
        above = block > own[:, None]
        out[rows] = np.einsum("ij,ij->i", block, above, dtype=np.float64)
        if penalty is not None:
            out[rows] += penalty[0] * np.maximum(above.sum(axis=1) + 1 - penalty[1], 0)
        out[rows] += (u[rows] if isinstance(u, np.ndarray) else u) * own
    return out


def set_cutoffs(p: Floats, threshold: Floats, *, penalty: tuple[float, int] | None, u: Floats | float) -> Floats:
    """Return the least probability that a row's set admits, infinite for an empty set.

    The adaptive score falls as the probability rises, so that a set is all classes above a cut; ties go together.
    """
    k = p.shape[1]
    out = np.empty(len(p))
    extra = 0.0 if penalty is None else penalty[0] * np.maximum(np.arange(1, k + 1) - penalty[1], 0)
    for rows in row_blocks(*p.shape):
        falling = -np.sort(-p[rows].astype(np.float64, copy=False), axis=1)
        scores = np.cumsum(falling, axis=1)
        share = u[rows, None] if isinstance(u, np.ndarray) else u
        scores -= (1.0 - share) * falling
        scores += extra
        limit = threshold[rows] if len(threshold) > 1 else threshold
        inside = (scores <= limit[:, None] + 1e-12).sum(axis=1)
        cut = falling[np.arange(len(falling)), np.maximum(inside - 1, 0)]
        out[rows] = np.where(inside > 0, cut, np.inf)
    return out
