"""Which engineered features a model can make by itself, and which ones would help it on a table.

Paper: An Empirical Analysis of Feature Engineering for Predictive Modeling (Heaton, SoutheastCon 2016).
Original: https://github.com/jeffheaton/papers
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from scipy.stats import t as student
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_X_y

from corrigible._card import Card
from corrigible._core.multiple_tests import corrected
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError

CARD = Card(
    name="feature_synthesis",
    kind="measure",
    obj="feature_synthesis",
    papers=("feat_eng",),
    refs=("heaton2016empirical",),
    source="https://github.com/jeffheaton/papers",
    differs="Any estimators may be studied; the paper's are a neural network, a random forest, boosted trees and a "
    "support vector machine. Errors are in units of the spread of the target on 1000 test rows, not raw on 100, are "
    "averaged over repeats instead of the best of five. Both columns of a ratio and of a difference lie above 0.01. "
    "`engineered_features`, for a table of the user's own, is added.",
    inputs="estimators",
    stochastic=True,
    cost="one fit a feature, estimator and repeat; for `engineered_features` one cross-validation a candidate",
    use_when="Features are to be engineered, and it matters which of them the model would find without help.",
    avoid_when="The study alone is to decide: it is of noiseless functions of independent inputs. Verify on the table.",
    also=("engineered_features", "FEATURES"),
)


Draw = Callable[[np.random.Generator, int], tuple[NDArray[np.floating], NDArray[np.floating]]]


def _uniform(n_inputs: int, low: float, high: float, feature: Callable[..., Any]) -> Draw:
    """Draw independent uniform inputs; the target is the feature."""

    def draw(rng: np.random.Generator, n: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        X = rng.uniform(low, high, size=(n, n_inputs))
        return X, feature(*X.T)

    return draw


def _count(rng: np.random.Generator, n: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Draw a number from 0 to 50, and so many ones among 50 columns."""
    y = rng.integers(51, size=n)
    ranks = rng.uniform(size=(n, 50)).argsort(axis=1).argsort(axis=1)
    return (ranks < y[:, None]).astype(float), y.astype(float)


def _root_distance(rng: np.random.Generator, n: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Draw the three integer coefficients of a quadratic; the target is 0 where it has no two real roots."""
    X = rng.integers(-10, 10, size=(n, 3)).astype(float)
    a, b, c = X.T
    inside = np.maximum(b**2 - 4 * a * c, 0)
    return X, np.divide(np.sqrt(inside), np.abs(a), out=np.zeros(n), where=a != 0)


FEATURES: Mapping[str, Draw] = {
    "count": _count,
    "difference": _uniform(2, 0.01, 1, lambda a, b: a - b),
    "logarithm": _uniform(1, 1, 100, np.log),
    "polynomial": _uniform(1, 0, 2, lambda a: 1 + 5 * a + 8 * a**2),
    "polynomial of a product": _uniform(2, 0, 1, lambda a, b: 2 + 4 * a * b + 5 * (a * b) ** 2),
    "power": _uniform(1, 1, 10, np.square),
    "ratio": _uniform(2, 0.01, 1, lambda a, b: a / b),
    "rational difference": _uniform(4, 1, 10, lambda a, b, c, d: (a - b) / (c - d)),
    "rational polynomial": _uniform(1, 1, 10, lambda a: 1 / (5 * a + 8 * a**2)),
    "rational polynomial of a product": _uniform(2, 0, 1, lambda a, b: 1 / (2 + 4 * a * b + 5 * (a * b) ** 2)),
    "root distance": _root_distance,
    "root": _uniform(1, 1, 100, np.sqrt),
}

_BY = "feature_synthesis"
_ONE: Mapping[str, Callable[..., Any]] = {
    "log": lambda a: np.sign(a) * np.log1p(np.abs(a)),
    "square": np.square,
    "root": lambda a: np.sign(a) * np.sqrt(np.abs(a)),
}
_TWO: Mapping[str, Callable[..., Any]] = {
    "difference": np.subtract,
    "product": np.multiply,
    # A denominator of zero has no ratio; zero is what a linear model reads as "no effect".
    "ratio": lambda a, b: np.divide(a, b, out=np.zeros(len(a)), where=b != 0),
}


def feature_synthesis(
    estimators: Mapping[str, Any],
    *,
    features: Sequence[str] | None = None,
    n_train: int = 2000,
    n_test: int = 1000,
    n_repeats: int = 3,
    rng: Any = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Measure which engineered features models can synthesise from the raw inputs.

    For each feature f of `FEATURES`, inputs x are drawn, the target is ``y = f(x)`` without noise, and
    each estimator is trained on (x, y). The error on fresh rows,

    .. math:: \sqrt{\operatorname{mean} (y - \hat y)^2} \, / \, \operatorname{std}(y),

    is 0 for a model that made the feature by itself, to which it need not be given, and about 1 for one that
    learned nothing.

    Parameters
    ----------
    estimators : mapping of str to regressor
        Models by name; scale inputs within a pipeline where a model needs it.
    features : sequence of str, optional
        Names in `FEATURES`; by default all.
    n_train, n_test : int, default=2000 and 1000
        Rows drawn.
    n_repeats : int, default=3
        Independent draws; the mean is reported.
    rng : int, Generator or None
        Draws rows and seeds.
    n_jobs : int, optional
        Fits in parallel.

    Returns
    -------
    DataFrame
        Relative errors, one row a feature, one column an estimator. Of targets with a heavy tail, as the rational
        difference, it varies much between draws.

    Raises
    ------
    InvalidParameterError
        If a feature is unknown.

    References
    ----------
    .. [1] Heaton, J. (2016). An empirical analysis of feature engineering for predictive modeling. SoutheastCon.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from corrigible.data import feature_synthesis
    >>> table = feature_synthesis({"line": LinearRegression()}, features=["difference", "ratio"], rng=0)
    >>> (table["line"] < 0.1).to_dict()
    {'difference': True, 'ratio': False}
    """
    names = list(FEATURES) if features is None else list(features)
    for name in names:
        check_choice(name, tuple(FEATURES), name="features", by=_BY)
    for value, word in ((n_train, "n_train"), (n_test, "n_test"), (n_repeats, "n_repeats")):
        check_count(value, name=word, by=_BY, low=2 if word != "n_repeats" else 1)
    generator = as_generator(rng)
    tasks = []
    for name, _ in itertools.product(names, range(n_repeats)):
        seed = integer_seed(generator)  # one draw of rows serves all estimators, so that their errors are paired
        tasks += [(model, name, n_train, n_test, seed) for model in estimators.values()]
    errors = np.array(parallel_map(_error, tasks, n_jobs=n_jobs)).reshape(len(names), n_repeats, len(estimators))
    return pd.DataFrame(errors.mean(axis=1), index=pd.Index(names, name="feature"), columns=list(estimators))


def _error(estimator: Any, name: str, n_train: int, n_test: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    X, y = FEATURES[name](rng, n_train + n_test)
    model = seed_estimator(clone(estimator), seed % 2**31)
    predicted = model.fit(X[:n_train], y[:n_train]).predict(X[n_train:])
    truth = y[n_train:]
    return float(np.sqrt(np.mean((truth - predicted) ** 2)) / truth.std())


def engineered_features(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    max_columns: int = 8,
    cv: Any = 5,
    alpha: float = 0.05,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Return which engineered features would help a model on a table, by cross-validation.

    Each candidate (signed logarithm, square and signed root of a column; difference, product and both ratios of a
    pair) is added to the table alone, and the model is scored on the same folds with and without it.

    Parameters
    ----------
    estimator : classifier or regressor
        Scored by its own ``score``: accuracy, or R2.
    X : DataFrame or array-like of shape (n_samples, n_features)
        Numeric columns without empty cells.
    y : array-like of shape (n_samples,)
        Target.
    max_columns : int, default=8
        Take candidates from so many columns: those of largest absolute rank correlation with the target.
    cv : int or splitter, default=5
        As in scikit-learn.
    alpha : float, default=0.05
        Level of the one-sided tests, Holm-corrected over the candidates.
    n_jobs : int, optional
        Candidates in parallel.

    Returns
    -------
    DataFrame
        The best first: ``feature``, mean ``gain`` in score, ``p_value`` (Nadeau and Bengio's corrected t, one-sided,
        of one candidate), and ``helps``, whether it stands after the correction.

    Raises
    ------
    DataError
        If no column varies, or a cell is empty (scikit-learn's ValueError).
    """
    by = "engineered_features"
    check_count(max_columns, name="max_columns", by=by)
    check_number(alpha, name="alpha", by=by, low=0, high=1, closed="neither")
    names = [str(c) for c in getattr(X, "columns", range(np.shape(X)[1]))]
    matrix, target = check_X_y(X, y, dtype=np.float64)
    candidates = _candidates(matrix, names, _strongest(matrix, target, max_columns))
    if not candidates:
        raise DataError(f"'X' of {by} must have a column that varies. All are constant.")
    folds = list(check_cv(cv, target, classifier=is_classifier(estimator)).split(matrix, target))
    tables = [matrix, *(np.column_stack([matrix, new]) for new in candidates.values())]
    scores = np.array(parallel_map(_fold_scores, [(estimator, t, target, folds) for t in tables], n_jobs=n_jobs))
    gains = scores[1:] - scores[0]
    p = _p_values(gains, test_share=1 / len(folds))
    result = pd.DataFrame({"feature": list(candidates), "gain": gains.mean(axis=1), "p_value": p})
    result["helps"] = corrected(p, "holm") <= alpha
    return result.sort_values("gain", ascending=False, kind="stable", ignore_index=True)


def _strongest(X: NDArray[np.floating], y: NDArray[Any], number: int) -> NDArray[np.intp]:
    """Return the columns of largest absolute rank correlation with the target, in their own order."""
    varies = np.flatnonzero(np.ptp(X, axis=0) > 0)
    ranks = rankdata(np.unique(y, return_inverse=True)[1])
    if np.ptp(ranks) == 0:
        return varies[:number]
    strength = [abs(np.corrcoef(rankdata(X[:, j]), ranks)[0, 1]) for j in varies]
    return np.sort(varies[np.argsort(-np.array(strength), kind="stable")[:number]])


def _candidates(
    X: NDArray[np.floating], names: list[str], columns: NDArray[np.intp]
) -> dict[str, NDArray[np.floating]]:
    found = {f"{word}({names[j]})": f(X[:, j]) for j in columns for word, f in _ONE.items()}
    for i, j in itertools.permutations(columns, 2):
        for word, f in _TWO.items():
            if word == "ratio" or i < j:
                found[f"{word}({names[i]}, {names[j]})"] = f(X[:, i], X[:, j])
    return {name: v for name, v in found.items() if np.isfinite(v).all() and np.ptp(v) > 0}


def _fold_scores(estimator: Any, X: NDArray[np.floating], y: NDArray[Any], folds: Any) -> list[float]:
    return [clone(estimator).fit(X[train], y[train]).score(X[test], y[test]) for train, test in folds]


def _p_values(gains: NDArray[np.floating], *, test_share: float) -> NDArray[np.floating]:
    """Test mean gains over folds against zero; training sets overlap, so the variance is enlarged."""
    m = gains.shape[1]
    spread = np.sqrt(gains.var(axis=1, ddof=1) * (1 / m + test_share / (1 - test_share)))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(spread > 0, gains.mean(axis=1) / spread, np.sign(gains.mean(axis=1)) * np.inf)
    return np.asarray(student.sf(np.nan_to_num(statistic, nan=0.0), m - 1))
