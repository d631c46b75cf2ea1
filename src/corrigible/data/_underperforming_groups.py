"""Groups of rows that a model serves worse than the others.

Datalab (Cleanlab 2023) clusters the rows and compares mean self-confidence. Original: https://github.com/cleanlab/cleanlab
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr
from sklearn.base import BaseEstimator
from sklearn.cluster import MiniBatchKMeans

from corrigible._card import Card
from corrigible._core.blocks import checked_proba
from corrigible._core.label_quality import self_confidence
from corrigible._core.multiple_tests import corrected
from corrigible._core.row_neighbours import RowNeighbours
from corrigible._core.table_matrix import same_length, table_matrix
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_labels, check_number
from corrigible.errors import DataError

CARD = Card(
    name="underperforming_groups",
    kind="detector",
    obj="UnderperformingGroups",
    papers=(),
    refs=("cleanlab2023datalab",),
    source="https://github.com/cleanlab/cleanlab",
    differs="Every group that is worse by the ratio and by a one-sided Welch test with Holm's correction is flagged, "
    "where the library flags the single worst below a ratio of 0.1. Rows are clustered by k-means, so that all belong "
    "to a group, not by DBSCAN of a neighbour graph at a fixed radius; or groups are given.",
    inputs="y, pred_proba, X",
    stochastic=True,
    cost="one k-means of mini-batches, and one pass",
    use_when="A model is good on average, and rows of some kind may be served badly.",
    avoid_when="Groups are very small, or the labels themselves are less reliable in some.",
    test_params=({}, {"n_clusters": 4}),
    excused={
        "check_scores_and_mask": "The sample of detectors has no probabilities beside features.",
        "check_finds_planted_errors": "The sample of detectors has no probabilities beside features.",
    },
)


class UnderperformingGroups(BaseEstimator):
    """Find groups whose labels a model gives less probability than those of other rows.

    Parameters
    ----------
    threshold : float, default=0.8
        Groups whose mean self-confidence is below this part of that of all rows are flagged, if significantly.
    alpha : float, default=0.05
        Chance to flag any group where all are alike.
    n_clusters : int, default=20
        Clusters that are looked at where no groups are given; fewer if there are under 25 rows for each.
    min_rows : int, default=5
        Smaller groups are not judged.
    random_state : int, Generator, RandomState or None
        Source of the clustering.

    Attributes
    ----------
    table_ : DataFrame
        A row a judged group, worst first: ``group, rows, confidence, ratio, pvalue, flagged``.
    groups_ : ndarray of shape (n_samples,)
        Group of each row.
    issue_scores : ndarray of shape (n_samples,)
        One minus the ratio of the row's group, not below 0.
    issue_mask : ndarray of bool of shape (n_samples,)
        Rows of flagged groups.

    References
    ----------
    .. [1] Cleanlab (2023). Datalab: a linter for ML datasets.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.data import UnderperformingGroups
    >>> y, site = np.zeros(60, dtype=int), np.repeat(["a", "b", "c"], 20)
    >>> p = np.where(site == "c", 0.3, 0.9) + np.tile([-0.05, 0.05], 30)
    >>> UnderperformingGroups().fit(y, np.column_stack([p, 1 - p]), groups=site).table_["group"][0]
    'c'
    """

    def __init__(
        self,
        *,
        threshold: float = 0.8,
        alpha: float = 0.05,
        n_clusters: int = 20,
        min_rows: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.threshold = threshold
        self.alpha = alpha
        self.n_clusters = n_clusters
        self.min_rows = min_rows
        self.random_state = random_state

    def fit(self, y: ArrayLike, pred_proba: ArrayLike, X: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Judge the groups.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Labels as column numbers.
        pred_proba : array-like of shape (n_samples, n_classes)
            Out-of-sample probabilities.
        X : DataFrame, array-like of shape (n_samples, n_features), or RowNeighbours, optional
            Rows to cluster, if no groups are given.
        groups : array-like of shape (n_samples,), optional
            Group of each row.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If neither rows nor groups are given, lengths differ, or a row is no distribution.
        """
        by = "UnderperformingGroups"
        check_number(self.threshold, name="threshold", by=by, low=0, high=1)
        check_number(self.alpha, name="alpha", by=by, low=0, high=1, closed="neither")
        check_count(self.n_clusters, name="n_clusters", by=by)
        check_count(self.min_rows, name="min_rows", by=by, low=2)
        p = checked_proba(pred_proba, by=by)
        label = check_labels(y, n=len(p), n_classes=p.shape[1], by=by)
        if groups is not None:
            self.groups_ = same_length(groups, len(p), name="groups", by=by)
        elif X is not None:
            self.groups_ = self._clusters(X, len(p))
        else:
            raise DataError("UnderperformingGroups needs rows 'X' to cluster, or 'groups'. Got neither.")
        given = self_confidence(label, p).astype(float)
        code, names = pd.factorize(self.groups_)
        self.table_ = self._judge(given, code, names)
        ratio = pd.Series(1 - self.table_["ratio"].to_numpy(), index=self.table_.index).clip(lower=0)
        by_code = np.zeros(len(names) + 1)
        by_code[ratio.index] = ratio
        bad = np.zeros(len(names) + 1, dtype=bool)
        bad[self.table_.index[self.table_["flagged"]]] = True
        self.issue_scores, self.issue_mask = by_code[code], bad[code]
        self.table_ = self.table_.reset_index(drop=True)
        return self

    def _clusters(self, X: Any, n: int) -> NDArray[np.integer]:
        points = (
            X.table.points if isinstance(X, RowNeighbours) else table_matrix(X, by="UnderperformingGroups").points
        )
        same_length(points[:, 0], n, name="X", by="UnderperformingGroups")
        k = max(1, min(self.n_clusters, n // 25))
        seed = integer_seed(as_generator(self.random_state))
        return MiniBatchKMeans(k, n_init=1, batch_size=4096, random_state=seed).fit_predict(points)

    def _judge(self, given: NDArray[np.floating], code: NDArray[np.intp], names: Any) -> pd.DataFrame:
        known = code >= 0
        n = np.bincount(code[known], minlength=len(names))
        kept = np.flatnonzero(n >= self.min_rows)
        sums = np.bincount(code[known], weights=given[known], minlength=len(names))
        squares = np.bincount(code[known], weights=given[known] ** 2, minlength=len(names))
        total, rest = given.mean(), len(given) - n
        mean = sums[kept] / n[kept]
        pvalue = _welch(n[kept], sums[kept], squares[kept], rest[kept], given.sum(), (given**2).sum())
        table = pd.DataFrame(
            {"group": np.asarray(names, dtype=object)[kept], "rows": n[kept], "confidence": mean,
             "ratio": mean / max(total, 1e-300), "pvalue": corrected(pvalue, "holm")}, index=kept,
        )  # fmt: skip
        table["flagged"] = (table["ratio"] < self.threshold) & (table["pvalue"] < self.alpha)
        return table.sort_values("ratio", kind="stable")


def _welch(n: Any, sums: Any, squares: Any, rest: Any, total: float, total_squares: float) -> NDArray[np.floating]:
    """Return the one-sided p-values that each group's mean is not below that of the other rows."""
    m = np.maximum(rest, 1)
    mean, other = sums / n, (total - sums) / m
    var = np.maximum(squares / n - mean**2, 0) / np.maximum(n - 1, 1)
    other_var = np.maximum((total_squares - squares) / m - other**2, 0) / np.maximum(m - 1, 1)
    error = np.maximum(var + other_var, 1e-300)
    freedom = error**2 / np.maximum(var**2 / np.maximum(n - 1, 1) + other_var**2 / np.maximum(m - 1, 1), 1e-300)
    pvalue = stdtr(np.clip(freedom, 1, 1e9), (mean - other) / np.sqrt(error))
    return np.where(rest > 1, pvalue, 1.0)
