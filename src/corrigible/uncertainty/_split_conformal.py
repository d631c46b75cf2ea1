"""Split conformal prediction of whatever a model predicts: intervals of numbers, sets of classes.

Paper: Distribution-Free Predictive Inference for Regression (Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, JASA 2018);
Least Ambiguous Set-Valued Classifiers with Bounded Error Levels (Sadinle, Lei, Wasserman, JASA 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.validation import as_array
from corrigible.uncertainty._split_conformal_classifier import SplitConformalClassifier
from corrigible.uncertainty._split_conformal_regressor import SplitConformalRegressor

CARD = Card(
    name="split_conformal",
    kind="conformal",
    obj="SplitConformal",
    papers=(),
    refs=("lei2018distribution", "sadinle2019least"),
    source="https://github.com/ryantibs/conformal",
    differs="",
    inputs="prediction, y",
    stochastic=False,
    cost="O(n log n) to sort the scores, O(m) a prediction, O(m k) for sets of k classes",
    use_when="A model of either kind, or its predictions or probabilities, and a stated rate of misses.",
    avoid_when="Another score than the plain one is wanted: SplitConformalRegressor takes scales and sides, "
    "SplitConformalClassifier adaptive sets (APS, RAPS).",
    claims=("exact_coverage",),
    test_params=({}, {"alpha": 0.3}),
)


def _gives(name: str) -> Callable[[SplitConformal], bool]:
    return lambda self: hasattr(getattr(self, "conformal_", None), name)


class SplitConformal(BaseEstimator):
    """Intervals for numbers or sets of classes that hold the truth with probability 1 - alpha, whatever the model.

    A classifier, or rows of probabilities where there is no estimator, gives ``predict_set``; anything else gives
    ``predict_interval``.

    Parameters
    ----------
    estimator : fitted regressor or classifier, optional
        It must not have seen the calibration rows. None: ``fit`` takes predictions (n,), or probabilities
        (n, n_classes), in place of features.
    alpha : float, default=0.1
        Miscoverage.

    Attributes
    ----------
    conformal_ : SplitConformalRegressor or SplitConformalClassifier
        What does the work.

    See Also
    --------
    SplitConformalRegressor : Scales, and a score for each side.
    SplitConformalClassifier : Adaptive scores, and coverage within each class.
    CQR : Width that follows the noise.

    References
    ----------
    .. [1] Lei, J., G'Sell, M., Rinaldo, A., Tibshirani, R. and Wasserman, L. (2018). Distribution-Free Predictive
       Inference for Regression. JASA.
    .. [2] Sadinle, M., Lei, J. and Wasserman, L. (2019). Least Ambiguous Set-Valued Classifiers with Bounded Error
       Levels. JASA.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.uncertainty import SplitConformal
    >>> SplitConformal(alpha=0.2).fit(np.zeros(9), np.arange(1.0, 10.0)).predict_interval([100.0])
    array([[ 92., 108.]])
    >>> p = np.tile([0.6, 0.3, 0.1], (10, 1))
    >>> SplitConformal(alpha=0.3).fit(p, [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]).predict_set([[0.2, 0.5, 0.3]])
    array([[False,  True,  True]])
    """

    def __init__(self, estimator: Any = None, *, alpha: float = 0.1) -> None:
        self.estimator = estimator
        self.alpha = alpha

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn from calibration rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples,) or (n_samples, n_classes)
            Features; predictions or probabilities where there is no estimator.
        y : array-like of shape (n_samples,)
            Responses; labels are the estimator's classes, or column numbers where there is none.
        groups : array-like of shape (n_samples,), optional
            Groups within which coverage is to hold.
        sample_weight : array-like of shape (n_samples,), optional
            Density of new rows over that of calibration rows, up to a factor.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If predictions are not finite, rows are no probabilities, or a group has too few rows for alpha.
        InvalidParameterError
            If alpha is not between 0 and 1.
        """
        classes = as_array(X).ndim == 2 if self.estimator is None else is_classifier(self.estimator)
        kind = SplitConformalClassifier if classes else SplitConformalRegressor
        method = kind(self.estimator, alpha=self.alpha)
        self.conformal_ = method.fit(X, y, groups=groups, sample_weight=sample_weight)
        return self

    @available_if(_gives("predict_interval"))  # type: ignore[untyped-decorator]
    def predict_interval(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Return intervals of numbers.

        Parameters
        ----------
        X, groups, sample_weight
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper ends, in units of y.
        """
        check_is_fitted(self)
        intervals: NDArray[np.floating]
        intervals = self.conformal_.predict_interval(X, groups=groups, sample_weight=sample_weight)
        return intervals

    @available_if(_gives("predict_set"))  # type: ignore[untyped-decorator]
    def predict_set(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.bool_]:
        """Return which classes are in each row's set.

        Parameters
        ----------
        X, groups, sample_weight
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        sets: NDArray[np.bool_] = self.conformal_.predict_set(X, groups=groups, sample_weight=sample_weight)
        return sets
