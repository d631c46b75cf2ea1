"""What a movement of the inputs does to the mean loss, from labelled reference rows and their density ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from corrigible.shift._direct_loss import DirectLossEstimation

Floats = NDArray[np.floating]


def loss_effect(
    reference: Any, production: Any, loss: Floats, weight: Floats, *, confidence: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the expected change of the mean loss, and an interval for the change realised on the production rows.

    Weighting alone takes the density ratio as known, and its interval is too narrow where the ratio is estimated: its
    error enters in full. Augmented by a model of the loss, it enters only times that of the model (double robustness).

    Parameters
    ----------
    reference, production : DataFrame or ndarray
        Rows of the two.
    loss : ndarray of shape (n_reference,)
        Losses of the reference's rows.
    weight : ndarray of shape (n_reference,)
        Density of production over that of the reference.
    confidence : float
        Of the interval.
    rng : Generator
        Folds and models.
    """
    base = min(0.0, float(loss.min()))  # losses are expected to be at least 0
    # A rough model is enough, what it misses is weighted; and it errs little from fold to fold.
    rough = HistGradientBoostingRegressor(max_iter=40, max_leaf_nodes=6, early_stopping=False)
    model = DirectLossEstimation(metric="mae", estimator=rough, confidence=confidence, random_state=rng)
    model.fit(reference, loss - base, np.zeros(len(loss)))
    found = model.estimate(production, np.zeros(len(production)), reference_weight=weight)
    before = float(loss.mean()) - base
    return found.value - before, found.low - before, found.high - before
