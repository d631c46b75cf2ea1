"""Accuracy on unlabelled rows as the share that is surer than a threshold learnt on labelled ones.

Paper: Leveraging Unlabeled Data to Predict Out-of-Distribution Performance (Garg, Balakrishnan, Lipton, Neyshabur,
Sedghi, ICLR 2022).
Original: https://github.com/saurabhgarg1996/ATC_code
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, ndtri
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.validation import check_choice, check_labels, check_number
from corrigible.shift._expected_metrics import Estimate, chunk_rows, in_chunks, predicted_of, scores_of

CARD = Card(
    name="average_thresholded_confidence",
    kind="performance_estimator",
    obj="AverageThresholdedConfidence",
    papers=(),
    refs=("garg2022leveraging",),
    source="https://github.com/saurabhgarg1996/ATC_code",
    differs="Ties at the threshold count in part, so that the estimate on the reference is its accuracy exactly. The "
    "interval, which the paper has none of, is of the labels' chance and the finite reference. Probabilities are taken "
    "as given: calibrate those of three classes or more first, as the paper does.",
    inputs="y, pred_proba",
    stochastic=False,
    cost="O(n log n) to fit, O(n k + n log n) to estimate",
    use_when="One number, the accuracy, is wanted, and probabilities order the rows well but are not to be believed.",
    avoid_when="Other metrics are wanted, or production rows are surer for no reason: CBPE and MCBPE.",
    test_params=({}, {"score": "entropy"}),
)

Floats = NDArray[np.floating]
_BY = "AverageThresholdedConfidence"


class AverageThresholdedConfidence(BaseEstimator):
    r"""Estimate accuracy as the share of rows more confident than a threshold (ATC).

    The threshold t is such that on the reference as many rows are below it as are wrong,
    :math:`\Pr(s(x) < t) = \Pr(\hat y \ne y)`; the accuracy elsewhere is taken to be :math:`\Pr(s(x) \ge t)`.

    Parameters
    ----------
    score : {"max_proba", "entropy"}, default="max_proba"
        s: the largest probability, or minus the entropy in nats (ATC-MC and ATC-NE).
    confidence : float, default=0.95
        Of the interval.

    Attributes
    ----------
    threshold_ : float
        t, a score of the reference.
    accuracy_ : float
        Of the reference.
    n_classes_, n_reference_ : int
        Number of classes and of reference rows.

    See Also
    --------
    DifferenceOfConfidences : Moves the reference's accuracy by the change of confidence.
    CBPE : Believes calibrated probabilities, and has other metrics too.

    Notes
    -----
    With :math:`d_i = 1\{\hat y_i \ne y_i\} - 1\{s_i < t\}`, the level at which the reference's scores are cut has
    standard error :math:`\sqrt{\mathrm{var}(d) / n}`. The shares above the thresholds one error to either side show
    what that means for the estimate; the labels' chance adds :math:`\hat a (1 - \hat a) / m` for m rows. That scores
    order rows alike in production is assumed, and is in no interval.

    References
    ----------
    .. [1] Garg, S., Balakrishnan, S., Lipton, Z., Neyshabur, B. and Sedghi, H. (2022). Leveraging Unlabeled Data to
       Predict Out-of-Distribution Performance. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import AverageThresholdedConfidence
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(2, 2, size=5000)
    >>> y = (rng.uniform(size=5000) < p).astype(int)
    >>> method = AverageThresholdedConfidence().fit(y, p)
    >>> bool(method.estimate(p).value == np.mean((p > 0.5) == y))
    True
    """

    def __init__(self, *, score: str = "max_proba", confidence: float = 0.95) -> None:
        self.score = score
        self.confidence = confidence

    def fit(self, y_true: ArrayLike, pred_proba: ArrayLike) -> Self:
        """Find the threshold on labelled reference rows that the model was not trained on.

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
        check_choice(self.score, ("max_proba", "entropy"), name="score", by=_BY)
        check_number(self.confidence, name="confidence", by=_BY, low=0, high=1, closed="neither")
        p = scores_of(pred_proba, n_classes=None, by=_BY)
        self.n_classes_ = max(p.shape[1], 2)
        labels = check_labels(y_true, n=len(p), n_classes=self.n_classes_, name="y_true", by=_BY)
        wrong = predicted_of(None, p, by=_BY) != labels
        score = self._score(p)
        self.n_reference_, self.accuracy_ = len(p), float(1 - wrong.mean())
        self._ordered = np.sort(score)
        self.threshold_, self._kept = self._cut(float(wrong.sum()))
        below = np.where(score < self.threshold_, 1.0, np.where(score == self.threshold_, 1 - self._kept, 0.0))
        self._level_error = float((wrong - below).std() / np.sqrt(len(p)))
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
        check_is_fitted(self, "threshold_")
        score = self._score(scores_of(pred_proba, n_classes=self.n_classes_, by=_BY))
        found = in_chunks(chunk_rows(chunks, len(score), by=_BY), lambda rows: self._estimated(score[rows]))
        return found["accuracy"]

    def _score(self, p: Floats) -> Floats:
        whole = np.column_stack([1 - p[:, 0], p[:, 0]]) if p.shape[1] == 1 else p
        return np.asarray(whole.max(axis=1) if self.score == "max_proba" else -entr(whole).sum(axis=1))

    def _cut(self, below: float) -> tuple[float, float]:
        """Return the threshold with `below` rows of the reference under it, and the part of its ties that is above."""
        n = self.n_reference_
        below = float(np.clip(below, 0, n))
        at = self._ordered[min(int(below), n - 1)]
        first, last = (
            np.searchsorted(self._ordered, at, side="left"),
            np.searchsorted(self._ordered, at, side="right"),
        )
        return float(at), float((last - below) / (last - first))

    def _estimated(self, score: Floats) -> dict[str, Estimate]:
        def share(cut: tuple[float, float]) -> float:
            return float(np.mean(score > cut[0]) + cut[1] * np.mean(score == cut[0]))

        n = self.n_reference_
        value = share((self.threshold_, self._kept))
        wrong = (1 - self.accuracy_) * n
        strict, lax = (share(self._cut(wrong + sign * self._level_error * n)) for sign in (1, -1))
        error = float(np.sqrt(((lax - strict) / 2) ** 2 + value * (1 - value) / len(score)))
        half = float(ndtri(0.5 + self.confidence / 2)) * error
        return {"accuracy": Estimate(value, max(0.0, value - half), min(1.0, value + half), error)}
