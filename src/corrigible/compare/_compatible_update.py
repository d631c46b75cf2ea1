"""A successor that keeps what its predecessor got right, by masked distillation.

Paper: MUSCLE: A Model Update Strategy for Compatible LLM Evolution (Echterhoff, Faghri, Vemulapalli, Hu, Li, Tuzel,
Pouransari, EMNLP Findings 2024), carried over from adapters of language models to classifiers.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_count, check_gaps, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="compatible_update",
    kind="estimator",
    obj="CompatibleUpdate",
    papers=(),
    refs=("echterhoff2024muscle",),
    source="",
    differs="The analogue for classifiers of what the paper does to a language model's adapter, hence another name: "
    "a row stands for a token. The new model's probabilities are out of fold, as it knows its own training rows; "
    "soft targets reach any estimator as weighted copies of a row. The mask asks the new model, not the one in "
    "training, and wants the old one right; the paper's full text was not at hand to compare.",
    inputs="X, y classes",
    stochastic=True,
    cost="n_folds + 1 fits of the estimator, the last on as many copies of a row as its target has classes",
    use_when="A deployed classifier is replaced and users count on what it got right.",
    avoid_when="The old model has not seen the classes, or was fitted on the very rows that the new one is fitted on.",
    test_params=({"estimator": "new:sklearn.linear_model.LogisticRegression", "n_folds": 2},),
)

Floats = NDArray[np.floating]
_SMALLEST = 1e-3  # copies of a row with less weight than this are left out


class CompatibleUpdate(ClassifierMixin, BaseEstimator):
    """Fit a classifier to the targets of its predecessor where only that was right, and to its own elsewhere.

    The target of row i is ``(1 - weight) 1[y_i] + weight t_i``, where t_i are the probabilities of the old model if
    it is right and the new one wrong, and else those of the new model, out of fold.

    Parameters
    ----------
    estimator : classifier, optional
        New model; must take ``sample_weight`` and tell probabilities. Default: `HistGradientBoostingClassifier`.
    old : fitted classifier, optional
        Predecessor. Without one, the new model is distilled into itself.
    weight : float, default=0.5
        Weight of the distillation, in [0, 1].
    emphasis : float, default=2.0
        Weight of a masked row, relative to others.
    n_folds : int, default=5
        Folds for the new model's probabilities.
    random_state : None, int, Generator or RandomState
        Source of folds and of the estimator's seed.
    n_jobs : int, optional
        Folds fitted at once.

    Attributes
    ----------
    estimator_ : classifier
        The successor.
    mask_ : ndarray of bool of shape (n_samples,)
        Training rows that were taught by the old model.
    classes_ : ndarray of shape (n_classes,)
        Classes.

    See Also
    --------
    negative_flips : Counts what turned wrong.

    References
    ----------
    .. [1] Echterhoff, J., Faghri, F., Vemulapalli, R. and others (2024). MUSCLE: A Model Update Strategy for
       Compatible LLM Evolution. EMNLP Findings.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from corrigible.compare import CompatibleUpdate
    >>> X, y = load_iris(return_X_y=True)
    >>> old = LogisticRegression(max_iter=500).fit(X[::3], y[::3])
    >>> update = CompatibleUpdate(DecisionTreeClassifier(max_depth=3), old=old, random_state=0).fit(X, y)
    >>> bool(update.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        old: Any = None,
        weight: float = 0.5,
        emphasis: float = 2.0,
        n_folds: int = 5,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.old = old
        self.weight = weight
        self.emphasis = emphasis
        self.n_folds = n_folds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the successor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If a class has fewer rows than there are folds, or the old model knows other classes.
        """
        by = "CompatibleUpdate"
        check_number(self.weight, name="weight", by=by, low=0.0, high=1.0)
        check_number(self.emphasis, name="emphasis", by=by, low=0.0, high=1e6, closed="right")
        check_count(self.n_folds, name="n_folds", by=by, low=2)
        rows, labels = check_gaps(self, X, y, gaps=False)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2 or np.bincount(codes).min() < self.n_folds:
            raise DataError(
                f"{by} needs two classes of at least {self.n_folds} rows, one a fold. Got {len(self.classes_)} "
                f"classes, the smallest of {np.bincount(codes).min()} rows."
            )
        rng = as_generator(self.random_state)
        base = HistGradientBoostingClassifier() if self.estimator is None else self.estimator
        model = seed_estimator(clone(base), integer_seed(rng))
        new = self._out_of_fold(model, rows, codes, integer_seed(rng))
        targets, self.mask_ = self._targets(rows, codes, new)
        self.estimator_ = _fitted_softly(model, rows, targets, np.where(self.mask_, self.emphasis, 1.0))
        return self

    def _out_of_fold(self, model: Any, X: Floats, codes: NDArray[np.intp], seed: int) -> Floats:
        folds = list(StratifiedKFold(self.n_folds, shuffle=True, random_state=seed).split(X, codes))
        found = np.empty((len(X), len(self.classes_)))
        parts = parallel_map(_fold_proba, [(model, X, codes, a, b) for a, b in folds], n_jobs=self.n_jobs)
        for (_, held), part in zip(folds, parts, strict=True):
            found[held] = part
        return found

    def _targets(self, X: Floats, codes: NDArray[np.intp], new: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        mask, taught = np.zeros(len(X), dtype=bool), new.copy()
        if self.old is not None:
            if not hasattr(self.old, "predict_proba"):
                raise InvalidParameterError(
                    f"The 'old' parameter of CompatibleUpdate must tell probabilities. Got {self.old!r}."
                )
            if not np.isin(self.old.classes_, self.classes_).all():
                raise DataError("The old model of CompatibleUpdate knows classes that the labels do not hold.")
            old = np.zeros_like(new)
            old[:, np.searchsorted(self.classes_, self.old.classes_)] = self.old.predict_proba(X)
            mask = (old.argmax(axis=1) == codes) & (new.argmax(axis=1) != codes)
            taught[mask] = old[mask]
        return (1 - self.weight) * np.eye(len(self.classes_))[codes] + self.weight * taught, mask

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        check_is_fitted(self, "estimator_")
        return np.asarray(self.estimator_.predict_proba(check_gaps(self, X, reset=False, gaps=False)))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


def _fold_proba(model: Any, X: Floats, codes: NDArray[np.intp], train: Any, held: Any) -> Floats:
    return np.asarray(clone(model).fit(X[train], codes[train]).predict_proba(X[held]))


def _fitted_softly(model: Any, X: Floats, targets: Floats, weight: Floats) -> Any:
    """Fit to soft targets: one copy of a row for each class, weighted by the target."""
    row, code = np.nonzero(targets >= _SMALLEST)
    return clone(model).fit(X[row], code, sample_weight=targets[row, code] * weight[row])
