"""Which label to look at next, together with the row that made the model doubt it.

Paper: Interactive Label Cleaning with Example-based Explanations (Teso, Bontempelli, Giunchiglia, Passerini,
NeurIPS 2021; CINCER).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_labels, check_number
from corrigible.errors import DataError

CARD = Card(
    name="active_relabelling",
    kind="detector",
    obj="ActiveRelabelling",
    papers=(),
    refs=("teso2021interactive", "koh2017understanding"),
    source="",
    differs="Rows come from a pool, scored out of fold, where the paper's come one at a time. The model is a "
    "logistic regression on the features given, so that the Fisher kernel is exact; for a network, give the features "
    "of its last layer, as the paper does for speed.",
    inputs="X, y classes",
    stochastic=True,
    cost="n_folds + 1 logistic regressions and one Cholesky factor of K (d + 1) numbers squared every refit; a query "
    "O(n K d)",
    use_when="Somebody can look at labels one at a time, and should see why a label is doubted.",
    avoid_when="Nobody answers: a detector that scores all rows at once is quicker. Thousands of features.",
    also=("RelabelQuery",),
    test_params=({"n_folds": 2},),
)

Floats = NDArray[np.floating]
_BY = "ActiveRelabelling"


@dataclass(frozen=True)
class RelabelQuery:
    """A row whose label is doubted, and the row that speaks against it most.

    Attributes
    ----------
    row : int
        Its label is less likely than another.
    label, suggested : int
        The label given, and the one the model predicts without having seen the row.
    margin : float
        Probability of the suggested class less that of the label.
    counterexample : int or None
        The row labelled as suggested whose presence raises the loss of the doubted label most. Either it is right,
        and explains the doubt, or it is wrong itself. None if no row left has that label.
    influence : float
        By how much the loss of the doubted label would fall, to first order, per unit of weight taken from the
        counterexample; 0 without one.
    """

    row: int
    label: int
    suggested: int
    margin: float
    counterexample: int | None
    influence: float


class ActiveRelabelling(BaseEstimator):
    r"""Ask for labels one at a time, with a counterexample for each, and learn from the answers.

    The margin of a row is the out-of-fold probability of the predicted class less that of its label. The query is
    the row of largest margin not yet answered; its counterexample is, among rows labelled as the model predicts,

    .. math:: \arg\max_k \; -g_i^\top F^{-1} g_k, \qquad g = \nabla_\theta \ell(x, \tilde y), \quad
        F = \frac{1}{n} \sum_j g_j g_j^\top + \lambda I,

    the row whose presence raises the loss of the doubted label most, in the Fisher approximation of an influence
    function. Both are shown to whoever answers, who corrects either or both, so that wrong labels that the model
    has come to believe are found too.

    Parameters
    ----------
    threshold : float, default=0.2
        Rows of a larger margin are flagged and asked for.
    C : float, default=0.1
        Inverse of the ridge of the logistic regression.
    damping : float, default=1e-3
        lambda, in units of the mean diagonal of the Fisher matrix.
    n_folds : int, default=5
        Folds of the margins.
    refit_every : int, default=10
        Answers after which all is fitted anew.
    random_state : int, Generator, RandomState or None
        Draws the folds.

    Attributes
    ----------
    issue_scores : ndarray of shape (n_samples,)
        Margins at the last refit, in [0, 1]; HIGHER = MORE SUSPECT.
    issue_mask : ndarray of bool of shape (n_samples,)
        Rows with a margin above the threshold.
    suggested_ : ndarray of shape (n_samples,)
        Classes predicted out of fold.
    labels_ : ndarray of shape (n_samples,)
        Labels with the answers so far.
    answered_ : ndarray of bool of shape (n_samples,)
        Rows whose label was looked at.

    See Also
    --------
    ConfidentLearning : All rows at once, from any model's probabilities.

    References
    ----------
    .. [1] Teso, S., Bontempelli, A., Giunchiglia, F. and Passerini, A. (2021). Interactive Label Cleaning with
       Example-based Explanations. NeurIPS.
    .. [2] Koh, P. W. and Liang, P. (2017). Understanding Black-box Predictions via Influence Functions. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.data import ActiveRelabelling
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> truth = (X[:, 0] > 0).astype(int)
    >>> X[:, 0] += 2 * truth
    >>> y = truth.copy()
    >>> y[7] = 1 - y[7]
    >>> cleaning = ActiveRelabelling(random_state=0).fit(X, y)
    >>> query = cleaning.query()
    >>> query.row, bool(cleaning.labels_[query.counterexample] == truth[7])
    (7, True)
    >>> cleaning.relabel([query.row], [truth[7]]).query() is None
    True
    """

    def __init__(
        self,
        *,
        threshold: float = 0.2,
        C: float = 0.1,
        damping: float = 1e-3,
        n_folds: int = 5,
        refit_every: int = 10,
        random_state: RandomState = None,
    ) -> None:
        self.threshold = threshold
        self.C = C
        self.damping = damping
        self.n_folds = n_folds
        self.refit_every = refit_every
        self.random_state = random_state

    def fit(self, X: ArrayLike, labels: ArrayLike) -> Self:
        """Score the rows of a pool.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite numbers, such as embeddings.
        labels : array-like of shape (n_samples,)
            Given labels as class numbers.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If `X` is no finite matrix, there are fewer rows than folds, or only one class.
        """
        self._check_parameters()
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise DataError(f"'X' of {_BY} must be a finite matrix of numbers. Got {rows.shape}; fill gaps first.")
        if len(rows) < self.n_folds:
            raise DataError(f"{_BY} needs at least as many rows as folds, {self.n_folds}. Got {len(rows)}.")
        self.labels_ = check_labels(labels, n=len(rows), by=_BY).copy()
        if len(np.unique(self.labels_)) < 2:
            raise DataError(f"'labels' of {_BY} must hold at least two classes. Got {np.unique(self.labels_)}.")
        self._rows = np.column_stack([StandardScaler().fit_transform(rows), np.ones(len(rows))])
        self._n_classes = int(self.labels_.max()) + 1
        self._seed = integer_seed(as_generator(self.random_state))
        self.answered_ = np.zeros(len(rows), dtype=bool)
        self._refit()
        return self

    def query(self) -> RelabelQuery | None:
        """Return the row to look at next with its counterexample, or None if no margin is above the threshold."""
        check_is_fitted(self)
        margin = np.where(self.answered_, -np.inf, self._margin())
        row = int(margin.argmax())
        if margin[row] <= self.threshold:
            return None
        label, suggested = int(self.labels_[row]), int(self.suggested_[row])
        counter, influence = self._counterexample(row, suggested)
        return RelabelQuery(row, label, suggested, float(margin[row]), counter, influence)

    def relabel(self, rows: Sequence[int], labels: ArrayLike) -> Self:
        """Take in answers, right labels for rows, whether they change or not.

        Parameters
        ----------
        rows : sequence of int
            Row numbers.
        labels : array-like of shape (n_rows,)
            Right labels as class numbers; those of `fit` only.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        at = np.asarray(rows, dtype=np.intp).ravel()
        if at.size and (at.min() < 0 or at.max() >= len(self.labels_)):
            raise DataError(f"'rows' of {_BY}.relabel must lie in 0 to {len(self.labels_) - 1}. Got {at.tolist()}.")
        self.labels_[at] = check_labels(labels, n=len(at), n_classes=self._n_classes, by=f"{_BY}.relabel")
        self.answered_[at] = True
        self._pending += len(at)
        if self._pending >= self.refit_every:
            self._refit()
        return self

    def _check_parameters(self) -> None:
        check_number(self.threshold, name="threshold", by=_BY, low=0, high=1)
        check_number(self.C, name="C", by=_BY, low=0, closed="neither")
        check_number(self.damping, name="damping", by=_BY, low=0, closed="neither")
        check_count(self.n_folds, name="n_folds", by=_BY, low=2)
        check_count(self.refit_every, name="refit_every", by=_BY)

    def _margin(self) -> Floats:
        """Return the lead of the class predicted over the label as it is now."""
        at = np.arange(len(self.labels_))
        return np.asarray(self._outside[at, self.suggested_] - self._outside[at, self.labels_])

    def _refit(self) -> None:
        self._outside = np.empty((len(self.labels_), self._n_classes))
        for train, test in KFold(self.n_folds, shuffle=True, random_state=self._seed).split(self._rows):
            self._outside[test] = self._probabilities(train, test)
        self.suggested_ = self._outside.argmax(axis=1)
        self.issue_scores = self._margin()
        self.issue_mask = self.issue_scores > self.threshold
        everything = np.arange(len(self.labels_))
        self._error = self._probabilities(everything, everything)
        self._error[everything, self.labels_] -= 1.0
        self._factor = cho_factor(self._fisher())
        self._pending = 0

    def _probabilities(self, train: NDArray[np.intp], rows: NDArray[np.intp]) -> Floats:
        """Return class probabilities of rows by a model of the training rows; classes it lacks get 0."""
        given = self.labels_[train]
        out = np.zeros((len(rows), self._n_classes))
        if len(np.unique(given)) < 2:
            out[:, given[0]] = 1.0
            return out
        model = LogisticRegression(C=self.C, max_iter=1000).fit(self._rows[train, :-1], given)
        out[:, model.classes_] = model.predict_proba(self._rows[rows, :-1])
        return out

    def _fisher(self) -> Floats:
        """Return the empirical Fisher matrix of the logistic regression; a row's gradient is error (x) features."""
        n, d = self._rows.shape
        k = self._n_classes
        matrix = np.empty((k, d, k, d))
        for a in range(k):
            for b in range(a, k):
                weight = self._error[:, a] * self._error[:, b]
                block = (self._rows * weight[:, None]).T @ self._rows / n
                matrix[a, :, b], matrix[b, :, a] = block, block.T
        flat = matrix.reshape(k * d, k * d)
        ridge = self.damping * max(float(np.trace(flat)) / (k * d), np.finfo(float).tiny)
        flat[np.diag_indices(k * d)] += ridge
        return flat

    def _counterexample(self, row: int, suggested: int) -> tuple[int | None, float]:
        candidates = np.flatnonzero((self.labels_ == suggested) & ~self.answered_)
        if not candidates.size:
            return None, 0.0
        gradient = np.outer(self._error[row], self._rows[row]).ravel()
        direction = cho_solve(self._factor, gradient).reshape(self._n_classes, -1)
        influence = -((self._rows[candidates] @ direction.T) * self._error[candidates]).sum(axis=1)
        best = int(influence.argmax())
        return int(candidates[best]), float(influence[best])
