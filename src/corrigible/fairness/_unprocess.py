"""Unprocessing: what a model's scores reach by group thresholds, with and without a bound on the groups' rates.

Paper: Unprocessing Seven Years of Algorithmic Fairness (Cruz, Hardt, ICLR 2024)
Original: https://github.com/socialfoundations/error-parity
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from corrigible._card import Card
from corrigible._core.bootstrap import percentile_interval
from corrigible._core.group_roc import group_rocs, rate_maps, spread
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_count, check_number
from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness._group_thresholds import GroupThresholds, checked_rows, known_codes

CARD = Card(
    name="unprocess",
    kind="measure",
    obj="unprocess",
    papers=("unprocessing",),
    refs=("cruz2024unprocessing",),
    source="https://github.com/socialfoundations/error-parity",
    differs="Rates of a mixed rule enter by their expectation, where the paper draws decisions. The bootstrap of the "
    "frontier draws the counts of score intervals, which is that of rows exactly.",
    inputs="scores, y, groups",
    also=("Unprocessed", "achievable_frontier", "Frontier"),
    stochastic=False,
    cost="O(n log n) time; the frontier one linear programme a tolerance, and its bootstrap no more than counts",
    use_when="Models that were trained with and without a fairness constraint are to be compared on one footing.",
    avoid_when="The model gives hard decisions only and no scores: then there is one threshold to move.",
    test_params=({}, {"constraint": "demographic_parity", "fn_cost": 3.0}),
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Unprocessed:
    """A model freed of its constraint: the best single threshold of each group.

    Attributes
    ----------
    loss, violation : float
        Cost a row, and largest difference of the constraint's rates between two groups, of the freed rule.
    given_loss, given_violation : float or None
        Those of the model's own decisions, where they were passed.
    thresholds : dict
        Group to its threshold; a row is selected if its score is at least that.
    rule : GroupThresholds
        The fitted rule, for other rows.
    """

    loss: float
    violation: float
    given_loss: float | None
    given_violation: float | None
    thresholds: dict[Any, float]
    rule: GroupThresholds


def unprocess(
    scores: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    *,
    decisions: ArrayLike | None = None,
    constraint: str = "equalized_odds",
    norm: str = "max",
    fp_cost: float = 1.0,
    fn_cost: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> Unprocessed:
    """Relax a model to its unconstrained optimum: the thresholds by group of least cost, whatever the rates.

    Two models of different accuracy under different constraints do not compare. Unprocessed, both are unconstrained;
    post-processed by `GroupThresholds` with one tolerance, both meet the same constraint.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Scores of a model, often one that was trained under a fairness constraint; chances of its decisions will do.
    y : array-like of shape (n_samples,)
        Labels 0 and 1.
    groups : array-like of shape (n_samples,) or (n_samples, n_groupings), or DataFrame
        Group of each row; several columns are crossed.
    decisions : array-like of shape (n_samples,), optional
        The model's own decisions, or their chances, in [0, 1], to be compared.
    constraint, norm, fp_cost, fn_cost
        As in `GroupThresholds`; the constraint is measured and not enforced.
    sample_weight : array-like of shape (n_samples,), optional
        Weights of the rows.

    Returns
    -------
    Unprocessed

    Raises
    ------
    DataError
        If scores or groups are missing, lengths differ, or a rate has no rows in a group.

    References
    ----------
    .. [1] Cruz, A. F. and Hardt, M. (2024). Unprocessing Seven Years of Algorithmic Fairness. ICLR.

    Examples
    --------
    >>> from corrigible.fairness import unprocess
    >>> scores, y = [0.2, 0.6, 0.4, 0.1, 0.3, 0.2], [0, 1, 1, 0, 1, 0]
    >>> freed = unprocess(scores, y, ["a", "a", "a", "b", "b", "b"], decisions=[0, 1, 0, 0, 1, 0])
    >>> freed.loss, round(freed.given_loss, 2), round(freed.given_violation, 2), freed.thresholds
    (0.0, 0.17, 0.5, {'a': 0.4, 'b': 0.3})
    """
    rule = GroupThresholds(
        constraint=constraint, tolerance=np.inf, norm=norm, fp_cost=fp_cost, fn_cost=fn_cost
    ).fit(scores, y, groups, sample_weight)
    given = None if decisions is None else _scored(rule, decisions, y, groups, sample_weight)
    return Unprocessed(
        loss=rule.loss_,
        violation=rule.violation_,
        given_loss=None if given is None else given[0],
        given_violation=None if given is None else given[1],
        thresholds=dict(zip(rule.groups_, rule.thresholds_[:, 0].tolist(), strict=True)),
        rule=rule,
    )


def _scored(
    rule: GroupThresholds, decisions: ArrayLike, y: ArrayLike, groups: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[float, float]:
    """Return loss and violation of given chances of decisions."""
    by = "unprocess"
    chance, labels, codes, _ = checked_rows(decisions, y, groups, by)
    if chance.min() < 0 or chance.max() > 1:
        raise DataError(f"'decisions' of {by} must lie in [0, 1]. Got {chance.min():g} to {chance.max():g}.")
    weight = np.ones(len(chance)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    cells = (
        np.bincount(2 * codes + labels, weight * chance, 2 * len(rule.groups_)).astype(np.float64).reshape(-1, 2)
    )
    curves = group_rocs(chance, labels, codes, len(rule.groups_), weight, corners=True)
    missed = sum(c.positives for c in curves) - cells[:, 1].sum()
    loss = (rule.fp_cost * cells[:, 0].sum() + rule.fn_cost * missed) / weight.sum()
    return float(loss), spread(rate_maps(curves, rule.constraint, rule.norm), cells)


@dataclass(frozen=True)
class Frontier:
    """What group thresholds reach: loss against violation, one entry a tolerance, with bootstrap intervals.

    Attributes
    ----------
    tolerance, loss, loss_low, loss_high, violation, violation_low, violation_high : ndarray of shape (n_tolerances,)
        Tolerance of the fit; expected cost a row and largest difference between two groups on the rows of evaluation.
    """

    tolerance: Floats
    loss: Floats
    loss_low: Floats
    loss_high: Floats
    violation: Floats
    violation_low: Floats
    violation_high: Floats

    def to_frame(self) -> pd.DataFrame:
        """Return a table, a row a tolerance."""
        return pd.DataFrame(vars(self))


def achievable_frontier(
    scores: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    tolerances: Sequence[float] | Floats = (0.0, 0.02, 0.05, 0.1, 0.2, np.inf),
    *,
    held_out: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    constraint: str = "equalized_odds",
    norm: str = "max",
    fp_cost: float = 1.0,
    fn_cost: float = 1.0,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    rng: RandomState = None,
) -> Frontier:
    """Loss against violation of the best mixed thresholds by group, a point a tolerance.

    Parameters
    ----------
    scores, y, groups
        Rows that the thresholds are fitted on, as in `unprocess`.
    tolerances : sequence of float
        Tolerances from 0; ``inf`` is the unprocessed model.
    held_out : tuple of (scores, y, groups), optional
        Rows to evaluate on; by default those of the fit, on which the tolerance is met exactly.
    constraint, norm, fp_cost, fn_cost
        As in `GroupThresholds`.
    confidence : float, default=0.95
        Coverage of the percentile intervals, of rules held fixed and rows of evaluation drawn anew.
    n_resamples : int, default=1000
        Number of bootstrap draws.
    rng : None, int or Generator
        Source of the draws.

    Returns
    -------
    Frontier

    Notes
    -----
    A largest difference is biased upwards by noise, and its resamples once more: the interval of a small violation
    lies high.
    """
    by = "achievable_frontier"
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    check_count(n_resamples, name="n_resamples", by=by)
    bounds = np.atleast_1d(np.asarray(tolerances, dtype=np.float64))
    if bounds.ndim != 1 or not bounds.size:
        raise InvalidParameterError(f"The 'tolerances' of {by} must be a sequence of numbers. Got {tolerances!r}.")
    words: dict[str, Any] = {"constraint": constraint, "norm": norm, "fp_cost": fp_cost, "fn_cost": fn_cost}
    rules = [GroupThresholds(tolerance=float(t), **words).fit(scores, y, groups) for t in bounds]
    rows = (scores, y, groups) if held_out is None else held_out
    counts, selected = _cells(rules, *rows)
    size = int(counts.sum())
    draws = as_generator(rng, by="rng").multinomial(size, counts.ravel() / size, size=n_resamples)
    found = _evaluated(counts.reshape(1, *counts.shape), selected, rules[0])
    drawn = _evaluated(draws.reshape(n_resamples, *counts.shape), selected, rules[0])
    (loss_low, violation_low), (loss_high, violation_high) = (
        np.transpose(edge, (1, 0)) for edge in percentile_interval(drawn, confidence)
    )
    loss, violation = found[0].T
    return Frontier(bounds, loss, loss_low, loss_high, violation, violation_low, violation_high)


def _cells(rules: list[GroupThresholds], scores: ArrayLike, y: ArrayLike, groups: ArrayLike) -> tuple[Any, Floats]:
    """Return counts (n_groups, 2, n_intervals) of rows between all rules' thresholds, and each rule's chance there.

    The chance, shape (n_rules, n_groups, n_intervals), is the same for all rows of an interval.
    """
    by = "achievable_frontier"
    known = rules[0].groups_
    s, labels, _, _ = checked_rows(scores, y, groups, by)
    codes = known_codes(groups, known, len(s), by)
    finite = np.concatenate([r.thresholds_[np.isfinite(r.thresholds_)] for r in rules])
    cuts = np.unique(finite)
    interval = np.searchsorted(cuts, s, side="right")
    shape = (len(known), 2, len(cuts) + 1)
    counts = np.bincount(np.ravel_multi_index((codes, labels, interval), shape), minlength=int(np.prod(shape)))
    floor = np.concatenate([[-np.finfo(np.float64).max], cuts])  # the least score of each interval
    chance = np.stack([
        (r.weights_[:, :, None] * (floor >= r.thresholds_[:, :, None])).sum(axis=1) for r in rules
    ])  # fmt: skip
    return counts.reshape(shape), chance


def _evaluated(counts: NDArray[Any], chance: Floats, rule: GroupThresholds) -> Floats:
    """Return loss and violation (n_draws, n_rules, 2) of counts (n_draws, n_groups, 2, n_intervals)."""
    total = counts.sum(axis=3).astype(np.float64)
    picked = np.einsum("dgyi,rgi->drgy", counts.astype(np.float64), chance)
    missed = total[:, None, :, 1] - picked[..., 1]
    loss = (rule.fp_cost * picked[..., 0] + rule.fn_cost * missed).sum(axis=2) / total.sum(axis=(1, 2))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        fpr, tpr = (picked[..., c] / total[:, None, :, c] for c in (0, 1))
        share = picked.sum(axis=3) / total.sum(axis=2)[:, None]
    rates = {
        "demographic_parity": [share],
        "equal_opportunity": [tpr],
        "predictive_equality": [fpr],
        "equalized_odds": [fpr, tpr] if rule.norm == "max" else [fpr + tpr, tpr - fpr],
    }[rule.constraint]
    violation = np.max([np.nanmax(r, axis=2) - np.nanmin(r, axis=2) for r in rates], axis=0)
    return np.stack([loss, violation], axis=2)
