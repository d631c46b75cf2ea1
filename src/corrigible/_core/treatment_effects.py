"""Effects of a binary treatment that vary with the features: nuisance functions, pseudo-outcomes, meta-learners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from corrigible._utils.random import seed_estimator

Floats = NDArray[np.floating]
Codes = NDArray[np.intp]

LEARNERS = ("S", "T", "DR", "R")


@dataclass(frozen=True)
class Nuisance:
    """Estimates a row, by models that did not see it.

    Attributes
    ----------
    untreated, treated, mean : ndarray of shape (n,)
        Expected outcome without treatment, with it, and whatever the treatment.
    propensity : ndarray of shape (n,)
        Probability of treatment.
    single : ndarray of shape (n,)
        Effect that one model of outcome on features and treatment gives.
    """

    untreated: Floats
    treated: Floats
    mean: Floats
    propensity: Floats
    single: Floats


@dataclass(frozen=True)
class EffectModel:
    """A fitted meta-learner.

    Parameters
    ----------
    kind : {"S", "T", "DR", "R"}
        Which one.
    models : tuple
        One outcome model (S), those without and with treatment (T), or one of the effect (DR, R).
    """

    kind: str
    models: tuple[Any, ...]

    def outcomes(self, X: Floats) -> tuple[Floats, Floats] | None:
        """Return expected outcomes without and with treatment, each (n,); None where only effects are modelled."""
        if self.kind == "S":
            zero, one = (np.column_stack([X, np.full(len(X), w)]) for w in (0.0, 1.0))
            return _predicted(self.models[0], zero), _predicted(self.models[0], one)
        if self.kind == "T":
            return _predicted(self.models[0], X), _predicted(self.models[1], X)
        return None

    def effect(self, X: Floats) -> Floats:
        """Return the effects (n,)."""
        both = self.outcomes(X)
        return _predicted(self.models[0], X) if both is None else both[1] - both[0]


def cross_fitted(
    outcome: Any, propensity: Any, X: Floats, y: Floats, w: Codes, *, n_folds: int, clip: float, seed: int
) -> Nuisance:
    """Estimate the nuisance functions in folds with equal shares of treated rows.

    Parameters
    ----------
    outcome, propensity : regressor, classifier with ``predict_proba``
        Unfitted.
    X, y, w : ndarray of shape (n, d), (n,), (n,)
        Features, outcomes and treatments, 0 or 1; at least `n_folds` rows of each treatment.
    n_folds : int
        Folds.
    clip : float
        Propensities are kept this far from 0 and 1.
    seed : int
        Of folds and models.
    """
    found = np.empty((5, len(y)))
    for fit, held in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(X, w):
        two = fit_learner("T", outcome, propensity, X[fit], y[fit], w[fit], n_folds=n_folds, clip=clip, seed=seed)
        one = fit_learner("S", outcome, propensity, X[fit], y[fit], w[fit], n_folds=n_folds, clip=clip, seed=seed)
        found[0, held], found[1, held] = two.outcomes(X[held]) or (np.nan, np.nan)
        found[2, held] = _predicted(_seeded(outcome, seed).fit(X[fit], y[fit]), X[held])
        given = _seeded(propensity, seed).fit(X[fit], w[fit]).predict_proba(X[held])[:, 1]
        found[3, held] = np.clip(given, clip, 1 - clip)
        found[4, held] = one.effect(X[held])
    return Nuisance(*found)


def doubly_robust(y: Floats, w: Codes, nuisance: Nuisance) -> Floats:
    """Return pseudo-outcomes (n,) whose mean given the features is the effect, if outcome or propensity is right."""
    e = nuisance.propensity
    own = np.where(w == 1, nuisance.treated, nuisance.untreated)
    return np.asarray(nuisance.treated - nuisance.untreated + (w - e) / (e * (1 - e)) * (y - own))


def regression_adjusted(y: Floats, w: Codes, nuisance: Nuisance) -> Floats:
    """Return the difference of the outcome seen and the one expected under the other treatment (n,)."""
    return np.asarray(np.where(w == 1, y - nuisance.untreated, nuisance.treated - y))


def fit_learner(
    kind: str,
    outcome: Any,
    propensity: Any,
    X: Floats,
    y: Floats,
    w: Codes,
    *,
    n_folds: int,
    clip: float,
    seed: int,
) -> EffectModel:
    """Fit a meta-learner; arguments as in `cross_fitted`, and the effect's model is like the outcome's."""
    if kind == "S":
        return EffectModel(kind, (_seeded(outcome, seed).fit(np.column_stack([X, w]), y),))
    if kind == "T":
        return EffectModel(kind, tuple(_seeded(outcome, seed).fit(X[w == a], y[w == a]) for a in (0, 1)))
    nuisance = cross_fitted(outcome, propensity, X, y, w, n_folds=n_folds, clip=clip, seed=seed)
    if kind == "DR":
        return EffectModel(kind, (_seeded(outcome, seed).fit(X, doubly_robust(y, w, nuisance)),))
    away = w - nuisance.propensity
    model = _seeded(outcome, seed).fit(X, (y - nuisance.mean) / away, sample_weight=away**2)
    return EffectModel(kind, (model,))


def _seeded(model: Any, seed: int) -> Any:
    return seed_estimator(clone(model), seed)


def _predicted(model: Any, X: Floats) -> Floats:
    return np.asarray(model.predict(X), dtype=np.float64).ravel()
