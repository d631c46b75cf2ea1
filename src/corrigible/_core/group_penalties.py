"""Penalties on differences between groups, as functions of log-odds, and their slopes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.floating]
FAIRNESS = ("demographic_parity", "equalized_odds", "recourse")


def _parts(
    odds: Floats, t: Floats, codes: NDArray[np.intp], fairness: str
) -> tuple[Floats, Floats, list[NDArray[np.bool_]]]:
    """Return what is compared between groups, its slope in the log-odds, and the sets of rows it is compared within."""
    chance = expit(odds)
    if fairness == "recourse":
        return np.maximum(-odds, 0.0), -np.ones(len(odds)), [odds < 0]
    within = [np.ones(len(odds), dtype=bool)] if fairness == "demographic_parity" else [t == 0, t == 1]
    return chance, chance * (1 - chance), within


def _means(
    value: Floats, codes: NDArray[np.intp], rows: NDArray[np.bool_]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return number of rows and mean of each group among some rows, and which groups have any."""
    size = np.bincount(codes[rows], minlength=int(codes.max()) + 1).astype(np.float64)
    total = np.bincount(codes[rows], value[rows], minlength=len(size))
    return size, total / np.maximum(size, 1.0), size > 0


def penalty_slope(odds: Floats, t: Floats, codes: NDArray[np.intp], fairness: str) -> Floats:
    """Slope of the penalty in each row's log-odds."""
    value, slope, sets = _parts(odds, t, codes, fairness)
    out = np.zeros(len(odds))
    for rows in sets:
        size, mean, there = _means(value, codes, rows)
        if there.sum() > 1:
            apart = np.where(there, mean - mean[there].mean(), 0.0) / np.maximum(size, 1.0)
            out += np.where(rows, 2 * apart[codes] * slope, 0.0)
    return out


def largest_gap(odds: Floats, t: Floats, codes: NDArray[np.intp] | None, fairness: str) -> float:
    """Largest difference between groups of what is compared."""
    if codes is None:
        return 0.0
    value, _, sets = _parts(odds, t, codes, fairness)
    gaps = [0.0]
    for rows in sets:
        _, mean, there = _means(value, codes, rows)
        gaps += [float(np.ptp(mean[there]))] if there.sum() > 1 else []
    return max(gaps)
