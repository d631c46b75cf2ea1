"""Confidence-based performance estimation.

Paper: Estimating Model Performance Under Covariate Shift Without Labels (Białek, Kivimäki, Kuberski, Perrakis,
2024), section on CBPE; Performance Estimation in Binary Classification Using Calibrated Confidence (Kivimäki,
Białek, Kuberski, Nurminen, 2025).
Original: https://github.com/NannyML/nannyml
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.validation import check_choice, check_labels
from corrigible.shift._expected_metrics import (
    Cells,
    Estimate,
    as_asked,
    calibrated_cells,
    calibrated_rows,
    cells_of_counts,
    chunk_rows,
    coarse_counts,
    estimates_of,
    expected_row_loss,
    in_chunks,
    metric_names,
    predicted_of,
    scores_of,
)
from corrigible.shift._score_table import CalibrationMap, ScoreTable

__all__ = ["CARD", "CBPE", "Estimate"]

CARD = Card(
    name="cbpe",
    kind="performance_estimator",
    obj="CBPE",
    papers=("mcbpe",),
    refs=("bialek2024estimating", "kivimaki2025performance"),
    source="https://github.com/NannyML/nannyml",
    differs="Whether to calibrate is decided by ten disjoint folds, not ten overlapping splits. Scores within "
    "0.1 % of min(p, 1 - p) share a cell of the calibration, and in chunks of 16384 rows or more within 0.8 %. A "
    "row is not paired with itself in the ROC AUC, ties count one half. The interval is of the labels' chance "
    "given their probabilities, plus the reference's, in place of the reference's spread scaled by chunk size.",
    inputs="y, pred_proba",
    stochastic=False,
    cost="O(n) for two classes, fit and estimate; O(n log n) a class otherwise; memory of the calibration O(cells)",
    use_when="Production rows have predictions and no labels yet, and what moved is the inputs' distribution.",
    avoid_when="The relation of label to inputs moved (concept drift): no method without labels sees that. If rows "
    "with equal scores mean something else in production, use MCBPE.",
    also=("Estimate",),
    test_params=({}, {"calibration": "isotonic", "metric": ("accuracy", "f1", "log_loss", "confusion_matrix")}),
)


class CBPE(BaseEstimator):
    """Estimate a classifier's metrics on unlabelled rows from its calibrated probabilities.

    A row predicted as class j is right with its calibrated probability of j. Sums of these are the expected
    confusion matrix, and every metric follows from it, or for the ROC AUC from the expected labels in order of
    the score.

    Parameters
    ----------
    metric : str or sequence of str
        One or several of ``accuracy``, ``roc_auc``, ``precision``, ``recall``, ``specificity``, ``f1``, ``log_loss``,
        ``brier``, ``business_value`` (a row's mean) and ``confusion_matrix`` (shares of the rows, named
        ``true_0_pred_1``). Of two classes the second is the positive; of more, one against the rest averaged.
    calibration : {"auto", "isotonic", "none"}, default="auto"
        ``auto`` calibrates a class if that lowers its calibration error on held-out folds of the reference.
    business_value : array-like of shape (n_classes, n_classes), optional
        Value of a row by [label, prediction].
    confidence : float, default=0.95
        Of the intervals.

    Attributes
    ----------
    calibrated_ : tuple of bool
        Whether each class is calibrated; of two classes, the second.
    n_classes_ : int
        Number of classes.
    n_reference_ : int
        Number of reference rows.

    See Also
    --------
    MCBPE : Calibrates anew for each chunk, weighing the reference to look like it.
    ImportanceWeighting : Weighs the reference's realised performance.

    References
    ----------
    .. [1] Białek, J., Kivimäki, J., Kuberski, W. and Perrakis, N. (2024). Estimating Model Performance Under
       Covariate Shift Without Labels. arXiv:2401.08348.
    .. [2] Kivimäki, J., Białek, J., Kuberski, W. and Nurminen, J. K. (2025). Performance Estimation in Binary
       Classification Using Calibrated Confidence. arXiv:2505.05295.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import CBPE
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(2, 2, size=20_000)
    >>> y = (rng.uniform(size=20_000) < p).astype(int)
    >>> sure = rng.beta(0.5, 0.5, size=20_000)  # production rows are easier
    >>> estimate = CBPE(metric="accuracy").fit(y, p).estimate(sure)
    >>> bool(abs(estimate.value - np.maximum(sure, 1 - sure).mean()) < 0.01)
    True
    """

    def __init__(
        self,
        *,
        metric: str | Sequence[str] = ("accuracy", "roc_auc", "f1"),
        calibration: str = "auto",
        business_value: ArrayLike | None = None,
        confidence: float = 0.95,
    ) -> None:
        self.metric = metric
        self.calibration = calibration
        self.business_value = business_value
        self.confidence = confidence

    def fit(self, y_true: ArrayLike, pred_proba: ArrayLike, y_pred: ArrayLike | None = None) -> Self:
        """Calibrate on labelled reference rows that the model was not trained on.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels as column numbers.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities; one column is that of the second of two classes.
        y_pred : array-like, optional
            Ignored; taken so that estimators of performance are fitted alike.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the labels do not number the columns or the probabilities are none.
        """
        self._tables: list[ScoreTable] = []
        self.n_reference_ = 0
        return self.partial_fit(y_true, pred_proba)

    def partial_fit(self, y_true: ArrayLike, pred_proba: ArrayLike) -> Self:
        """Take in a batch of reference rows; batches in order give the fit of all rows at once.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels as column numbers.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.

        Returns
        -------
        self
        """
        check_choice(self.calibration, ("auto", "isotonic", "none"), name="calibration", by="CBPE")
        metric_names(self.metric, self.business_value, by="CBPE")
        tables = getattr(self, "_tables", [])
        first, known = (self.n_reference_, self.n_classes_) if tables else (0, None)
        p = scores_of(pred_proba, n_classes=known, by="CBPE")
        self.n_classes_: int = max(p.shape[1], 2)
        labels = check_labels(y_true, n=len(p), n_classes=self.n_classes_, name="y_true", by="CBPE")
        columns = range(1, 2) if p.shape[1] == 1 else range(p.shape[1])
        tables = tables or [ScoreTable.empty() for _ in columns]
        self._tables = [
            t.added(p[:, j], labels == c, None, first) for j, (t, c) in enumerate(zip(tables, columns, strict=True))
        ]
        self.n_reference_ = first + len(p)
        self._maps: tuple[CalibrationMap, ...] | None = None
        return self

    @property
    def calibrated_(self) -> tuple[bool, ...]:
        """Whether each class is calibrated."""
        check_is_fitted(self, "_tables")
        if self.calibration == "auto":
            return tuple(t.needs_calibration() for t in self._tables)
        return tuple(self.calibration == "isotonic" for _ in self._tables)

    def estimate(
        self, pred_proba: ArrayLike, y_pred: ArrayLike | None = None, *, chunks: int | ArrayLike | None = None
    ) -> Any:
        """Estimate the metrics of unlabelled rows.

        Parameters
        ----------
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.
        y_pred : array-like of shape (n_samples,), optional
            Predicted classes as column numbers; the most probable by default.
        chunks : int or array-like of shape (n_samples,), optional
            Rows a chunk, in order, or an id a row. By default all rows are one.

        Returns
        -------
        Estimate, list of Estimate or dict
            Of one metric its `Estimate`, of several a dict by name; with `chunks` a list of them for each metric, in
            order of the rows or of the sorted ids.
        """
        p = scores_of(pred_proba, n_classes=self._checked_classes(), by="CBPE")
        pred = predicted_of(y_pred, p, by="CBPE")
        maps = self._calibration_maps()
        rows = chunk_rows(chunks, len(p), by="CBPE")
        found = in_chunks(rows, lambda r: self._estimated(calibrated_cells(p[r], pred[r], maps)))
        return as_asked(self.metric, found)

    def estimate_batches(self, batches: Iterable[ArrayLike | tuple[ArrayLike, ArrayLike]]) -> Any:
        """Estimate the metrics of all rows of a stream, such as the batches of a Parquet file.

        Parameters
        ----------
        batches : iterable
            ``pred_proba`` or ``(pred_proba, y_pred)`` a batch. Two classes take constant memory; for more,
            the probabilities are kept.

        Returns
        -------
        Estimate or dict of str to Estimate
            Of one metric, or of several.
        """
        n_classes, maps = self._checked_classes(), self._calibration_maps()
        counts: NDArray[np.intp] | int = 0
        kept: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for batch in batches:
            given, y_pred = batch if isinstance(batch, tuple) else (batch, None)
            p = scores_of(given, n_classes=n_classes, by="CBPE")
            pred = predicted_of(y_pred, p, by="CBPE")
            if n_classes == 2:
                counts = counts + coarse_counts(p[:, 0], pred)
            else:
                kept.append((p, pred))
        if n_classes == 2:
            return as_asked(self.metric, self._estimated(cells_of_counts(np.asarray(counts), maps[0])))
        p, pred = (np.concatenate(part) for part in zip(*kept, strict=True))
        return as_asked(self.metric, self._estimated(calibrated_cells(p, pred, maps)))

    def predict_proba(self, pred_proba: ArrayLike) -> NDArray[np.floating]:
        """Return the calibrated probabilities that the estimates rest on.

        Parameters
        ----------
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        p = scores_of(pred_proba, n_classes=self._checked_classes(), by="CBPE")
        return calibrated_rows(p, self._calibration_maps())

    def expected_loss(self, pred_proba: ArrayLike, loss: str = "zero_one") -> NDArray[np.floating]:
        """Return the loss that each unlabelled row is expected to have.

        Parameters
        ----------
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.
        loss : {"zero_one", "log", "brier"}, default="zero_one"
            Loss of the model's probabilities as given; the calibrated ones weigh the labels.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        p = scores_of(pred_proba, n_classes=self._checked_classes(), by="CBPE")
        return expected_row_loss(p, calibrated_rows(p, self._calibration_maps()), loss, by="CBPE")

    def _checked_classes(self) -> int:
        check_is_fitted(self, "_tables")
        return self.n_classes_

    def _calibration_maps(self) -> tuple[CalibrationMap, ...]:
        if self._maps is None:
            self._maps = tuple(
                CalibrationMap.fit(t, identity=not c) for t, c in zip(self._tables, self.calibrated_, strict=True)
            )
        return self._maps

    def _estimated(self, cells: Cells) -> dict[str, Estimate]:
        names = metric_names(self.metric, self.business_value, by="CBPE")
        return estimates_of(cells, names, business_value=self.business_value, confidence=self.confidence, by="CBPE")
