"""Judge bias: whether a judge model scores others higher the more they resemble it, at equal accuracy.

Paper: Great Models Think Alike and this Undermines AI Oversight (Goel, Strüber, Auzina, Chandra, Kumaraguru, Kiela,
Prabhu, Bethge, Geiping, ICML 2025), section on language models as judges.
Original: https://github.com/model-similarity/lm-similarity
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from corrigible._card import Card
from corrigible._utils.validation import check_number, check_vector
from corrigible.errors import DataError

CARD = Card(
    name="judge_bias",
    kind="measure",
    obj="judge_bias",
    also=("JudgeBias",),
    papers=("capa",),
    refs=("goel2025great",),
    source="https://github.com/model-similarity/lm-similarity",
    differs="",
    inputs="score, similarity, accuracy",
    stochastic=False,
    cost="O(n) for n models judged",
    use_when="One model scores others, and how alike they are to it (capa) and how accurate is known.",
    avoid_when="Fewer than about ten models are judged, or accuracy is itself known only roughly: what its error "
    "leaves over is then taken for bias.",
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class JudgeBias:
    """Outcome of `judge_bias`.

    Attributes
    ----------
    partial_correlation : float
        Correlation of score and similarity, both freed of accuracy; NaN if accuracy fixes either of them.
    interval : tuple of float
        Its Fisher-z interval.
    p_value : float
        t test (two-sided) that it is zero; the same test says whether the similarity's coefficient is zero.
    correlation : float
        Of score and similarity, without control.
    similarity_effect : float
        Least-squares coefficient of similarity beside accuracy: score points for one unit of similarity.
    effect_interval : tuple of float
        Its t interval.
    accuracy_effect : ndarray of shape (n_controls,)
        Coefficients of the controls.
    r2 : float
        Variance of the score that the regression explains.
    normality_p_value, homoscedasticity_p_value : float
        Shapiro-Wilk test of the residuals, and Breusch-Pagan test of their variance: small values put the p-value
        and the intervals in doubt.
    n : int
        Models judged.
    """

    partial_correlation: float
    interval: tuple[float, float]
    p_value: float
    correlation: float
    similarity_effect: float
    effect_interval: tuple[float, float]
    accuracy_effect: Floats
    r2: float
    normality_p_value: float
    homoscedasticity_p_value: float
    n: int


def judge_bias(
    score: ArrayLike, similarity: ArrayLike, accuracy: ArrayLike, *, confidence: float = 0.95
) -> JudgeBias:
    """Return how a judge's scores of models depend on their similarity to it, their accuracy held fixed.

    Parameters
    ----------
    score : array-like of shape (n,)
        The judge's score of each model, such as the share of its answers called right.
    similarity : array-like of shape (n,)
        Similarity of each model and the judge, such as the value of `capa`.
    accuracy : array-like of shape (n,) or (n, n_controls)
        True accuracy of each model, or several things to hold fixed.
    confidence : float, default=0.95
        Of the intervals.

    Returns
    -------
    JudgeBias
        Partial correlation and regression, with tests of their assumptions.

    Raises
    ------
    DataError
        If lengths differ, values are not finite, or there are fewer than four models beyond the controls.

    Notes
    -----
    Similar models are often accurate ones, and accurate models earn higher scores; the plain correlation mixes both.
    With ``e_s`` and ``e_k`` the residuals of score and similarity after least squares on the controls, the partial
    correlation is ``e_s e_k / (|e_s| |e_k|)``.

    References
    ----------
    .. [1] Goel, S. et al. (2025). Great Models Think Alike and this Undermines AI Oversight. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import judge_bias
    >>> rng = np.random.default_rng(0)
    >>> accuracy = rng.uniform(0.3, 0.9, size=60)
    >>> similarity = 0.5 * accuracy + 0.1 * rng.normal(size=60)
    >>> fair = judge_bias(accuracy + 0.05 * rng.normal(size=60), similarity, accuracy)
    >>> biased = judge_bias(accuracy + 0.5 * similarity + 0.05 * rng.normal(size=60), similarity, accuracy)
    >>> fair.correlation > 0.5, fair.p_value > 0.05, biased.p_value < 0.001
    (True, True, True)
    """
    by = "judge_bias"
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    s, k, controls = _checked(score, similarity, accuracy, by)
    n, q = controls.shape
    base = np.column_stack([np.ones(n), controls])
    free_s, free_k = _residual(base, s), _residual(base, k)
    r = _cosine(free_s, free_k, s, k)
    design = np.column_stack([base, k])
    coefficients = np.linalg.lstsq(design, s, rcond=None)[0]
    left = s - design @ coefficients
    freedom = n - q - 2
    # Frisch-Waugh: the coefficient beside the controls is that of the residuals.
    effect = float(free_s @ free_k / (free_k @ free_k)) if r == r else float("nan")
    error = float(np.sqrt(left @ left / freedom / (free_k @ free_k))) if r == r else float("nan")
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    total = float(((s - s.mean()) ** 2).sum())
    return JudgeBias(
        partial_correlation=r, interval=_fisher(r, n - q, confidence), p_value=_t_test(r, freedom),
        correlation=_cosine(s - s.mean(), k - k.mean(), s, k), similarity_effect=effect,
        effect_interval=(effect - half, effect + half), accuracy_effect=coefficients[1:-1],
        r2=1 - float(left @ left) / total if total > 0 else float("nan"),
        normality_p_value=float(stats.shapiro(left).pvalue) if np.ptp(left) > 0 else float("nan"),
        homoscedasticity_p_value=_breusch_pagan(left, design), n=n,
    )  # fmt: skip


def _checked(
    score: ArrayLike, similarity: ArrayLike, accuracy: ArrayLike, by: str
) -> tuple[Floats, Floats, Floats]:
    s = check_vector(score, name="score", by=by).astype(np.float64)
    k = check_vector(similarity, n=len(s), name="similarity", by=by).astype(np.float64)
    columns = np.asarray(accuracy)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or len(columns) != len(s):
        raise DataError(
            f"'accuracy' of {by} must have shape ({len(s)},) or ({len(s)}, n_controls). Got {np.shape(accuracy)}."
        )
    controls = np.column_stack([check_vector(c, name="accuracy", by=by) for c in columns.T]).astype(np.float64)
    if len(s) < controls.shape[1] + 4:
        raise DataError(
            f"{by} needs at least {controls.shape[1] + 4} models, four beyond the controls. Got {len(s)}."
        )
    return s, k, controls


def _residual(base: Floats, values: Floats) -> Floats:
    return np.asarray(values - base @ np.linalg.lstsq(base, values, rcond=None)[0])


def _cosine(a: Floats, b: Floats, whole_a: Floats, whole_b: Floats) -> float:
    """Cosine of two residuals; NaN if either is no more than the rounding of what it was taken from."""
    size_a, size_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if size_a <= 1e-10 * np.linalg.norm(whole_a) or size_b <= 1e-10 * np.linalg.norm(whole_b):
        return float("nan")
    return float(np.clip((a / size_a) @ (b / size_b), -1.0, 1.0))


def _fisher(r: float, n: int, confidence: float) -> tuple[float, float]:
    if r != r or abs(r) == 1:
        return r, r
    half = float(stats.norm.ppf((1 + confidence) / 2)) / np.sqrt(n - 3)
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def _t_test(r: float, freedom: int) -> float:
    if r != r or abs(r) == 1:
        return r if r != r else 0.0
    return float(2 * stats.t.sf(abs(r) * np.sqrt(freedom / (1 - r**2)), freedom))


def _breusch_pagan(left: Floats, design: Floats) -> float:
    """Studentised test: n R2 of the squared residuals on the design is chi-squared."""
    squared = left**2
    about = squared - squared.mean()
    total = float(about @ about)
    if total == 0:
        return float("nan")
    unexplained = _residual(design, squared)
    return float(stats.chi2.sf(len(left) * (1 - float(unexplained @ unexplained) / total), design.shape[1] - 1))
