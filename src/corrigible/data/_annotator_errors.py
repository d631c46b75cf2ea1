"""Wrong answers on a scale, when it is known who gave each: the annotator's own part of a residual.

Paper: Learning from Crowds (Raykar, Yu, Zhao, Valadez, Florin, Bogoni, Moy, JMLR 2010), section 5 on regression.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.utils.validation import _num_samples

from corrigible._card import Card
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_count, check_number, check_vector
from corrigible.errors import DataError

CARD = Card(
    name="annotator_errors",
    kind="detector",
    obj="AnnotatorErrors",
    papers=(),
    refs=("raykar2010learning",),
    source="",
    differs="The paper weighs several answers an item by each annotator's precision; here an item has one answer, each "
    "annotator has a bias beside a precision, and moments take the place of EM. With one answer an item, what "
    "differs between items and what an annotator adds are told apart by the most consistent annotator alone.",
    inputs="X, y",
    stochastic=True,
    cost="n_folds n_rounds fits of the estimator",
    use_when="Numbers were given by people, each item by one of several, and it is known by whom.",
    avoid_when="Items have several answers each: their median says more. Annotators have a handful of answers each.",
    test_params=({"n_rounds": 1, "n_folds": 2},),
)

_BY = "AnnotatorErrors"


class AnnotatorErrors(BaseEstimator):
    r"""Score numeric answers by how far the annotator is estimated to be off.

    An answer is what the item deserves, ``f(x) + u``, plus the annotator's bias ``b_a`` and noise of variance
    ``s_a^2``. The item's part u, which the columns do not predict, is no error. With r the out-of-fold residual, the
    annotator's part is estimated by

    .. math:: \hat b_a + \Big(1 - \frac{\sigma_u^2}{v_a}\Big) (r - \hat b_a),

    with :math:`v_a` the variance of an annotator's residuals about the bias, and :math:`\sigma_u^2` the least of them, as
    if the most consistent annotator added no noise. Biases are shrunk as random effects, variances towards their mean.

    Parameters
    ----------
    estimator : scikit-learn regressor, optional
        Must take `X` as it is given. Default: `HistGradientBoostingRegressor`.
    threshold : float, optional
        Answers off by more are flagged, in units of y; by default the standard deviation of y.
    prior_answers : float, default=10.0
        Answers of a mean annotator that are added to each one's variance.
    n_folds : int, default=5
        Folds of the residuals.
    n_rounds : int, default=3
        How often the estimator and the biases are fitted, each to what the other leaves.
    random_state : int, Generator, RandomState or None
        Draws the folds and seeds the estimator.

    Attributes
    ----------
    errors_ : ndarray of shape (n_samples,)
        Estimated part of the annotator, in units of y.
    issue_scores : ndarray of shape (n_samples,)
        Its size; HIGHER = MORE SUSPECT.
    issue_mask : ndarray of bool of shape (n_samples,)
        Sizes above the threshold.
    suggested_values_ : ndarray of shape (n_samples,)
        ``y - errors_``.
    annotators_ : ndarray of shape (n_annotators,)
        Their names, sorted.
    bias_, variance_ : ndarray of shape (n_annotators,)
        Estimated bias, and variance of the residuals about it.
    item_variance_ : float
        Estimated variance of the items' part.

    See Also
    --------
    VeracityScores : Where nothing is known of who gave the answers.
    MultiAnnotator : For classes.

    References
    ----------
    .. [1] Raykar, V. C., Yu, S., Zhao, L. H., Valadez, G. H., Florin, C., Bogoni, L. and Moy, L. (2010). Learning
       From Crowds. JMLR 11.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from corrigible.data import AnnotatorErrors
    >>> rng = np.random.default_rng(0)
    >>> X, who = rng.normal(size=(300, 1)), np.arange(300) % 3
    >>> y = X[:, 0] + 0.2 * rng.normal(size=300) + np.where(who == 2, 1.5, 0.0)  # the third is generous
    >>> found = AnnotatorErrors(LinearRegression(), random_state=0).fit(X, y, annotators=who)
    >>> (found.bias_ - found.bias_[0]).round(1)
    array([0. , 0. , 1.5])
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        threshold: float | None = None,
        prior_answers: float = 10.0,
        n_folds: int = 5,
        n_rounds: int = 3,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.threshold = threshold
        self.prior_answers = prior_answers
        self.n_folds = n_folds
        self.n_rounds = n_rounds
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, *, annotators: ArrayLike | None = None) -> Self:
        """Score the answers.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            What is known of the items, as the estimator takes it.
        y : array-like of shape (n_samples,)
            Answers, finite numbers.
        annotators : array-like of shape (n_samples,), optional
            Who gave each. Of a single annotator nothing is known, and the residuals are the scores.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If lengths differ, an answer is not finite, an annotator is missing, or there are fewer rows than folds.
        """
        values, who = self._checked(X, y, annotators)
        rng = as_generator(self.random_state)
        model = HistGradientBoostingRegressor() if self.estimator is None else self.estimator
        model = seed_estimator(clone(model), integer_seed(rng))
        folds = KFold(self.n_folds, shuffle=True, random_state=integer_seed(rng))
        # In units of the spread, so that squares of any answers stay within range.
        size = float(np.abs(values - np.median(values)).max()) or 1.0
        scaled = values / size
        bias: NDArray[np.floating] = np.zeros(len(self.annotators_))
        for _ in range(self.n_rounds):
            predicted = np.asarray(cross_val_predict(model, X, scaled - bias[who], cv=folds), dtype=float).ravel()
            residual = scaled - predicted
            if len(bias) > 1:
                bias = _biases(residual, who)
        rest = residual - bias[who]
        count = np.bincount(who)
        variance = (np.bincount(who, rest**2) + self.prior_answers * np.mean(rest**2)) / (
            count + self.prior_answers
        )
        least = float(variance.min()) if len(bias) > 1 else 0.0
        share = 1 - least / np.maximum(variance, np.finfo(float).tiny)
        self.errors_ = size * (bias[who] + share[who] * rest)
        self.suggested_values_ = values - self.errors_
        self.bias_, self.variance_, self.item_variance_ = size * bias, size**2 * variance, size**2 * least
        self.issue_scores = np.abs(self.errors_)
        self.issue_mask = self.issue_scores > (np.std(values) if self.threshold is None else self.threshold)
        return self

    def _checked(self, X: Any, y: ArrayLike, annotators: ArrayLike | None) -> tuple[Any, NDArray[np.intp]]:
        if self.threshold is not None:
            check_number(self.threshold, name="threshold", by=_BY, low=0)
        check_number(self.prior_answers, name="prior_answers", by=_BY, low=0)
        check_count(self.n_folds, name="n_folds", by=_BY, low=2)
        check_count(self.n_rounds, name="n_rounds", by=_BY)
        values = check_vector(y, name="y", by=_BY).astype(np.float64)
        n = len(values)
        if _num_samples(X) != n or n < self.n_folds:
            raise DataError(f"{_BY} needs a row an answer, {self.n_folds} or more. Got {_num_samples(X)} and {n}.")
        names = np.zeros(n, dtype=int) if annotators is None else np.asarray(annotators)
        if names.shape != (n,):
            raise DataError(f"'annotators' of {_BY} must name one of each of the {n} answers. Got {names.shape}.")
        if (names != names).any() or any(name is None for name in names):
            raise DataError(f"'annotators' of {_BY} must not be missing. Give unknown ones a name of their own.")
        self.annotators_, who = np.unique(names, return_inverse=True)
        return values, who


def _biases(residual: NDArray[np.floating], who: NDArray[np.intp]) -> NDArray[np.floating]:
    """Return the annotators' mean residuals, shrunk as random effects of a one-way layout."""
    n, count = len(residual), np.bincount(who)
    mean = np.bincount(who, residual) / count
    within = float(((residual - mean[who]) ** 2).sum()) / max(1, n - len(count))
    spread = float((count * (mean - residual.mean()) ** 2).sum()) - (len(count) - 1) * within
    between = max(0.0, spread / (n - float((count**2).sum()) / n))
    return np.asarray(mean * count * between / np.maximum(count * between + within, np.finfo(float).tiny))
