"""Choosing an estimator of treatment effects when no effect is ever observed.

Paper: In Search of Insights, Not Magic Bullets: Towards Demystification of the Model Selection Dilemma in
Heterogeneous Treatment Effect Estimation (Curth, van der Schaar, ICML 2023).
Original: https://github.com/AliciaCurth/CATESelection
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.treatment_effects import (
    LEARNERS,
    EffectModel,
    Nuisance,
    cross_fitted,
    doubly_robust,
    fit_learner,
    regression_adjusted,
)
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_gaps, check_number, check_vector
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="treatment_effect_selection",
    kind="estimator",
    obj="TreatmentEffectSelection",
    papers=("hte_select",),
    refs=("curth2023search",),
    source="https://github.com/AliciaCurth/CATESelection",
    differs="Plug-in criteria are cross-fitted on the validation rows, where the authors fit and apply them to the "
    "same rows. The paper's RA, PW and X learners are no candidates, and its criteria with nuisances taken from the "
    "training rows are left out. The paper's full text could not be had: criteria follow the authors' code.",
    inputs="X, y, treatment",
    stochastic=True,
    cost="about (3 + 10 n_folds) fits an estimator, and 6 n_folds for the criteria",
    use_when="Several estimators of a treatment's effect are at hand, treatment depends on measured features only, and "
    "one must be chosen without seeing any effect.",
    avoid_when="Treatment depends on what was not measured, or hardly any row could have had either treatment: no "
    "criterion sees that.",
    test_params=({"estimators": "new:sklearn.linear_model.LinearRegression"},),
    excused={"check_sklearn": "fit needs the treatment of each row beside X and y"},
)

Floats = NDArray[np.floating]
Codes = NDArray[np.intp]
_CRITERIA = ("factual", "weighted_factual", "plug_in_s", "plug_in_t", "matching", "ra", "dr", "r", "influence")


class TreatmentEffectSelection(BaseEstimator):
    """Fit several estimators of a treatment's effect, score each by criteria that need no true effect, and choose.

    Candidates are meta-learners over any scikit-learn regressors: one model with the treatment as a feature (S), one
    for each treatment (T), or a model of the effect itself from doubly robust (DR) or residual (R) pseudo-outcomes.
    They are fitted to a part of the rows; the criteria are computed on the others, with nuisance functions that are
    cross-fitted there.

    Parameters
    ----------
    estimators : regressor or mapping of str to regressor, optional
        Regressors behind the candidates; R needs them to take ``sample_weight``. Default: ridge regression and
        gradient boosting.
    learners : sequence of {"S", "T", "DR", "R"}, default=("S", "T", "DR", "R")
        Meta-learners to try with each.
    criterion : str, default="dr"
        What decides: "factual", "weighted_factual", "plug_in_s", "plug_in_t", "matching", "ra", "dr", "r" or
        "influence". All of them are computed.
    nuisance : regressor, optional
        Outcome model of the criteria. Default: gradient boosting.
    propensity : classifier, optional
        Model of the treatment. Default: logistic regression on standardised features.
    validation_share : float, default=0.3
        Share of the rows on which the criteria are computed.
    n_folds : int, default=3
        Folds of each cross-fitting.
    clip : float, default=0.02
        Propensities are kept this far from 0 and 1.
    random_state : int, Generator, RandomState or None
        Seeds split, folds and models.
    n_jobs : int, optional
        Candidates at a time.

    Attributes
    ----------
    names_ : list of str
        Candidates, such as "T ridge".
    scores_ : dict of str to ndarray of shape (n_candidates,)
        Each criterion's scores, lower better; NaN where a candidate has no outcomes to compare (factual criteria).
    chosen_ : dict of str to str
        Candidate each criterion chooses.
    best_name_ : str
        The choice of `criterion`.
    best_model_ : object
        That candidate, fitted to all rows.
    models_ : list
        All candidates, fitted to the training rows.
    n_features_in_ : int
        Features seen.

    Notes
    -----
    With ``t(x)`` a candidate's effect, ``e`` the propensity and ``m`` the mean outcome, the R criterion is
    ``mean(((y - m) - t (w - e))^2)``; plug-in, matching, RA and DR are ``mean((s - t)^2)`` with a surrogate ``s`` for
    the effect; "influence" corrects the plug-in by its influence function, and may be negative. Criteria favour
    candidates built as they are themselves: a plug-in criterion of type T likes T-learners (congeniality).

    References
    ----------
    .. [1] Curth, A. and van der Schaar, M. (2023). In Search of Insights, Not Magic Bullets: Towards Demystification
       of the Model Selection Dilemma in Heterogeneous Treatment Effect Estimation. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from corrigible.compare import TreatmentEffectSelection
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> treatment = rng.integers(2, size=400)
    >>> y = X[:, 0] + treatment * X[:, 1] + 0.1 * rng.normal(size=400)
    >>> found = TreatmentEffectSelection(LinearRegression(), learners=("S", "T"), random_state=0).fit(X, y, treatment)
    >>> found.best_name_  # a linear model with the treatment as a feature has one effect for all
    'T LinearRegression'
    >>> found.predict([[0.0, 1.0], [0.0, -1.0]]).round(1)
    array([ 1., -1.])
    """

    def __init__(
        self,
        estimators: Any = None,
        *,
        learners: Sequence[str] = LEARNERS,
        criterion: str = "dr",
        nuisance: Any = None,
        propensity: Any = None,
        validation_share: float = 0.3,
        n_folds: int = 3,
        clip: float = 0.02,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimators = estimators
        self.learners = learners
        self.criterion = criterion
        self.nuisance = nuisance
        self.propensity = propensity
        self.validation_share = validation_share
        self.n_folds = n_folds
        self.clip = clip
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike, treatment: ArrayLike) -> Self:
        """Fit the candidates, score them, and fit the chosen one to all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, measured before treatment.
        y : array-like of shape (n_samples,)
            Outcomes.
        treatment : array-like of shape (n_samples,)
            1 for treated rows, 0 for the others.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the treatment is not 0 or 1, or too few rows have one of the two.
        """
        matrix, outcome, w = self._checked(X, y, treatment)
        estimators = self._estimators()
        rng = as_generator(self.random_state)
        seed = integer_seed(rng)
        fitting, held = train_test_split(
            np.arange(len(w)), test_size=self.validation_share, stratify=w, random_state=integer_seed(rng)
        )
        few = min(np.bincount(w[rows], minlength=2).min() for rows in (fitting, held))
        if few < 2 * self.n_folds:
            raise DataError(
                f"TreatmentEffectSelection needs {2 * self.n_folds} rows of each treatment, two a fold, both to fit and "
                f"to validate. Got {few}. Lower n_folds."
            )
        words: dict[str, Any] = {"n_folds": self.n_folds, "clip": self.clip, "seed": seed}
        propensity = self.propensity or make_pipeline(StandardScaler(), LogisticRegression())
        kinds = [(kind, name) for name in estimators for kind in self.learners]
        self.names_ = [f"{kind} {name}" for kind, name in kinds]
        tasks = [
            (kind, estimators[name], propensity, matrix[fitting], outcome[fitting], w[fitting], words)
            for kind, name in kinds
        ]
        self.models_ = parallel_map(_fit_candidate, tasks, n_jobs=self.n_jobs)
        nuisance = HistGradientBoostingRegressor(max_iter=50) if self.nuisance is None else self.nuisance
        rows = (matrix[held], outcome[held], w[held])
        self.scores_ = _all_scores(self.models_, *rows, cross_fitted(nuisance, propensity, *rows, **words))
        self.chosen_ = {
            c: self.names_[int(np.nanargmin(s))] for c, s in self.scores_.items() if not np.isnan(s).all()
        }
        if self.criterion not in self.chosen_:
            raise InvalidParameterError(
                f"The criterion {self.criterion!r} of TreatmentEffectSelection compares outcomes, which only S and T "
                f"learners have. Got learners {tuple(self.learners)}."
            )
        self.best_name_ = self.chosen_[self.criterion]
        kind, name = kinds[self.names_.index(self.best_name_)]
        self.best_model_ = fit_learner(kind, estimators[name], propensity, matrix, outcome, w, **words)
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Return the chosen candidate's effects (n_samples,), in units of the outcome."""
        check_is_fitted(self)
        return self.best_model_.effect(check_gaps(self, X, reset=False, gaps=False))

    def oracle(self, X: ArrayLike, effect: ArrayLike) -> Floats:
        """Return each candidate's root mean squared error (n_candidates,) where true effects are known.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of a simulation.
        effect : array-like of shape (n_samples,)
            Their true effects.
        """
        check_is_fitted(self)
        matrix = check_gaps(self, X, reset=False, gaps=False)
        true = check_vector(effect, n=len(matrix), name="effect", by="TreatmentEffectSelection.oracle")
        return np.array([np.sqrt(np.mean((m.effect(matrix) - true) ** 2)) for m in self.models_])

    def _checked(self, X: ArrayLike, y: ArrayLike, treatment: ArrayLike) -> tuple[Floats, Floats, Codes]:
        by = "TreatmentEffectSelection"
        check_choice(self.criterion, _CRITERIA, name="criterion", by=by)
        for learner in self.learners:
            check_choice(learner, LEARNERS, name="learners", by=by)
        check_count(self.n_folds, name="n_folds", by=by, low=2)
        check_number(self.clip, name="clip", by=by, low=0, high=0.5, closed="neither")
        check_number(self.validation_share, name="validation_share", by=by, low=0, high=1, closed="neither")
        matrix, outcome = check_gaps(self, X, y, numeric=True, gaps=False)
        w = check_vector(treatment, n=len(matrix), name="treatment", by=by)
        values, counts = np.unique(w, return_counts=True)
        if not np.array_equal(values, [0, 1]) or counts.min() < 2:
            raise DataError(
                f"'treatment' of {by} must be 0 and 1, each in two rows or more. Got {values[:5].tolist()}."
            )
        return matrix, np.asarray(outcome, dtype=np.float64), w.astype(np.intp)

    def _estimators(self) -> dict[str, Any]:
        if self.estimators is None:
            ridge = RidgeCV(np.logspace(-2, 3, 6))
            return {"ridge": ridge, "boosting": HistGradientBoostingRegressor(max_iter=50)}
        if isinstance(self.estimators, Mapping):
            return dict(self.estimators)
        return {type(self.estimators).__name__: self.estimators}


def _fit_candidate(
    kind: str, model: Any, propensity: Any, X: Floats, y: Floats, w: Codes, words: dict[str, Any]
) -> EffectModel:
    return fit_learner(kind, model, propensity, X, y, w, **words)


def _all_scores(models: list[EffectModel], X: Floats, y: Floats, w: Codes, nuisance: Nuisance) -> dict[str, Floats]:
    """Every criterion for every candidate on validation rows, lower better."""
    e = nuisance.propensity
    surrogates = {
        "plug_in_s": nuisance.single,
        "plug_in_t": nuisance.treated - nuisance.untreated,
        "matching": _matched(X, y, w),
        "ra": regression_adjusted(y, w, nuisance),
        "dr": doubly_robust(y, w, nuisance),
    }
    inverse = np.where(w == 1, 1 / e, 1 / (1 - e))
    scores: dict[str, list[float]] = {criterion: [] for criterion in _CRITERIA}
    for model in models:
        effect, both = model.effect(X), model.outcomes(X)
        missed = np.full(len(y), np.nan) if both is None else (y - np.where(w == 1, both[1], both[0])) ** 2
        scores["factual"].append(float(missed.mean()))
        scores["weighted_factual"].append(float(np.average(missed, weights=inverse)))
        for criterion, surrogate in surrogates.items():
            scores[criterion].append(float(np.mean((surrogate - effect) ** 2)))
        scores["r"].append(float(np.mean((y - nuisance.mean - effect * (w - e)) ** 2)))
        scores["influence"].append(_influence(effect, surrogates["plug_in_t"], y, w, e))
    return {criterion: np.array(values) for criterion, values in scores.items()}


def _influence(effect: Floats, plug_in: Floats, y: Floats, w: Codes, e: Floats) -> float:
    """Plug-in error plus its first-order correction (Alaa and van der Schaar 2019), less what all candidates share."""
    factor = 2 * w * (w - e) / (e * (1 - e))
    gap = plug_in - effect
    return float(np.mean((1 - factor) * plug_in**2 + factor * y * gap - (w - e) * gap**2 + effect**2))


def _matched(X: Floats, y: Floats, w: Codes) -> Floats:
    """Difference of each outcome and that of the nearest row of the other treatment, treated minus untreated."""
    found = np.empty(len(y))
    for arm in (0, 1):
        other = np.flatnonzero(w != arm)
        nearest = NearestNeighbors(n_neighbors=1).fit(X[other]).kneighbors(X[w == arm], return_distance=False)[:, 0]
        found[w == arm] = (2 * arm - 1) * (y[w == arm] - y[other[nearest]])
    return found
