"""Rows in blocks that stay in the processor's cache: one pass over memory, no large temporaries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._utils.validation import as_array, check_pred_proba

# Numbers a block: with a few temporaries of 8 bytes each, a block fits a second-level cache of 512 kB.
_CELLS = 16_384

# The slack that `check_pred_proba` leaves to a row's sum.
_SUM_TOLERANCE = 1e-3


def row_blocks(n: int, n_columns: int = 1, *, cells: int = _CELLS) -> Iterator[slice]:
    """Yield slices that cover ``range(n)`` in order, about `cells` numbers each."""
    step = max(1, cells // max(1, n_columns))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def checked_proba(pred_proba: ArrayLike, *, n_classes: int | None = None, by: str) -> NDArray[np.floating]:
    """Return what `check_pred_proba` returns, three times faster on a long table that is in order.

    Parameters
    ----------
    pred_proba : array-like of shape (n, k) or (n,)
        Probabilities; one column is read as the probability of the second of two classes.
    n_classes : int, optional
        Number of columns that must be there.
    by : str
        Who asks, for the message.
    """
    p = as_array(pred_proba)
    usual = p.ndim == 2 and p.dtype in (np.float32, np.float64) and p.shape[0] > 0 and p.shape[1] > 1
    if usual and p.shape[1] == (n_classes or p.shape[1]) and _in_simplex(p):
        return p
    return check_pred_proba(pred_proba, n_classes=n_classes, by=by)  # the one place that words the errors


def checked_event_proba(pred_proba: ArrayLike, *, by: str) -> NDArray[np.floating]:
    """Return the probability of the second of two classes, shape (n,), from (n, 2) or (n,); a view if it can be."""
    p = as_array(pred_proba)
    if p.ndim == 1 and p.size and p.dtype in (np.float32, np.float64) and p.min() >= 0 and p.max() <= 1:
        return p
    return checked_proba(pred_proba, n_classes=2, by=by)[:, 1]


def _in_simplex(p: NDArray[np.floating]) -> bool:
    """Whether all rows are probabilities; False too for NaN, for which no comparison holds."""
    ones = np.ones(p.shape[1], dtype=p.dtype)
    for rows in row_blocks(*p.shape):
        block = p[rows]
        sums = block[:, 0] + block[:, 1] if len(ones) == 2 else block @ ones
        near = sums.min() >= 1 - _SUM_TOLERANCE and sums.max() <= 1 + _SUM_TOLERANCE
        if not (near and block.min() >= 0 and block.max() <= 1):
            return False
    return True
