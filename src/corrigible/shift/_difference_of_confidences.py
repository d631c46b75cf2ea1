"""Accuracy on unlabelled rows as the reference's, moved by the change of the mean confidence.

Paper: Predicting with Confidence on Unseen Distributions (Guillory, Shankar, Ebrahimi, Darrell, Schmidt, ICCV 2021).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.validation import check_labels, check_number
from corrigible.shift._expected_metrics import Estimate, chunk_rows, in_chunks, predicted_of, scores_of

CARD = Card(
    name="difference_of_confidences",
    kind="performance_estimator",
    obj="DifferenceOfConfidences",
    papers=(),
    refs=("guillory2021predicting",),
    source="",
    differs="The slope of accuracy on confidence is 1, the paper's plain form; it also fits one over many shifts whose "
    "accuracy is known. The interval, which the paper has none of, is of the labels' chance and the finite reference.",
    inputs="y, pred_proba",
    stochastic=False,
    cost="O(n k)",
    use_when="A quick first look, where confidence is off by about as much in production as on the reference.",
    avoid_when="Confidence is off by more in production, as it often is far from the training rows; other metrics are "
    "wanted.",
)

_BY = "DifferenceOfConfidences"


class DifferenceOfConfidences(BaseEstimator):
    """Estimate accuracy as that of the reference plus the difference of the mean confidences (DoC).

    Parameters
    ----------
    confidence : float, default=0.95
        Of the interval.

    Attributes
    ----------
    accuracy_ : float
        Of the reference.
    mean_confidence_ : float
        Mean of the largest probabilities of the reference.
    n_classes_, n_reference_ : int
        Number of classes and of reference rows.

    See Also
    --------
    AverageThresholdedConfidence : Counts rows above a threshold.
    CBPE : Believes calibrated probabilities, and has other metrics too.

    References
    ----------
    .. [1] Guillory, D., Shankar, V., Ebrahimi, S., Darrell, T. and Schmidt, L. (2021). Predicting with Confidence on
       Unseen Distributions. ICCV.

    Examples
    --------
    >>> from corrigible.shift import DifferenceOfConfidences
    >>> method = DifferenceOfConfidences().fit([0, 1, 1, 1], [0.2, 0.8, 0.8, 0.2])
    >>> round(method.estimate([0.3, 0.7]).value, 2)  # 0.75 + (0.7 - 0.8)
    0.65
    """

    def __init__(self, *, confidence: float = 0.95) -> None:
        self.confidence = confidence

    def fit(self, y_true: ArrayLike, pred_proba: ArrayLike) -> Self:
        """Take in labelled reference rows that the model was not trained on.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels as column numbers.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities; one column is that of the second of two classes.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the labels do not number the columns or the probabilities are none.
        """
        check_number(self.confidence, name="confidence", by=_BY, low=0, high=1, closed="neither")
        p = scores_of(pred_proba, n_classes=None, by=_BY)
        self.n_classes_, self.n_reference_ = max(p.shape[1], 2), len(p)
        labels = check_labels(y_true, n=len(p), n_classes=self.n_classes_, name="y_true", by=_BY)
        right, sure = predicted_of(None, p, by=_BY) == labels, _confidence(p)
        self.accuracy_, self.mean_confidence_ = float(right.mean()), float(sure.mean())
        self._variance = float((right - sure).var() / len(p))
        return self

    def estimate(self, pred_proba: ArrayLike, *, chunks: int | ArrayLike | None = None) -> Any:
        """Estimate the accuracy of unlabelled rows.

        Parameters
        ----------
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.
        chunks : int or array-like of shape (n_samples,), optional
            Rows a chunk, in order, or an id a row. By default all rows are one.

        Returns
        -------
        Estimate, or list of Estimate
            Of the accuracy; with `chunks` a list of them, in order of the rows or of the sorted ids.
        """
        check_is_fitted(self, "accuracy_")
        sure = _confidence(scores_of(pred_proba, n_classes=self.n_classes_, by=_BY))
        found = in_chunks(chunk_rows(chunks, len(sure), by=_BY), lambda rows: self._estimated(sure[rows]))
        return found["accuracy"]

    def _estimated(self, sure: NDArray[np.floating]) -> dict[str, Estimate]:
        value = float(np.clip(self.accuracy_ + sure.mean() - self.mean_confidence_, 0.0, 1.0))
        error = float(np.sqrt(self._variance + value * (1 - value) / len(sure)))
        half = float(ndtri(0.5 + self.confidence / 2)) * error
        return {"accuracy": Estimate(value, max(0.0, value - half), min(1.0, value + half), error)}


def _confidence(p: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.maximum(p[:, 0], 1 - p[:, 0]) if p.shape[1] == 1 else p.max(axis=1), dtype=np.float64)
