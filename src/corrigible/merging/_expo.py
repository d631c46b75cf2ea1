"""ExPO: go on in the direction in which alignment moved a model.

Paper: Weak-to-Strong Extrapolation Expedites Alignment (Zheng, Wang, Ji, Huang, Peng, 2024; later title: Model
Extrapolation Expedites Alignment, ACL 2025).
Original: https://github.com/chujiezheng/LLM-Extrapolation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from corrigible._card import Card
from corrigible._core.model_weights import Weights, check_alike
from corrigible._core.tensor_blocks import Floats, Sink
from corrigible._utils.validation import check_number
from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging._task_vectors import with_base

CARD = Card(
    name="expo",
    kind="merger",
    obj="expo",
    also=("search_expo", "ExpoSearch"),
    papers=("expo",),
    refs=("zheng2024weak",),
    source="https://github.com/chujiezheng/LLM-Extrapolation",
    differs="The search takes any score of the weights on held-out rows, not only a reward model, and includes alpha = "
    "0, so that what it returns is on those rows never worse than the trained model.",
    inputs="tensors, base",
    stochastic=False,
    cost="One pass over both tensors; the search a pass and a score an alpha",
    use_when="Alignment or fine-tuning was stopped early, or on few data, and there are held-out rows to choose alpha.",
    avoid_when="Training has converged or over-fitted: its direction no longer points to a better model.",
    test_params=({}, {"alpha": 0.5}, {"alpha": -0.5}),
)


@dataclass(frozen=True)
class ExpoSearch:
    """Outcome of `search_expo`.

    Attributes
    ----------
    alpha : float
        The best; 0 if extrapolating did not help.
    score : float
        Its score.
    scores : dict of float to float
        Score of each alpha.
    weights : dict of str to ndarray
        The extrapolated model.
    """

    alpha: float
    score: float
    scores: dict[float, float]
    weights: Weights


def expo(tensors: Sequence[Any], base: Any, *, alpha: float = 0.3, out: Sink | None = None) -> Any:
    """Extrapolate from an initial model beyond a trained one.

    Parameters
    ----------
    tensors : sequence of one ndarray
        The trained (aligned) model.
    base : ndarray
        The model it started from, of the same shape; gives the result its dtype.
    alpha : float, default=0.3
        How far beyond; 0 is the trained model, -1 the initial one.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        ``t + alpha (t - base)``.

    Raises
    ------
    DataError
        If there is not one tensor, shapes differ, there is no base, or a value is not finite.

    References
    ----------
    .. [1] Zheng, C., Wang, Z., Ji, H., Huang, M. and Peng, N. (2024). Weak-to-Strong Extrapolation Expedites Alignment.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import expo
    >>> expo([np.array([1.0, 2.0])], np.array([1.0, 1.0]), alpha=0.5)
    array([1. , 2.5])
    """
    by = "expo"
    check_number(alpha, name="alpha", by=by, low=-1e6, high=1e6)
    if len(tensors) != 1:
        raise DataError(f"{by} extrapolates one trained model from its base. Got {len(tensors)} models.")
    aligned = with_base(tensors, base, by=by)

    def combine(start: int, stop: int) -> Floats:
        step = aligned.delta(0, start, stop)
        step *= aligned.wide.type(alpha)
        step += aligned.values(aligned.tensors[0], start, stop)
        return step

    return aligned.fill(combine, out)


def search_expo(
    trained: Weights,
    initial: Weights,
    score: Callable[[Weights], float],
    *,
    alphas: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
) -> ExpoSearch:
    """Extrapolate by the alpha of the best score on held-out rows.

    Parameters
    ----------
    trained, initial : dict of str to ndarray
        Weights by name.
    score : callable
        Takes such a dict and gives a number, higher is better; ask it of rows that neither was trained on.
    alphas : sequence of float
        What is tried beside 0.

    Returns
    -------
    ExpoSearch
        The best alpha, scores and weights.

    Raises
    ------
    DataError
        If the two do not have the same tensors.

    References
    ----------
    .. [1] Zheng, C., Wang, Z., Ji, H., Huang, M. and Peng, N. (2024). Weak-to-Strong Extrapolation Expedites Alignment.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import search_expo
    >>> found = search_expo({"w": np.array([1.0])}, {"w": np.array([0.0])}, lambda m: -abs(float(m["w"][0]) - 1.3))
    >>> found.alpha, found.weights["w"]
    (0.3, array([1.3]))
    """
    by = "search_expo"
    check_alike([trained, initial], by=by)
    if not len(alphas):
        raise InvalidParameterError(f"'alphas' of {by} must hold at least one number. Got none.")

    def at(alpha: float) -> Weights:
        return {name: expo([trained[name]], initial[name], alpha=alpha) for name in trained}

    scores = {float(a): float(score(at(a))) for a in (0.0, *alphas)}
    best = max(scores, key=lambda a: (scores[a], -abs(a)))  # of equal scores the smallest step
    return ExpoSearch(best, scores[best], scores, at(best))
