"""Choice of a sampler and a classifier together, for a class that is very rare.

Paper: Credit card fraud detection - Classifier selection strategy (Kulatilleke, 2022).
Original: none found
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from corrigible._card import Card
from corrigible._utils.fitting import fitted
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_gaps, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="imbalance_selector",
    kind="estimator",
    obj="ImbalanceSelector",
    papers=("fraud_select",),
    refs=("kulatilleke2022credit", "chawla2002smote"),
    source="",
    differs="Only abstract and introduction were at hand: kept is that samplers are tried as a step before classifiers "
    "and that the data choose, by rows that keep their imbalance. The criterion (average precision over folds, the "
    "cheapest within a standard error if wanted), the shares put right and the threshold from held-out scores are derived.",
    inputs="X, y classes",
    stochastic=True,
    cost="a fit of each classifier for each sampler and fold, and one more",
    use_when="One class has a percent of the rows or less, and which of the usual remedies helps is not known.",
    avoid_when="The rare class has fewer than some twenty rows: folds then choose by noise.",
    test_params=(
        {"classifiers": "new:sklearn.linear_model.LogisticRegression", "cv": 2, "samplers": ("none", "smote")},
    ),
    excused={
        "sklearn:check_classifiers_train": "Labels follow the threshold of the best F-measure, not the larger probability.",
    },
)

Floats = NDArray[np.floating]
SAMPLERS = ("none", "weight", "under", "over", "smote")
SCORES = {"average_precision": average_precision_score, "roc_auc": roc_auc_score}
_NEIGHBOURS = 5


class ImbalanceSelector(ClassifierMixin, BaseEstimator):
    """Try every sampler before every classifier, keep the pair that ranks held-out rows best, and set its threshold.

    Rows are drawn anew in the training folds only; the held-out rows keep their imbalance, so that no score is made of
    copies. The pair is fitted again to all rows. A sampler that changes the share of the rare class shifts the log-odds
    by a constant, which is taken back, and the threshold is the one of largest F-measure on the held-out scores.

    Parameters
    ----------
    classifiers : classifier, list or mapping of str to classifier, optional
        Tried; each tells probabilities. Default: logistic regression, a random forest and boosted trees.
    samplers : sequence of {"none", "weight", "under", "over", "smote"}, optional
        Tried: rows as they are, rows weighted, common rows dropped, rare rows repeated, rare rows interpolated between
        neighbours (SMOTE). Default: all. Rows are weighted only where a classifier takes ``sample_weight``.
    ratio : float, default=1.0
        Rows of the rare class to one of the other after drawing; a class is never made rarer than it is.
    scoring : {"average_precision", "roc_auc"}, default="average_precision"
        What chooses.
    rule : {"best", "one_se"}, default="best"
        The pair of the highest mean, or the quickest to fit of those within a standard error of it.
    cv : int or splitter, default=5
        Folds: stratified and shuffled if a number, as many as the rare class has rows at most. Pass ``TimeSeriesSplit``
        where rows come in time.
    beta : float, default=1.0
        Recall counts so many times as much as precision in the threshold.
    random_state : None, int, Generator or RandomState
        Source of folds, samplers and classifiers.
    n_jobs : int, optional
        Fits at once.

    Attributes
    ----------
    results_ : DataFrame
        A row a pair, best first: ``sampler, classifier, score, error`` (standard error over folds), ``seconds`` a fit.
    sampler_, classifier_ : str
        Names of the chosen pair.
    model_ : classifier
        Fitted to all rows.
    threshold_ : float
        Probability of the rare class from which it is predicted.
    rare_ : label
        The rare class.
    classes_ : ndarray of shape (2,)
        Classes.

    Notes
    -----
    The score of the chosen pair is the largest of several, so it is too high by some of its error: hold rows out to
    know how good it is.

    References
    ----------
    .. [1] Kulatilleke, G. K. (2022). Credit card fraud detection - Classifier selection strategy. arXiv:2208.11900.
    .. [2] Chawla, N. V. et al. (2002). SMOTE: Synthetic Minority Over-sampling Technique. JAIR 16.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from corrigible.compare import ImbalanceSelector
    >>> X, y = make_classification(600, 5, weights=[0.95], random_state=0)
    >>> found = ImbalanceSelector(LogisticRegression(), cv=3, random_state=0).fit(X, y)
    >>> found.results_.shape, int(found.rare_)
    ((5, 5), 1)
    """

    def __init__(
        self,
        classifiers: Any = None,
        *,
        samplers: Sequence[str] | None = None,
        ratio: float = 1.0,
        scoring: str = "average_precision",
        rule: str = "best",
        cv: Any = 5,
        beta: float = 1.0,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.classifiers = classifiers
        self.samplers = samplers
        self.ratio = ratio
        self.scoring = scoring
        self.rule = rule
        self.cv = cv
        self.beta = beta
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Try all pairs and fit the chosen one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; they are standardised.
        y : array-like of shape (n_samples,)
            Labels of two classes.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are not two classes of two rows, or no fold holds both.
        """
        by = "ImbalanceSelector"
        samplers = self._check_parameters(by)
        rows, rare = self._rows(X, y, by)
        rng = as_generator(self.random_state)
        folds = self._folds(rows, rare, integer_seed(rng), by)
        candidates = _candidates(self.classifiers, integer_seed(rng), by)
        pairs = [(s, name) for s in samplers for name, c in candidates.items() if s != "weight" or _weighs(c)]
        if not pairs:
            raise InvalidParameterError(
                f"No classifier of {by} takes weights. Try another of the samplers {SAMPLERS}."
            )
        seed = integer_seed(rng)
        tasks = [
            (candidates[name], sampler, rows, rare, train, test, self.ratio, [seed, f])
            for sampler, name in pairs
            for f, (train, test) in enumerate(folds)
        ]
        done = parallel_map(_held_out, tasks, n_jobs=self.n_jobs)
        self.results_, kept = self._results(pairs, done, folds, rare)
        self.sampler_, self.classifier_ = pairs[kept]
        said = [s for s, _ in done[kept * len(folds) : (kept + 1) * len(folds)]]
        truth = np.concatenate([rare[test] for _, test in folds])
        self.threshold_ = _threshold(truth, np.concatenate(said), self.beta)
        chosen = (candidates[self.classifier_], self.sampler_, rows, rare, self.ratio, [seed, len(folds)])
        self.model_, self.shift_ = _fit(*chosen)
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return class probabilities, at the rare class's own share.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Rows sum to 1.
        """
        check_is_fitted(self)
        rows = (check_gaps(self, X, reset=False, gaps=False) - self.center_) / self.scale_
        rare = _said(self.model_, rows, self.shift_)
        both = np.column_stack([1 - rare, rare])
        return both if self.rare_ == self.classes_[1] else both[:, ::-1]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the rare class where its probability reaches the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        proba = self.predict_proba(X)
        place = int(self.rare_ == self.classes_[1])
        return np.asarray(self.classes_[np.where(proba[:, place] >= self.threshold_, place, 1 - place)])

    def _check_parameters(self, by: str) -> list[str]:
        samplers = list(SAMPLERS if self.samplers is None else self.samplers)
        for name in samplers:
            check_choice(name, SAMPLERS, name="samplers", by=by)
        check_choice(self.scoring, tuple(SCORES), name="scoring", by=by)
        check_choice(self.rule, ("best", "one_se"), name="rule", by=by)
        check_number(self.ratio, name="ratio", by=by, low=0.0, high=1.0, closed="right")
        check_number(self.beta, name="beta", by=by, low=0.0, closed="neither")
        return samplers

    def _rows(self, X: ArrayLike, y: ArrayLike, by: str) -> tuple[Floats, NDArray[np.bool_]]:
        rows, labels = check_gaps(self, X, y, gaps=False)
        check_classification_targets(labels)
        self.classes_, counts = np.unique(labels, return_counts=True)
        if len(counts) != 2 or counts.min() < 2:
            raise DataError(
                f"Only binary classification is supported by {by}, with two rows of each class. "
                f"Got {len(counts)} class(es) of {counts.tolist()[:10]} rows."
            )
        self.rare_ = self.classes_[counts.argmin()] if counts[0] != counts[1] else self.classes_[1]
        self.center_, spread = rows.mean(axis=0), rows.std(axis=0)
        level = np.abs(self.center_)
        self.scale_ = np.where(spread > 1e-12 * level, spread, np.maximum(level, 1.0))
        return (rows - self.center_) / self.scale_, labels == self.rare_

    def _folds(self, rows: Floats, rare: NDArray[np.bool_], seed: int, by: str) -> list[tuple[Any, Any]]:
        split = self.cv
        if isinstance(split, int | np.integer):
            check_count(split, name="cv", by=by, low=2)
            split = StratifiedKFold(min(int(split), int(rare.sum())), shuffle=True, random_state=seed)
        folds = list(check_cv(split, rare, classifier=True).split(rows, rare))
        both = [(a, b) for a, b in folds if 1 < rare[a].sum() < len(a) - 1 and 0 < rare[b].sum() < len(b)]
        if not both and len(folds):  # two rare rows, one a fold
            both = [(a, b) for a, b in folds if 0 < rare[a].sum() < len(a) and 0 < rare[b].sum() < len(b)]
        if not both:
            raise DataError(f"No fold of {by} holds both classes on either side. Pass another 'cv' or more rows.")
        return both

    def _results(
        self, pairs: list[tuple[str, str]], done: list[Any], folds: list[Any], rare: NDArray[np.bool_]
    ) -> tuple[pd.DataFrame, int]:
        table, k = [], len(folds)
        for i, (sampler, name) in enumerate(pairs):
            part = done[i * k : (i + 1) * k]
            found = [
                SCORES[self.scoring](rare[test], said) for (said, _), (_, test) in zip(part, folds, strict=True)
            ]
            error = float(np.std(found, ddof=1) / np.sqrt(k)) if k > 1 else float("nan")
            seconds = float(np.mean([s for _, s in part]))
            table.append((sampler, name, float(np.mean(found)), error, seconds))
        results = pd.DataFrame(table, columns=["sampler", "classifier", "score", "error", "seconds"])
        kept = int(results["score"].to_numpy().argmax())
        if self.rule == "one_se" and k > 1:
            near = results["score"] >= results["score"][kept] - results["error"][kept]
            kept = int(results["seconds"].where(near, np.inf).to_numpy().argmin())
        return results.sort_values("score", ascending=False, kind="stable", ignore_index=True), kept

    def _more_tags(self) -> dict[str, Any]:
        return {"binary_only": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _candidates(given: Any, seed: int, by: str) -> dict[str, Any]:
    if given is None:
        given = {
            "logistic": LogisticRegression(max_iter=200),
            "forest": RandomForestClassifier(100, min_samples_leaf=2),
            "boosting": HistGradientBoostingClassifier(max_iter=80),
        }
    elif hasattr(given, "fit"):
        given = [given]
    if not isinstance(given, Mapping):
        names = [type(c).__name__ for c in given]
        given = {
            n if names.count(n) == 1 else f"{n} {i}": c for i, (n, c) in enumerate(zip(names, given, strict=True))
        }
    if not given or not all(hasattr(c, "fit") and hasattr(c, "predict_proba") for c in given.values()):
        raise InvalidParameterError(
            f"The 'classifiers' parameter of {by} must be classifiers that tell probabilities. Got {list(given)}."
        )
    return {str(name): seed_estimator(clone(c), seed, only_unset=True) for name, c in given.items()}


def _weighs(classifier: Any) -> bool:
    return bool(has_fit_parameter(classifier, "sample_weight"))


def _held_out(
    classifier: Any,
    sampler: str,
    rows: Floats,
    rare: NDArray[np.bool_],
    train: Any,
    test: Any,
    ratio: float,
    seed: Any,
) -> tuple[Floats, float]:
    """Return the held-out probabilities of the rare class and the seconds of the fit."""
    start = time.perf_counter()
    model, shift = _fit(classifier, sampler, rows[train], rare[train], ratio, seed)
    return _said(model, rows[test], shift), time.perf_counter() - start


def _fit(
    classifier: Any, sampler: str, rows: Floats, rare: NDArray[np.bool_], ratio: float, seed: Any
) -> tuple[Any, float]:
    """Return the fitted classifier and what its log-odds of the rare class are too high by."""
    rng, n = np.random.default_rng(seed), np.array([(~rare).sum(), rare.sum()])
    wanted = max(ratio, n[1] / n[0])  # rare rows to one common
    model, shift = clone(classifier), float(np.log(wanted * n[0] / n[1]))
    if sampler == "weight":
        return fitted(model, rows, rare, sample_weight=np.where(rare, np.exp(shift), 1.0)), shift
    common, few = np.flatnonzero(~rare), np.flatnonzero(rare)
    if sampler == "under":
        kept = np.concatenate([rng.permutation(common)[: max(round(n[1] / wanted), 1)], few])
        return fitted(model, rows[np.sort(kept)], rare[np.sort(kept)]), shift
    if sampler == "none":
        return fitted(model, rows, rare), 0.0
    more = max(round(wanted * n[0]) - int(n[1]), 0)
    made = rows[rng.choice(few, size=more)] if sampler == "over" else _interpolated(rows[few], more, rng)
    return fitted(model, np.vstack([rows, made]), np.append(rare, np.ones(more, dtype=bool))), shift


def _interpolated(rows: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Points on the lines from rows to one of their nearest neighbours."""
    k = min(_NEIGHBOURS, len(rows) - 1)
    from_ = rng.integers(len(rows), size=n)
    if k < 1:
        return rows[from_]
    near = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors(return_distance=False)
    to = near[from_, rng.integers(k, size=n)]
    return np.asarray(rows[from_] + rng.uniform(size=(n, 1)) * (rows[to] - rows[from_]))


def _said(model: Any, rows: Floats, shift: float) -> Floats:
    """Return probabilities of the rare class at its own share."""
    p = model.predict_proba(rows)
    p = p[:, list(model.classes_).index(True)] if True in model.classes_ else np.zeros(len(rows))
    p = np.asarray(p, dtype=np.float64)
    odds = p * np.exp(-shift)
    return odds / (odds + (1 - p))


def _threshold(truth: NDArray[np.bool_], said: Floats, beta: float) -> float:
    precision, recall, cuts = precision_recall_curve(truth, said)
    weight = beta**2
    below = weight * precision + recall
    f = np.divide((1 + weight) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return float(cuts[f[:-1].argmax()])
