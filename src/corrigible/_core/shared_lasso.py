"""LASSO regressions of many responses on one design matrix, solved together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Floats = NDArray[np.floating]


def lasso_columns(
    X: Floats,
    Y: Floats,
    penalty: Floats,
    *,
    start: Floats | None = None,
    tol: float = 1e-4,
    max_iter: int = 2000,
) -> Floats:
    """Return the LASSO coefficients of each column of Y on the same X, (n_features, n_responses).

    Column t minimises ``||y_t - X b||^2 / (2 n) + penalty_t ||b||_1``, scikit-learn's objective without intercept.
    All columns take the steps of one accelerated proximal gradient method, so that an iteration is a product of
    matrices; momentum restarts column by column, and a column leaves once its duality gap is small.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        Design, centred if an intercept is meant.
    Y : ndarray of shape (n, n_responses)
        Responses.
    penalty : ndarray of shape (n_responses,)
        Strengths.
    start : ndarray of shape (n_features, n_responses), optional
        Where to begin; by default at 0.
    tol : float
        Duality gap at which a column is solved, as a share of its ``||y||^2 / (2 n)``.
    max_iter : int
        Bound on the steps.
    """
    n, p = X.shape
    gram = X.T @ X / n if p < 2 * n else None
    moment = X.T @ Y / n
    power = (Y * Y).sum(axis=0) / n
    step = 1.0 / max(_largest_eigenvalue(X) / n, np.finfo(float).tiny)
    found = np.zeros((p, Y.shape[1])) if start is None else start.copy()
    active = np.arange(Y.shape[1])
    b, ahead, momentum = found.copy(), found.copy(), np.ones(len(active))
    for k in range(1, max_iter + 1):
        slope = (gram @ ahead if gram is not None else X.T @ (X @ ahead) / n) - moment[:, active]
        new = _shrunk(ahead - step * slope, step * penalty[active])
        move = new - b
        uphill = ((ahead - new) * move).sum(axis=0) > 0
        momentum[uphill] = 1.0
        later = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead, b = new + (momentum - 1) / later * move, new
        momentum = later
        if k % 10 == 0 or k == max_iter:
            product = gram @ b if gram is not None else X.T @ (X @ b) / n
            gap = _duality_gap(b, product, moment[:, active], power[active], penalty[active])
            open_ = gap > tol * power[active] / 2
            found[:, active] = b
            active, b, ahead, momentum = active[open_], b[:, open_], ahead[:, open_], momentum[open_]
            if len(active) == 0:
                break
    return found


def _shrunk(z: Floats, by: Floats) -> Floats:
    return z - np.clip(z, -by, by)


def _largest_eigenvalue(X: Floats) -> float:
    product = X @ X.T if len(X) < X.shape[1] else X.T @ X
    last = len(product) - 1
    return float(eigh(product, eigvals_only=True, subset_by_index=[last, last])[0])


def _duality_gap(b: Floats, product: Floats, moment: Floats, power: Floats, penalty: Floats) -> Floats:
    """Return primal minus dual objective of each column, from X'Xb / n, X'y / n and y'y / n."""
    residual_power = np.maximum(power - (b * (2 * moment - product)).sum(axis=0), 0.0)
    correlation = np.abs(moment - product).max(axis=0, initial=0.0)
    scale = np.minimum(1.0, penalty / np.maximum(correlation, np.finfo(float).tiny))
    along = power - (b * moment).sum(axis=0)  # residual times response, a row
    primal = residual_power / 2 + penalty * np.abs(b).sum(axis=0)
    dual = scale * along - scale**2 * residual_power / 2
    return np.asarray(primal - dual)
