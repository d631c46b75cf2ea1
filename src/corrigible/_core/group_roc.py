"""Thresholds by group: ROC curves, their concave hulls, and the best of them under a bound on rates' differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, hstack, vstack
from sklearn.isotonic import isotonic_regression

from corrigible._core.group_cells import grouping_columns
from corrigible.errors import DataError

Floats = NDArray[np.floating]
Ints = NDArray[np.intp]
# Range queries that a search of deterministic thresholds may take; thresholds are thinned to keep to it.
_QUERIES = 2e7
_MAX_CANDIDATES = 100_000
_SLACK = 1e-12


@dataclass(frozen=True)
class Roc:
    """Weight of false and true positives of the rule ``score >= threshold``, thresholds falling from inf to -inf."""

    fp: Floats
    tp: Floats
    threshold: Floats

    @property
    def negatives(self) -> float:
        """Weight of the group's negatives."""
        return float(self.fp[-1])

    @property
    def positives(self) -> float:
        """Weight of the group's positives."""
        return float(self.tp[-1])

    def at(self, index: Any) -> Roc:
        """Return the points of an index."""
        return Roc(self.fp[index], self.tp[index], self.threshold[index])


def joint_groups(groups: ArrayLike, n: int, by: str) -> tuple[Ints, list[Any]]:
    """Return the code of each row's group and the groups in sorted order; several columns are crossed.

    Raises
    ------
    DataError
        If a group is missing or the number of rows differs.
    """
    columns = [pd.Series(values) for _, values in grouping_columns(groups, n, by)]
    for column in columns:
        if column.isna().any():
            row = int(np.flatnonzero(column.isna())[0])
            raise DataError(
                f"'groups' of {by} must not be missing. Row {row} is. Name such rows a group, or drop them."
            )
    if len(columns) == 1 and columns[0].dtype.kind in "iu":
        found = _small_integers(columns[0].to_numpy())
        if found is not None:
            return found
    if len(columns) == 1:
        codes, names = pd.factorize(columns[0])
        labels = list(names)
    else:
        codes, names = pd.factorize(pd.MultiIndex.from_arrays(columns))
        labels = [tuple(name) for name in names]
    try:
        order = sorted(range(len(labels)), key=lambda i: labels[i])
    except TypeError:  # values of several types have no order
        order = sorted(range(len(labels)), key=lambda i: str(labels[i]))
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place[codes], [labels[i] for i in order]


def _small_integers(values: NDArray[Any]) -> tuple[Ints, list[Any]] | None:
    """Code integers of a small range by counting, which is faster than hashing."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 2**62)
    if high - low > len(values) or high >= 2**62:
        return None
    codes = values.astype(np.intp) - low
    present = np.bincount(codes) > 0
    names = (np.flatnonzero(present) + low).tolist()
    return (codes if present.all() else (np.cumsum(present) - 1)[codes]), names


def group_rocs(
    scores: Floats, y: Ints, codes: Ints, n_groups: int, weight: Floats | None, *, corners: bool
) -> list[Roc]:
    """Return the ROC curve of each group; with `corners` only at the scores of positives, where a hull may have corners.

    Parameters
    ----------
    scores, y, codes : ndarray of shape (n,)
        Scores, labels 0 and 1, group of each row.
    n_groups : int
        Number of groups.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    corners : bool
        Leave out thresholds at which only negatives are let in.

    Returns
    -------
    list of Roc
        Equal scores are let in together. Time O(n log n).
    """
    key = 2 * codes + y
    order = np.argsort(key.astype(np.uint16) if n_groups < 2**15 else key, kind="stable")
    ends = np.cumsum(np.bincount(key, minlength=2 * n_groups))
    parts = np.split(order, ends[:-1])
    return [_roc(scores, weight, parts[2 * g + 1], parts[2 * g], corners) for g in range(n_groups)]


def _roc(scores: Floats, weight: Floats | None, positive: Ints, negative: Ints, corners: bool) -> Roc:
    gained, gain = _gains(scores, weight, positive)
    lost, loss = _gains(scores, weight, negative)
    cuts = gained if corners else np.concatenate([gained, lost])
    cuts = np.sort(cuts)
    cuts = cuts[np.concatenate([[True], cuts[1:] > cuts[:-1]])[: len(cuts)]]  # np.unique hashes, which is slower
    tp, fp = (
        cumulated[-1] - cumulated[np.searchsorted(at, cuts)] for at, cumulated in ((gained, gain), (lost, loss))
    )
    ends = [np.concatenate([[gone[-1]], part, [0.0]])[::-1] for gone, part in ((loss, fp), (gain, tp))]
    return Roc(ends[0], ends[1], np.concatenate([[-np.inf], cuts, [np.inf]])[::-1])


def _gains(scores: Floats, weight: Floats | None, rows: Ints) -> tuple[Floats, Floats]:
    """Return the rows' sorted scores, and the weight below each place of them, (n,) and (n + 1,)."""
    values = scores[rows]
    if weight is None:
        return np.sort(values), np.arange(len(rows) + 1, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    return values[order], np.concatenate([[0.0], np.cumsum(weight[rows][order])])


def concave_hull(curve: Roc) -> Roc:
    """Return the corners of the least concave curve above a ROC curve: blocks of an isotonic regression of the labels."""
    up, right = np.diff(curve.tp), np.diff(curve.fp)
    mass = up + right
    filled = np.flatnonzero(mass > 0)
    if not filled.size:
        return curve.at([0, -1])
    share = isotonic_regression(up[filled] / mass[filled], sample_weight=mass[filled], increasing=False)
    last = np.append(np.flatnonzero(np.diff(share) != 0), len(filled) - 1)
    corner = np.concatenate([[0], filled[last] + 1])
    corner[-1] = len(curve.fp) - 1  # all rows, whatever their scores
    return curve.at(corner)


def rate_maps(curves: list[Roc], constraint: str, norm: str) -> Floats:
    """Return how each constrained rate follows from (fp, tp) of each group, shape (n_rates, n_groups, 2)."""
    n, p = np.array([c.negatives for c in curves]), np.array([c.positives for c in curves])
    with np.errstate(divide="ignore"):
        fpr, tpr = np.stack([1 / n, 0 * n], axis=1), np.stack([0 * p, 1 / p], axis=1)
    if constraint == "demographic_parity":
        return np.stack([1 / (n + p), 1 / (n + p)], axis=1)[None]
    if constraint == "equal_opportunity":
        return tpr[None]
    if constraint == "predictive_equality":
        return fpr[None]
    # |a| + |b| <= e is |a + b| <= e and |a - b| <= e, so the sum of differences is bounded by two rates as well.
    return np.stack([fpr, tpr]) if norm == "max" else np.stack([fpr + tpr, tpr - fpr])


def spread(maps: Floats, points: Floats) -> float:
    """Return the largest difference between two groups of any rate, points (n_groups, 2)."""
    rates = np.einsum("kgc,gc->kg", maps, points)
    return float(np.ptp(rates, axis=1).max())


def best_mixture(hulls: list[Roc], maps: Floats, costs: tuple[float, float], tolerance: float) -> list[Floats]:
    """Return weights of the hulls' corners, one vector a group, of least cost with rates that differ by `tolerance`.

    The linear programme is ``min sum_g c_fp fp_g - c_fn tp_g`` over points (fp_g, tp_g) of the hulls, with
    ``low_k <= r_kg <= low_k + tolerance`` for each rate k and group g.
    """
    cost = [(costs[0] * h.fp - costs[1] * h.tp) for h in hulls]
    if np.isinf(tolerance) or len(hulls) == 1:
        return [np.eye(len(c))[c.argmin()] for c in cost]
    sizes = np.array([len(h.fp) for h in hulls])
    group, n_rates, n_groups = np.repeat(np.arange(len(hulls)), sizes), *maps.shape[:2]
    points = np.stack([np.concatenate([h.fp for h in hulls]), np.concatenate([h.tp for h in hulls])])
    column = np.arange(len(group))
    of_group = coo_array((np.ones(len(group)), (group, column)))
    low = csr_array(np.kron(np.eye(n_rates), np.ones((n_groups, 1))))
    rates = vstack([
        coo_array(((maps[k, group] * points.T).sum(axis=1), (group, column)), shape=of_group.shape)
        for k in range(n_rates)
    ])  # fmt: skip
    above = csr_array((np.ones(low.shape[0]), (range(low.shape[0]), range(low.shape[0]))))
    equal = vstack([
        hstack([of_group, csr_array((n_groups, n_rates + low.shape[0]))]), hstack([rates, -low, -above])
    ])  # fmt: skip
    objective = np.concatenate(cost) / max(1e-300, sum(h.fp[-1] + h.tp[-1] for h in hulls))
    bounds = [(0, None)] * len(group) + [(None, None)] * n_rates + [(0, tolerance)] * low.shape[0]
    found = linprog(
        np.concatenate([objective / max(costs), np.zeros(n_rates + low.shape[0])]),
        A_eq=equal.tocsr(), b_eq=np.concatenate([np.ones(n_groups), np.zeros(low.shape[0])]), bounds=bounds,
        method="highs-ds", options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    if found.x is None:  # the rule that selects nobody is always feasible
        raise RuntimeError(f"The linear programme of the thresholds was not solved: {found.message}")
    weights = np.split(np.where(found.x[: len(group)] > _SLACK, found.x[: len(group)], 0.0), np.cumsum(sizes)[:-1])
    return [w / w.sum() for w in weights]


def best_thresholds(curves: list[Roc], maps: Floats, costs: tuple[float, float], tolerance: float) -> Ints:
    """Return one point a curve, of least cost with rates that differ by `tolerance`, by exhaustive search.

    Rates rise along each curve, so that those of a window are a run of points, whose least cost is a range
    minimum; the windows are those that start at a rate of a point.
    """
    cost = [(costs[0] * c.fp - costs[1] * c.tp) for c in curves]
    if np.isinf(tolerance) or len(curves) == 1:
        return np.array([c.argmin() for c in cost])
    rates = [np.stack([c.fp, c.tp], axis=1) @ maps[:, g].T for g, c in enumerate(curves)]
    tables = [_minima(c) for c in cost]
    starts = [np.unique(np.concatenate([r[:, k] for r in rates])) for k in range(len(maps))]
    runs = [[_run(r[:, k], start, tolerance) for r in rates] for k, start in enumerate(starts)]
    best, chosen = np.inf, None
    outer = range(len(starts[0])) if len(maps) == 2 else [0]
    for i in outer:
        total, ranges = 0.0 * starts[-1], []
        for g, table in enumerate(tables):
            first, last = runs[-1][g]
            if len(maps) == 2:
                first, last = np.maximum(first, runs[0][g][0][i]), np.minimum(last, runs[0][g][1][i])
            ranges.append((first, last))
            total = total + _range_minimum(table, first, last)
        j = int(total.argmin())
        if total[j] < best:
            best, chosen = total[j], [(int(a[j]), int(b[j])) for a, b in ranges]
    assert chosen is not None  # the rule that selects nobody is in the window that starts at 0
    return np.array([a + int(c[a:b].argmin()) for c, (a, b) in zip(cost, chosen, strict=True)])


def thinned(curves: list[Roc], n_rates: int) -> list[Roc]:
    """Return the curves with as many evenly spaced points as the search of `best_thresholds` can take, and corners."""
    groups = len(curves)
    budget = np.sqrt(_QUERIES / groups) / groups if n_rates == 2 else _QUERIES / groups**2
    keep = int(np.clip(budget, 2, _MAX_CANDIDATES))

    def thin(curve: Roc) -> Roc:
        if len(curve.fp) <= keep:
            return curve
        spaced = np.linspace(0, len(curve.fp) - 1, keep).astype(np.intp)
        corners = len(curve.fp) - 1 - np.searchsorted(curve.threshold[::-1], concave_hull(curve).threshold)
        return curve.at(np.union1d(spaced, corners))

    return [thin(c) for c in curves]


def _run(rate: Floats, start: Floats, tolerance: float) -> tuple[Ints, Ints]:
    return np.searchsorted(rate, start - _SLACK), np.searchsorted(rate, start + tolerance + _SLACK, side="right")


def _minima(cost: Floats) -> list[Floats]:
    """Minima of runs of length 1, 2, 4, …, by their first place."""
    levels = [cost]
    while 2 ** len(levels) <= len(cost):
        half = 2 ** (len(levels) - 1)
        levels.append(np.minimum(levels[-1][:-half], levels[-1][half:]))
    return levels


def _range_minimum(levels: list[Floats], first: Ints, last: Ints) -> Floats:
    """Least cost of places first … last - 1; inf where there is none."""
    length = last - first
    level = np.log2(np.maximum(length, 1)).astype(np.intp)
    least = np.full(len(length), np.inf)
    for depth in np.unique(level[length > 0]):
        here = (level == depth) & (length > 0)
        a, b = first[here], last[here] - 2**depth
        least[here] = np.minimum(levels[depth][a], levels[depth][b])
    return least
