"""Can a classifier tell production from reference rows? The two-sample test of that, and what it means for the loss.

Paper: Revisiting Classifier Two-Sample Tests (Lopez-Paz, Oquab, ICLR 2017).
Original: https://github.com/lopezpaz/classifier_tests
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._card import Card
from corrigible._core.density_ratio import fit_density_ratio
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_count, check_number, check_vector
from corrigible.shift._loss_effect import loss_effect

CARD = Card(
    name="classifier_two_sample_test",
    kind="measure",
    obj="classifier_two_sample_test",
    also=("ClassifierTwoSampleTest",),
    papers=(),
    refs=("lopezpaz2017revisiting", "delong1988comparing", "nadeau2003inference"),
    source="https://github.com/lopezpaz/classifier_tests",
    differs="The area under the ROC curve over folds, in place of the accuracy on one half: every row is scored by a "
    "classifier that did not see it, and no threshold is needed. The p-value is of ranks within folds, widened for what "
    "folds share. The effect on the loss is not in the paper.",
    inputs="reference, production",
    stochastic=True,
    cost="cv fits of histogram gradient boosting on both tables together; with losses, twice as many",
    use_when="Have rows moved in any way, jointly, in tables of mixed columns, and does the model mind?",
    avoid_when="Fewer than some hundred rows a side: the classifier has too little to learn from, and mmd_test sees more. "
    "Which column moved is asked: univariate_drift says so.",
    test_params=({"rng": 0}, {"rng": 0, "cv": 2}),
)

_BY = "classifier_two_sample_test"


@dataclass(frozen=True, eq=False)
class ClassifierTwoSampleTest:
    """What the test found.

    Attributes
    ----------
    auc, auc_low, auc_high : float
        Area under the ROC curve of telling production from reference rows out of fold, and its interval: 0.5 if they
        cannot be told apart, 1 if they share nothing.
    p_value : float
        One-sided, of no difference.
    effective_sample_size : float
        Number of reference rows that are left once they are weighted to look like production.
    weight : ndarray of shape (n_reference,)
        Density ratio at the reference rows, with mean 1.
    loss_effect, loss_low, loss_high : float or None
        Expected change of the mean loss, and an interval for the change realised on the production rows.
    """

    auc: float
    auc_low: float
    auc_high: float
    p_value: float
    effective_sample_size: float
    weight: NDArray[np.floating] = field(repr=False)
    loss_effect: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None


def classifier_two_sample_test(
    reference: Any,
    production: Any,
    *,
    loss: ArrayLike | None = None,
    estimator: Any = None,
    cv: int = 5,
    min_denominator: float = 0.05,
    confidence: float = 0.95,
    rng: RandomState = None,
    n_jobs: int | None = None,
) -> ClassifierTwoSampleTest:
    r"""Test whether a classifier can tell production from reference rows.

    Parameters
    ----------
    reference, production : dataframe or array-like of shapes (n_reference, d) and (n_production, d)
        Tables of the same columns, of any type, with missing cells.
    loss : array-like of shape (n_reference,), optional
        The model's loss on each row of the reference; gives the effect on the loss.
    estimator : classifier, optional
        Given the tables as they are; by default histogram gradient boosting.
    cv : int, default=5
        Folds.
    min_denominator : float, default=0.05
        Least probability of being a reference row that is divided by; bounds the weights.
    confidence : float, default=0.95
        Of the intervals.
    rng : None, int, Generator or RandomState
        Folds and models.
    n_jobs : int, optional
        Parallel folds.

    Returns
    -------
    ClassifierTwoSampleTest

    Raises
    ------
    DataError
        If the columns differ, there are fewer than ``2 * cv`` rows on a side, or losses do not fit the reference.

    See Also
    --------
    univariate_drift : Which columns moved, each alone.
    mmd_test : Without learning: kernels.
    DensityRatio : The weights, also of new rows.

    Notes
    -----
    The effect is the mean over production of a cross-fitted model of the loss, plus its error on the reference weighted
    by the density ratio, less the reference's mean loss. It is right if losses depend on the inputs as before.

    References
    ----------
    .. [1] Lopez-Paz, D. and Oquab, M. (2017). Revisiting Classifier Two-Sample Tests. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import classifier_two_sample_test
    >>> rng = np.random.default_rng(0)
    >>> x, z, a, b = rng.normal(size=(4, 500))
    >>> found = classifier_two_sample_test(np.column_stack([x, x + z]), np.column_stack([a, b]), rng=0)
    >>> found.p_value < 0.01, found.auc_low > 0.5
    (True, True)
    """
    check_count(cv, name="cv", by=_BY, low=2)
    check_number(min_denominator, name="min_denominator", by=_BY, low=0, high=1, closed="neither")
    check_number(confidence, name="confidence", by=_BY, low=0, high=1, closed="neither")
    lost = None if loss is None else check_vector(loss, n=len(reference), name="loss", by=_BY)
    generator = as_generator(rng, by="rng")
    found = fit_density_ratio(
        reference, production, estimator=estimator, cv=cv, min_denominator=min_denominator, confidence=confidence,
        rng=generator, n_jobs=n_jobs, by=_BY,
    )  # fmt: skip
    change: tuple[float | None, ...] = (None, None, None)
    if lost is not None:
        change = loss_effect(reference, production, lost, found.weights, confidence=confidence, rng=generator)
    return ClassifierTwoSampleTest(
        found.auc, found.auc_low, found.auc_high, found.p_value, found.effective_sample_size, found.weights, *change
    )
