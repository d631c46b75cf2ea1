"""The diagonal of a classifier's Fisher information, over its own distribution of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.simplex import softmax
from corrigible._utils.optional import require
from corrigible.errors import InvalidParameterError

Floats = NDArray[np.floating]


def diagonal_fisher(model: Any, X: Any, *, by: str) -> dict[str, Floats]:
    """Return the mean over rows of ``sum_c p_c (d log p_c / d w)^2``, by weight.

    Parameters
    ----------
    model : linear classifier of scikit-learn, or torch module
        The module gives logits (n, k).
    X : array-like of shape (n, d)
        Rows.
    by : str
        Who asks, for errors.
    """
    if hasattr(model, "state_dict"):
        return _of_module(model, X)
    if not hasattr(model, "coef_") or not hasattr(model, "predict_proba"):
        raise InvalidParameterError(
            f"{by} needs a linear classifier with probabilities or a torch module. Got {type(model).__name__}."
        )
    rows = np.asarray(X, dtype=np.float64)
    logits = rows @ model.coef_.T + model.intercept_
    # d log p_c / d z_j = [c = j] - p_j, whose mean square over c is p_j (1 - p_j).
    p = softmax(logits) if logits.shape[1] > 1 else 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    spread = p * (1 - p)
    found = {"coef_": spread.T @ rows**2 / len(rows), "intercept_": spread.mean(axis=0)}
    return {k: v.reshape(np.shape(getattr(model, k))) for k, v in found.items()}


def _of_module(model: Any, X: Any) -> dict[str, Floats]:
    torch = require("torch", extra="torch", by="Fisher information")
    was = model.training
    model.eval()
    weights = dict(model.named_parameters())
    found = {k: np.zeros(tuple(v.shape)) for k, v in model.state_dict().items() if v.is_floating_point()}
    rows = torch.as_tensor(np.asarray(X)).to(next(model.parameters()).dtype)
    for row in rows:
        log_p = model(row[None])[0].log_softmax(dim=0)
        for value in log_p:
            gradients = torch.autograd.grad(value, list(weights.values()), retain_graph=True, allow_unused=True)
            share = float(value.detach().exp()) / len(rows)
            for name, g in zip(weights, gradients, strict=True):
                if g is not None:
                    found[name] += share * g.double().numpy() ** 2
    model.train(was)
    return found
