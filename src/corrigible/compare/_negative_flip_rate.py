"""The negative flip rate as one number.

Paper: Positive-Congruent Training: Towards Regression-Free Model Updates (Yan, Xiong, Kundu, Yang, Deng, Wang, Xia,
Soatto, CVPR 2021).
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from corrigible._card import Card
from corrigible.compare._negative_flips import negative_flips

CARD = Card(
    name="negative_flip_rate",
    kind="measure",
    obj="negative_flip_rate",
    papers=(),
    refs=("yan2021positive",),
    source="",
    differs="",
    inputs="y, old, new",
    stochastic=False,
    cost="O(n)",
    use_when="One number is wanted, as a metric or a limit.",
    avoid_when="It is to be judged: negative_flips has its interval, the rows, and the rate by group.",
)


def negative_flip_rate(y_true: ArrayLike, pred_old: ArrayLike, pred_new: ArrayLike) -> float:
    """Return the share of rows that an earlier model got right and the new one gets wrong.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels, of any type that can be compared.
    pred_old, pred_new : array-like of shape (n,)
        Answers of the earlier and of the new model.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    DataError
        If lengths differ, there are no rows, or a label is missing.

    See Also
    --------
    negative_flips : The rate with its interval, the rows, and the same by group.

    References
    ----------
    .. [1] Yan, S. et al. (2021). Positive-Congruent Training: Towards Regression-Free Model Updates. CVPR.

    Examples
    --------
    >>> from corrigible.compare import negative_flip_rate
    >>> negative_flip_rate(["a", "b", "c", "a"], ["a", "b", "a", "b"], ["b", "b", "b", "a"])
    0.25
    """
    return negative_flips(y_true, pred_old, pred_new).negative_rate
