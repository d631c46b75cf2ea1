"""Wrong labels by the labels of the nearest rows, without any model.

Paper: Detecting Corrupted Labels Without Training a Model to Predict (Zhu, Dong, Liu, ICML 2022).
Original: https://github.com/UCSC-REAL/SimiFeat
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._core.high_order_consensus import consensus_frequencies, fit_consensus
from corrigible._core.row_neighbours import row_neighbours
from corrigible._utils.validation import check_choice, check_count, check_labels
from corrigible.errors import DataError

CARD = Card(
    name="neighbour_agreement",
    kind="detector",
    obj="NeighbourAgreement",
    papers=(),
    refs=("zhu2022detecting", "zhu2021clusterability"),
    source="https://github.com/UCSC-REAL/SimiFeat",
    differs="One pass over the features as they are: the paper repeats the search over random augmentations of images "
    "and takes a majority. Distances are Euclidean unless cosine is asked for. The noise rates are fitted "
    "by L-BFGS on all rows, in place of Adam on samples.",
    inputs="X, y classes",
    stochastic=False,
    cost="a search of k neighbours, O(n k), and a fit of k_classes^2 numbers to k_classes^3 frequencies",
    use_when="Rows have features in which near rows mostly share a class, such as embeddings; no model is trained.",
    avoid_when="Distance means little, as with codes for categories: a model's probabilities find more.",
    test_params=({}, {"method": "vote", "k": 5}, {"metric": "cosine"}),
)

Floats = NDArray[np.floating]
_BY = "NeighbourAgreement"
_METHODS, _METRICS = ("rank", "vote"), ("euclidean", "cosine")


class NeighbourAgreement(BaseEstimator):
    r"""Score each label by the labels of its nearest rows.

    With :math:`\hat y_n` the shares of the classes among the labels of the k nearest rows, the quality of a label is
    the cosine of :math:`\hat y_n` and its one-hot vector. ``vote`` flags a label that another class outvotes.
    ``rank`` flags in each class j the least agreeing rows, as many as are estimated to be wrong:
    :math:`N_j (1 - T_{jj} p_j / \tilde p_j)`, with transition T and prior p from how often the labels of a row and
    of its two nearest agree (high-order consensuses), and :math:`\tilde p` the labels' frequencies.

    Parameters
    ----------
    method : {"rank", "vote"}, default="rank"
        How rows are flagged (SimiFeat-R and SimiFeat-V).
    k : int, default=10
        Number of neighbours.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Of the numbers as they are, a dataframe's columns made comparable first; or of the rows' directions, as for
        embeddings.
    n_jobs : int, optional
        Parallel search.

    Attributes
    ----------
    issue_scores : ndarray of shape (n_samples,)
        One less the agreement, in [0, 1]; HIGHER = MORE SUSPECT.
    issue_mask : ndarray of bool of shape (n_samples,)
        Flagged rows.
    transition_ : ndarray of shape (n_classes, n_classes)
        Estimated ``p(label | class)``.
    prior_ : ndarray of shape (n_classes,)
        Estimated ``p(class)``.
    suggested_ : ndarray of shape (n_samples,)
        The class of most neighbours.

    See Also
    --------
    ConfidentLearning : By a model's probabilities.
    KNNShapley : What a row is worth to its neighbours' predictions.

    References
    ----------
    .. [1] Zhu, Z., Dong, Z. and Liu, Y. (2022). Detecting Corrupted Labels Without Training a Model to Predict. ICML.
    .. [2] Zhu, Z., Song, Y. and Liu, Y. (2021). Clusterability as an Alternative to Anchor Points When Learning with
       Noisy Labels. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.data import NeighbourAgreement
    >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [5.0], [5.1], [5.2], [5.3]])
    >>> y = [0, 0, 1, 0, 1, 1, 1, 1]  # the third row is among rows of the other class
    >>> NeighbourAgreement(method="vote", k=3).fit(X, y).issue_mask
    array([False, False,  True, False, False, False, False, False])
    """

    def __init__(
        self, *, method: str = "rank", k: int = 10, metric: str = "euclidean", n_jobs: int | None = None
    ) -> None:
        self.method = method
        self.k = k
        self.metric = metric
        self.n_jobs = n_jobs

    def fit(self, X: Any, labels: ArrayLike) -> Self:
        """Score and flag the rows.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            Features; the columns of a dataframe may be of any type.
        labels : array-like of shape (n_samples,)
            Given labels as class numbers.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are fewer than three rows, or the labels do not fit them.
        """
        check_choice(self.method, _METHODS, name="method", by=_BY)
        check_choice(self.metric, _METRICS, name="metric", by=_BY)
        check_count(self.k, name="k", by=_BY)
        rows = _directions(X) if self.metric == "cosine" else X
        n = len(X)
        if n < 3:
            raise DataError(f"{_BY} needs at least three rows. Got {n}.")
        y = check_labels(labels, n=n, by=_BY)
        n_classes = int(y.max()) + 1
        near = row_neighbours(rows, max(2, min(self.k, n - 1)), n_jobs=self.n_jobs, by=_BY).indices
        shares = _shares(y[near[:, : self.k]], n_classes)
        at = np.arange(n)
        agreement = shares[at, y] / np.linalg.norm(shares, axis=1)
        self.issue_scores = 1 - agreement
        self.suggested_ = shares.argmax(axis=1)
        triples = np.column_stack([y, y[near[:, 0]], y[near[:, 1]]])
        self.transition_, self.prior_ = fit_consensus(consensus_frequencies(triples, n_classes))
        self.issue_mask = self._ranked(y) if self.method == "rank" else shares.max(axis=1) > shares[at, y]
        return self

    def _ranked(self, y: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Flag in each class as many rows as are estimated to be wrong, the least agreeing ones."""
        mask = np.zeros(len(y), dtype=bool)
        counts = np.bincount(y, minlength=len(self.prior_))
        right = np.diag(self.transition_) * self.prior_ * len(y)
        for c in np.flatnonzero(counts):
            rows = np.flatnonzero(y == c)
            wrong = round(float(np.clip(counts[c] - right[c], 0, counts[c])))
            mask[rows[np.argsort(-self.issue_scores[rows], kind="stable")[:wrong]]] = True
        return mask


def _directions(X: Any) -> Floats:
    matrix = np.asarray(X, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise DataError(
            f"'X' of {_BY} with metric='cosine' must be a finite matrix of numbers. Got {matrix.shape}."
        )
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(length > 0, length, 1.0))


def _shares(labels: NDArray[np.intp], n_classes: int) -> Floats:
    """Return the shares of the classes among the neighbours' labels (n, k)."""
    n, k = labels.shape
    flat = np.arange(n)[:, None] * n_classes + labels
    return np.bincount(flat.ravel(), minlength=n * n_classes).reshape(n, n_classes) / k
