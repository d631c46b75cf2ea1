"""Small inputs with a known truth, one a kind of input, and what a fitted method puts out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._core.simplex import softmax
from corrigible._registry import load

N, K, D = 600, 3, 4


def classification(
    n: int = N, n_classes: int = K, *, sharpness: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
    """Probabilities (n, k), and labels drawn from them; `sharpness` distorts what is returned."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(n, n_classes))
    cumulative = softmax(logits).cumsum(axis=1)
    y = (rng.uniform(size=(n, 1)) > cumulative).sum(axis=1).clip(max=n_classes - 1)
    return softmax(sharpness * logits), y.astype(np.intp)


def flipped_labels(
    n: int = N, n_classes: int = K, *, share: float = 0.1, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.floating], NDArray[np.bool_]]:
    """Labels of which a share is flipped, out-of-sample probabilities of a good model, and the truth."""
    rng = np.random.default_rng(seed)
    true = rng.integers(n_classes, size=n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), true] += 4.0
    wrong = rng.uniform(size=n) < share
    labels = np.where(wrong, (true + rng.integers(1, n_classes, size=n)) % n_classes, true)
    return labels.astype(np.intp), softmax(logits), wrong


def regression(n: int = N, *, share: float = 0.0, seed: int = 0) -> tuple[Any, Any, Any]:
    """Features (n, d), a nearly linear numeric target of which a share is corrupted, and the truth."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D))
    y = X @ np.arange(1.0, D + 1) + 0.3 * rng.normal(size=n)
    wrong = rng.uniform(size=n) < share
    return X, y + wrong * rng.choice([-1, 1], size=n) * rng.uniform(4, 10, size=n), wrong


def two_groups(n: int = N, seed: int = 0) -> NDArray[np.intp]:
    """Group codes (n,)."""
    return np.random.default_rng(seed + 1).integers(2, size=n)


def _grouped_proba() -> tuple[NDArray[Any], ...]:
    p, y = classification()
    return p, y, two_groups()


def _votes() -> tuple[NDArray[Any], ...]:
    """Three judges' votes, and people's."""
    p, y = classification(n_classes=2)
    return np.column_stack([p[:, 1] > 0.5, p[:, 1] > 0.4, p[:, 1] > 0.7]).astype(int), y


def grouped_scores() -> tuple[NDArray[Any], ...]:
    """Scores of an event, whether it came, and groups."""
    p, y = classification(n_classes=2)
    return p[:, 1].copy(), y, two_groups()


def _grouped_values() -> tuple[NDArray[Any], ...]:
    groups, noise = two_groups(), np.random.default_rng(2).normal(size=N)
    prediction = regression()[1]
    return prediction, prediction + groups + noise, groups


def _proba_with_features() -> tuple[NDArray[Any], ...]:
    p, y = classification()
    return np.log(p), y, p


def _values_with_features() -> tuple[NDArray[Any], ...]:
    X, y, _ = regression()
    return X, y, X @ np.arange(1.0, D + 1)


def _classes() -> tuple[NDArray[Any], ...]:
    X, y, _ = regression()
    return X, (y > 0).astype(np.intp)


def _annotations() -> tuple[NDArray[Any], ...]:
    """Labels of five annotators, each wrong in a fifth of the rows; a third of the labels is not given."""
    rng = np.random.default_rng(0)
    true = rng.integers(K, size=(N, 1))
    wrong = rng.uniform(size=(N, 5)) < 0.2
    labels = np.where(wrong, (true + rng.integers(1, K, size=(N, 5))) % K, true).astype(float)
    labels[:, 1:][rng.uniform(size=(N, 4)) < 1 / 3] = np.nan
    return (labels,)


def _features_with_annotations() -> tuple[NDArray[Any], ...]:
    """Features, and the labels of four annotators that follow them; a quarter of the labels is not given."""
    X, _, _ = regression()
    rng = np.random.default_rng(1)
    labels = (X[:, :K, None] + rng.gumbel(size=(N, K, 4))).argmax(axis=1).astype(float)
    labels[:, 2:][rng.uniform(size=(N, 2)) < 1 / 2] = np.nan
    return X, labels


def _tags() -> tuple[Any, ...]:
    """A matrix of three tags a row, and the probability of each."""
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(N, K))
    return (rng.uniform(size=(N, K)) < p).astype(np.intp), p


def _sentences() -> tuple[Any, ...]:
    """Sentences of five tokens: their labels, and the tokens' probabilities."""
    labels, pred_proba, _ = flipped_labels()
    return np.split(labels, N // 5), np.split(pred_proba, N // 5)


def _learning_curve() -> tuple[NDArray[Any], ...]:
    sizes = np.geomspace(50, 5000, 12)
    return sizes, 0.9 - 2.0 * sizes**-0.6


def _accuracies() -> tuple[NDArray[Any], ...]:
    """Accuracies of twelve models on two sets of rows."""
    old = np.linspace(0.55, 0.95, 12)
    return old, old - 0.1 + 0.01 * np.random.default_rng(0).normal(size=12)


_SAMPLES: dict[str, Callable[[], tuple[NDArray[Any], ...]]] = {
    "labels, pred_proba": lambda: flipped_labels()[:2],
    "y, pred_proba": lambda: classification()[::-1],
    "y, pred_proba, X": lambda: (*_proba_with_features()[1:], _proba_with_features()[0]),
    "X, y, pred_proba": _proba_with_features,
    "X, y, prediction": _values_with_features,
    "pred_proba, y": classification,
    "pred_proba, y, groups": _grouped_proba,
    "scores, y, groups": grouped_scores,
    "y, groups": lambda: grouped_scores()[1:],
    "proba": lambda: (classification(n_classes=3)[0],),
    "votes, people": _votes,
    "prediction, y, groups": _grouped_values,
    "X, y": lambda: regression()[:2],
    "X, y classes": _classes,
    "X, y, treatment": lambda: (*regression()[:2], two_groups()),
    "X_source, X_target": lambda: (regression()[0], regression(seed=1)[0] + 0.5),
    "annotations": _annotations,
    "X, annotations": _features_with_annotations,
    "label matrix, pred_proba": _tags,
    "token labels, token probabilities": _sentences,
    "sizes, scores": _learning_curve,
    "old accuracy, new accuracy": _accuracies,
}


class LinearOnGaps(BaseEstimator):
    """A fitted model of `regression` that takes a missing cell for its mean, 0."""

    def predict(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return predictions (n,)."""
        return np.asarray(np.nan_to_num(X) @ np.arange(1.0, X.shape[1] + 1))


def conformal_rows(card: Card, n: int, *, seed: int) -> tuple[NDArray[Any], ...]:
    """Return n exchangeable rows of what ``fit`` of a conformal method takes, drawn anew for each seed."""
    if card.inputs == "pred_proba, y":
        return classification(n, seed=seed)
    X, y, _ = regression(n, seed=seed)
    prediction = X @ np.arange(1.0, D + 1)
    if card.inputs == "X with gaps, y":
        return np.where(np.random.default_rng([seed, 1]).uniform(size=X.shape) < 0.2, np.nan, X), y
    rows: dict[str, tuple[NDArray[Any], ...]] = {
        "prediction, y": (prediction, y),
        "quantiles, y": (np.column_stack([prediction - 0.2, prediction + 0.2]), y),
        "scores": (np.abs(y - prediction),),
        "X, y": (X, y),
        "losses": ((np.abs(y - prediction)[:, None] > np.linspace(0.0, 2.0, 41)).astype(float),),
    }
    return rows[card.inputs]


def fit_arguments(card: Card) -> tuple[NDArray[Any], ...]:
    """Return what ``fit`` of a method takes, by its card's ``inputs``."""
    if card.inputs == "X, y" and card.kind == "detector":
        return regression(share=0.1)[:2]
    if card.kind == "conformal":
        return conformal_rows(card, N, seed=0)
    if card.inputs not in _SAMPLES:
        raise AssertionError(f"{card.name}: corrigible.testing has no sample for inputs {card.inputs!r}")
    return _SAMPLES[card.inputs]()


def built(params: dict[str, Any]) -> dict[str, Any]:
    """Return test parameters with each ``"new:package.module.Class"`` replaced by an instance of that class."""

    def build(value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith("new:"):
            return value
        module, _, name = value.removeprefix("new:").rpartition(".")
        return getattr(importlib.import_module(module), name)()

    return {key: build(value) for key, value in params.items()}


def fitted(card: Card, params: dict[str, Any]) -> Any:
    """Return the method fitted on its sample, with a fixed seed."""
    seeded = {**params, "random_state": 0} if card.stochastic else params
    return load(card.name)(**seeded).fit(*fit_arguments(card))


def outputs(card: Card, method: Any) -> NDArray[Any]:
    """Return what a fitted method says of its sample, as one array."""
    arguments = fit_arguments(card)
    if card.kind == "detector":
        return np.asarray(method.issue_scores)
    if card.kind == "calibrator":
        return np.asarray(method.predict_proba(arguments[0], *arguments[2:]))
    if card.kind == "conformal":
        return said(method, arguments[0])
    if card.kind == "performance_estimator":
        *inputs, _, predicted = arguments
        found = method.estimate(*inputs, predicted)
        return np.array([e.value for e in (found.values() if isinstance(found, dict) else [found])])
    if not hasattr(method, "predict"):  # what it has learnt is its answer
        learnt = (v for name, v in sorted(vars(method).items()) if name.endswith("_") and isinstance(v, np.ndarray))
        return np.concatenate([v.ravel() for v in learnt if v.dtype.kind == "f"])
    if card.inputs == "X, y, treatment":  # who is treated is known in fitting only
        return np.asarray(method.predict(arguments[0]))
    return np.asarray(method.predict(arguments[0], *arguments[2:]))


def said(method: Any, rows: NDArray[Any]) -> NDArray[Any]:
    """Return a conformal method's sets, intervals or p-values of rows, or the column that risk control chose."""
    if hasattr(method, "column_"):
        return np.array([method.column_])
    name = next(m for m in ("predict_set", "predict_interval", "p_values") if hasattr(method, m))
    return np.asarray(getattr(method, name)(rows))
