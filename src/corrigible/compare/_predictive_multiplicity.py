"""Predictive multiplicity: how far models of almost equal loss disagree on single rows.

Paper: Predictive Multiplicity in Probabilistic Classification (Watson-Daniels, Parkes, Ustun, AAAI 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, rel_entr
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.logistic_level_set import LogisticLoss, extreme_models, principal_directions
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_count, check_gaps, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="predictive_multiplicity",
    kind="estimator",
    obj="PredictiveMultiplicity",
    also=("Discrepancy",),
    papers=("pred_mult",),
    refs=("watsondaniels2023predictive",),
    source="",
    differs="For the linear model each row's range is the optimum of the convex problem itself, where the paper fits a "
    "grid of models constrained at the row and reports the best of those within the tolerance. Discrepancy is "
    "bracketed, by the best model found and by what the loss allowed can pay for, instead of solved by mixed-integer "
    "programming. The tolerance is a share of the penalised training loss. Other estimators get sampled ranges, which "
    "lie within the true ones. The paper was at hand in excerpts only; its definitions are those cited of it.",
    inputs="X, y classes",
    stochastic=True,
    cost="about 5 n_distinct^2 d^2 for the linear model; n_candidates fits for any other",
    use_when="Probabilities decide over people or money: how much of a row's probability is the choice of one model "
    "among equally good ones.",
    avoid_when="There are more than two classes, or n d is above a million for exact ranges (ask predict_range for a "
    "few rows then).",
    test_params=({}, {"estimator": "new:sklearn.tree.DecisionTreeClassifier", "n_candidates": 3}),
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Discrepancy:
    """Bounds of a discrepancy.

    Attributes
    ----------
    low : float
        Share of rows in conflict with the one competing model found that has most of them.
    high : float
        Share that none exceeds; if models are sampled, of those sampled, and then equal to `low`.
    """

    low: float
    high: float


class PredictiveMultiplicity(ClassifierMixin, BaseEstimator):
    """Return, for each row, the least and the greatest probability that any near-optimal model gives it.

    Models whose loss is at most ``(1 + epsilon)`` times the least loss compete: nothing in the data says which of
    them to use. A row's viable range holds the probabilities they give it. For logistic regression, the default, it
    is exact: the extreme scores over the set of competing models are convex problems. For any other estimator models
    are refitted to bootstrap samples, and ranges are those of the ones that compete, so that true ranges are wider.

    Parameters
    ----------
    estimator : classifier with ``predict_proba``, optional
        Default: logistic regression, solved exactly.
    epsilon : float, default=0.01
        Loss allowed above the least, as a share of it.
    l2 : float, default=1e-3
        Ridge of the logistic regression, on coefficients of standardised features: it minimises the mean log loss
        plus ``l2 / 2 |w|^2``.
    n_candidates : int, default=50
        Refits of another estimator.
    candidates : sequence of classifiers, optional
        Candidates to fit in place of bootstrap refits of `estimator`, such as other settings of its parameters.
    validation_share : float, default=0.25
        Share of the rows, held out, on which the log loss of other estimators is compared.
    random_state : int, Generator, RandomState or None
        Seeds split, bootstrap and estimators; the exact ranges need none.
    n_jobs : int, optional
        Fits at a time.

    Attributes
    ----------
    ranges_ : ndarray of shape (n_samples, 2)
        Least and greatest probability of ``classes_[1]`` for each training row.
    proba_ : ndarray of shape (n_samples,)
        The baseline model's.
    loss_ : float
        Least loss: the penalised one of the logistic regression, or the baseline's held-out log loss.
    exact_ : bool
        Whether the ranges are exact; otherwise they lie within the true ones.
    n_competing_ : int or None
        Sampled models within the tolerance; None if exact.
    coef_, intercept_ : ndarray of shape (n_features,), float
        The logistic regression, in units of the features; only if exact.
    classes_ : ndarray of shape (2,)
        The classes.
    n_features_in_ : int
        Features seen.

    Notes
    -----
    With h0 the baseline and S the competing models, the range of a row is ``[min_S h(x), max_S h(x)]``, the ambiguity
    the share of rows with ``max_S |h(x) - h0(x)| >= delta``, and the discrepancy the largest share of rows with
    ``|h(x) - h0(x)| >= delta`` that a single h of S reaches.

    References
    ----------
    .. [1] Watson-Daniels, J., Parkes, D. C. and Ustun, B. (2023). Predictive Multiplicity in Probabilistic
       Classification. AAAI.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import PredictiveMultiplicity
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = (X[:, 0] + rng.logistic(size=200) > 0).astype(int)
    >>> found = PredictiveMultiplicity(epsilon=0.01).fit(X, y)
    >>> found.ranges_[:2].round(2)
    array([[0.42, 0.57],
           [0.36, 0.51]])
    >>> found.ambiguity(0.05), found.discrepancy(0.05)
    (0.995, Discrepancy(low=0.625, high=0.96))
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        epsilon: float = 0.01,
        l2: float = 1e-3,
        n_candidates: int = 50,
        candidates: Sequence[Any] | None = None,
        validation_share: float = 0.25,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.epsilon = epsilon
        self.l2 = l2
        self.n_candidates = n_candidates
        self.candidates = candidates
        self.validation_share = validation_share
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the baseline and find the range of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels of two classes.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are not two classes, or too few rows of one to hold some out.
        """
        by = "PredictiveMultiplicity"
        check_number(self.epsilon, name="epsilon", by=by, low=0, closed="neither", high=np.inf)
        check_number(self.l2, name="l2", by=by, low=0, closed="neither", high=np.inf)
        check_count(self.n_candidates, name="n_candidates", by=by)
        check_number(self.validation_share, name="validation_share", by=by, low=0, high=1, closed="neither")
        if self.candidates is not None and self.estimator is None:
            raise InvalidParameterError(f"'candidates' of {by} need an 'estimator', the baseline. Got None.")
        matrix, labels = check_gaps(self, X, y, gaps=self.estimator is not None)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(labels, input_name='y')}."
            )
        if len(self.classes_) < 2:
            raise DataError(f"{by} needs two classes. Got one class, {self.classes_[0]!r}.")
        self.exact_ = self.estimator is None
        self.n_competing_: int | None = None
        if self.exact_:
            self._fit_linear(matrix, codes)
        else:
            self._fit_sampled(matrix, codes)
        self.proba_ = self._baseline(matrix)
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the baseline's probabilities (n_samples, 2)."""
        p = self._baseline(self._checked(X))
        return np.column_stack([1 - p, p])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the baseline's more probable classes (n_samples,)."""
        p = self._baseline(self._checked(X))
        return np.asarray(self.classes_[(p > 0.5).astype(np.intp)])

    def predict_range(self, X: ArrayLike) -> Floats:
        """Return the least and the greatest probability of ``classes_[1]`` that competing models give.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, not necessarily those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Ranges; the baseline's probability lies within.
        """
        return self._range(self._checked(X))

    def ambiguity(self, delta: float) -> float:
        """Return the share of training rows whose probability some competing model changes by `delta` or more."""
        check_number(delta, name="delta", by="PredictiveMultiplicity.ambiguity", low=0, high=1, closed="right")
        check_is_fitted(self)
        return float((self._reach() >= delta).mean())

    def discrepancy(self, delta: float) -> Discrepancy:
        """Return bounds of the largest share of training rows that one competing model changes by `delta` or more."""
        check_number(delta, name="delta", by="PredictiveMultiplicity.discrepancy", low=0, high=1, closed="right")
        check_is_fitted(self)
        low = self._most_conflicts(delta)
        if not self.exact_:
            return Discrepancy(low, low)
        high = min(self._affordable(delta), self.ambiguity(delta))
        return Discrepancy(min(low, high), high)  # rounding alone could part a row on the border from the bound

    def ambiguous(self, *, threshold: float = 0.5) -> NDArray[np.bool_]:
        """Return which training rows competing models put on both sides of a decision threshold."""
        check_number(threshold, name="threshold", by="PredictiveMultiplicity.ambiguous", low=0, high=1)
        check_is_fitted(self)
        low, high = self.ranges_.T
        return np.asarray((low < threshold) & (high >= threshold))

    def _reach(self) -> Floats:
        low, high = self.ranges_.T
        return np.asarray(np.maximum(high - self.proba_, self.proba_ - low))

    def _checked(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        return np.asarray(check_gaps(self, X, reset=False, gaps=not self.exact_))

    def _baseline(self, matrix: Floats) -> Floats:
        if self.exact_:
            return np.asarray(expit(self._design(matrix) @ self._best))
        return np.asarray(self._models[0].predict_proba(matrix)[:, 1])

    # --- exact: logistic regression ---

    def _fit_linear(self, matrix: Floats, codes: NDArray[np.intp]) -> None:
        self._centre = matrix.mean(axis=0)
        spread = matrix.std(axis=0)
        self._scale = np.where(spread > 1e-12 * np.abs(self._centre), spread, np.inf)  # constant: no influence
        rows, where, counts = np.unique(matrix, axis=0, return_inverse=True, return_counts=True)
        n = len(codes)
        design = self._design(rows)
        ridge = np.r_[0.0, np.full(matrix.shape[1], float(self.l2))]
        positive = np.bincount(where.ravel(), weights=codes, minlength=len(rows)) / n
        self._loss = LogisticLoss(design, counts / n, positive, ridge)
        self._best = self._loss.minimise()
        self.loss_ = float(self._loss.values(self._best[None], (design @ self._best)[None])[0])
        self.coef_ = self._best[1:] / self._scale
        self.intercept_ = float(self._best[0] - self.coef_ @ self._centre)
        self._ends = self._extremes(design)
        self.ranges_ = _range_of(self._ends, design)[where.ravel()]

    def _design(self, matrix: Floats) -> Floats:
        return np.column_stack([np.ones(len(matrix)), (matrix - self._centre) / self._scale])

    def _extremes(self, queries: Floats) -> Floats:
        """Models of greatest and of least score, (2 q, d)."""
        both = np.concatenate([queries, -queries])
        return extreme_models(self._loss, self._best, (1 + self.epsilon) * self.loss_, both)

    def _range(self, matrix: Floats) -> Floats:
        if not self.exact_:
            proba = np.stack([m.predict_proba(matrix)[:, 1] for m in self._models])
            return np.column_stack([proba.min(axis=0), proba.max(axis=0)])
        rows, where = np.unique(self._design(matrix), axis=0, return_inverse=True)
        return _range_of(self._extremes(rows), rows)[where.ravel()]

    def _most_conflicts(self, delta: float) -> float:
        """Largest share of training rows changed by any one model found."""
        if not self.exact_:
            return max(float((np.abs(p - self.proba_) >= delta).mean()) for p in self._sampled_proba)
        design, weight = self._loss.design, self._loss.weight
        base = expit(design @ self._best)
        principal = self._extremes(principal_directions(self._loss, self._best))
        models = np.concatenate([self._ends, principal])
        shares = np.empty(len(models))
        step = max(1, 4_000_000 // len(design))
        for start in range(0, len(models), step):
            moved = np.abs(expit(models[start : start + step] @ design.T) - base)
            shares[start : start + step] = (moved >= delta) @ weight
        leaders = models[np.argsort(-shares, kind="stable")[:30]]
        return self._whole_rows(max(shares.max(), self._climbed(leaders, base, delta)))

    def _climbed(self, models: Floats, base: Floats, delta: float) -> float:
        """Search on: follow the slope of a smoothed count of conflicts to the extreme model in its direction."""
        design, weight, most = self._loss.design, self._loss.weight, 0.0
        for width in delta * np.repeat((1.0, 0.5, 0.25, 0.1), 5):
            p = expit(models @ design.T)
            moved = p - base
            most = max(most, float(((np.abs(moved) >= delta) @ weight).max()))
            past = (np.abs(moved) - delta) / width
            pull = weight * expit(past) * expit(-past) * np.sign(moved) * p * (1 - p)
            models = self._extremes(pull @ design)[: len(models)]
        return most

    def _whole_rows(self, share: float) -> float:
        n = len(self.proba_)
        return float(np.rint(share * n)) / n

    def _affordable(self, delta: float) -> float:
        """Largest share of rows whose change by `delta` the loss allowed can pay for.

        At the minimiser, the rise of the loss is the mean Kullback-Leibler divergence of the changed probabilities
        from the baseline's, plus the ridge of the change. The cheapest rows are bought first.
        """
        p, (low, high) = self.proba_, self.ranges_.T
        price = np.full(len(p), np.inf)
        for to, reached in ((p - delta, p - low >= delta), (p + delta, high - p >= delta)):
            price[reached] = np.minimum(price[reached], _divergence(p[reached], to[reached]))
        paid = np.cumsum(np.sort(price[np.isfinite(price)])) / len(p)
        return float(np.searchsorted(paid, self.epsilon * self.loss_ * (1 + 1e-9), side="right")) / len(p)

    # --- sampled: any other estimator ---

    def _fit_sampled(self, matrix: Floats, codes: NDArray[np.intp]) -> None:
        if np.bincount(codes).min() < 2:
            raise DataError("PredictiveMultiplicity needs two rows of each class, one to hold out. Got one.")
        rng = as_generator(self.random_state)
        fitting, held = train_test_split(
            np.arange(len(codes)),
            test_size=self.validation_share,
            stratify=codes,
            random_state=integer_seed(rng),
        )
        given = bool(self.candidates)
        sources = [self.estimator, *(self.candidates or [self.estimator] * self.n_candidates)]
        draws = [fitting] + [fitting if given else _bootstrap(fitting, codes, rng) for _ in sources[1:]]
        tasks = [
            (seed_estimator(clone(source), integer_seed(rng)), matrix[rows], codes[rows])
            for source, rows in zip(sources, draws, strict=True)
        ]
        models = parallel_map(_fitted, tasks, n_jobs=self.n_jobs)
        losses = [_log_loss(codes[held], m.predict_proba(matrix[held])[:, 1]) for m in models]
        self.loss_ = losses[0]
        competing = [
            m for m, loss in zip(models[1:], losses[1:], strict=True) if loss <= (1 + self.epsilon) * losses[0]
        ]
        self._models, self.n_competing_ = [models[0], *competing], len(competing)
        self._sampled_proba = [m.predict_proba(matrix)[:, 1] for m in self._models]
        self.ranges_ = self._range(matrix)

    def _more_tags(self) -> dict[str, Any]:
        return {"binary_only": True}

    def __sklearn_tags__(self) -> Any:
        """Two classes only; gaps if the estimator takes them."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        if self.estimator is not None:
            from sklearn.utils import get_tags

            tags.input_tags.allow_nan = get_tags(self.estimator).input_tags.allow_nan
        return tags


def _range_of(models: Floats, rows: Floats) -> Floats:
    """Least and greatest probability of rows (q, d), from the models of greatest and then of least score (2 q, d)."""
    high, low = np.einsum("sqd,qd->sq", models.reshape(2, len(rows), -1), rows)
    return np.asarray(expit(np.column_stack([low, high])))


def _divergence(p: Floats, q: Floats) -> Floats:
    """Kullback-Leibler divergence of coins with probabilities q from those with p, in nats."""
    return np.asarray(rel_entr(p, q) + rel_entr(1 - p, 1 - q))


def _bootstrap(rows: NDArray[np.intp], codes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw within each class: a sample without one of them could not be fitted."""
    return np.concatenate([rng.choice(own, len(own)) for own in (rows[codes[rows] == c] for c in (0, 1))])


def _fitted(model: Any, X: Floats, codes: NDArray[np.intp]) -> Any:
    return model.fit(X, codes)


def _log_loss(codes: NDArray[np.intp], p: Floats) -> float:
    given = np.where(codes == 1, p, 1 - p)
    return float(-np.log(np.maximum(given, np.finfo(float).eps)).mean())
