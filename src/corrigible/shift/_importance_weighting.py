"""Importance weighting: the reference's realised performance, weighted to look like production.

Paper: Improving predictive inference under covariate shift by weighting the log-likelihood function (Shimodaira,
2000); the classifier for the density ratio as in Direct importance estimation for covariate shift adaptation
(Sugiyama, Suzuki, Nakajima, Kashima, von Bünau, Kawanabe, 2008) and Bickel, Brückner and Scheffer (2009). As a
baseline of performance estimation: Białek et al. (2024).
Original: https://github.com/NannyML/paper_mcbpe
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.density_ratio import DensityRatioFit, fit_density_ratio
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_count, check_number
from corrigible.shift._expected_metrics import Cells, Estimate, values_of
from corrigible.shift._reweighting import AbstractReweighted

CARD = Card(
    name="importance_weighting",
    kind="performance_estimator",
    obj="ImportanceWeighting",
    papers=("mcbpe",),
    refs=("shimodaira2000improving", "bialek2024estimating", "delong1988comparing", "nadeau2003inference"),
    source="https://github.com/NannyML/paper_mcbpe",
    differs="The density ratio is cross-fitted and its logits are rescaled by a logistic regression out of fold, "
    "so that without shift the weights are nearly 1. Intervals (grouped jackknife of the weighted reference, and "
    "the chunk's size) are ours; they take the weights as known.",
    inputs="X, y, pred_proba",
    stochastic=True,
    cost="cv boosted classifiers on reference and chunk together for each chunk; 20 evaluations of the metrics",
    use_when="The inputs' distribution moved moderately, or the density ratio itself is wanted: to refit a model, "
    "or to test for shift with DensityRatio.",
    avoid_when="Few reference rows look like production: the effective sample size says so. MCBPE uses the chunk's "
    "scores as well, and is usually nearer.",
    also=("DensityRatio",),
    test_params=({"cv": 2}, {"cv": 2, "metric": ("accuracy", "precision", "log_loss")}),
)

_GROUPS = 20


class DensityRatio(BaseEstimator):
    """Density of target over source rows, and whether the two differ at all.

    A classifier tells the rows apart; its odds, times n_source / n_target, are the ratio. All that is reported
    of the rows given is out of fold.

    Parameters
    ----------
    estimator : classifier, optional
        Given the tables as they are; by default histogram gradient boosting, which takes categories and missing
        cells.
    cv : int, default=5
        Number of folds.
    min_denominator : float, default=0.05
        Least probability of being a source row that is divided by; bounds the weights.
    confidence : float, default=0.95
        Of the interval of the AUC.
    random_state : None, int, Generator or RandomState
        Folds and models.
    n_jobs : int, optional
        Parallel folds.

    Attributes
    ----------
    weights_ : ndarray of shape (n_source,)
        Ratio at the source rows, with mean 1.
    auc_ : float
        Area under the ROC curve of the classifier; 0.5 if the rows cannot be told apart.
    auc_interval_ : tuple of float
        DeLong's, widened for folds that share training rows (Nadeau and Bengio 2003).
    p_value_ : float
        One-sided, of target and source being alike (Mann-Whitney within folds, widened likewise).
    effective_sample_size_ : float
        Kish's, of the weights.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import DensityRatio
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 2))
    >>> ratio = DensityRatio(random_state=0).fit(X, rng.normal(0.7, 1, size=(1000, 2)))
    >>> ratio.auc_interval_[0] > 0.6, ratio.effective_sample_size_ < 800
    (True, True)
    """

    def __init__(
        self,
        *,
        estimator: Any = None,
        cv: int = 5,
        min_denominator: float = 0.05,
        confidence: float = 0.95,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.min_denominator = min_denominator
        self.confidence = confidence
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X_source: Any, X_target: Any) -> Self:
        """Estimate the ratio.

        Parameters
        ----------
        X_source, X_target : array-like or dataframe of shapes (n_source, d) and (n_target, d)
            Rows of the two; frames may mix numbers and categories and have missing cells.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the columns differ or there are fewer than ``2 * cv`` rows on a side.
        """
        by = "DensityRatio"
        check_count(self.cv, name="cv", by=by, low=2)
        check_number(self.min_denominator, name="min_denominator", by=by, low=0, high=1, closed="neither")
        check_number(self.confidence, name="confidence", by=by, low=0, high=1, closed="neither")
        found = fit_density_ratio(
            X_source, X_target, estimator=self.estimator, cv=self.cv, min_denominator=self.min_denominator,
            confidence=self.confidence, rng=as_generator(self.random_state), n_jobs=self.n_jobs, by=by,
        )  # fmt: skip
        self._fit: DensityRatioFit = found
        self.weights_ = found.weights
        self.auc_, self.auc_interval_ = found.auc, (found.auc_low, found.auc_high)
        self.p_value_ = found.p_value
        self.effective_sample_size_ = found.effective_sample_size
        return self

    def predict(self, X: Any) -> NDArray[np.floating]:
        """Return the ratio at new rows, on the scale of ``weights_``.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, d)
            Rows of either kind.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "weights_")
        return self._fit.predict(X, by="DensityRatio")


class ImportanceWeighting(AbstractReweighted):
    """Estimate metrics of unlabelled rows as those of the reference, weighted by the density ratio.

    ``E_target[m(x, y)] = E_source[w(x) m(x, y)]`` with ``w`` the density ratio of the inputs, if the label's
    relation to the inputs stays (Shimodaira 2000).

    Parameters
    ----------
    metric : str or sequence of str
        As in `CBPE`.
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
    MCBPE : Weighs the calibration and sums over the chunk's own scores.
    DensityRatio : The weights themselves, and a test for shift.

    References
    ----------
    .. [1] Shimodaira, H. (2000). Improving predictive inference under covariate shift by weighting the
       log-likelihood function. Journal of Statistical Planning and Inference 90, 227-244.
    .. [2] DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or more
       correlated receiver operating characteristic curves. Biometrics 44, 837-845.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import ImportanceWeighting
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=(3000, 1)), rng.normal(1, 1, size=(3000, 1))
    >>> truth = lambda v: 1 / (1 + np.exp(-2 * v[:, 0]))
    >>> y = (rng.uniform(size=3000) < truth(x)).astype(int)
    >>> method = ImportanceWeighting(metric="accuracy", random_state=0).fit(x, y, np.full(3000, 0.6))
    >>> found = method.estimate(z, np.full(3000, 0.6))
    >>> bool(abs(found.value - truth(z).mean()) < 0.05)
    True
    """

    def __init__(
        self,
        *,
        metric: str | Sequence[str] = ("accuracy", "roc_auc", "f1"),
        estimator: Any = None,
        cv: int = 5,
        min_denominator: float = 0.05,
        business_value: ArrayLike | None = None,
        confidence: float = 0.95,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.metric = metric
        self.estimator = estimator
        self.cv = cv
        self.min_denominator = min_denominator
        self.business_value = business_value
        self.confidence = confidence
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y_true: ArrayLike, pred_proba: ArrayLike, y_pred: ArrayLike | None = None) -> Self:
        """Keep the labelled reference.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            The rows' inputs.
        y_true : array-like of shape (n_samples,)
            Labels as column numbers.
        pred_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            The model's probabilities on rows it was not trained on.
        y_pred : array-like of shape (n_samples,), optional
            Predicted classes; the most probable by default.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the arguments differ in length, labels do not number the columns or probabilities are none.
        """
        return self._keep(X, y_true, pred_proba, y_pred)

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
            The model's probabilities; only their number is used.
        y_pred : array-like, optional
            Ignored; taken so that estimators of performance are asked alike.
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
        return self._estimate(X, pred_proba, None, chunks, reference_weight)

    def _estimate_chunk(
        self, p: NDArray[np.floating], pred: NDArray[np.integer], weight: NDArray[np.floating]
    ) -> dict[str, Estimate]:
        whole = self._realised(weight)
        group = np.arange(len(weight)) % _GROUPS
        held_out = [self._realised(np.where(group == g, 0.0, weight)) for g in range(min(_GROUPS, len(weight)))]
        rows = weight.sum() ** 2 / (weight**2).sum()
        z = float(ndtri(0.5 + self.confidence / 2))
        found = {}
        for name, value in whole.items():
            parts = np.array([h[name] for h in held_out])
            of_reference = (len(parts) - 1) * parts.var()
            # A row's share of that variance, times the chunk's rows, is the chance of the chunk itself.
            error = float(np.sqrt(of_reference * (1 + rows / len(p))))
            found[name] = Estimate(value, value - z * error, value + z * error, error)
        return found

    def _realised(self, weight: NDArray[np.floating]) -> dict[str, float]:
        kept = weight > 0
        y, p = self._reference_y[kept], self._reference_p[kept]
        known = (y == 1).astype(np.float64)[:, None] if p.shape[1] == 1 else np.eye(p.shape[1])[y]
        cells = Cells(known, p, self._reference_pred[kept], weight[kept], (), np.empty((len(y), 0), np.intp))
        found = values_of(cells, self._names, business_value=self.business_value, by="ImportanceWeighting")
        return {name: value for name, (value, _) in found.items()}
