"""Conformalised quantile regression.

Paper: Conformalized Quantile Regression (Romano, Patterson, Candes, NeurIPS 2019).
Original: https://github.com/yromano/cqr
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.conformal import SortedScores, bounds, check_alpha
from corrigible._utils.validation import check_vector

CARD = Card(
    name="conformalized_quantile_regressor",
    kind="conformal",
    obj="ConformalizedQuantileRegressor",
    papers=(),
    refs=("romano2019conformalized",),
    source="https://github.com/yromano/cqr",
    also=("CQR",),
    differs="Where the correction is negative by more than half an interval, the interval shrinks to its middle.",
    inputs="quantiles, y",
    stochastic=False,
    cost="O(n log n) to sort the scores, O(m) a prediction",
    use_when="Noise differs from row to row, and a model of the quantiles is at hand.",
    avoid_when="Only a point prediction is at hand: use split conformal prediction.",
    claims=("exact_coverage",),
    test_params=({}, {"symmetric": False}),
)

Floats = NDArray[np.floating]


class ConformalizedQuantileRegressor(BaseEstimator):
    """Widen or narrow intervals of estimated quantiles until they cover at the stated rate.

    The score of a calibration row is ``max(l(x) - y, y - u(x))``; the interval of x is ``[l(x) - q, u(x) + q]``,
    q being the ``ceil((1 - alpha)(n + 1))``-th smallest score. If not symmetric, each end has a score and a q of its
    own at alpha / 2.

    Parameters
    ----------
    estimators : pair of fitted regressors, optional
        Models of the lower and the upper quantile; they must not have seen the calibration rows. None: ``fit`` and
        ``predict_interval`` take their predictions, two columns, in place of features.
    alpha : float, default=0.1
        Miscoverage.
    symmetric : bool, default=True
        One correction for both ends.

    Attributes
    ----------
    scores_ : tuple of SortedScores
        Sorted calibration scores, one an end or one for both.
    n_calibration_ : int
        Number of calibration rows.

    See Also
    --------
    SplitConformalRegressor : Around a point prediction.
    MissingDataAugmentation : Rows with missing cells.

    References
    ----------
    .. [1] Romano, Y., Patterson, E. and Candes, E. (2019). Conformalized Quantile Regression. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.uncertainty import ConformalizedQuantileRegressor
    >>> quantiles, y = np.tile([-1.0, 1.0], (9, 1)), np.arange(-4.0, 5.0)
    >>> ConformalizedQuantileRegressor(alpha=0.3).fit(quantiles, y).predict_interval([[0.0, 2.0]])
    array([[-2.,  4.]])
    """

    def __init__(self, estimators: Any = None, *, alpha: float = 0.1, symmetric: bool = True) -> None:
        self.estimators = estimators
        self.alpha = alpha
        self.symmetric = symmetric

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn the correction from calibration rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or (n_samples, 2)
            Features, or estimated lower and upper quantiles where there are no estimators.
        y : array-like of shape (n_samples,)
            Responses.
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
            If values are not finite, or a group has too few rows for alpha.
        InvalidParameterError
            If alpha is not between 0 and 1.
        """
        by = type(self).__name__
        alpha = check_alpha(self.alpha, by=by)
        ends = bounds(self.estimators, X, by=by)
        truth = check_vector(y, n=len(ends), name="y", by=by)
        below, above = ends[:, 0] - truth, truth - ends[:, 1]
        sides = (np.maximum(below, above),) if self.symmetric else (below, above)
        scores = tuple(SortedScores.of(s, groups=groups, weight=sample_weight, by=by) for s in sides)
        scores[0].check_enough(alpha / len(sides), by=by)
        self.scores_, self.n_calibration_ = scores, len(ends)
        return self

    def predict_interval(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Floats:
        """Return intervals.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or (n_samples, 2)
            Features, or estimated quantiles where there are no estimators.
        groups, sample_weight : array-like of shape (n_samples,), optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper ends, in units of y.
        """
        check_is_fitted(self)
        by = type(self).__name__
        ends = bounds(self.estimators, X, by=by)
        alpha = self.alpha / len(self.scores_)
        q = [s.thresholds(alpha, len(ends), groups=groups, weight=sample_weight, by=by) for s in self.scores_]
        low, high = ends[:, 0] - q[0], ends[:, 1] + q[-1]
        crossed = low > high
        low[crossed] = high[crossed] = (low[crossed] + high[crossed]) / 2
        return np.column_stack([low, high])


CQR = ConformalizedQuantileRegressor  # the name that the paper and its readers use
