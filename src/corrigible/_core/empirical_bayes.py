"""Rates and means of many groups, drawn towards what all groups have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def beta_prior(hits: Floats, rows: Floats) -> tuple[float, float]:
    """Return (a, b) of the beta distribution of the groups' rates, by moments.

    With ``p_g = hits_g / rows_g``, overall rate m and overdispersion phi = 1 / (a + b + 1) the weighted sum of squares
    ``sum_g n_g (p_g - m)^2`` has expectation ``m (1 - m) (k - 1 + phi (N - sum n_g^2 / N - (k - 1)))``
    (Kleinman 1973). A prior is worth all rows at most: groups that differ by no more than chance say no more.
    """
    seen = rows > 0
    x, n = hits[seen], rows[seen]
    total, k = n.sum(), seen.sum()
    if k < 3 or not 0 < x.sum() < total:
        return np.nan, np.nan
    mean = x.sum() / total
    squares = (n * (x / n - mean) ** 2).sum() / (mean * (1 - mean))
    room = total - (n**2).sum() / total - (k - 1)
    phi = (squares - (k - 1)) / room if room > 0 else 0.0
    worth = float(np.clip(1 / phi - 1, 1.0, total)) if phi > 0 else float(total)
    return float(mean * worth), float((1 - mean) * worth)


def normal_prior(mean: Floats, variance: Floats) -> tuple[float, float, float]:
    """Return mean and variance of the groups' true means, and that mean's own variance, by moments.

    DerSimonian and Laird (1986); NaN for fewer than three groups.
    """
    seen = np.isfinite(mean) & (variance > 0)
    if seen.sum() < 3:
        return np.nan, np.nan, np.nan
    w = 1 / variance[seen]
    centre = (w * mean[seen]).sum() / w.sum()
    heterogeneity = (w * (mean[seen] - centre) ** 2).sum() - (seen.sum() - 1)
    between = max(0.0, heterogeneity / (w.sum() - (w**2).sum() / w.sum()))
    w = 1 / (variance[seen] + between)
    return float((w * mean[seen]).sum() / w.sum()), float(between), float(1 / w.sum())
