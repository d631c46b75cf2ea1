"""Negative flips: what an earlier model got right and its successor gets wrong.

Papers: MUSCLE: A Model Update Strategy for Compatible LLM Evolution (Echterhoff, Faghri, Vemulapalli, Hu, Li,
Tuzel, Pouransari, EMNLP Findings 2024); Positive-Congruent Training: Towards Regression-Free Model Updates (Yan,
Xiong, Kundu, Yang, Deng, Wang, Xia, Soatto, CVPR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binomtest

from corrigible._card import Card
from corrigible._utils.validation import check_number, check_vector
from corrigible.errors import DataError

CARD = Card(
    name="negative_flips",
    kind="measure",
    obj="negative_flips",
    also=("FlipAccumulator", "Flips", "score_flips", "ScoreFlips"),
    papers=("muscle",),
    refs=("echterhoff2024muscle", "yan2021positive"),
    source="",
    differs="The compatibility metrics only, not the training of compatibility adapters. Intervals, the test and "
    "the split by group are ours.",
    inputs="y, old, new",
    stochastic=False,
    cost="O(n)",
    use_when="Before a model is replaced: equal accuracy hides rows that were right and turn wrong.",
    avoid_when="The answers are free text without a notion of equality: compare their scores with score_flips.",
    claims=("accumulates",),
)

_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Flips:
    """Outcome of `negative_flips`.

    Attributes
    ----------
    n : int
        Rows.
    n_both_right, n_negative, n_positive, n_both_wrong : int
        Rows by right before and now, right before only, right now only, never right.
    n_inconsistent : int
        Rows wrong both times with different answers.
    negative_rate, positive_rate : float
        Shares of all rows.
    negative_interval, positive_interval : tuple of float
        Clopper-Pearson intervals of the shares.
    inconsistent_rate : float
        Share of rows wrong both times with different answers.
    negative_or_inconsistent_rate : float
        Share of rows that are wrong now and were answered differently before: negative flips count, and so
        does a wrong answer that replaces another.
    relative_negative_rate : float
        Negative flips over what two independent models of these accuracies would have; NaN if that is 0.
    old_accuracy, new_accuracy : float
        Shares of rows right.
    p_value : float
        Exact McNemar test (two-sided) that negative and positive flips are equally likely.
    negative, positive, inconsistent : ndarray of bool of shape (n,) or None
        The rows themselves; None from an accumulator.
    groups : dict
        The same by group, without rows.
    """

    n: int
    n_both_right: int
    n_negative: int
    n_positive: int
    n_both_wrong: int
    n_inconsistent: int
    negative_rate: float
    positive_rate: float
    negative_interval: tuple[float, float]
    positive_interval: tuple[float, float]
    inconsistent_rate: float
    negative_or_inconsistent_rate: float
    relative_negative_rate: float
    old_accuracy: float
    new_accuracy: float
    p_value: float
    negative: _Bools | None = field(default=None, repr=False)
    positive: _Bools | None = field(default=None, repr=False)
    inconsistent: _Bools | None = field(default=None, repr=False)
    groups: dict[Any, Flips] = field(default_factory=dict, repr=False)


class FlipAccumulator:
    """Count flips batch by batch; `compute` gives what `negative_flips` gives, without the rows.

    Parameters
    ----------
    confidence : float, default=0.95
        Of the intervals.
    """

    def __init__(self, *, confidence: float = 0.95) -> None:
        self.confidence = confidence
        # Rows both right, negative, positive, both wrong with one answer, both wrong with two.
        self.counts = np.zeros(5, dtype=np.int64)

    def update(self, y: ArrayLike, old: ArrayLike, new: ArrayLike) -> Self:
        """Take in a batch: labels and both models' answers, each (n,)."""
        kind = _kinds(*_checked(y, old, new, "FlipAccumulator"))
        self.counts = self.counts + np.bincount(kind, minlength=5)
        return self

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has seen."""
        self.counts = self.counts + other.counts
        return self

    def compute(self) -> Flips:
        """Return the flips of all rows seen."""
        if not self.counts.any():
            raise DataError("FlipAccumulator has seen no rows. Call update first.")
        return Flips(**_summary(self.counts, self.confidence))


def negative_flips(
    y: ArrayLike, old: ArrayLike, new: ArrayLike, *, groups: ArrayLike | None = None, confidence: float = 0.95
) -> Flips:
    """Count the rows that an earlier model got right and the new one gets wrong, and their like.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels, of any type that can be compared: numbers, words, answers.
    old, new : array-like of shape (n,)
        Answers of the earlier and of the new model.
    groups : array-like of shape (n,), optional
        Group of each row; the same is then counted in each.
    confidence : float, default=0.95
        Of the intervals.

    Returns
    -------
    Flips
        Counts, rates with intervals, the test, the rows.

    Raises
    ------
    DataError
        If lengths differ, there are no rows, or a label is missing.

    Notes
    -----
    With r and r' for a row right before and now, the negative flip rate is ``mean(r (1 - r'))`` (Yan et al. 2021);
    the relative rate divides it by ``acc_old (1 - acc_new)``, its expectation if both erred independently. Where
    both are wrong, a user still sees a different answer: MUSCLE counts these inconsistent rows as well.

    References
    ----------
    .. [1] Echterhoff, J. et al. (2024). MUSCLE: A Model Update Strategy for Compatible LLM Evolution. Findings of
       EMNLP.
    .. [2] Yan, S. et al. (2021). Positive-Congruent Training: Towards Regression-Free Model Updates. CVPR.

    Examples
    --------
    >>> from corrigible.compare import negative_flips
    >>> flips = negative_flips(["a", "b", "c", "a"], ["a", "b", "a", "b"], ["b", "b", "b", "a"])
    >>> flips.n_negative, flips.n_positive, flips.n_inconsistent
    (1, 1, 1)
    >>> flips.negative
    array([ True, False, False, False])
    """
    by = "negative_flips"
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    label, before, now = _checked(y, old, new, by)
    kind = _kinds(label, before, now)
    parts: dict[Any, Flips] = {}
    if groups is not None:
        names, codes = np.unique(_column(groups, "groups", by, len(label)), return_inverse=True)
        table = np.bincount(codes * 5 + kind, minlength=5 * len(names)).reshape(-1, 5)
        parts = {g: Flips(**_summary(c, confidence)) for g, c in zip(names.tolist(), table, strict=True)}
    return Flips(
        **_summary(np.bincount(kind, minlength=5), confidence),
        negative=kind == 1, positive=kind == 2, inconsistent=kind == 4, groups=parts,
    )  # fmt: skip


@dataclass(frozen=True)
class ScoreFlips:
    """Outcome of `score_flips`.

    Attributes
    ----------
    regression, gain : float
        Mean loss of score over all rows where the new model scores less; mean gain where it scores more. Their
        difference ``gain - regression`` is the change of the mean score.
    negative_rate, positive_rate : float
        Shares of rows whose score falls, or rises, by more than the tolerance.
    mean_drop, mean_rise : float
        Mean change on those rows; 0 if there are none.
    negative, positive : ndarray of bool of shape (n,)
        Those rows.
    """

    regression: float
    gain: float
    negative_rate: float
    positive_rate: float
    mean_drop: float
    mean_rise: float
    negative: _Bools = field(repr=False)
    positive: _Bools = field(repr=False)


def score_flips(old_score: ArrayLike, new_score: ArrayLike, *, tolerance: float = 0.0) -> ScoreFlips:
    """Return negative and positive flips of answers that are scored, not right or wrong.

    Parameters
    ----------
    old_score, new_score : array-like of shape (n,)
        Scores of the two models' answers, higher better: ROUGE, similarity, log-likelihood of the reference.
    tolerance : float, default=0
        Smallest change that counts as a flip.

    Returns
    -------
    ScoreFlips
        Means, shares and rows.

    Examples
    --------
    >>> from corrigible.compare import score_flips
    >>> flips = score_flips([0.5, 0.5, 0.5, 0.5], [0.25, 0.5, 0.75, 1.0])
    >>> flips.regression, flips.gain, flips.negative_rate
    (0.0625, 0.1875, 0.25)
    """
    by = "score_flips"
    check_number(tolerance, name="tolerance", by=by, low=0)
    before = check_vector(old_score, name="old_score", by=by)
    change = check_vector(new_score, n=len(before), name="new_score", by=by) - before
    fell, rose = change < -tolerance, change > tolerance
    return ScoreFlips(
        regression=float(np.maximum(-change, 0).mean()),
        gain=float(np.maximum(change, 0).mean()),
        negative_rate=float(fell.mean()),
        positive_rate=float(rose.mean()),
        mean_drop=float(-change[fell].mean()) if fell.any() else 0.0,
        mean_rise=float(change[rose].mean()) if rose.any() else 0.0,
        negative=fell,
        positive=rose,
    )


def _column(values: ArrayLike, name: str, by: str, n: int | None = None) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or (n is not None and array.size != n):
        wanted = "and not empty" if n is None else f"of {n} entries, one a row"
        raise DataError(f"{name!r} of {by} must be one-dimensional {wanted}. Got shape {array.shape}.")
    return array


def _checked(y: ArrayLike, old: ArrayLike, new: ArrayLike, by: str) -> tuple[NDArray[Any], ...]:
    label = _column(y, "y", by)
    # NaN equals nothing, not even itself: a missing label would count as wrong both times, and as inconsistent.
    missing = label != label if label.dtype.kind != "O" else np.array([v is None or v != v for v in label])
    if missing.any():
        raise DataError(
            f"'y' of {by} must not be missing. Row {int(missing.argmax())} is {label[missing.argmax()]}."
        )
    return label, _column(old, "old", by, len(label)), _column(new, "new", by, len(label))


def _kinds(y: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.intp]:
    """0 both right, 1 negative, 2 positive, 3 both wrong alike, 4 both wrong and different."""
    was, now = np.asarray(old == y, dtype=bool), np.asarray(new == y, dtype=bool)
    differ = np.asarray(old != new, dtype=bool)
    return np.where(was, np.where(now, 0, 1), np.where(now, 2, np.where(differ, 4, 3))).astype(np.intp)


def _summary(counts: NDArray[np.int64], confidence: float) -> dict[str, Any]:
    right, negative, positive, alike, differ = (int(c) for c in counts)
    n = int(counts.sum())
    independent = (right + negative) / n * (1 - (right + positive) / n)
    flips = negative + positive
    return {
        "n": n, "n_both_right": right, "n_negative": negative, "n_positive": positive,
        "n_both_wrong": alike + differ, "n_inconsistent": differ, "negative_rate": negative / n,
        "positive_rate": positive / n, "negative_interval": _clopper_pearson(negative, n, confidence),
        "positive_interval": _clopper_pearson(positive, n, confidence), "inconsistent_rate": differ / n,
        "negative_or_inconsistent_rate": (negative + differ) / n,
        "relative_negative_rate": negative / n / independent if independent > 0 else float("nan"),
        "old_accuracy": (right + negative) / n, "new_accuracy": (right + positive) / n,
        "p_value": float(binomtest(negative, flips).pvalue) if flips else 1.0,
    }  # fmt: skip


def _clopper_pearson(k: int, n: int, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return low, high
