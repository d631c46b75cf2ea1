"""The worth of each training row for a nearest-neighbour classifier, by its Shapley value.

Paper: Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms (Jia et al., VLDB 2019).
Original: https://github.com/AI-secure/KNN-shapley
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from corrigible._card import Card
from corrigible._core.row_neighbours import RowNeighbours, row_neighbours
from corrigible._core.table_matrix import same_length, table_matrix
from corrigible._utils.validation import check_count, check_number
from corrigible.errors import DataError

CARD = Card(
    name="knn_shapley",
    kind="detector",
    obj="KNNShapley",
    papers=(),
    refs=("jia2019efficient", "cleanlab2023datalab"),
    source="https://github.com/AI-secure/KNN-shapley",
    differs="Unweighted classification only: the paper's regression, weighted and many-curator forms, and its "
    "locality-sensitive hashing, are not there. Without test rows each row is a test of all others in turn.",
    inputs="X, y classes",
    stochastic=False,
    cost="a search of max(k, 1/epsilon) neighbours and one pass over them; O(m n log n) for epsilon=0 with m tests",
    use_when="Rows that harm a model are to be found, or data are to be paid by what they bring.",
    avoid_when="Distances between rows say nothing of the label.",
    test_params=({}, {"k": 3, "epsilon": 0.0}),
)
_CELLS = 4_000_000


class KNNShapley(BaseEstimator):
    """Value training rows by their Shapley value in the utility of a k-nearest-neighbour classifier.

    The utility of a set of rows is the mean share, over the test rows, of their k nearest rows in the set that have
    the right label (eq. 5). Its Shapley values follow from one pass over the rows in order of distance (theorem 1):
    ``s_N = 1[y_N = y] / N`` and ``s_i = s_{i+1} + (1[y_i = y] - 1[y_{i+1} = y]) / k * min(k, i) / i``.

    Parameters
    ----------
    k : int, default=10
        Neighbours of the classifier.
    epsilon : float, default=0.1
        Largest error of a value (theorem 2): rows beyond the ``max(k, 1/epsilon)`` nearest count nothing. 0 is exact.
    n_jobs : int, optional
        Parallel search, as in joblib.

    Attributes
    ----------
    values_ : ndarray of shape (n_samples,)
        Shapley values; they sum to the utility of all rows if ``epsilon=0``.
    issue_scores : ndarray of shape (n_samples,)
        Minus the values.
    issue_mask : ndarray of bool of shape (n_samples,)
        Rows of negative value.

    References
    ----------
    .. [1] Jia, R. et al. (2019). Efficient task-specific data valuation for nearest neighbor algorithms. VLDB.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.data import KNNShapley
    >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [5.0], [5.1], [5.2]])
    >>> int(KNNShapley(k=2).fit(X, ["a", "a", "b", "a", "b", "b", "b"]).issue_scores.argmax())
    2
    """

    def __init__(self, *, k: int = 10, epsilon: float = 0.1, n_jobs: int | None = None) -> None:
        self.k = k
        self.epsilon = epsilon
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: ArrayLike, *, X_test: Any = None, y_test: ArrayLike | None = None) -> Self:
        """Value the rows.

        Parameters
        ----------
        X : DataFrame, array-like of shape (n_samples, n_features), or RowNeighbours
            Training rows; known neighbours serve if there are no test rows.
        y : array-like of shape (n_samples,)
            Class labels of any type.
        X_test : array-like of shape (n_tests, n_features), optional
            Numbers on the scale of `X`, an array too.
        y_test : array-like of shape (n_tests,), optional
            Their labels.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If a length differs, there are fewer than two rows, or only one of the test arguments is given.
        """
        by = "KNNShapley"
        check_count(self.k, name="k", by=by)
        check_number(self.epsilon, name="epsilon", by=by, low=0, high=1)
        if (X_test is None) != (y_test is None):
            raise DataError("'X_test' and 'y_test' of KNNShapley must be given together. Got one of them.")
        if X_test is None:
            self.values_ = self._against_each_other(X, y)
        else:
            assert y_test is not None
            self.values_ = self._against_tests(X, y, X_test, y_test)
        self.issue_scores = -self.values_
        self.issue_mask = self.values_ < 0
        return self

    def _reach(self, n: int) -> int:
        return n if self.epsilon == 0 else min(n, max(self.k, int(np.ceil(1 / self.epsilon))))

    def _against_each_other(self, X: Any, y: ArrayLike) -> NDArray[np.floating]:
        by = "KNNShapley"
        known = X if isinstance(X, RowNeighbours) else table_matrix(X, by=by).points
        n = len(known)
        label = _codes(same_length(y, n, name="y", by=by))
        reach = self._reach(n - 1)
        if isinstance(known, RowNeighbours) or reach < n - 1:
            order = row_neighbours(known, reach, n_jobs=self.n_jobs, by=by).indices
            return _values(order, label, label, n, self.k, n - 1) / n
        if n < 2:
            raise DataError("'X' of KNNShapley must have at least two rows. Got 1.")
        total = np.zeros(n)
        for rows in _parts(n, n):
            order = _ranked(known, known[rows])
            own = np.arange(rows.start, rows.stop)[:, None]
            order = order[order != own].reshape(-1, n - 1)
            total += _values(order, label, label[rows], n, self.k, n - 1)
        return total / n

    def _against_tests(self, X: Any, y: ArrayLike, X_test: Any, y_test: ArrayLike) -> NDArray[np.floating]:
        by = "KNNShapley"
        train, tests = np.asarray(X, dtype=float), np.asarray(X_test, dtype=float)
        if train.ndim != 2 or tests.ndim != 2 or train.shape[1] != tests.shape[1] or not len(train) * len(tests):
            raise DataError(f"'X' and 'X_test' of KNNShapley must be arrays of as many columns. Got shapes "
                            f"{train.shape} and {tests.shape}.")  # fmt: skip
        both = _codes(np.concatenate([
            same_length(y, len(train), name="y", by=by), same_length(y_test, len(tests), name="y_test", by=by),
        ]))  # fmt: skip
        label, right, n = both[: len(train)], both[len(train) :], len(train)
        reach, total = self._reach(n), np.zeros(len(train))
        search = NearestNeighbors(n_neighbors=reach, n_jobs=self.n_jobs).fit(train) if reach < n else None
        for rows in _parts(len(tests), reach):
            part = tests[rows]
            order = _ranked(train, part) if search is None else search.kneighbors(part, return_distance=False)
            total += _values(order, label, right[rows], n, self.k, n)
        return total / len(tests)


def _codes(values: NDArray[Any], name: str = "y") -> NDArray[np.intp]:
    import pandas as pd

    if len(missing := np.flatnonzero(pd.isna(values))):
        raise DataError(f"{name!r} of KNNShapley must hold a class in every row. Row {missing[0]} has none.")
    if values.dtype.kind == "f" and len(broken := np.flatnonzero(values != np.floor(values))):
        at = broken[0]
        raise DataError(
            f"{name!r} of KNNShapley must hold classes, not measured numbers. Row {at} has {values[at]:g}; "
            "VeracityScores takes numeric targets."
        )
    return pd.factorize(values)[0]


def _parts(n: int, width: int) -> list[slice]:
    step = max(1, _CELLS // max(1, width))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _ranked(train: NDArray[np.floating], tests: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the training rows in order of distance from each test row, the earlier of equals first."""
    a, b = train.astype(np.float64), tests.astype(np.float64)
    far = (a**2).sum(axis=1) - 2 * b @ a.T
    return np.argsort(far, axis=1, kind="stable")


def _values(
    order: NDArray[np.integer], label: NDArray[np.intp], right: NDArray[np.intp], n: int, k: int, n_rivals: int
) -> NDArray[np.floating]:
    """Return the sum over tests of each row's value, from the rows in order of distance.

    `n_rivals` is how many rows there are besides the test itself: cut short of it, the last row counts nothing.
    """
    reach = order.shape[1]
    agrees = (label[order] == right[:, None]).astype(float)
    place = np.arange(1, reach + 1)
    steps = np.empty_like(agrees)
    steps[:, :-1] = (agrees[:, :-1] - agrees[:, 1:]) * (np.minimum(k, place[:-1]) / (k * place[:-1]))
    steps[:, -1] = agrees[:, -1] * min(k, reach) / (k * reach) if reach == n_rivals else 0.0
    values = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    return np.bincount(order.ravel(), weights=values.ravel(), minlength=n).astype(np.float64, copy=False)
