"""Tests by chance alone, exact or drawn, and corrections of p-values for their number."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control
from scipy.stats import t as student

Floats = NDArray[np.floating]
CORRECTIONS = ("holm", "fdr", "none")
ALTERNATIVES = ("two-sided", "greater", "less")
# Statistics that differ by rounding alone are the same.
_ROUNDING = 1e-9


def corrected(p: Floats, correction: str) -> Floats:
    """Return p-values (m,) corrected for their number: family-wise ("holm"), by false discovery rate, or not."""
    if correction == "none" or len(p) == 0:
        return p
    if correction == "fdr":
        return np.asarray(false_discovery_control(p))
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1.0)
    return out


def sign_flip_test(differences: Floats, *, alternative: str, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Return p-values of columns of differences (n, m) with mean 0 and a symmetric law: their signs are coin tosses.

    All 2^n signs are tried where they are no more than `n_resamples`; otherwise so many are drawn.
    """
    n = len(differences)
    exact = n < 60 and 2**n <= n_resamples
    if exact:
        signs = 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1) - 1
    else:
        signs = 2 * rng.integers(2, size=(n_resamples, n)) - 1
    scale = np.abs(differences).sum(axis=0)
    drawn = signs @ (differences / np.where(scale > 0, scale, 1.0))
    observed = differences.sum(axis=0) / np.where(scale > 0, scale, 1.0)
    return _tail(drawn, observed, alternative, exact=exact)


def label_test(
    values: Floats, chosen: NDArray[np.bool_], *, alternative: str, n_resamples: int, rng: np.random.Generator
) -> float:
    """Return the p-value of a difference in mean between values chosen and others, had they been chosen blindly."""
    n, k = len(values), int(chosen.sum())
    exact = comb(n, k) <= n_resamples
    if exact:
        picks = np.array(list(combinations(range(n), k)))
    else:
        picks = np.argsort(rng.uniform(size=(n_resamples, n)), axis=1)[:, :k]
    centred = values - values.mean()
    scale = np.abs(centred).sum() or 1.0
    # With a fixed number of them the difference of means is a rising function of their sum.
    sums = centred[picks].sum(axis=1, keepdims=True) / scale
    return float(_tail(sums, np.array([centred[chosen].sum() / scale]), alternative, exact=exact)[0])


def sign_test(differences: Floats, *, alternative: str) -> Floats:
    """Return p-values of columns of differences (n, m) with median 0; zeros do not count."""
    above, n = (differences > 0).sum(axis=0), (differences != 0).sum(axis=0)
    return _sided(binom.sf(above - 1, n, 0.5), binom.cdf(above, n, 0.5), alternative)


def t_test(differences: Floats, *, alternative: str) -> Floats:
    """Return p-values of columns of differences (n, m) with mean 0 and a normal law; 1 where all are 0."""
    n, mean, spread = len(differences), differences.mean(axis=0), differences.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(mean / (spread / np.sqrt(n)), nan=0.0, posinf=np.inf, neginf=-np.inf)
    return _sided(student.sf(t, n - 1), student.cdf(t, n - 1), alternative)


def _sided(greater: Floats, less: Floats, alternative: str) -> Floats:
    both = np.minimum(2 * np.minimum(greater, less), 1.0)
    return np.asarray({"greater": greater, "less": less, "two-sided": both}[alternative])


def _tail(drawn: Floats, observed: Floats, alternative: str, *, exact: bool) -> Floats:
    if alternative == "two-sided":
        drawn, observed = np.abs(drawn), np.abs(observed)
    elif alternative == "less":
        drawn, observed = -drawn, -observed
    as_far = (drawn >= observed - _ROUNDING).sum(axis=0)
    # A drawn sample counts what was observed itself: the test stays valid for any number of draws.
    return np.asarray(as_far / len(drawn) if exact else (as_far + 1) / (len(drawn) + 1))
