"""Losses a row: what a budget is measured in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from corrigible._core.simplex import of_label

Floats = NDArray[np.floating]

CLASSIFICATION = ("zero_one", "log", "brier")
REGRESSION = ("squared", "absolute")
LOSSES = CLASSIFICATION + REGRESSION

# As scikit-learn's log_loss: a probability of exactly 0 costs -log(eps), not infinity.
_TINY = np.finfo(np.float64).eps


def zero_one(y: NDArray[np.intp], pred_proba: Floats) -> Floats:
    """1 where the most probable class (the first of equals) is not the label."""
    return (pred_proba.argmax(axis=1) != y).astype(np.float64)


def log(y: NDArray[np.intp], pred_proba: Floats) -> Floats:
    """Negative log probability of the label, in nats."""
    given = of_label(pred_proba, y).astype(np.float64, copy=False)
    return -np.log(np.clip(given, _TINY, 1.0))


def brier(y: NDArray[np.intp], pred_proba: Floats) -> Floats:
    """Squared distance to the one-hot label; halved for two classes, as scikit-learn does."""
    given = of_label(pred_proba, y)
    distance = np.einsum("ij,ij->i", pred_proba, pred_proba) - 2.0 * given + 1.0
    return distance / 2 if pred_proba.shape[1] == 2 else distance


def squared(y: Floats, prediction: Floats) -> Floats:
    """Squared error."""
    return (np.asarray(y, dtype=np.float64) - prediction) ** 2


def absolute(y: Floats, prediction: Floats) -> Floats:
    """Absolute error."""
    return np.abs(np.asarray(y, dtype=np.float64) - prediction)


ROW_LOSS: dict[str, Callable[..., Floats]] = {
    "zero_one": zero_one,
    "log": log,
    "brier": brier,
    "squared": squared,
    "absolute": absolute,
}
