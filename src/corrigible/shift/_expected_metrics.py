"""Metrics of rows whose labels are known only by their probability: value, and interval.

A metric M of labels is replaced by its value at the expected counts; its variance is that of its linear part,
``dM/dy``, under independent labels (Poisson-binomial), plus that of the calibration map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from corrigible._core.losses import CLASSIFICATION, ROW_LOSS
from corrigible._utils.validation import check_choice, check_count, check_labels, check_number, check_pred_proba
from corrigible.errors import DataError, InvalidParameterError, nearest
from corrigible.shift._score_table import COARSE_SCORES, N_COARSE, CalibrationMap, coarse_cells_of

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

RATIOS = ("precision", "recall", "specificity", "f1")
LINEAR = ("accuracy", "log_loss", "brier", "business_value", "confusion_matrix")
METRICS = ("accuracy", "roc_auc", "precision", "recall", "specificity", "f1", *LINEAR[1:])
_BINNED_FROM = 16_384  # rows from which two-class estimates are made on coarse cells
_TINY = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Estimate:
    """An estimated metric.

    Parameters
    ----------
    value : float
        The estimate; NaN where the metric is undefined.
    low, high : float
        Interval for the metric that the labels would give.
    standard_error : float
        Of the realised metric around the estimate: the chance of the labels and the finite reference.
    """

    value: float
    low: float
    high: float
    standard_error: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields as a dict."""
        return asdict(self)


@dataclass(frozen=True)
class Cells:
    """Rows, or sums of like rows, with the probability of their labels.

    Parameters
    ----------
    q, p : ndarray of shape (m, k)
        Calibrated probability and the model's; of two classes only the second has a column.
    pred : ndarray of shape (m,)
        Predicted class.
    weight : ndarray of shape (m,)
        Number of rows that the entry stands for.
    maps : sequence of CalibrationMap
        One a column; empty if the labels are known.
    stratum : ndarray of shape (m, k)
        Stratum of the calibration map.
    group : ndarray of shape (m,), optional
        Rank of the score of the only column, where already known.
    """

    q: Floats
    p: Floats
    pred: Ints
    weight: Floats
    maps: Sequence[CalibrationMap]
    stratum: Ints
    group: Ints | None = None

    @property
    def classes(self) -> range:
        """Class number of each column."""
        k = self.q.shape[1]
        return range(1, 2) if k == 1 else range(k)


def scores_of(pred_proba: ArrayLike, *, n_classes: int | None, by: str) -> Floats:
    """Return the checked scores (n, k); of two classes only the second's column, as a view where it can be."""
    p = np.asarray(pred_proba)
    if p.ndim == 1 and p.dtype in (np.float32, np.float64) and p.size and p.min() >= 0 and p.max() <= 1:
        if n_classes not in (None, 2):
            raise DataError(f"'pred_proba' of {by} must have {n_classes} columns, one a class. Got one.")
        return p[:, None]
    p = check_pred_proba(pred_proba, n_classes=n_classes, by=by)
    return p[:, 1:] if p.shape[1] == 2 else p


def predicted_of(y_pred: ArrayLike | None, p: Floats, *, by: str) -> Ints:
    """Return the checked predicted classes: those given, or the most probable (the first of equals)."""
    if y_pred is None:
        return (p[:, 0] > 0.5).astype(np.int8) if p.shape[1] == 1 else p.argmax(axis=1)
    return check_labels(y_pred, n=len(p), n_classes=max(p.shape[1], 2), name="y_pred", by=by)


def calibrated_rows(p: Floats, maps: Sequence[CalibrationMap]) -> Floats:
    """Return calibrated probabilities (n, k), for two classes as well."""
    q = _calibrated(p, maps)
    return np.column_stack([1 - q[:, 0], q[:, 0]]) if q.shape[1] == 1 else q


def _calibrated(p: Floats, maps: Sequence[CalibrationMap]) -> Floats:
    q: Floats = np.column_stack([m.predict(c) for m, c in zip(maps, p.T.astype(np.float64), strict=True)])
    if q.shape[1] == 1:
        return q
    total = q.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(q, total, out=np.full_like(q, 1 / q.shape[1]), where=total > 0))


def expected_row_loss(p: Floats, q: Floats, loss: str, *, by: str) -> Floats:
    """Return the loss of the model's probabilities `p` at labels of probability `q` (n, k), a row."""
    check_choice(loss, CLASSIFICATION, name="loss", by=by)
    p = np.column_stack([1 - p[:, 0], p[:, 0]]) if p.shape[1] == 1 else p
    losses = [ROW_LOSS[loss](np.full(len(p), k), p) for k in range(q.shape[1])]
    return np.asarray(np.einsum("ij,ji->i", q, np.asarray(losses)))


def chunk_rows(chunks: int | ArrayLike | None, n: int, *, by: str) -> list[Any] | None:
    """Return what selects the rows of each chunk, or None for one estimate of all rows."""
    if chunks is None:
        return None
    if np.ndim(chunks) == 0:
        size = check_count(chunks, name="chunks", by=by)
        return [slice(start, start + size) for start in range(0, n, size)]
    ids = np.asarray(chunks)
    if ids.shape != (n,):
        raise DataError(f"'chunks' of {by} must be a number of rows or have {n} entries. Got shape {ids.shape}.")
    _, where = np.unique(ids, return_inverse=True)
    return np.split(np.argsort(where, kind="stable"), np.cumsum(np.bincount(where))[:-1])


def in_chunks(rows: list[Any] | None, estimate: Callable[[Any], dict[str, Estimate]]) -> dict[str, Any]:
    """Estimate all rows, or each chunk; the latter gives a list for each metric."""
    if rows is None:
        return dict(estimate(slice(None)))
    found = [estimate(r) for r in rows]
    return {name: [f[name] for f in found] for name in found[0]}


def calibrated_cells(p: Floats, pred: Ints, maps: Sequence[CalibrationMap]) -> Cells:
    """Return rows with calibrated probabilities; many rows of two classes as sums over score cells."""
    if p.shape[1] == 1 and len(p) >= _BINNED_FROM:
        return cells_of_counts(coarse_counts(p[:, 0], pred), maps[0])
    p = p.astype(np.float64)
    stratum = np.column_stack([m.strata(c) for m, c in zip(maps, p.T, strict=True)])
    return Cells(_calibrated(p, maps), p, pred, np.ones(len(p)), maps, stratum)


def coarse_counts(p: Floats, pred: Ints) -> NDArray[np.intp]:
    """Count rows by (score cell, predicted class); counts of batches add."""
    cell = coarse_cells_of(p)
    return np.bincount(2 * cell + pred, minlength=2 * N_COARSE)


def cells_of_counts(counts: NDArray[np.intp], calibration: CalibrationMap) -> Cells:
    """Return the cells of `coarse_counts`."""
    kept = np.flatnonzero(counts)
    cell, weight = kept >> 1, counts[kept].astype(np.float64)
    q, p, stratum = (a[cell][:, None] for a in (calibration.coarse, COARSE_SCORES, calibration.coarse_strata))
    return Cells(q, p, kept & 1, weight, (calibration,), stratum, cell)


def metric_names(metric: str | Sequence[str], business_value: ArrayLike | None, *, by: str) -> tuple[str, ...]:
    """Return the names of one metric or several, checked."""
    names = (metric,) if isinstance(metric, str) else tuple(metric)
    for name in names:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise InvalidParameterError(
                f"The 'metric' of {by} must be among {known}. Got {name!r}.{nearest(str(name), METRICS)}"
            )
    if "business_value" in names and business_value is None:
        raise InvalidParameterError(
            f"The metric 'business_value' of {by} needs the 'business_value' parameter: a matrix of values "
            "[label, prediction]. Got None."
        )
    return names


def as_asked(metric: str | Sequence[str], found: dict[str, Any]) -> Any:
    """Return what was found for the one metric that was asked for, or the dict of several."""
    return found[metric] if isinstance(metric, str) and metric in found else found


def estimates_of(
    cells: Cells, metrics: Sequence[str], *, business_value: ArrayLike | None, confidence: float, by: str
) -> dict[str, Estimate]:
    """Return the estimates of the metrics.

    Parameters
    ----------
    cells : Cells
        Rows with calibrated probabilities.
    metrics : sequence of str
        Checked names.
    business_value : array-like of shape (k, k), optional
        Value of each [label, prediction].
    confidence : float
        Of the intervals.
    by : str
        Who asks.
    """
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    z = float(ndtri(0.5 + confidence / 2))
    found = {}
    for name, (value, slope) in values_of(cells, metrics, business_value=business_value, by=by).items():
        error = _standard_error(cells, slope)
        low, high = _RANGE.get(name, (0.0, 1.0))
        found[name] = Estimate(
            value, _clipped(value - z * error, low, high), _clipped(value + z * error, low, high), error
        )
    return found


_RANGE = {"log_loss": (0.0, np.inf), "brier": (0.0, 2.0), "business_value": (-np.inf, np.inf)}


def _clipped(value: float, low: float, high: float) -> float:
    return float(np.clip(value, low, high))


def values_of(
    cells: Cells, metrics: Sequence[str], *, business_value: ArrayLike | None, by: str
) -> dict[str, tuple[float, Floats]]:
    """Return each metric's value and its derivative by the labels (m, k)."""
    found: dict[str, tuple[float, Floats]] = {}
    for name in metrics:
        if name in RATIOS or name == "roc_auc":
            column: Callable[[Cells, int], tuple[float, Floats]] = _auc if name == "roc_auc" else _RATIO[name]
            parts = [column(cells, j) for j in range(cells.q.shape[1])]
            value = float(np.mean([v for v, _ in parts]))
            found[name] = value, np.column_stack([s for _, s in parts]) / len(parts)
        elif name == "confusion_matrix":
            for label, prediction in np.ndindex(*(2 * [max(cells.q.shape[1], 2)])):
                base, slope = _counted(cells, _unit(cells, label, prediction))
                found[f"true_{label}_pred_{prediction}"] = _mean(cells, base, slope)
        else:
            base, slope = _row_values(cells, name, business_value, by)
            found[name] = _mean(cells, base, slope)
    return found


def _mean(cells: Cells, base: Floats, slope: Floats) -> tuple[float, Floats]:
    n = cells.weight.sum()
    return float(cells.weight @ (base + np.einsum("ij,ij->i", slope, cells.q)) / n), slope / n


def _row_values(cells: Cells, name: str, business_value: ArrayLike | None, by: str) -> tuple[Floats, Floats]:
    """Return (m,) and (m, k) with a row's value ``base + slope @ one_hot(label)``."""
    k = max(cells.q.shape[1], 2)
    if name == "accuracy":
        return _counted(cells, np.eye(k))
    if name == "business_value":
        matrix = np.asarray(business_value, dtype=np.float64)
        if matrix.shape != (k, k):
            raise DataError(f"'business_value' of {by} must have shape ({k}, {k}). Got {matrix.shape}.")
        return _counted(cells, matrix)
    p = np.clip(cells.p, _TINY, 1.0)
    if cells.q.shape[1] > 1:
        return (
            (np.zeros(len(p)), -np.log(p)) if name == "log_loss" else ((cells.p**2).sum(axis=1) + 1, -2 * cells.p)
        )
    if name == "log_loss":
        other = np.log(np.clip(1 - cells.p, _TINY, 1.0))
        return -other[:, 0], other - np.log(p)
    return cells.p[:, 0] ** 2, 1 - 2 * cells.p


def _counted(cells: Cells, value: Floats) -> tuple[Floats, Floats]:
    """Return base and slope of the value [label, prediction] of a row."""
    a_row = value[:, cells.pred].T
    if cells.q.shape[1] == 1:
        return a_row[:, 0], a_row[:, 1:] - a_row[:, :1]
    return np.zeros(len(a_row)), a_row


def _unit(cells: Cells, label: int, prediction: int) -> Floats:
    unit = np.zeros(2 * [max(cells.q.shape[1], 2)])
    unit[label, prediction] = 1.0
    return unit


@dataclass(frozen=True)
class _OneAgainstRest:
    """Expected counts of one class against the rest."""

    hit: Floats
    n: float
    predicted: float
    positive: float
    both: float

    @classmethod
    def of(cls, cells: Cells, j: int) -> _OneAgainstRest:
        hit = (cells.pred == cells.classes[j]).astype(np.float64)
        w, q = cells.weight, cells.q[:, j]
        wq = w * q
        return cls(hit, float(w.sum()), float(w @ hit), float(wq.sum()), float(wq @ hit))


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else 0.0


def _scale(bottom: float) -> float:
    return 1 / bottom if bottom > 0 else 0.0


def _precision(cells: Cells, j: int) -> tuple[float, Floats]:
    c = _OneAgainstRest.of(cells, j)
    return _ratio(c.both, c.predicted), c.hit * _scale(c.predicted)


def _recall(cells: Cells, j: int) -> tuple[float, Floats]:
    c = _OneAgainstRest.of(cells, j)
    value = _ratio(c.both, c.positive)
    return value, (c.hit - value) * _scale(c.positive)


def _specificity(cells: Cells, j: int) -> tuple[float, Floats]:
    c = _OneAgainstRest.of(cells, j)
    negative = c.n - c.positive
    value = _ratio(negative - (c.predicted - c.both), negative)
    return value, (value - (1 - c.hit)) * _scale(negative)


def _f1(cells: Cells, j: int) -> tuple[float, Floats]:
    c = _OneAgainstRest.of(cells, j)
    value = _ratio(2 * c.both, c.predicted + c.positive)
    return value, (2 * c.hit - value) * _scale(c.predicted + c.positive)


_RATIO = {"precision": _precision, "recall": _recall, "specificity": _specificity, "f1": _f1}


def _auc(cells: Cells, j: int) -> tuple[float, Floats]:
    """Area under the ROC curve of column j; a row is never compared with itself."""
    w, q = cells.weight, cells.q[:, j]
    group = cells.group
    if group is None:
        _, group = np.unique(cells.p[:, j], return_inverse=True)
    pos, neg = np.bincount(group, w * q), np.bincount(group, w * (1 - q))
    n_pos, n_neg, itself = pos.sum(), neg.sum(), float(w @ (q * (1 - q)))
    pairs = n_pos * n_neg - itself
    if pairs <= _TINY * max(n_pos, n_neg):
        return float("nan"), np.zeros(len(q))
    below = np.cumsum(neg) - neg / 2
    above = n_pos - np.cumsum(pos) + pos / 2
    value = float((pos @ below - itself / 2) / pairs)
    slope = (below / n_neg - value) / n_pos - (above / n_pos - value) / n_neg
    return value, slope[group]


def _standard_error(cells: Cells, slope: Floats) -> float:
    mean = np.einsum("ij,ij->i", slope, cells.q)
    variance = float(cells.weight @ (np.einsum("ij,ij,ij->i", slope, slope, cells.q) - mean**2))
    for j, calibration in enumerate(cells.maps):
        size = len(calibration.variance)
        pull = np.bincount(cells.stratum[:, j], cells.weight * slope[:, j], minlength=size)
        variance += float(pull**2 @ calibration.variance)
    return float(np.sqrt(max(variance, 0.0)))
