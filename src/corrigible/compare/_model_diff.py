"""What two learning algorithms do differently with the same training rows.

Paper: ModelDiff: A Framework for Comparing Learning Algorithms (Shah, Park, Ilyas, Madry, ICML 2023).
Original: https://github.com/MadryLab/modeldiff
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.datamodels import datamodels
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_gaps, check_number
from corrigible.errors import DataError

CARD = Card(
    name="model_diff",
    kind="estimator",
    obj="ModelDiff",
    also=("TransformationEffect", "transformation_effect"),
    papers=("modeldiff",),
    refs=("shah2023modeldiff", "ilyas2022datamodels"),
    source="https://github.com/MadryLab/modeldiff",
    differs="Any estimator instead of deep networks, so hundreds of subsets instead of tens of thousands. Datamodels "
    "come from a batched LASSO or from ridge regression; the repository's TRAK scores are not part of this. Subsets "
    "in which a class is absent are drawn anew. Datamodels are scaled to length 1 before the residual is taken.",
    inputs="X, y classes",
    stochastic=True,
    cost="2 n_models fits; O(n_models n t) an iteration of the regressions for n training and t test rows; "
    "8 n t bytes an algorithm",
    use_when="Two ways of training score alike and it matters in what they differ: augmentation, features, learners.",
    avoid_when="A model costs much to train: hundreds of them are needed.",
    test_params=(
        {"estimator_b": "new:sklearn.naive_bayes.GaussianNB", "n_models": 10, "n_components": 2},
        {"estimator_b": "new:sklearn.naive_bayes.GaussianNB", "n_models": 10, "penalty": "ridge"},
    ),
)

Floats = NDArray[np.floating]
_Bools = NDArray[np.bool_]
Algorithm = Any  # an estimator, or a function of a seed that returns one
# Trees answer with probabilities of exactly 0 and 1; beyond these log-odds a margin says no more.
_SMALLEST = 1e-4
_SIDES = ("a", "b")


class ModelDiff(BaseEstimator):
    """Compare two learning algorithms by how their predictions depend on the training rows.

    Both algorithms are trained on the same random subsets of the rows. For each algorithm and test row, the *datamodel*
    is the vector of coefficients of a sparse linear regression of the model's output on the indicator of the subset:
    what each training row adds to the prediction. With datamodels of length 1, the *residual* datamodel
    ``a - (a . b) b`` holds what the first algorithm takes from the rows and the second does not; the principal
    components of these residuals over the test rows are *distinguishing training directions*. The test rows furthest
    along a direction form a subpopulation; whoever looks at it proposes a transformation of the features, and
    `transformation_effect` tests it.

    Parameters
    ----------
    estimator_a, estimator_b : estimator or callable, optional
        The algorithms: scikit-learn estimators, cloned and seeded for each subset, or functions of an integer seed
        that return a new estimator. Default: a scaled logistic regression, and extremely randomised trees.
    share : float, default=0.5
        Share of the training rows in a subset.
    n_models : int, default=500
        Subsets, so trainings of each algorithm. A fifth of them chooses the strength of the penalty.
    penalty : {"l1", "ridge"}, default="l1"
        LASSO as in the paper, or ridge regression, which is faster and keeps many small coefficients.
    n_components : int, default=5
        Directions of each algorithm.
    random_state : None, int, Generator or RandomState
        Source of the subsets and of the algorithms' seeds.
    n_jobs : int, optional
        Models trained at once.

    Attributes
    ----------
    datamodels_a_, datamodels_b_ : ndarray of shape (n_test, n_train)
        Coefficients in units of the output: margins (log-odds of the true class against the likeliest other one) of
        a classifier, predictions of a regressor.
    correlation_a_, correlation_b_ : ndarray of shape (n_test,)
        Correlation of a datamodel's prediction with the output, over subsets that it was not fitted on; near 0 the
        datamodel says nothing, and more models are needed. NaN where the output never varies.
    similarity_ : ndarray of shape (n_test,)
        Cosine of the two datamodels of each test row.
    directions_a_, directions_b_ : ndarray of shape (n_components, n_train)
        Directions that matter to one algorithm and not to the other, of length 1, or 0 if nothing is left. Their
        sign is such that the projections' longer tail is positive.
    projections_a_, projections_b_ : ndarray of shape (n_test, n_components)
        Projections of the centred residual datamodels.
    explained_variance_a_, explained_variance_b_ : ndarray of shape (2, n_components)
        Variance of the datamodels of length 1 of both algorithms, first that of `estimator_a`, along the directions.
    masks_ : ndarray of shape (n_models, n_train)
        The subsets.
    classes_ : ndarray of shape (n_classes,) or None
        Classes; None for regressors.

    Notes
    -----
    A direction is found in noise, too, and explains the variance of the algorithm that it was found in: two runs of
    one unstable learner differ as much. Neither a direction nor its variance is evidence of a difference until
    `transformation_effect` confirms what was read off it.

    References
    ----------
    .. [1] Shah, H., Park, S. M., Ilyas, A. and Madry, A. (2023). ModelDiff: A Framework for Comparing Learning
       Algorithms. ICML.
    .. [2] Ilyas, A., Park, S. M., Engstrom, L., Leclerc, G. and Madry, A. (2022). Datamodels: Predicting Predictions
       from Training Data. ICML.

    Examples
    --------
    The second algorithm does not see the last column:

    >>> import numpy as np
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from corrigible.compare import ModelDiff
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.normal(size=120), rng.uniform(size=120) < 0.2])
    >>> y = ((X[:, 0] > 0) | (X[:, 1] > 0)).astype(int)
    >>> blind = make_pipeline(make_column_transformer(("passthrough", [0])), LogisticRegression())
    >>> diff = ModelDiff(LogisticRegression(), blind, n_models=200, random_state=0).fit(X[:60], y[:60], X[60:], y[60:])
    >>> rows = diff.subpopulation(n_rows=5)
    >>> X[60:][rows, 1]
    array([1., 1., 1., 1., 1.])
    """

    def __init__(
        self,
        estimator_a: Algorithm = None,
        estimator_b: Algorithm = None,
        *,
        share: float = 0.5,
        n_models: int = 500,
        penalty: str = "l1",
        n_components: int = 5,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator_a = estimator_a
        self.estimator_b = estimator_b
        self.share = share
        self.n_models = n_models
        self.penalty = penalty
        self.n_components = n_components
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_test: ArrayLike | None = None, y_test: ArrayLike | None = None
    ) -> Self:
        """Train both algorithms on subsets and find the directions in which they differ.

        Parameters
        ----------
        X : array-like of shape (n_train, n_features)
            Training rows.
        y : array-like of shape (n_train,)
            Their labels, or numbers if the algorithms are regressors.
        X_test, y_test : array-like of shape (n_test, n_features) and (n_test,), optional
            Rows whose predictions are explained; by default the training rows.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If random subsets do not hold every class.
        """
        self._check()
        algorithms = _defaults(self.estimator_a, self.estimator_b)
        numeric = is_regressor(_made(algorithms[0], 0))
        rows, labels = check_gaps(self, X, y, numeric=numeric, gaps=False)
        self.classes_: NDArray[Any] | None
        self.classes_, codes = (None, np.asarray(labels, dtype=float)) if numeric else _encoded(labels)
        task = _Task(rows, labels, codes, *self._targets(rows, codes, X_test, y_test), self.classes_)
        rng = as_generator(self.random_state)
        self.masks_ = _subsets(codes, self.classes_, self.share, self.n_models, rng)
        seeds = [[integer_seed(rng) for _ in range(self.n_models)] for _ in _SIDES]
        jobs = [(a, task, m, s) for a, each in zip(algorithms, seeds, strict=True)
                for m, s in zip(self.masks_, each, strict=True)]  # fmt: skip
        outputs = np.stack(parallel_map(_subset_outputs, jobs, n_jobs=self.n_jobs))
        halves = outputs[: self.n_models], outputs[self.n_models :]
        (self.datamodels_a_, self.correlation_a_), (self.datamodels_b_, self.correlation_b_) = (
            datamodels(self.masks_, o, self.penalty) for o in halves
        )
        self._compare()
        return self

    def _check(self) -> None:
        by = "ModelDiff"
        check_number(self.share, name="share", by=by, low=0.0, high=1.0, closed="neither")
        check_count(self.n_models, name="n_models", by=by, low=10)
        check_count(self.n_components, name="n_components", by=by)
        check_choice(self.penalty, ("l1", "ridge"), name="penalty", by=by)

    def _targets(self, X: Floats, codes: NDArray[Any], X_test: Any, y_test: Any) -> tuple[Floats, NDArray[Any]]:
        if X_test is None:
            return X, codes
        rows = check_gaps(self, X_test, reset=False, gaps=False)
        labels = codes[:0] if y_test is None else np.asarray(y_test)
        if labels.shape != (len(rows),):
            raise DataError(f"'y_test' of ModelDiff must have {len(rows)} entries, one a row. Got {labels.shape}.")
        return rows, labels.astype(float) if self.classes_ is None else _codes(labels, self.classes_, "ModelDiff")

    def _compare(self) -> None:
        """Residuals, directions and variances, from the datamodels."""
        a, b = _unit(self.datamodels_a_), _unit(self.datamodels_b_)
        self.similarity_ = (a * b).sum(axis=1)
        for side, own, other in (("a", a, b), ("b", b, a)):
            residual = own - (own * other).sum(axis=1, keepdims=True) * other
            directions, projections = _principal(residual, self.n_components)
            variance = [np.var(x @ directions.T, axis=0) for x in (a, b)]
            setattr(self, f"directions_{side}_", directions)
            setattr(self, f"projections_{side}_", projections)
            setattr(self, f"explained_variance_{side}_", np.stack(variance))

    def subpopulation(
        self, component: int = 0, *, of: str = "a", n_rows: int = 10, positive: bool = True
    ) -> NDArray[np.intp]:
        """Return the test rows furthest along a distinguishing direction.

        Parameters
        ----------
        component : int, default=0
            Number of the direction.
        of : {"a", "b"}, default="a"
            Whose direction: that of the first algorithm against the second, or the other way round.
        n_rows : int, default=10
            How many rows.
        positive : bool, default=True
            Which end of the direction.

        Returns
        -------
        ndarray of shape (n_rows,)
            Row numbers, the furthest first.
        """
        return self._furthest("projections", component, of, n_rows, positive)

    def training_rows(
        self, component: int = 0, *, of: str = "a", n_rows: int = 10, positive: bool = True
    ) -> NDArray[np.intp]:
        """Return the training rows of largest weight in a distinguishing direction.

        Parameters
        ----------
        component, of, n_rows, positive
            As for `subpopulation`.

        Returns
        -------
        ndarray of shape (n_rows,)
            Row numbers, the heaviest first.
        """
        return self._furthest("directions", component, of, n_rows, positive)

    def _furthest(self, what: str, component: int, of: str, n_rows: int, positive: bool) -> NDArray[np.intp]:
        check_is_fitted(self, "masks_")
        check_choice(of, _SIDES, name="of", by="ModelDiff")
        table = getattr(self, f"{what}_{of}_")
        table = table.T if what == "projections" else table
        check_choice(component, range(len(table)), name="component", by="ModelDiff")
        check_count(n_rows, name="n_rows", by="ModelDiff")
        values = table[component] if positive else -table[component]
        return np.asarray(np.argsort(-values, kind="stable")[:n_rows])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"requires_y": True}


@dataclass(frozen=True, kw_only=True)
class TransformationEffect:
    """What a transformation of the features does to the margins of two algorithms.

    Attributes
    ----------
    a, b : float
        Mean change of the margin, in nats, over rows and models of each algorithm.
    difference : float
        `a` minus `b`.
    interval_a, interval_b, interval_difference : tuple of float
        Normal intervals over the rows.
    n : int
        Rows.
    """

    a: float
    b: float
    difference: float
    interval_a: tuple[float, float]
    interval_b: tuple[float, float]
    interval_difference: tuple[float, float]
    n: int

    def distinguishes(self, delta: float, epsilon: float) -> bool:
        """Whether one algorithm changes by at least `delta` and the other by at most `epsilon`, in size."""
        small, large = sorted((abs(self.a), abs(self.b)))
        return large >= delta and small <= epsilon


def transformation_effect(
    models_a: Sequence[Any],
    models_b: Sequence[Any],
    X: ArrayLike,
    y: ArrayLike,
    transform: Callable[[Floats], ArrayLike],
    *,
    alpha: float = 0.05,
) -> TransformationEffect:
    """Measure by intervention whether a transformation of the features tells two algorithms apart.

    A transformation F is (delta, epsilon)-distinguishing if ``E[m_A(F(x)) - m_A(x)] >= delta`` and
    ``E[m_B(F(x)) - m_B(x)] <= epsilon``, with the expectation over rows and trainings of the margins m.

    Parameters
    ----------
    models_a, models_b : sequence of fitted classifiers
        Of each algorithm, trained with several seeds.
    X : array-like of shape (n, n_features)
        Rows.
    y : array-like of shape (n,)
        Class whose margin is followed, of each row.
    transform : callable
        Maps rows (n, n_features) to rows.
    alpha : float, default=0.05
        Miscoverage of the intervals.

    Returns
    -------
    TransformationEffect
        Changes in nats.

    References
    ----------
    .. [1] Shah, H., Park, S. M., Ilyas, A. and Madry, A. (2023). ModelDiff: A Framework for Comparing Learning
       Algorithms. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from corrigible.compare import transformation_effect
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model, blind = LogisticRegression().fit(X, [0, 1, 0, 1]), LogisticRegression().fit(X, [0, 0, 1, 1])
    >>> effect = transformation_effect([model], [blind], X, [1, 1, 1, 1], lambda rows: rows + [0.0, 1.0])
    >>> bool(effect.a > 0.5), round(abs(effect.b), 3)
    (True, 0.0)
    """
    by = "transformation_effect"
    check_number(alpha, name="alpha", by=by, low=0.0, high=1.0, closed="neither")
    rows, labels = np.asarray(X, dtype=np.float64), np.asarray(y)
    if labels.shape != rows.shape[:1] or not len(models_a) or not len(models_b):
        raise DataError(
            f"{by} needs a model of each algorithm and one label a row. Got {len(models_a)} and {len(models_b)} "
            f"models, {labels.shape} labels and {rows.shape} rows."
        )
    moved = np.asarray(transform(rows.copy()), dtype=np.float64)
    changes = [
        np.mean([_margin(m, moved, _codes(labels, m.classes_, by)) - _margin(m, rows, _codes(labels, m.classes_, by))
                 for m in models], axis=0)
        for models in (models_a, models_b)
    ]  # fmt: skip
    changes.append(changes[0] - changes[1])
    a, b, difference = (float(c.mean()) for c in changes)
    spans = [_interval(c, alpha) for c in changes]
    return TransformationEffect(
        a=a, b=b, difference=difference, interval_a=spans[0], interval_b=spans[1], interval_difference=spans[2],
        n=len(rows),
    )  # fmt: skip


def _interval(values: Floats, alpha: float) -> tuple[float, float]:
    half = (
        float(norm.isf(alpha / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.inf
    )
    return float(values.mean()) - half, float(values.mean()) + half


@dataclass(frozen=True)
class _Task:
    X: Floats
    y: NDArray[Any]
    codes: NDArray[Any]
    X_test: Floats
    test_codes: NDArray[Any]
    classes: NDArray[Any] | None


def _defaults(a: Algorithm, b: Algorithm) -> tuple[Algorithm, Algorithm]:
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return (linear if a is None else a), (ExtraTreesClassifier(50) if b is None else b)


def _made(algorithm: Algorithm, seed: int) -> Any:
    if hasattr(algorithm, "fit") or not callable(algorithm):
        return seed_estimator(clone(algorithm), seed)
    return algorithm(seed)


def _encoded(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DataError("ModelDiff needs labels of at least two classes. Got one class.")
    return classes, codes.astype(np.intp)


def _codes(labels: NDArray[Any], classes: NDArray[Any], by: str) -> NDArray[np.intp]:
    codes = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    if (classes[codes] != labels).any():
        row = int(np.flatnonzero(classes[codes] != labels)[0])
        raise DataError(f"Row {row} of {by} has the label {labels[row]!r}, which is not among the training labels.")
    return codes.astype(np.intp)


def _subsets(codes: NDArray[Any], classes: Any, share: float, n_models: int, rng: np.random.Generator) -> _Bools:
    """Return random subsets of one size that hold every class."""
    n = len(codes)
    size = min(max(round(share * n), 1), n - 1)
    n_classes = 0 if classes is None else len(classes)
    masks = np.zeros((n_models, n), dtype=bool)
    for mask in masks:
        for _ in range(200):
            rows = rng.permutation(n)[:size]
            if n_classes == 0 or len(np.unique(codes[rows])) == n_classes:
                break
        else:
            raise DataError(
                f"Random subsets of {size} rows must hold all {n_classes} classes for ModelDiff. None of 200 did: "
                "leave rare classes out or raise 'share'."
            )
        mask[rows] = True
    return masks


def _subset_outputs(algorithm: Algorithm, task: _Task, mask: _Bools, seed: int) -> Floats:
    model = _made(algorithm, seed).fit(task.X[mask], task.y[mask])
    if task.classes is None:
        return np.asarray(model.predict(task.X_test), dtype=np.float64)
    return _margin(model, task.X_test, task.test_codes)


def _margin(model: Any, X: Floats, codes: NDArray[np.intp]) -> Floats:
    """Return the score of the given class over the best other one, (n,); in nats for probabilities and logits."""
    if hasattr(model, "decision_function"):
        scores = np.asarray(model.decision_function(X), dtype=np.float64)
        scores = scores if scores.ndim == 2 else np.column_stack([np.zeros(len(X)), scores])
    else:
        scores = np.log(np.clip(model.predict_proba(X), _SMALLEST, None))
    rows = np.arange(len(X))
    others = scores.copy()
    others[rows, codes] = -np.inf
    return np.asarray(scores[rows, codes] - others.max(axis=1))


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def _principal(residual: Floats, n_components: int) -> tuple[Floats, Floats]:
    """Return the leading principal directions and the projections on them, the longer tail positive."""
    centred = residual - residual.mean(axis=0)
    u, s, directions = np.linalg.svd(centred, full_matrices=False)
    kept = s[:n_components] > 1e-9
    directions = directions[:n_components] * kept[:, None]
    projections = u[:, :n_components] * (s[:n_components] * kept)
    sign = np.where((projections**3).sum(axis=0) < 0, -1.0, 1.0)
    return directions * sign[:, None], projections * sign
