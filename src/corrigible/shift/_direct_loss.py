"""Direct loss estimation: a model of the loss of a regression model, for rows without labels.

Method: direct loss estimation of NannyML (documentation, 2022), with the bias correction of augmented inverse
probability weighting (Robins, Rotnitzky, Zhao 1994).
Original: https://github.com/NannyML/nannyml
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.density_ratio import TableEncoder
from corrigible._utils.fitting import fitted
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_number, check_sample_weight, check_vector
from corrigible.errors import DataError
from corrigible.shift._expected_metrics import Estimate, as_asked, chunk_rows, in_chunks

CARD = Card(
    name="direct_loss",
    kind="performance_estimator",
    obj="DirectLossEstimation",
    papers=("mcbpe",),
    refs=("bialek2024estimating", "robins1994estimation"),
    source="https://github.com/NannyML/nannyml",
    differs="NannyML fits one model of the loss to all reference rows and scales the reference's spread by chunk "
    "size. Here it is cross-fitted; the mean of its out-of-fold errors on the reference, weighted by the density "
    "ratio where one is given, is added (augmented inverse probability weighting); and the interval counts the "
    "losses' own spread, the finite reference and the loss model.",
    inputs="X, y, prediction",
    stochastic=True,
    cost="cv fits of histogram gradient boosting for each loss; O(n cv) to estimate",
    use_when="A regression model's rows in production have no values yet, and inputs tell where it is off.",
    avoid_when="The value's relation to the inputs moved: no method without labels sees that.",
    test_params=({"cv": 3}, {"cv": 3, "metric": ("rmse", "mae")}),
)

Floats = NDArray[np.floating]

# Row losses; a metric is a function of the mean of one.
_LOSSES = {
    "absolute": lambda y, f: np.abs(y - f),
    "squared": lambda y, f: (y - f) ** 2,
    "relative": lambda y, f: np.abs(y - f) / np.maximum(np.abs(y), np.finfo(float).eps),
    "squared_log": lambda y, f: (np.log1p(y) - np.log1p(f)) ** 2,
}
_METRICS = {"mae": "absolute", "mse": "squared", "rmse": "squared", "mape": "relative", "msle": "squared_log",
            "rmsle": "squared_log"}  # fmt: skip


@dataclass(frozen=True)
class _LossModel:
    """Models of one loss, a fold each, and what they missed on the reference rows that they did not see.

    They learn the loss in units of its mean: squares of large values would overflow inside of many a regressor.
    """

    models: tuple[Any, ...]
    unit: float
    expected: Floats
    missed: Floats

    def predict(self, features: Floats) -> Floats:
        """Return each fold's expected losses (cv, n), at least 0."""
        return self.unit * np.maximum(np.stack([m.predict(features) for m in self.models]), 0.0)


class DirectLossEstimation(BaseEstimator):
    r"""Estimate a regression model's metrics on unlabelled rows by a model of its loss.

    A regressor g learns the loss of labelled reference rows from their inputs and predictions. With g_{-i} the models
    of the folds that did not hold reference row i, and weights w (1, or the density ratio of the chunk), the mean
    loss of a chunk of m rows is estimated as

    .. math:: \frac1m \sum_{j=1}^m g(x_j, f_j) + \frac{\sum_i w_i \{\ell_i - g_{-i}(x_i, f_i)\}}{\sum_i w_i},

    so that on rows like the reference it is unbiased whatever g is.

    Parameters
    ----------
    metric : str or sequence of str
        One or several of ``mae``, ``mse``, ``rmse``, ``mape``, ``msle`` and ``rmsle``; the last two need values and
        predictions above -1.
    estimator : regressor, optional
        Learns the loss, given the inputs as numbers and last the prediction; categories are codes, missing cells NaN.
        By default histogram gradient boosting.
    cv : int, default=5
        Folds.
    confidence : float, default=0.95
        Of the intervals.
    random_state : None, int, Generator or RandomState
        Folds and models.
    n_jobs : int, optional
        Parallel folds.

    Attributes
    ----------
    n_reference_ : int
        Number of reference rows.

    See Also
    --------
    MCBPE : For classifiers.
    DensityRatio : Gives the weights.

    Notes
    -----
    The interval is normal. Its variance is the sum of three: of the chunk's mean loss around g, where the loss's
    variance is taken proportional to the square of g; of the reference's mean error; and of g, by the delete-a-group
    jackknife over the folds.

    References
    ----------
    .. [1] Białek, J., Kivimäki, J., Kuberski, W. and Perrakis, N. (2024). Estimating Model Performance Under
       Covariate Shift Without Labels. arXiv:2401.08348.
    .. [2] Robins, J. M., Rotnitzky, A. and Zhao, L. P. (1994). Estimation of Regression Coefficients When Some
       Regressors Are Not Always Observed. Journal of the American Statistical Association, 89, 846-866.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import DirectLossEstimation
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.uniform(0, 1, (4000, 1)), rng.uniform(0.5, 1, (4000, 1))  # production has larger inputs
    >>> y = x[:, 0] * rng.normal(size=4000)  # and larger inputs have larger errors
    >>> method = DirectLossEstimation(metric="mae", random_state=0).fit(x, y, np.zeros(4000))
    >>> estimate = method.estimate(z, np.zeros(4000))
    >>> bool(abs(estimate.value - np.sqrt(2 / np.pi) * 0.75) < 0.02), bool(np.abs(y).mean() < 0.45)
    (True, True)
    """

    def __init__(
        self,
        *,
        metric: str | Sequence[str] = ("mae", "mse", "rmse"),
        estimator: Any = None,
        cv: int = 5,
        confidence: float = 0.95,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.metric = metric
        self.estimator = estimator
        self.cv = cv
        self.confidence = confidence
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y_true: ArrayLike, y_pred: ArrayLike) -> Self:
        """Learn the losses of labelled reference rows that the model was not trained on.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features), or None
            The rows' inputs; columns may mix numbers and categories and have missing cells. Without, the loss is
            learned from the prediction alone.
        y_true : array-like of shape (n_samples,)
            Values.
        y_pred : array-like of shape (n_samples,)
            The model's predictions.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If lengths differ, there are fewer than two rows a fold, or a metric is not defined for the values.
        """
        by = "DirectLossEstimation"
        for name in self._names:
            check_choice(name, _METRICS, name="metric", by=by)
        check_count(self.cv, name="cv", by=by, low=2)
        check_number(self.confidence, name="confidence", by=by, low=0, high=1, closed="neither")
        f = check_vector(y_pred, name="y_pred", by=by).astype(np.float64)
        target = check_vector(y_true, n=len(f), name="y_true", by=by).astype(np.float64)
        if len(f) < 2 * self.cv:
            raise DataError(f"{by} needs at least {2 * self.cv} reference rows, two a fold. Got {len(f)}.")
        if {"msle", "rmsle"} & set(self._names) and min(f.min(), target.min()) <= -1:
            raise DataError(f"The metrics msle and rmsle of {by} need values and predictions above -1.")
        self._encoder = None if X is None else TableEncoder.fit([X], by=by)
        features = self._features(f, X)
        rng = as_generator(self.random_state)
        folds = list(KFold(self.cv, shuffle=True, random_state=integer_seed(rng)).split(f))
        seed = integer_seed(rng)
        self.n_reference_ = len(f)
        self._models = {}
        for name in dict.fromkeys(["absolute", "squared", *(_METRICS[m] for m in self._names)]):
            loss = _LOSSES[name](target, f)
            unit = float(loss.mean()) or 1.0
            tasks = [(self._template(seed), features[rows], loss[rows] / unit) for rows, _ in folds]
            models = parallel_map(fitted, tasks, n_jobs=self.n_jobs)
            expected = np.empty(len(f))
            for model, (_, held_out) in zip(models, folds, strict=True):
                expected[held_out] = unit * np.maximum(model.predict(features[held_out]), 0.0)
            self._models[name] = _LossModel(tuple(models), unit, expected, loss - expected)
        return self

    def estimate(
        self,
        X: Any,
        y_pred: ArrayLike,
        *,
        chunks: int | ArrayLike | None = None,
        reference_weight: ArrayLike | None = None,
    ) -> Any:
        """Estimate the metrics of unlabelled rows.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features), or None
            The rows' inputs, if ``fit`` had them.
        y_pred : array-like of shape (n_samples,)
            The model's predictions.
        chunks : int or array-like of shape (n_samples,), optional
            Rows a chunk, in order, or an id a row. By default all rows are one.
        reference_weight : array-like of shape (n_reference,), optional
            Density ratio at the reference rows: `DensityRatio.weights_`.

        Returns
        -------
        Estimate, list of Estimate or dict
            Of one metric its `Estimate`, of several a dict by name; with `chunks` a list of them for each metric, in
            order of the rows or of the sorted ids.
        """
        by = "DirectLossEstimation"
        features = self._checked(X, y_pred)
        weight = check_sample_weight(reference_weight, self.n_reference_, by=by)
        rows = chunk_rows(chunks, len(features), by=by)
        of_loss = {
            name: self._models[name].predict(features) for name in dict.fromkeys(_METRICS[m] for m in self._names)
        }
        found = in_chunks(
            rows, lambda r: {m: self._metric(m, of_loss[_METRICS[m]][:, r], weight) for m in self._names}
        )
        return as_asked(self.metric, found)

    def expected_loss(
        self,
        X: Any,
        y_pred: ArrayLike,
        loss: str = "squared",
        *,
        reference_weight: ArrayLike | None = None,
    ) -> Floats:
        """Return the loss that each unlabelled row is expected to have.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features), or None
            The rows' inputs, if ``fit`` had them.
        y_pred : array-like of shape (n_samples,)
            The model's predictions.
        loss : {"squared", "absolute"}, default="squared"
            Which.
        reference_weight : array-like of shape (n_reference,), optional
            Density ratio at the reference rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            At least 0.
        """
        by = "DirectLossEstimation"
        check_choice(loss, ("squared", "absolute"), name="loss", by=f"{by}.expected_loss")
        model = self._models[loss]
        weight = check_sample_weight(reference_weight, self.n_reference_, by=by)
        expected = model.predict(self._checked(X, y_pred)).mean(axis=0)
        # By a factor, not a shift: a row's loss stays positive, and its mean is that of `estimate`.
        factor = np.average(model.expected + model.missed, weights=weight)
        factor /= max(float(np.average(model.expected, weights=weight)), np.finfo(float).tiny)
        return np.asarray(expected * factor)

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)

    def _metric(self, metric: str, expected: Floats, weight: Floats) -> Estimate:
        """Return a metric of a chunk from each fold's expected losses (cv, m)."""
        model = self._models[_METRICS[metric]]
        value, error = _mean_loss(model, expected, weight)
        value = max(value, 0.0)
        z = float(ndtri(0.5 + self.confidence / 2))
        low, high = max(value - z * error, 0.0), value + z * error
        if metric in ("rmse", "rmsle"):
            root = np.sqrt(value)
            return Estimate(
                float(root), float(np.sqrt(low)), float(np.sqrt(high)), error / (2 * root) if root else error
            )
        return Estimate(value, low, high, error)

    def _template(self, seed: int) -> Any:
        if self.estimator is not None:
            return seed_estimator(clone(self.estimator), seed)
        categorical = [] if self._encoder is None else list(np.flatnonzero(self._encoder.categorical))
        return HistGradientBoostingRegressor(
            max_iter=60, min_samples_leaf=40, early_stopping=False, categorical_features=categorical or None,
            random_state=seed,
        )  # fmt: skip

    def _checked(self, X: Any, y_pred: ArrayLike) -> Floats:
        check_is_fitted(self, "_models")
        by = "DirectLossEstimation"
        f = check_vector(y_pred, name="y_pred", by=by).astype(np.float64)
        if (X is None) != (self._encoder is None):
            had, given = ("had", "none was given") if X is None else ("had not", "one was given")
            raise DataError(f"'X' of {by}.estimate must be given if fit {had} it; {given}.")
        return self._features(f, X)

    def _features(self, prediction: Floats, X: Any) -> Floats:
        if self._encoder is None:
            return prediction[:, None]
        matrix = self._encoder.transform(X, by="DirectLossEstimation")
        if len(matrix) != len(prediction):
            raise DataError(
                f"'X' of DirectLossEstimation must have a row a prediction. Got {len(matrix)} rows and "
                f"{len(prediction)} predictions."
            )
        return np.column_stack([matrix, prediction])


def _mean_loss(model: _LossModel, expected: Floats, weight: Floats) -> tuple[float, float]:
    """Return the mean loss of a chunk and the standard error of the realised mean around it."""
    cv, m = expected.shape
    mean = expected.mean(axis=0)
    missed = float(np.average(model.missed, weights=weight))
    # The loss varies in proportion to what is expected of it; the factor is the reference's.
    scale = np.average((model.missed - missed) ** 2, weights=weight)
    scale /= max(float(np.average(model.expected**2, weights=weight)), np.finfo(float).tiny)
    of_chunk = scale * float(np.mean(mean**2)) / m
    of_reference = float(np.sum((weight * (model.missed - missed)) ** 2) / weight.sum() ** 2)
    by_fold = expected.mean(axis=1)
    of_model = (cv - 1) / cv * float(np.sum((by_fold - by_fold.mean()) ** 2))
    return float(mean.mean()) + missed, float(np.sqrt(of_chunk + of_reference + of_model))
