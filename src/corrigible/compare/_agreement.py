"""Agreement of two models' answers, corrected for chance: Cohen, Scott, error consistency, error overlap.

Papers: A Coefficient of Agreement for Nominal Scales (Cohen 1960); Reliability of Content Analysis (Scott 1955); Large
Sample Standard Errors of Kappa and Weighted Kappa (Fleiss, Cohen, Everitt 1969); Beyond Accuracy: Quantifying
Trial-by-Trial Behaviour of CNNs and Humans by Measuring Error Consistency (Geirhos, Meding, Wichmann, NeurIPS 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import infer_dtype
from scipy.special import betaincinv, ndtri
from scipy.stats import fisher_exact

from corrigible._card import Card
from corrigible._utils.validation import check_number, check_vector
from corrigible.errors import DataError

CARD = Card(
    name="agreement",
    kind="measure",
    obj="agreement",
    also=("AgreementAccumulator", "Agreement"),
    papers=(),
    refs=("cohen1960coefficient", "scott1955reliability", "fleiss1969large", "geirhos2020beyond"),
    source="",
    differs="Error consistency has a delta-method interval and an exact test of independent errors, where its authors "
    "simulate bounds of independent models.",
    inputs="pred_a, pred_b, y_true",
    stochastic=False,
    cost="O(n log n)",
    use_when="Two models' answers are compared without probabilities, or they are free text that can only be equal, "
    "right or wrong.",
    avoid_when="Probabilities of the options are at hand: capa uses them, and tells different wrong answers apart.",
    claims=("accumulates",),
)

Floats = NDArray[np.floating]
_Interval = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """Outcome of `agreement`. What is corrected is NaN where chance alone explains all.

    Attributes
    ----------
    n : int
        Rows.
    raw : float
        Share of rows answered alike.
    cohen_kappa, scott_pi : float
        The same corrected for agreement by chance: answers drawn from each model's own shares of answers, or from
        the two models' mean shares.
    error_consistency : float
        Cohen's kappa of being right: 0 if the two err independently, 1 if on the same rows.
    error_overlap : float
        Rows both get wrong among rows either gets wrong; NaN without errors.
    same_error : float
        Rows with the same wrong answer among rows both get wrong; NaN if there are none.
    raw_interval, cohen_interval, scott_interval, consistency_interval, overlap_interval, same_error_interval : tuple
        Intervals: Clopper-Pearson of the shares, delta method of the others (for Cohen's kappa that of Fleiss, Cohen
        and Everitt).
    expected_cohen, expected_scott, expected_consistency : float
        Agreement by chance that each correction takes away.
    accuracy_a, accuracy_b : float
        Shares of rows right.
    p_value : float
        Fisher's exact test (two-sided) that the two err independently.
    """

    n: int
    raw: float
    cohen_kappa: float
    scott_pi: float
    error_consistency: float
    error_overlap: float
    same_error: float
    raw_interval: _Interval
    cohen_interval: _Interval
    scott_interval: _Interval
    consistency_interval: _Interval
    overlap_interval: _Interval
    same_error_interval: _Interval
    expected_cohen: float
    expected_scott: float
    expected_consistency: float
    accuracy_a: float
    accuracy_b: float
    p_value: float


class AgreementAccumulator:
    """Take in rows batch by batch; `compute` gives what `agreement` gives on all of them.

    Parameters
    ----------
    confidence : float, default=0.95
        Of the intervals.
    """

    def __init__(self, *, confidence: float = 0.95) -> None:
        self.confidence = confidence
        self.counts: dict[tuple[Any, Any, bool, bool], int] = {}

    def update(
        self, pred_a: ArrayLike, pred_b: ArrayLike, y_true: ArrayLike, counts: ArrayLike | None = None
    ) -> Self:
        """Take in a batch: both models' answers, the right ones, and how often each row was seen (once), each (n,)."""
        a, b, y = _checked(pred_a, pred_b, y_true, "AgreementAccumulator")
        return self._add(_cells(a, b, y, None if counts is None else _counts(counts, len(y))))

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has seen."""
        return self._add(other.counts)

    def compute(self) -> Agreement:
        """Return the agreement over all rows seen."""
        by = "AgreementAccumulator"
        check_number(self.confidence, name="confidence", by=by, low=0, high=1, closed="neither")
        if not self.counts:
            raise DataError(f"{by} has seen no rows. Call update first.")
        names = {answer: i for i, answer in enumerate({v for cell in self.counts for v in cell[:2]})}
        a, b = (np.array([names[cell[side]] for cell in self.counts]) for side in (0, 1))
        right_a, right_b = (np.array([cell[side] for cell in self.counts], dtype=np.intp) for side in (2, 3))
        return _summary(a, b, right_a, right_b, np.array(list(self.counts.values())), self.confidence)

    def _add(self, counts: dict[tuple[Any, Any, bool, bool], int]) -> Self:
        self.counts = self.counts | {cell: self.counts.get(cell, 0) + count for cell, count in counts.items()}
        return self


def agreement(pred_a: ArrayLike, pred_b: ArrayLike, y_true: ArrayLike, *, confidence: float = 0.95) -> Agreement:
    """Return how far two models answer alike, and err alike, with corrections for chance.

    Parameters
    ----------
    pred_a, pred_b : array-like of shape (n,)
        Answers of the two models: numbers or words.
    y_true : array-like of shape (n,)
        Right answers.
    confidence : float, default=0.95
        Of the intervals.

    Returns
    -------
    Agreement
        Measures with intervals.

    Raises
    ------
    DataError
        If lengths differ, there are no rows, a right answer is missing, or numbers are mixed with words.

    Notes
    -----
    Each coefficient is ``(observed - expected) / (1 - expected)``. Expected is ``sum_k a_k b_k`` for Cohen's kappa,
    with ``a`` and ``b`` the models' shares of answers, ``sum_k ((a_k + b_k) / 2)^2`` for Scott's pi, and
    ``r_a r_b + (1 - r_a)(1 - r_b)`` for error consistency, with ``r`` the accuracies.

    References
    ----------
    .. [1] Cohen, J. (1960). A Coefficient of Agreement for Nominal Scales. Educational and Psychological Measurement.
    .. [2] Scott, W. A. (1955). Reliability of Content Analysis: The Case of Nominal Scale Coding. Public Opinion
       Quarterly.
    .. [3] Geirhos, R., Meding, K. and Wichmann, F. A. (2020). Beyond Accuracy: Quantifying Trial-by-Trial Behaviour
       of CNNs and Humans by Measuring Error Consistency. NeurIPS.

    Examples
    --------
    >>> from corrigible.compare import agreement
    >>> found = agreement(["a", "b", "a", "b"], ["a", "b", "c", "a"], ["a", "b", "c", "c"])
    >>> found.raw, round(found.error_consistency, 3), found.error_overlap, found.same_error
    (0.5, 0.5, 0.5, 0.0)
    """
    by = "agreement"
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    a, b, y = _checked(pred_a, pred_b, y_true, by)
    codes = np.unique(np.concatenate([a, b]), return_inverse=True)[1]
    right_a, right_b = (a == y).astype(np.intp), (b == y).astype(np.intp)
    return _summary(codes[: len(a)], codes[len(a) :], right_a, right_b, np.ones(len(a), dtype=np.intp), confidence)


def _checked(pred_a: ArrayLike, pred_b: ArrayLike, y_true: ArrayLike, by: str) -> list[NDArray[Any]]:
    columns = {"pred_a": np.asarray(pred_a), "pred_b": np.asarray(pred_b), "y_true": np.asarray(y_true)}
    n = columns["y_true"].size
    for name, values in columns.items():
        if values.ndim != 1 or values.size != n or n == 0:
            raise DataError(
                f"{name!r} of {by} must be one-dimensional, not empty and as long as 'y_true'. Got shape {values.shape}."
            )
        if values.dtype.kind not in "biufUO":
            raise DataError(f"{name!r} of {by} must hold numbers or words. Got dtype {values.dtype}.")
        missing = pd.isna(values)
        if missing.any():
            raise DataError(
                f"{name!r} of {by} must not be missing. Row {int(missing.argmax())} is. Give such answers a name."
            )
    words = [infer_dtype(values, skipna=False) == "string" for values in columns.values()]
    if any(words) != all(words):
        raise DataError(f"'pred_a', 'pred_b' and 'y_true' of {by} must all hold numbers, or all words. Got both.")
    return list(columns.values())


def _counts(counts: ArrayLike, n: int) -> NDArray[np.intp]:
    by = "AgreementAccumulator"
    found = check_vector(counts, n=n, name="counts", by=by, minimum=0)
    if (found != np.floor(found)).any():
        raise DataError(
            f"'counts' of {by} must be whole numbers. Got {found[(found != np.floor(found)).argmax()]}."
        )
    return found.astype(np.intp)


def _cells(
    a: NDArray[Any], b: NDArray[Any], y: NDArray[Any], seen: NDArray[np.intp] | None
) -> dict[tuple[Any, Any, bool, bool], int]:
    codes, answers = pd.factorize(np.concatenate([a, b]))
    codes_a, codes_b = np.split(codes, 2)
    right_a, right_b = (np.asarray(v == y, dtype=bool) for v in (a, b))
    key = (codes_a * len(answers) + codes_b) * 4 + 2 * right_a + right_b
    if seen is None:
        keys, counts = np.unique(key, return_counts=True)
    else:
        keys, cell = np.unique(key, return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.intp)
        np.add.at(counts, cell, seen)
    names = np.asarray(answers).tolist()
    return {
        (names[k // 4 // len(names)], names[k // 4 % len(names)], bool(k & 2), bool(k & 1)): c
        for k, c in zip(keys.tolist(), counts.tolist(), strict=True)
    }


def _summary(
    a: NDArray[np.intp],
    b: NDArray[np.intp],
    right_a: NDArray[np.intp],
    right_b: NDArray[np.intp],
    counts: NDArray[np.intp],
    confidence: float,
) -> Agreement:
    """All measures of cells: their answers and rightness, and the rows in each."""
    n = int(counts.sum())
    cohen = _corrected(a, b, counts, confidence, pooled=False)
    scott = _corrected(a, b, counts, confidence, pooled=True)
    consistency = _corrected(right_a, right_b, counts, confidence, pooled=False)
    table = np.bincount(2 * right_a + right_b, weights=counts, minlength=4).reshape(2, 2)
    both, either = int(table[0, 0]), n - int(table[1, 1])
    alike = int(counts[(a == b) & (right_a == 0) & (right_b == 0)].sum())
    same = int(counts[a == b].sum())
    return Agreement(
        n=n, raw=same / n, cohen_kappa=cohen[0], scott_pi=scott[0], error_consistency=consistency[0],
        error_overlap=both / either if either else float("nan"), same_error=alike / both if both else float("nan"),
        raw_interval=_share_interval(same, n, confidence), cohen_interval=cohen[1], scott_interval=scott[1],
        consistency_interval=consistency[1], overlap_interval=_share_interval(both, either, confidence),
        same_error_interval=_share_interval(alike, both, confidence), expected_cohen=cohen[2],
        expected_scott=scott[2], expected_consistency=consistency[2], accuracy_a=float(table[1].sum()) / n,
        accuracy_b=float(table[:, 1].sum()) / n, p_value=float(fisher_exact(table.astype(np.int64))[1]),
    )  # fmt: skip


def _corrected(
    a: NDArray[np.intp], b: NDArray[np.intp], counts: NDArray[np.intp], confidence: float, *, pooled: bool
) -> tuple[float, _Interval, float]:
    """Kappa (or pi, if the shares are pooled) of weighted cells, its delta-method interval, expected agreement."""
    n, k = counts.sum(), int(max(a.max(), b.max())) + 1
    share_a = np.bincount(a, weights=counts, minlength=k) / n
    share_b = np.bincount(b, weights=counts, minlength=k) / n
    if pooled:
        share_a = share_b = (share_a + share_b) / 2
    expected = float(share_a @ share_b)
    if 1 - expected < 1e-12:
        return float("nan"), (float("nan"), float("nan")), expected
    value = (float(counts[a == b].sum() / n) - expected) / (1 - expected)
    # What one more row of a cell adds: to agreement if it agrees, and to expected agreement through both shares.
    slope = ((a == b) - (1 - value) * (share_b[a] + share_a[b])) / (1 - expected)
    weight = counts / n
    variance = max(float(weight @ slope**2 - (weight @ slope) ** 2), 0.0) / n
    half = float(ndtri((1 + confidence) / 2) * np.sqrt(variance))
    return value, (max(value - half, -1.0), min(value + half, 1.0)), expected


def _share_interval(k: int, n: int, confidence: float) -> _Interval:
    """Clopper-Pearson interval of a share; NaN of nothing."""
    if n == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high
