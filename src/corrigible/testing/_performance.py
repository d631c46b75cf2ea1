"""Performance estimators: right where their assumption holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from corrigible._card import Card
from corrigible._registry import load
from corrigible.testing._samples import classification, regression


def check_estimates_the_realised(card: Card, params: dict[str, Any]) -> None:
    """On rows drawn as the reference rows were, the estimate is the realised accuracy, or mean absolute error."""
    (_check_mae if "prediction" in card.inputs else _check_accuracy)(card, params)


def _check_mae(card: Card, params: dict[str, Any]) -> None:
    (X, y, _), (Z, z, _) = regression(6000), regression(6000, seed=1)
    weights = np.arange(1.0, X.shape[1] + 1)
    method = load(card.name)(**params, random_state=0).fit(X, y, X @ weights)
    estimate, realised = _named(method.estimate(Z, Z @ weights), "mae"), float(np.abs(Z @ weights - z).mean())
    assert abs(estimate.value - realised) < 0.02 * np.std(z)
    assert estimate.low <= estimate.value <= estimate.high


def _check_accuracy(card: Card, params: dict[str, Any]) -> None:
    (p, y), (q, z) = classification(6000, sharpness=2.0), classification(6000, sharpness=2.0, seed=1)
    seeded = {**params, "random_state": 0} if card.stochastic else params
    method = load(card.name)(**seeded)
    inputs = (lambda a: (np.log(a),)) if card.inputs.startswith("X, ") else (lambda a: ())
    estimate = _named(method.fit(*inputs(p), y, p).estimate(*inputs(q), q), "accuracy")
    realised = float((q.argmax(1) == z).mean())
    assert abs(estimate.value - realised) < 0.02
    assert estimate.low <= estimate.value <= estimate.high


def _named(found: Any, metric: str) -> Any:
    return found[metric] if isinstance(found, dict) else found


CHECKS = (check_estimates_the_realised,)
