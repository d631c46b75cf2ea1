"""Logits and probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._utils.validation import as_array, check_pred_proba
from corrigible.errors import DataError

# Probabilities of exactly 0 would give infinite logits; this is the smallest normal float32.
_SMALLEST = 1.2e-38


# Rows of more classes are faster searched one by one than column by column.
_MAX_COLUMNS = 32


def row_maxima(p: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Return the column of each row's largest value, the first of equal ones, and that value, both (n,).

    Parameters
    ----------
    p : ndarray of shape (n, k)
        Values without NaN; quickest where columns are contiguous.
    """
    if p.shape[1] > _MAX_COLUMNS:
        best = np.asarray(p.argmax(axis=1), dtype=np.intp)
        return best, p[np.arange(len(p)), best]
    best, top = np.zeros(len(p), dtype=np.int8), p[:, 0].copy()
    for j in range(1, p.shape[1]):
        higher = (p[:, j] > top).view(np.int8)
        np.maximum(best, np.int8(j) * higher, out=best)  # j exceeds all columns before
        np.maximum(top, p[:, j], out=top)
    return best.astype(np.intp), top


def of_label(p: NDArray[np.floating], labels: NDArray[np.intp]) -> NDArray[np.floating]:
    """Return each row's value in the column of its label, (n,)."""
    n, k = p.shape
    rows = np.arange(n)
    if p.flags.f_contiguous:
        return p.ravel(order="F").take(labels * n + rows)
    return p.ravel().take(rows * k + labels)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return probabilities of shape (n, k) from logits, without overflow."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_proba(
    scores: ArrayLike, *, from_logits: bool, n_classes: int | None = None, by: str
) -> NDArray[np.floating]:
    """Return logits of shape (n, k) from logits, or from probabilities by their logarithm.

    Parameters
    ----------
    scores : array-like of shape (n, k)
        Logits or probabilities; of a torch tensor the values are taken.
    from_logits : bool
        Which of the two.
    n_classes : int, optional
        Number of columns that must be there.
    by : str
        Who asks, for the message.
    """
    if not from_logits:
        p = check_pred_proba(scores, n_classes=n_classes, by=by)
        return np.log(np.maximum(p, _SMALLEST))
    z = as_array(scores)
    z = z if z.dtype in (np.float32, np.float64) else z.astype(np.float64)
    if z.ndim != 2 or z.shape[0] == 0 or z.shape[1] < 2 or (n_classes or z.shape[1]) != z.shape[1]:
        wanted = f"(n_samples, {n_classes or 'n_classes'})"
        raise DataError(f"The logits of {by} must have shape {wanted}. Got shape {z.shape}.")
    if not np.isfinite(z).all():
        row = int(np.flatnonzero(~np.isfinite(z).all(axis=1))[0])
        raise DataError(f"The logits of {by} must be finite. Row {row} is not.")
    return z
