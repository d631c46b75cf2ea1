"""Labels that disagree with their neighbours: positives hidden among the negatives, by one's own rows or clean ones.

Paper: Noise in Relation Classification Dataset TACRED: Characterization and Reduction (Parekh, Anand, Awekar 2023).
Original: https://github.com/xhay-p/re-tacred-reannotation
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_array, check_X_y

from corrigible._card import Card
from corrigible._utils.validation import check_choice, check_count
from corrigible.errors import DataError

CARD = Card(
    name="noisy_neighbours",
    kind="detector",
    obj="NoisyNeighbours",
    papers=("tacred",),
    refs=("parekh2023noise",),
    source="https://github.com/xhay-p/re-tacred-reannotation",
    differs="Written from the paper's account of its two strategies; the authors' repository holds lists of the rows "
    "they found, not the search, so details such as the number of neighbours are parameters here. Any embedding and "
    "classifier serve, not those of relation models. A graded score beside the paper's sets is added, and the "
    "extrinsic strategy takes a vote of several clean neighbours.",
    inputs="X, y classes",
    stochastic=False,
    cost="O(n m d) for n rows and m reference rows, in scikit-learn's blocks; n_folds fits without `pred`",
    use_when="Rows have embeddings, and a catch-all class ('no relation', 'other') holds rows that belong elsewhere.",
    avoid_when="Embeddings do not keep the classes apart, or no class is much noisier than the rest: use confident "
    "learning.",
    test_params=({"negative": 0}, {"negative": 1, "n_neighbors": 3, "metric": "euclidean"}),
    excused={
        "check_finds_planted_errors": "The method needs a catch-all class, which the sample lacks.",
    },
)

_BY = "NoisyNeighbours"
_STRATEGIES = ("intrinsic", "extrinsic")


class NoisyNeighbours(BaseEstimator):
    """Find noisy labels by nearest neighbours, for elimination or reannotation.

    The intrinsic strategy trusts the positive rows: a positive that a model calls negative (a false negative) likely
    has twins among the negatives, so its nearest negatives are suspect, and take its label. The extrinsic strategy
    trusts a clean subset: a row is suspect if the majority of its nearest clean rows has another label, and takes
    that one.

    Parameters
    ----------
    negative : label, optional
        The catch-all class. The intrinsic strategy needs it; the extrinsic one examines its rows alone, or all rows
        if it is not given.
    strategy : {"intrinsic", "extrinsic"}, default="intrinsic"
        Which rows are trusted.
    n_neighbors : int, default=1
        Negatives that each false negative makes suspect, or clean rows that vote; ties go to the nearest.
    metric : str, default="cosine"
        Distance, as in scikit-learn.
    estimator : classifier, optional
        Gives the out-of-fold predictions of the intrinsic strategy where none are passed; by default logistic
        regression.
    n_folds : int, default=5
        Folds of these predictions.
    n_jobs : int, optional
        As in joblib.

    Attributes
    ----------
    issue_scores : ndarray of shape (n_samples,)
        In [0, 1]; HIGHER = MORE SUSPECT. Intrinsic: ``a / (a + b)`` with a the distance to the nearest other
        negative and b to the nearest false negative. Extrinsic: share of the clean neighbours of another label. 0
        for rows that are not examined.
    issue_mask : ndarray of bool of shape (n_samples,)
        Rows found noisy.
    suggested_ : ndarray of shape (n_samples,)
        Labels after reannotation: of noisy rows the new one, of others their own.

    See Also
    --------
    ConfidentLearning : Label errors of any class from probabilities.

    References
    ----------
    .. [1] Parekh, A., Anand, A. and Awekar, A. (2023). Noise in relation classification dataset TACRED:
       characterization and reduction. arXiv:2311.12298.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.data import NoisyNeighbours
    >>> X = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, 0.12]])
    >>> y = np.array(["none", "none", "born in", "born in", "none"])
    >>> found = NoisyNeighbours(negative="none").fit(X, y, pred=["none", "none", "born in", "none", "none"])
    >>> found.issue_mask, found.suggested_[4]
    (array([False, False, False, False,  True]), np.str_('born in'))
    """

    def __init__(
        self,
        *,
        negative: Any = None,
        strategy: str = "intrinsic",
        n_neighbors: int = 1,
        metric: str = "cosine",
        estimator: Any = None,
        n_folds: int = 5,
        n_jobs: int | None = None,
    ) -> None:
        self.negative = negative
        self.strategy = strategy
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.estimator = estimator
        self.n_folds = n_folds
        self.n_jobs = n_jobs

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        pred: ArrayLike | None = None,
        X_clean: ArrayLike | None = None,
        y_clean: ArrayLike | None = None,
    ) -> Self:
        """Find the noisy rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings.
        y : array-like of shape (n_samples,)
            Given labels.
        pred : array-like of shape (n_samples,), optional
            Out-of-sample predicted labels, for the intrinsic strategy.
        X_clean, y_clean : array-like of shape (n_clean, n_features) and (n_clean,), optional
            Rows whose labels were checked, for the extrinsic strategy. They should not be among X.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the negative class or what the strategy needs is absent.
        """
        check_choice(self.strategy, _STRATEGIES, name="strategy", by=_BY)
        check_count(self.n_neighbors, name="n_neighbors", by=_BY)
        features, labels = check_X_y(X, y, dtype="numeric")
        if self.negative is None and self.strategy == "intrinsic":
            raise DataError(f"The intrinsic strategy of {_BY} must know the 'negative' class. Got None.")
        if self.negative is not None and not (labels == self.negative).any():
            raise DataError(f"'y' of {_BY} must hold the negative class {self.negative!r}. It holds none of it.")
        self.issue_scores = np.zeros(len(labels))
        self.issue_mask = np.zeros(len(labels), dtype=bool)
        self.suggested_ = labels.copy()
        if self.strategy == "intrinsic":
            self._intrinsic(features, labels, pred)
        else:
            self._extrinsic(features, labels, X_clean, y_clean)
        return self

    def _search(self, X: NDArray[np.floating], k: int) -> NearestNeighbors:
        search = NearestNeighbors(
            n_neighbors=min(k, len(X)), metric=self.metric, algorithm="brute", n_jobs=self.n_jobs
        )
        return search.fit(X)

    def _intrinsic(self, X: NDArray[np.floating], y: NDArray[Any], pred: ArrayLike | None) -> None:
        if pred is None:
            model = LogisticRegression(max_iter=1000) if self.estimator is None else clone(self.estimator)
            predicted = cross_val_predict(model, X, y, cv=self.n_folds, n_jobs=self.n_jobs)
        else:
            predicted = np.asarray(pred)
            if predicted.shape != y.shape:
                raise DataError(
                    f"'pred' of {_BY} must have {len(y)} entries, one a row. Got shape {predicted.shape}."
                )
        negatives = np.flatnonzero(y == self.negative)
        missed = np.flatnonzero((y != self.negative) & (predicted == self.negative))
        if len(missed) == 0:  # nothing speaks against any negative
            return
        _, near = self._search(X[negatives], self.n_neighbors).kneighbors(X[missed])
        noisy = negatives[np.unique(near)]
        distance, twin = self._search(X[missed], 1).kneighbors(X[negatives])
        other = np.full(len(negatives), np.inf)
        if len(negatives) > 1:
            other = self._search(X[negatives], 1).kneighbors()[0][:, 0]
        self.issue_scores[negatives] = _closeness(distance[:, 0], other)
        self.issue_mask[noisy] = True
        place = np.searchsorted(negatives, noisy)
        self.suggested_[noisy] = y[missed[twin[place, 0]]]

    def _extrinsic(
        self, X: NDArray[np.floating], y: NDArray[Any], X_clean: ArrayLike | None, y_clean: ArrayLike | None
    ) -> None:
        if X_clean is None or y_clean is None:
            raise DataError(f"The extrinsic strategy of {_BY} must have 'X_clean' and 'y_clean'. Got None.")
        trusted = check_array(X_clean, dtype="numeric")
        names = np.asarray(y_clean)
        if names.shape != (len(trusted),) or trusted.shape[1] != X.shape[1]:
            raise DataError(
                f"'X_clean' and 'y_clean' of {_BY} must have shapes (n_clean, {X.shape[1]}) and (n_clean,). "
                f"Got {trusted.shape} and {names.shape}."
            )
        rows = np.arange(len(y)) if self.negative is None else np.flatnonzero(y == self.negative)
        near = names[self._search(trusted, self.n_neighbors).kneighbors(X[rows], return_distance=False)]
        # Votes of each neighbour's label among all neighbours; the first maximum is the nearest of equals.
        votes = (near[:, :, None] == near[:, None, :]).sum(axis=2)
        winner = near[np.arange(len(rows)), votes.argmax(axis=1)]
        self.issue_scores[rows] = (near != y[rows][:, None]).mean(axis=1)
        noisy = winner != y[rows]
        self.issue_mask[rows[noisy]] = True
        self.suggested_ = self.suggested_.astype(np.result_type(self.suggested_, winner))
        self.suggested_[rows[noisy]] = winner[noisy]


def _closeness(to_missed: NDArray[np.floating], to_negative: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return 1 where a false negative coincides, 0 where it is infinitely farther than the next negative."""
    missed, negative = np.maximum(to_missed, 0), np.maximum(to_negative, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = 1 / (1 + missed / negative)
    return np.where(missed == 0, 1.0, score)
