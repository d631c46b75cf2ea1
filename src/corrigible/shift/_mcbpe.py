"""Confidence-based performance estimation, calibrated anew for each chunk: M-CBPE, later named PAPE.

Paper: We Don't Need No Labels: Estimating Post-Deployment Model Performance Under Covariate Shift Without Ground
Truth (Białek, Kuberski, Perrakis, Bifet, 2024); as of its fourth version Estimating Model Performance Under
Covariate Shift Without Labels (Białek, Kivimäki, Kuberski, Perrakis, NeurIPS 2025).
Original: https://github.com/NannyML/paper_mcbpe
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor

from corrigible._card import Card
from corrigible._utils.random import RandomState, as_generator, seed_estimator
from corrigible.errors import InvalidParameterError
from corrigible.shift._expected_metrics import (
    Estimate,
    calibrated_cells,
    calibrated_rows,
    estimates_of,
    expected_row_loss,
)
from corrigible.shift._reweighting import AbstractReweighted
from corrigible.shift._score_table import CalibrationMap, ScoreTable

CARD = Card(
    name="mcbpe",
    kind="performance_estimator",
    obj="MCBPE",
    papers=("mcbpe",),
    refs=("bialek2024estimating",),
    source="https://github.com/NannyML/paper_mcbpe",
    differs="The density ratio is cross-fitted and its logits are rescaled by a logistic regression out of fold, "
    "where the authors predict the rows their classifier was fitted to; scikit-learn's histogram boosting stands "
    "for LightGBM. More than two classes, and intervals that hold the label's chance and the finite reference, "
    "but not the error of the density ratio, are ours.",
    inputs="X, y, pred_proba",
    stochastic=True,
    cost="cv boosted classifiers on reference and chunk together, and one calibration, for each chunk",
    use_when="The inputs' distribution moved, and rows with equal scores may mean something else where they moved "
    "to; the chunk has some thousand rows.",
    avoid_when="There is no overlap of inputs (an AUC of the density ratio near 1), the label's relation to the "
    "inputs moved, or the chunk is so small that the density ratio is noise: then CBPE.",
    test_params=({"cv": 2}, {"cv": 2, "calibrator": "isotonic", "metric": ("accuracy", "brier")}),
)

_CALIBRATOR_SEED = 0


class MCBPE(AbstractReweighted):
    """Estimate metrics of unlabelled rows with a calibration fitted for their own distribution.

    The reference rows are weighted by the density ratio of the chunk's inputs over theirs, the model's scores are
    calibrated on the weighted reference, and the expected metrics follow as in `CBPE`. If the label's relation to
    the inputs stays, the calibration tends to the chunk's own.

    Parameters
    ----------
    metric : str or sequence of str
        As in `CBPE`.
    calibrator : {"boosting", "isotonic"} or regressor, default="boosting"
        Fitted to the score, with weights. ``boosting`` is the paper's choice: under weights the label's rate need
        not rise with the score.
    estimator : classifier, optional
        Tells reference from chunk rows and is given `X` as it is; by default histogram gradient boosting, which
        takes categories and missing cells.
    cv : int, default=5
        Folds of the density ratio.
    min_denominator : float, default=0.05
        Least probability of being a reference row that is divided by; bounds the weights.
    business_value : array-like of shape (n_classes, n_classes), optional
        Value of a row by [label, prediction].
    confidence : float, default=0.95
        Of the intervals.
    random_state : None, int, Generator or RandomState
        Folds and models.
    n_jobs : int, optional
        Parallel folds.

    Attributes
    ----------
    n_classes_ : int
        Number of classes.

    See Also
    --------
    CBPE : One calibration for all chunks; no inputs needed, thousands of times cheaper.
    ImportanceWeighting : Weighs the reference's realised performance.

    References
    ----------
    .. [1] Białek, J., Kivimäki, J., Kuberski, W. and Perrakis, N. (2024). Estimating Model Performance Under
       Covariate Shift Without Labels. arXiv:2401.08348.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import CBPE, MCBPE
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=(3000, 1)), rng.normal(1, 1, size=(3000, 1))  # production has larger inputs
    >>> truth = lambda v: 1 / (1 + np.exp(-2 * v[:, 0]))
    >>> y = (rng.uniform(size=3000) < truth(x)).astype(int)
    >>> model = lambda v: np.full(len(v), 0.6)  # the model knows nothing: only the inputs tell
    >>> cbpe = CBPE(metric="accuracy").fit(y, model(x)).estimate(model(z))
    >>> mcbpe = MCBPE(metric="accuracy", random_state=0).fit(x, y, model(x)).estimate(z, model(z))
    >>> bool(abs(cbpe.value - truth(z).mean()) > 0.2), bool(abs(mcbpe.value - truth(z).mean()) < 0.05)
    (True, True)
    """

    def __init__(
        self,
        *,
        metric: str | Sequence[str] = ("accuracy", "roc_auc", "f1"),
        calibrator: Any = "boosting",
        estimator: Any = None,
        cv: int = 5,
        min_denominator: float = 0.05,
        business_value: ArrayLike | None = None,
        confidence: float = 0.95,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.metric = metric
        self.calibrator = calibrator
        self.estimator = estimator
        self.cv = cv
        self.min_denominator = min_denominator
        self.business_value = business_value
        self.confidence = confidence
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y_true: ArrayLike, pred_proba: ArrayLike, y_pred: ArrayLike | None = None) -> Self:
        """Keep the labelled reference; what is fitted depends on the chunk.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            The rows' inputs; columns may mix numbers and categories and have missing cells.
        y_true : array-like of shape (n_samples,)
            Labels as column numbers.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities on rows it was not trained on.
        y_pred : array-like, optional
            Ignored; taken so that estimators of performance are fitted alike.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the arguments differ in length, labels do not number the columns or probabilities are none.
        """
        if isinstance(self.calibrator, str) and self.calibrator not in ("boosting", "isotonic"):
            raise InvalidParameterError(
                "The 'calibrator' parameter of MCBPE must be 'boosting', 'isotonic' or a regressor. "
                f"Got {self.calibrator!r}."
            )
        return self._keep(X, y_true, pred_proba, None)

    def estimate(
        self,
        X: Any,
        pred_proba: ArrayLike,
        y_pred: ArrayLike | None = None,
        *,
        chunks: int | ArrayLike | None = None,
        reference_weight: ArrayLike | None = None,
    ) -> Any:
        """Estimate the metrics of unlabelled rows.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features), or None
            The rows' inputs; None if `reference_weight` is given.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.
        y_pred : array-like of shape (n_samples,), optional
            Predicted classes as column numbers; the most probable by default.
        chunks : int or array-like of shape (n_samples,), optional
            Rows a chunk, in order, or an id a row. By default all rows are one.
        reference_weight : array-like of shape (n_reference,), optional
            Density ratio at the reference rows, where it is known: `DensityRatio.weights_`.

        Returns
        -------
        Estimate, list of Estimate or dict
            Of one metric its `Estimate`, of several a dict by name; with `chunks` a list of them for each metric, in
            order of the rows or of the sorted ids.
        """
        return self._estimate(X, pred_proba, y_pred, chunks, reference_weight)

    def expected_loss(
        self,
        X: Any,
        pred_proba: ArrayLike,
        loss: str = "zero_one",
        *,
        reference_weight: ArrayLike | None = None,
    ) -> NDArray[np.floating]:
        """Return the loss that each unlabelled row is expected to have; all rows are one chunk.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features), or None
            The rows' inputs; None if `reference_weight` is given.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities.
        loss : {"zero_one", "log", "brier"}, default="zero_one"
            Loss of the model's probabilities as given; the calibrated ones weigh the labels.
        reference_weight : array-like of shape (n_reference,), optional
            Density ratio at the reference rows, where it is known.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        p = self._scores(pred_proba)
        weight = self._weights(X, reference_weight, as_generator(self.random_state))
        return expected_row_loss(p, calibrated_rows(p, self._maps_for(weight)), loss, by="MCBPE")

    def _estimate_chunk(
        self, p: NDArray[np.floating], pred: NDArray[np.integer], weight: NDArray[np.floating]
    ) -> dict[str, Estimate]:
        return estimates_of(
            calibrated_cells(p, pred, self._maps_for(weight)), self._names,
            business_value=self.business_value, confidence=self.confidence, by="MCBPE",
        )  # fmt: skip

    def _maps_for(self, weight: NDArray[np.floating]) -> list[CalibrationMap]:
        """Calibrate each class on the weighted reference."""
        columns = range(1, 2) if self.n_classes_ == 2 else range(self.n_classes_)
        maps = []
        for score, c in zip(self._reference_p.T, columns, strict=True):
            positive = self._reference_y == c
            table = ScoreTable.empty().added(score, positive, weight, 0)
            maps.append(CalibrationMap.fit(table, identity=False, predict=self._predictor(score, positive, weight)))
        return maps

    def _predictor(
        self, score: NDArray[np.floating], positive: NDArray[np.bool_], weight: NDArray[np.floating]
    ) -> Callable[[NDArray[np.floating]], NDArray[np.floating]] | None:
        if isinstance(self.calibrator, str):
            if self.calibrator == "isotonic":
                return None
            regressor = HistGradientBoostingRegressor(early_stopping=False)
        else:
            regressor = clone(self.calibrator)
        # One seed for all classes and chunks, so that an estimate does not depend on which came before.
        regressor = seed_estimator(regressor, _CALIBRATOR_SEED)
        return _Clipped(regressor.fit(score[:, None], positive.astype(np.float64), sample_weight=weight))


class _Clipped:
    """A regressor's predictions as probabilities."""

    def __init__(self, regressor: Any) -> None:
        self.regressor = regressor

    def __call__(self, p: NDArray[np.floating]) -> NDArray[np.floating]:
        found = self.regressor.predict(np.asarray(p, dtype=np.float64)[:, None])
        return np.asarray(np.clip(found, 0.0, 1.0))
