"""CAPA: chance-adjusted probabilistic agreement of two models' answers to questions with options.

Paper: Great Models Think Alike and this Undermines AI Oversight (Goel, Strüber, Auzina, Chandra, Kumaraguru, Kiela,
Prabhu, Bethge, Geiping, ICML 2025).
Original: https://github.com/model-similarity/lm-similarity
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from corrigible._card import Card
from corrigible._core.simplex import of_label, row_maxima
from corrigible._utils.validation import check_labels, check_number
from corrigible.errors import DataError

CARD = Card(
    name="capa",
    kind="measure",
    obj="capa",
    also=("CapaAccumulator", "Capa", "capa_matrix", "CapaMatrix"),
    papers=("capa",),
    refs=("goel2025great",),
    source="https://github.com/model-similarity/lm-similarity",
    differs="The interval (delta method) is ours. Where both models are certain of every right answer, chance alone "
    "explains full agreement and the value is NaN. The paper's extension to more than two models at once is left "
    "out: `capa_matrix` compares pairs. The equations are those of the authors' code.",
    inputs="proba_a, proba_b, y_true",
    stochastic=False,
    cost="O(n k) a pair; O(m^2 n k) for m models, one matrix product",
    use_when="Two models answer the same questions and one shall judge, check or back up the other: accurate models "
    "agree by chance, so what counts is whether they err alike.",
    avoid_when="The answers have no options in common, as free text: compare right and wrong with agreement.",
    claims=("accumulates",),
    test_params=({}, {"discrete": True}),
)

Floats = NDArray[np.floating]
_SUM_TOLERANCE = 1e-3  # as for all probabilities: six digits of text, or float32, miss 1 by about this much


@dataclass(frozen=True)
class Capa:
    """Outcome of `capa`.

    Attributes
    ----------
    value : float
        kappa_p: 1 for models that always answer alike, 0 for what independent models of these accuracies show, below
        0 where they differ more than that. NaN if chance alone would make them agree always.
    interval : tuple of float
        Delta-method interval of the value, rows taken as independent.
    observed, expected : float
        Probability that the two give the same answer, and its expectation were their errors independent.
    mean_true_a, mean_true_b : float
        Mean probability each gives to the right option.
    mean_inverse_wrong : float
        Mean over rows of one over the number of wrong options.
    accuracy_a, accuracy_b : float
        Shares of rows whose most probable option is right.
    n : int
        Rows.
    """

    value: float
    interval: tuple[float, float]
    observed: float
    expected: float
    mean_true_a: float
    mean_true_b: float
    mean_inverse_wrong: float
    accuracy_a: float
    accuracy_b: float
    n: int


@dataclass(frozen=True)
class CapaMatrix:
    """Outcome of `capa_matrix`; matrices of shape (n_models, n_models), symmetric.

    Attributes
    ----------
    value, observed, expected : ndarray of shape (n_models, n_models)
        As in `Capa`. The diagonal compares a model with another draw of its own answers: below 1 unless it is certain.
    mean_true, accuracy : ndarray of shape (n_models,)
        Mean probability of the right option, and share of rows right.
    n : int
        Rows.
    """

    value: Floats
    observed: Floats = field(repr=False)
    expected: Floats = field(repr=False)
    mean_true: Floats
    accuracy: Floats
    n: int


class CapaAccumulator:
    """Take in rows batch by batch; `compute` gives what `capa` gives on all of them.

    Parameters
    ----------
    discrete : bool, default=False
        Compare the most probable options instead of the probabilities.
    confidence : float, default=0.95
        Of the interval.
    """

    def __init__(self, *, discrete: bool = False, confidence: float = 0.95) -> None:
        self.discrete = discrete
        self.confidence = confidence
        self.n = 0
        self.sums: Floats = np.zeros(6)
        self.products: Floats = np.zeros((4, 4))

    def update(self, proba_a: ArrayLike, proba_b: ArrayLike, y_true: ArrayLike) -> Self:
        """Take in a batch: probabilities of both models, each (n, k), and right options (n,)."""
        parts = _row_parts(proba_a, proba_b, y_true, self.discrete, "CapaAccumulator")
        return self._add(parts.shape[1], parts.sum(axis=1), parts[:4] @ parts[:4].T)

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has seen."""
        return self._add(other.n, other.sums, other.products)

    def compute(self) -> Capa:
        """Return the agreement over all rows seen."""
        check_number(self.confidence, name="confidence", by="CapaAccumulator", low=0, high=1, closed="neither")
        if self.n == 0:
            raise DataError("CapaAccumulator has seen no rows. Call update first.")
        observed, true_a, true_b, inverse, right_a, right_b = (float(s) / self.n for s in self.sums)
        expected = true_a * true_b + inverse * (1 - true_a) * (1 - true_b)
        value = _adjusted(observed, expected)
        error = self._standard_error(expected, value)
        half = float(ndtri((1 + self.confidence) / 2)) * error
        return Capa(
            value=value, interval=(max(value - half, -1.0), min(value + half, 1.0)) if half == half else (half, half),
            observed=observed, expected=expected, mean_true_a=true_a, mean_true_b=true_b, mean_inverse_wrong=inverse,
            accuracy_a=right_a, accuracy_b=right_b, n=self.n,
        )  # fmt: skip

    def _add(self, n: int, sums: Floats, products: Floats) -> Self:
        self.n, self.sums, self.products = self.n + n, self.sums + sums, self.products + products
        return self

    def _standard_error(self, expected: float, value: float) -> float:
        """Delta method: the value is a smooth function of four means over rows."""
        if value != value:
            return float("nan")
        _, a, b, f = mean = self.sums[:4] / self.n
        # d value = (d observed - (1 - value) d expected) / (1 - expected)
        by_expected = np.array([0.0, b - f * (1 - b), a - f * (1 - a), (1 - a) * (1 - b)])
        slope = (np.array([1.0, 0.0, 0.0, 0.0]) - (1 - value) * by_expected) / (1 - expected)
        covariance = self.products / self.n - np.outer(mean, mean)
        return float(np.sqrt(max(float(slope @ covariance @ slope), 0.0) / self.n))


def capa(
    proba_a: ArrayLike,
    proba_b: ArrayLike,
    y_true: ArrayLike,
    *,
    discrete: bool = False,
    confidence: float = 0.95,
) -> Capa:
    """Return how far two models agree beyond what their accuracies explain (kappa_p).

    Parameters
    ----------
    proba_a, proba_b : array-like of shape (n, k)
        Each model's probabilities of the options, rows summing to 1. A row with fewer options has NaN in the same
        columns of both. One-hot rows stand for bare answers.
    y_true : array-like of shape (n,)
        Column of the right option.
    discrete : bool, default=False
        Compare the most probable options (the first of equal ones) instead of the probabilities.
    confidence : float, default=0.95
        Of the interval.

    Returns
    -------
    Capa
        The value with its interval and parts.

    Raises
    ------
    DataError
        If shapes or options differ, a row does not sum to 1, or the right option is not among the row's.

    Notes
    -----
    Observed agreement is ``mean_i sum_o p_a(o | i) p_b(o | i)``. With ``a`` and ``b`` the mean probabilities of the
    right option and ``f`` the mean of ``1 / (k_i - 1)``, agreement by chance is ``a b + f (1 - a)(1 - b)``: what
    models of these accuracies show whose wrong answers fall on the wrong options alike. The value is
    ``(observed - expected) / (1 - expected)``.

    References
    ----------
    .. [1] Goel, S. et al. (2025). Great Models Think Alike and this Undermines AI Oversight. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import capa
    >>> y = [0, 1, 2, 0]
    >>> first = np.eye(3)[[0, 1, 0, 1]]  # two right, two wrong
    >>> capa(first, first, y).value
    1.0
    >>> other = np.eye(3)[[0, 1, 1, 2]]  # the same rows wrong, with other answers
    >>> round(capa(first, other, y).value, 3), capa(first, other, y).expected
    (0.2, 0.375)
    """
    by = "capa"
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    parts = _row_parts(proba_a, proba_b, y_true, discrete, by)
    seen = CapaAccumulator(discrete=discrete, confidence=confidence)
    return seen._add(parts.shape[1], parts.sum(axis=1), parts[:4] @ parts[:4].T).compute()


def capa_matrix(proba: Sequence[ArrayLike] | Floats, y_true: ArrayLike, *, discrete: bool = False) -> CapaMatrix:
    """Return `capa` of every pair of models.

    Parameters
    ----------
    proba : array-like of shape (n_models, n, k)
        Probabilities of each model, as in `capa`.
    y_true : array-like of shape (n,)
        Column of the right option.
    discrete : bool, default=False
        Compare the most probable options.

    Returns
    -------
    CapaMatrix
        Values and parts.

    References
    ----------
    .. [1] Goel, S. et al. (2025). Great Models Think Alike and this Undermines AI Oversight. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import capa_matrix
    >>> answers = np.array([[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 1, 2]])
    >>> capa_matrix(np.eye(3)[answers], [0, 1, 2, 0]).value.round(1)
    array([[1. , 1. , 0.2],
           [1. , 1. , 0.2],
           [0.2, 0.2, 1. ]])
    """
    by = "capa_matrix"
    models = [_options(p, f"proba[{i}]", by) for i, p in enumerate(proba)]
    if not models:
        raise DataError(f"{by} needs at least one model. Got none.")
    first = models[0][1]
    for i, (_, there) in enumerate(models):
        _check_same(first, there, f"proba[{i}]", "proba[0]", by)
    y = _right(y_true, first, by)
    answers = np.stack([_one_hot(p, there) if discrete else p for p, there in models])
    rows = np.arange(len(y))
    true = answers[:, rows, y].mean(axis=1)
    accuracy = np.array([(_best(p, there) == y).mean() for p, there in models])
    flat = answers.reshape(len(models), -1)
    observed = flat @ flat.T / len(y)
    inverse = float((1 / (first.sum(axis=1) - 1)).mean())
    expected = np.outer(true, true) + inverse * np.outer(1 - true, 1 - true)
    left = 1 - expected
    value = np.divide(observed - expected, left, out=np.full(left.shape, np.nan), where=left > 1e-12)
    return CapaMatrix(value, observed, expected, true, accuracy, len(y))


def _adjusted(observed: float, expected: float) -> float:
    # Within rounding of full chance agreement the quotient is noise over noise.
    return (observed - expected) / (1 - expected) if 1 - expected > 1e-12 else float("nan")


def _row_parts(proba_a: ArrayLike, proba_b: ArrayLike, y_true: ArrayLike, discrete: bool, by: str) -> Floats:
    """Rows (6, n): overlap, both probabilities of the right option, 1 / (k - 1), both right or not."""
    a, there = _options(proba_a, "proba_a", by)
    b, there_b = _options(proba_b, "proba_b", by)
    _check_same(there, there_b, "proba_b", "proba_a", by)
    y = _right(y_true, there, by)
    best_a, best_b = _best(a, there), _best(b, there)
    if discrete:
        a, b = _one_hot(a, there), _one_hot(b, there)
    parts = np.empty((6, len(y)))
    parts[0] = np.einsum("ij,ij->i", a, b)
    parts[1], parts[2] = of_label(a, y), of_label(b, y)
    parts[3] = 1 / (there.sum(axis=1) - 1)
    parts[4], parts[5] = best_a == y, best_b == y
    return parts


def _options(proba: ArrayLike, name: str, by: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Return probabilities with 0 for options that a row does not have, and which it has."""
    try:
        p = np.asarray(proba, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name!r} of {by} must be a matrix of numbers. Got {type(proba).__name__}: {error}."
        ) from None
    if p.ndim != 2 or p.shape[0] == 0 or p.shape[1] < 2:
        raise DataError(f"{name!r} of {by} must have shape (n, k) with a row and two options. Got shape {p.shape}.")
    there = ~np.isnan(p)
    p = p if there.all() else np.where(there, p, 0.0)
    bad = (there.sum(axis=1) < 2) | (p < 0).any(axis=1) | ~(np.abs(p.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"Each row of {name!r} of {by} must hold probabilities of two options or more that sum to 1 within "
            f"{_SUM_TOLERANCE:g}. Row {row} is {np.where(there[row], p[row], np.nan)[:6].tolist()}."
        )
    return p, there


def _check_same(first: NDArray[np.bool_], there: NDArray[np.bool_], name: str, other: str, by: str) -> None:
    if first.shape != there.shape:
        raise DataError(f"{name!r} of {by} must have the shape of {other!r}, {first.shape}. Got {there.shape}.")
    differ = (first != there).any(axis=1)
    if differ.any():
        raise DataError(
            f"{name!r} and {other!r} of {by} must have NaN, for options a row lacks, in the same places. "
            f"Row {int(differ.argmax())} differs."
        )


def _right(y_true: ArrayLike, there: NDArray[np.bool_], by: str) -> NDArray[np.intp]:
    y = check_labels(y_true, n=there.shape[0], n_classes=there.shape[1], name="y_true", by=by)
    lacks = ~there[np.arange(len(y)), y]
    if lacks.any():
        raise DataError(f"'y_true' of {by} must name an option the row has. Row {int(lacks.argmax())} lacks it.")
    return y


def _best(p: Floats, there: NDArray[np.bool_]) -> NDArray[np.intp]:
    return row_maxima(p if there.all() else np.where(there, p, -1.0))[0]


def _one_hot(p: Floats, there: NDArray[np.bool_]) -> Floats:
    return np.asarray(_best(p, there)[:, None] == np.arange(p.shape[1]), dtype=np.float64)
