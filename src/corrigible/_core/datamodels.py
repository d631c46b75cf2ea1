"""Datamodels: sparse linear regressions of a model's outputs on the subset of rows that it was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from corrigible._core.shared_lasso import lasso_columns

Floats = NDArray[np.floating]
_RATIOS = np.geomspace(1.0, 0.02, 10)  # strengths of the path, as a share of the smallest that leaves nothing


def datamodels(masks: NDArray[np.bool_], outputs: Floats, penalty: str) -> tuple[Floats, Floats]:
    """Return the coefficients (n_test, n_train), and their correlation with outputs of subsets held out."""
    n_held = max(len(masks) // 5, 2)
    fitted, held = slice(n_held, None), slice(n_held)
    indicators = masks.astype(np.float64)
    fit = _lasso if penalty == "l1" else _ridge
    trial, strength = fit(indicators[fitted], outputs[fitted], indicators[held], outputs[held])
    correlation = _correlation(indicators[held] @ trial, outputs[held])
    return np.ascontiguousarray(fit(indicators, outputs, None, None, strength)[0].T), correlation


def _ridge(X: Floats, Y: Floats, X_held: Any, Y_held: Any, strength: Floats | None = None) -> tuple[Floats, Floats]:
    """Ridge regressions; each response's strength is the best by leave-one-out, of one decomposition for all."""
    grid = len(X) * np.geomspace(1e-3, 1e3, 13)
    model = RidgeCV(grid, alpha_per_target=True).fit(X, Y)
    return np.atleast_2d(model.coef_).T, np.asarray(model.alpha_)


def _lasso(X: Floats, Y: Floats, X_held: Any, Y_held: Any, strength: Floats | None = None) -> tuple[Floats, Floats]:
    """LASSO regressions; each response's strength is the one on its path that predicts the held-out rows best."""
    mean_x, mean_y = X.mean(axis=0), Y.mean(axis=0)
    centred, response = X - mean_x, Y - mean_y
    largest = np.abs(centred.T @ response).max(axis=0) / len(X)
    if strength is not None:
        return lasso_columns(centred, response, strength * largest), strength
    b: Floats = np.zeros((X.shape[1], Y.shape[1]))
    best, chosen, error = b.copy(), np.ones(Y.shape[1]), np.full(Y.shape[1], np.inf)
    for ratio in _RATIOS:
        b = lasso_columns(centred, response, ratio * largest, start=b)
        now = ((Y_held - mean_y - (X_held - mean_x) @ b) ** 2).mean(axis=0)
        better = now < error
        best[:, better], chosen[better], error[better] = b[:, better], ratio, now[better]
    return best, chosen


def _correlation(predicted: Floats, seen: Floats) -> Floats:
    p, s = predicted - predicted.mean(axis=0), seen - seen.mean(axis=0)
    size = np.sqrt((p * p).sum(axis=0) * (s * s).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (p * s).sum(axis=0) / size
    # A datamodel without coefficients predicts a constant: no correlation, unless there was nothing to predict.
    return np.where((s * s).sum(axis=0) > 0, np.where(size > 0, found, 0.0), np.nan)
