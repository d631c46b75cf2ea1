"""Score decomposition: miscalibration, discrimination, uncertainty.

Paper: Stable reliability diagrams for probabilistic classifiers (Dimitriadis, Gneiting, Jordan, PNAS 2021).
Original: https://github.com/aijordan/reliabilitydiag
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from corrigible._card import Card
from corrigible._core.blocks import checked_proba
from corrigible._core.losses import ROW_LOSS
from corrigible._utils.validation import check_choice, check_count, check_labels, check_sample_weight
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="score_decomposition",
    kind="measure",
    obj="score_decomposition",
    papers=(),
    refs=("dimitriadis2021stable", "ferro2012bias"),
    source="https://github.com/aijordan/reliabilitydiag",
    differs="The paper's isotonic recalibration serves two classes; more classes are recalibrated by a "
    "shift a bin (Brier) or factors a cell (log), with the bias of fitting them to their own rows removed.",
    inputs="y, pred_proba",
    also=("ScoreDecomposition", "ScoreDecompositionSum"),
    stochastic=False,
    cost="O(n k log n); log with more than two classes up to 200 passes of O(n k)",
    use_when="You want to know how much of a Brier score or log loss recalibration could win.",
    avoid_when="Hundreds of rows and many classes: bins are then too few to see miscalibration.",
    test_params=({}, {"score": "log"}, {"score": "log", "method": "binned", "n_bins": 4}),
)

Floats = NDArray[np.floating]
_MAX_ITER = 200


@dataclass(frozen=True)
class ScoreDecomposition:
    """Parts of a mean score: ``score = miscalibration - discrimination + uncertainty``.

    Attributes
    ----------
    score : float
        Mean score of the probabilities.
    miscalibration : float
        What recalibration wins.
    discrimination : float
        What the recalibrated probabilities win over the class frequencies.
    uncertainty : float
        Score of the class frequencies.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def score_decomposition(
    y: ArrayLike,
    pred_proba: ArrayLike,
    *,
    score: str = "brier",
    method: str = "auto",
    n_bins: int = 10,
    sample_weight: ArrayLike | None = None,
) -> ScoreDecomposition:
    """Split a mean score into miscalibration, discrimination and uncertainty that sum to it exactly.

    With S(x) the score of the probabilities given, S(c) of the recalibrated ones and S(r) of the class frequencies:
    miscalibration is S(x) - S(c), discrimination S(r) - S(c), uncertainty S(r) (Dimitriadis et al. 2021,
    equation 5).

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels as column numbers.
    pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
        Class probabilities.
    score : {"brier", "log"}, default="brier"
        Squared distance (halved for two classes) or negative log probability in nats, a probability of 0
        counting as machine epsilon.
    method : {"auto", "corp", "binned"}, default="auto"
        Recalibration by isotonic regression (two classes only; both parts are then never negative), or within
        bins of equal numbers of rows: for Brier each class's probabilities are shifted by their bin's mean
        residual, for log those of a (predicted class, bin of its probability) are multiplied by one factor a
        class. Binned parts are freed of the bias of fitting to the same rows (as Ferro and Fricker 2012; Wilks
        and Miller-Madow for log), so they may be slightly negative. "auto" takes isotonic for two classes.
    n_bins : int, default=10
        Bins a class.
    sample_weight : array-like of shape (n_samples,), optional
        Weights of the rows.

    Returns
    -------
    ScoreDecomposition
        The four numbers.

    Raises
    ------
    DataError
        If the scores are no probabilities or the labels do not number their columns.

    References
    ----------
    .. [1] Dimitriadis, T., Gneiting, T. and Jordan, A. I. (2021). Stable reliability diagrams for probabilistic
       classifiers. PNAS 118(8).
    .. [2] Ferro, C. A. T. and Fricker, T. E. (2012). A bias-corrected decomposition of the Brier score.
       Quarterly Journal of the Royal Meteorological Society 138, 1954-1960.

    Examples
    --------
    >>> from corrigible.uncertainty import score_decomposition
    >>> parts = score_decomposition([0, 0, 1, 1], [0.1, 0.1, 0.4, 0.4])
    >>> round(parts.miscalibration, 3), parts.discrimination, parts.uncertainty
    (0.185, 0.25, 0.25)
    """
    by = "score_decomposition"
    check_choice(score, ("brier", "log"), name="score", by=by)
    check_choice(method, ("auto", "corp", "binned"), name="method", by=by)
    check_count(n_bins, name="n_bins", by=by)
    p = checked_proba(pred_proba, by=by).astype(np.float64, copy=False)
    n, k = p.shape
    labels = check_labels(y, n=n, n_classes=k, name="y", by=by)
    weight = check_sample_weight(sample_weight, n, by=by)
    kept = weight > 0
    p, labels, weight = p[kept], labels[kept], weight[kept]
    if method == "auto":
        method = "corp" if k == 2 else "binned"
    check_choice(method, ("corp", "binned") if k == 2 else ("binned",), name="method", by=f"{by} with {k} classes")
    whole = float(weight @ ROW_LOSS[score](labels, p) / weight.sum())
    if method == "corp":
        recalibrated = float(weight @ ROW_LOSS[score](labels, _isotonic(p[:, 1], labels, weight)) / weight.sum())
        base = np.broadcast_to(np.bincount(labels, weight, k) / weight.sum(), p.shape)
        uncertainty = float(weight @ ROW_LOSS[score](labels, base) / weight.sum())
    else:
        part = _brier_miscalibration if score == "brier" else _log_miscalibration
        recalibrated = whole - part(p, labels, weight, n_bins)
        uncertainty = _uncertainty(labels, weight, k, score)
    return ScoreDecomposition(whole, whole - recalibrated, uncertainty - recalibrated, uncertainty)


class ScoreDecompositionSum:
    """Accumulator of `score_decomposition` by isotonic regression: rows in any split and order.

    Stated probabilities are put into `n_cells` cells of equal width, and frequencies of the cells, not of single values,
    are made monotone; the score itself is exact. Two classes are as ``method="corp"``. More classes have a Brier score
    only: each class is recalibrated against the others, and parts are summed over classes.

    Parameters
    ----------
    score : {"brier", "log"}, default="brier"
        As in `score_decomposition`.
    n_cells : int, default=4096
        Cells a class.

    Examples
    --------
    >>> from corrigible.uncertainty import ScoreDecompositionSum
    >>> first = ScoreDecompositionSum().update([0, 0], [0.1, 0.1])
    >>> first.merge(ScoreDecompositionSum().update([1, 1], [0.4, 0.4])).compute().discrimination
    0.25
    """

    def __init__(self, *, score: str = "brier", n_cells: int = 4096) -> None:
        self.score = check_choice(score, ("brier", "log"), name="score", by="ScoreDecompositionSum")
        self.n_cells = check_count(n_cells, name="n_cells", by="ScoreDecompositionSum")
        self.sums_: Floats | None = None  # (events, 2, cells): weight, and weight of rows where the event came
        self.total_ = 0.0

    def update(self, y: ArrayLike, pred_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Self:
        """Take in rows: labels (n,), probabilities (n, n_classes) or (n,), and weights (n,)."""
        by = "ScoreDecompositionSum"
        p = checked_proba(pred_proba, by=by).astype(np.float64, copy=False)
        n, k = p.shape
        if self.score == "log" and k > 2:
            raise DataError(f"{by} has a log score for two classes only. Got {k}. Take the Brier score.")
        labels = check_labels(y, n=n, n_classes=k, name="y", by=by)
        weight = check_sample_weight(sample_weight, n, by=by)
        events = [1] if k == 2 else range(k)
        sums = np.empty((len(events), 2, self.n_cells))
        for row, c in enumerate(events):
            cells = np.minimum((p[:, c] * self.n_cells).astype(np.intp), self.n_cells - 1)
            sums[row, 0] = np.bincount(cells, weight, self.n_cells)
            sums[row, 1] = np.bincount(cells, weight * (labels == c), self.n_cells)
        return self._add(sums, float(weight @ ROW_LOSS[self.score](labels, p)))

    def merge(self, other: ScoreDecompositionSum) -> Self:
        """Take in what another accumulator with the same parameters has seen."""
        if (self.score, self.n_cells) != (other.score, other.n_cells):
            raise InvalidParameterError("ScoreDecompositionSum merges only with one of the same parameters.")
        return self if other.sums_ is None else self._add(other.sums_, other.total_)

    def compute(self) -> ScoreDecomposition:
        """Return the parts for all rows seen."""
        if self.sums_ is None:
            raise DataError("ScoreDecompositionSum has seen no rows. Call update first.")
        size = float(self.sums_[0, 0].sum())
        recalibrated = uncertainty = 0.0
        for mass, seen in self.sums_:
            filled = mass > 0
            m, e = mass[filled], seen[filled]
            stated = np.clip(isotonic_regression(e / m, weights=m).x, 0.0, 1.0)
            recalibrated += _cell_loss(m, e, stated, self.score) / size
            uncertainty += _cell_loss(size, e.sum(), e.sum() / size, self.score) / size
        whole = self.total_ / size
        return ScoreDecomposition(whole, whole - recalibrated, uncertainty - recalibrated, uncertainty)

    def _add(self, sums: Floats, total: float) -> Self:
        if self.sums_ is not None and self.sums_.shape != sums.shape:
            raise DataError("'pred_proba' of ScoreDecompositionSum must keep its number of classes.")
        self.sums_ = sums if self.sums_ is None else self.sums_ + sums
        self.total_ += total
        return self


def _cell_loss(mass: Any, seen: Any, stated: Any, score: str) -> float:
    """Return the loss of rows of cells, `seen` of whose weight had the event, if all of a cell state one probability."""
    if score == "log":
        return float(-np.sum(xlogy(seen, stated) + xlogy(mass - seen, 1 - stated)))
    return float(np.sum(seen * (1 - stated) ** 2 + (mass - seen) * stated**2))


def _isotonic(p: Floats, y: NDArray[np.intp], weight: Floats) -> Floats:
    """Isotonic recalibration of the second of two classes, (n, 2)."""
    values, row = np.unique(p, return_inverse=True)
    mass = np.bincount(row, weight, len(values))
    fitted = isotonic_regression(np.bincount(row, weight * y, len(values)) / mass, weights=mass).x[row]
    fitted = np.clip(fitted, 0.0, 1.0)
    return np.asarray(np.column_stack([1 - fitted, fitted]))


def _quantile_bins(p: Floats, n_bins: int) -> NDArray[np.intp]:
    edges = np.unique(np.quantile(p, np.arange(1, n_bins) / n_bins)) if n_bins > 1 else p[:0]
    return np.asarray(np.searchsorted(edges, p, side="right"))


def _brier_miscalibration(p: Floats, y: NDArray[np.intp], weight: Floats, n_bins: int) -> float:
    """What shifting each bin of each class's probability by its mean residual wins: that residual's square.

    The square is estimated from pairs of different rows, so that noise adds nothing on average.
    """
    won = 0.0
    for c in range(p.shape[1]):
        bins = _quantile_bins(p[:, c], n_bins)
        residual = weight * ((y == c) - p[:, c])
        mass = np.bincount(bins, weight)
        pairs = np.bincount(bins, residual) ** 2 - np.bincount(bins, residual**2)
        possible = mass**2 - np.bincount(bins, weight**2)
        known = possible > 1e-9 * mass**2  # a single row says nothing of its noise
        won += float((mass[known] * pairs[known] / possible[known]).sum())
    return won / float(weight.sum()) / (2 if p.shape[1] == 2 else 1)


def _log_miscalibration(p: Floats, y: NDArray[np.intp], weight: Floats, n_bins: int) -> float:
    """What the best factor a class wins in each cell of (predicted class, bin of its probability).

    Factors are found by iterative proportional fitting, which maximises the likelihood of ``softmax(log p + b)``.
    Fitted to m rows, s - 1 factors win (s - 1) / 2m a row by chance (Wilks); that is taken off.
    """
    k, top, confidence = p.shape[1], p.argmax(axis=1), p.max(axis=1)
    cells = top * n_bins
    for c in np.unique(top):
        cells[top == c] += _quantile_bins(confidence[top == c], n_bins)
    _, cells, counts = np.unique(cells, return_inverse=True, return_counts=True)
    if (counts == 1).any():  # cells of one row say nothing of their noise: all such together make one
        _, cells = np.unique(np.where(counts == 1, len(counts), np.arange(len(counts)))[cells], return_inverse=True)
    size = int(cells.max()) + 1
    seen = np.bincount(cells * k + y, weight, size * k).reshape(size, k)
    factors, q = np.ones((size, k)), p
    for _ in range(_MAX_ITER):
        stated = np.column_stack([np.bincount(cells, weight * q[:, c], size) for c in range(k)])
        ratio = seen / np.where(stated > 0, stated, 1.0)
        factors *= ratio
        q = p * factors[cells]
        sums = q.sum(axis=1, keepdims=True)
        q = np.where(sums > 0, q / np.where(sums > 0, sums, 1.0), p)
        if np.abs(seen - stated).max() < 1e-8 * weight.sum():
            break
    won = weight @ (ROW_LOSS["log"](y, p) - ROW_LOSS["log"](y, q))
    mass = seen.sum(axis=1)
    rows = mass**2 / np.bincount(cells, weight**2, size)
    chance = mass @ (((seen > 0).sum(axis=1) - 1) / (2 * rows))
    return float((won - chance) / weight.sum())


def _uncertainty(y: NDArray[np.intp], weight: Floats, k: int, score: str) -> float:
    """Score of the class frequencies, the bias of scoring them on their own rows removed."""
    f = np.bincount(y, weight, k) / weight.sum()
    rows = float(weight.sum() ** 2 / (weight @ weight))
    if score == "log":
        return float(-(f * np.log(np.where(f > 0, f, 1.0))).sum() + ((f > 0).sum() - 1) / (2 * rows))
    raw = float(1 - f @ f) / (2 if k == 2 else 1)
    return raw * rows / (rows - 1) if rows > 1 + 1e-9 else raw
