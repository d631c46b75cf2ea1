"""Shapley values of a function of few features against a background row, through all subsets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def shapley_by_subsets(said: Callable[[Floats], Floats], X: Floats, background: Floats) -> Floats:
    """Return each feature's share (n, d) of ``said(X) - said(background)``, in O(2^d) calls.

    Parameters
    ----------
    said : callable
        From rows (n, d) to values (n,).
    X : ndarray of shape (n, d)
        Rows.
    background : ndarray of shape (d,)
        What a missing feature is set to.
    """
    d = X.shape[1]
    values = np.zeros(X.shape)
    for size in range(d + 1):
        # The weight of a subset in the value of its members, and of those left out.
        gain = factorial(max(size - 1, 0)) * factorial(d - size) / factorial(d)
        loss = factorial(size) * factorial(max(d - size - 1, 0)) / factorial(d)
        for chosen in combinations(range(d), size):
            inside = np.isin(np.arange(d), chosen)
            values += np.where(inside, gain, -loss) * said(np.where(inside, X, background))[:, None]
    return values
