"""Direct epistemic uncertainty prediction: a second model learns the error of the first, minus the noise.

Paper: DEUP: Direct Epistemic Uncertainty Prediction (Lahlou, Jain, Nekoei, Butoi, Bertin, Rector-Brooks, Korablyov,
Bengio, TMLR 2023).
Original: https://github.com/MJ10/DEUP
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.fitting import fitted
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_gaps, check_number
from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty._seed_ensemble import SeedEnsemble

CARD = Card(
    name="deup",
    kind="estimator",
    obj="DEUP",
    papers=("deup",),
    refs=("lahlou2023deup",),
    source="https://github.com/MJ10/DEUP",
    differs="The error dataset is cross-fitted in folds that keep equal rows together, where the authors halve the data "
    "twice; errors on rows that a model was trained on enter only if the seen bit tells them apart. Density is a kernel "
    "estimate with Scott's bandwidth on scaled columns, where theirs is found by cross-validation, or flows; variance "
    "is that of bootstrapped main predictors or of a regressor that returns it. The main predictor is refitted at each "
    "update, where theirs trains on. Algorithms follow the abstract and the authors' code, not the full text.",
    inputs="X, y",
    stochastic=True,
    cost="cv + 1 fits of the estimator (times 1 + n_members if its variance is a feature) and one of the errors' "
    "model; density is O(n^2)",
    use_when="It matters where a model could still get better, its bias included: acquiring rows, optimising, rejecting.",
    avoid_when="The noise cannot be told from the error: no replicates, no known noise, and it varies with the row.",
    test_params=(
        {"estimator": "new:sklearn.linear_model.Ridge", "features": ("x", "density", "seen")},
        {"estimator": "new:sklearn.linear_model.Ridge", "features": ("x", "variance"), "n_members": 3},
    ),
)

Floats = NDArray[np.floating]
_BY = "DEUP"
_FEATURES = ("x", "density", "variance", "seen")
_LOG_RANGE = (-20.0, 20.0)  # natural logarithms of errors that are told apart
_SAME = 1e-12  # squared distance below which a row counts as seen
_TINY = 1e-12


def _inner_has(method: str) -> Any:
    def check(self: DEUP) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self.estimator, method)
        return True

    return check


class DEUP(MetaEstimatorMixin, BaseEstimator):
    """Predict the excess risk of a model: its out-of-sample error less the noise that no model could remove.

    With ``e(phi(x))`` the model of the errors on features phi and ``a(x)`` the aleatoric uncertainty, the epistemic
    one is ``max(e(phi(x)) - a(x), 0)``. Unlike the variance of an ensemble it counts the model's bias.

    Parameters
    ----------
    estimator : estimator
        Main predictor, a regressor or a classifier; it is cloned.
    error_estimator : regressor, optional
        Learns the errors; by default a random forest.
    aleatoric : None, float, {"replicates"} or regressor, default=None
        Noise to subtract, in units of the loss: nothing; a constant; the variance among rows of equal features,
        pooled; or a regressor that learns those variances from the features.
    features : tuple of {"x", "density", "variance", "seen"}, default=("x",)
        What the errors are learned from: columns of X, log-density of the training rows, log-variance of the main
        predictor, and whether the row was trained on. All but ``"x"`` keep their meaning as rows are added.
    loss : {"auto", "squared_error", "log", "brier"}, default="auto"
        Error of a row: the squared one of a regressor, the negative log-probability of a classifier.
    log : bool, default=False
        Learn logarithms of the errors. It ranks well, but its exponential is below the mean error.
    density : estimator, optional
        Has ``score_samples``; by default a Gaussian kernel on scaled columns with Scott's bandwidth.
    variance : regressor, optional
        Has ``predict(X, return_std=True)``, as Gaussian processes do; by default `n_members` bootstrapped estimators.
    n_members : int, default=10
        Members of that bootstrap.
    cv : int, default=5
        Folds; the errors on each are those of a model trained on the others.
    random_state : None, int, Generator or RandomState
        Source of folds and seeds.

    Attributes
    ----------
    estimator_, error_estimator_ : estimators
        Main predictor, fitted to all rows; model of the errors.
    aleatoric_ : float or regressor
        Noise.
    errors_ : ndarray of shape (n_errors,)
        Errors learned from.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    SeedEnsemble : Variance over seeds, which leaves the bias out.

    References
    ----------
    .. [1] Lahlou, S. et al. (2023). DEUP: Direct Epistemic Uncertainty Prediction. TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from corrigible.uncertainty import DEUP
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.where(X[:, 0] > 0, np.sin(12 * X[:, 0]), 0)  # a line is wrong on the right
    >>> method = DEUP(LinearRegression(), random_state=0).fit(X, y)
    >>> left, right = method.predict_uncertainty([[-0.5], [0.4]])
    >>> bool(right > 3 * left)
    True
    """

    def __init__(
        self,
        estimator: Any,
        error_estimator: Any = None,
        *,
        aleatoric: Any = None,
        features: tuple[str, ...] = ("x",),
        loss: str = "auto",
        log: bool = False,
        density: Any = None,
        variance: Any = None,
        n_members: int = 10,
        cv: int = 5,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.error_estimator = error_estimator
        self.aleatoric = aleatoric
        self.features = features
        self.loss = loss
        self.log = log
        self.density = density
        self.variance = variance
        self.n_members = n_members
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the main predictor, its errors on held-out folds, and the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Target.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If fewer than two rows differ, or the noise is to be learned and no rows are equal.
        """
        self._check_parameters()
        rows, target = check_gaps(self, X, y, numeric=not self._classifies, gaps=False)
        if self._classifies:
            check_classification_targets(target)
            self._classes = np.unique(target)
        self._rng = as_generator(self.random_state)
        self._X: Floats = rows
        self._y: NDArray[Any] = target
        self.aleatoric_ = self._noise()
        folds = self._folds()
        phis, errors = [], []
        for fold in range(folds.max() + 1):
            train = folds != fold
            state = self._state(rows[train], target[train])
            # Errors on the rows trained on would pass for the others', unless a feature tells them apart.
            kept = np.full(len(target), True) if "seen" in self.features else ~train
            phis.append(self._phi(state, rows[kept]))
            errors.append(self._errors(state["model"], rows[kept], target[kept]))
        self._buffer, self.errors_ = np.concatenate(phis), np.concatenate(errors)
        return self._refit()

    def update(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Add rows: learn from the errors on them before they are trained on and, with the seen bit, after.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
            Features of the new rows.
        y : array-like of shape (n_new,)
            Their target.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        rows, target = check_gaps(self, X, y, numeric=not self._classifies, gaps=False, reset=False)
        if self._classifies and not np.isin(target, self._classes).all():
            raise DataError(f"'y' of {_BY}.update must hold classes of fit. Got others; fit anew with all rows.")
        self._remember(rows, target)
        self._X, self._y = np.concatenate([self._X, rows]), np.concatenate([self._y, target])
        self.aleatoric_ = self._noise()
        self._now = self._state(self._X, self._y)
        if "seen" in self.features:
            self._remember(rows, target)
        return self._refit(new_state=False)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the main predictor's predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        """
        X = self._checked(X)
        return np.asarray(self.estimator_.predict(X))

    @available_if(_inner_has("predict_proba"))  # type: ignore
    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the main predictor's class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        """
        X = self._checked(X)
        return np.asarray(self.estimator_.predict_proba(X))

    def predict_uncertainty(self, X: ArrayLike) -> Floats:
        """Return the epistemic uncertainty, in units of the loss and at least 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        """
        return np.asarray(np.maximum(self.predict_total(X) - self.predict_aleatoric(X), 0.0))

    def predict_total(self, X: ArrayLike) -> Floats:
        """Return the predicted error of the main predictor, noise included.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        """
        X = self._checked(X)
        found = np.asarray(self.error_estimator_.predict(self._phi(self._now, X)), dtype=float)
        return np.exp(np.clip(found, *_LOG_RANGE)) if self.log else np.maximum(found, 0.0)

    def predict_aleatoric(self, X: ArrayLike) -> Floats:
        """Return the noise that is subtracted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        """
        X = self._checked(X)
        if isinstance(self.aleatoric_, float):
            return np.full(len(X), self.aleatoric_)
        return np.maximum(self.aleatoric_.predict(X), 0.0)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the main predictor's score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Target.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        """
        X = self._checked(X)
        return float(self.estimator_.score(X, y, sample_weight=sample_weight))

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes of the main predictor."""
        if not hasattr(self, "estimator_"):
            raise AttributeError("DEUP has no classes_ before fit.")
        classes: NDArray[Any] = self.estimator_.classes_
        return classes

    @property
    def _classifies(self) -> bool:
        return bool(is_classifier(self.estimator))

    def _check_parameters(self) -> None:
        if not self.features:
            raise InvalidParameterError(
                f"The 'features' parameter of {_BY} must name one of {_FEATURES}. Got none."
            )
        for feature in self.features:
            check_choice(feature, _FEATURES, name="features", by=_BY)
        losses = ("auto", "log", "brier") if self._classifies else ("auto", "squared_error")
        check_choice(self.loss, losses, name="loss", by=_BY)
        check_count(self.cv, name="cv", by=_BY, low=2)
        check_count(self.n_members, name="n_members", by=_BY, low=2)
        if isinstance(self.aleatoric, int | float):
            check_number(self.aleatoric, name="aleatoric", by=_BY, low=0)
        elif self.aleatoric is not None and self._loss == "log":
            raise InvalidParameterError(
                f"The 'aleatoric' parameter of {_BY} must be None or a number with the log loss. Set loss='brier'."
            )

    @property
    def _loss(self) -> str:
        return ("log" if self._classifies else "squared_error") if self.loss == "auto" else self.loss

    def _checked(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        checked: Floats = check_gaps(self, X, reset=False, gaps=False)
        return checked

    def _seeded(self, estimator: Any) -> Any:
        return seed_estimator(clone(estimator), integer_seed(self._rng))

    def _folds(self) -> NDArray[np.intp]:
        """Return the fold of each row: equal rows share one, classes are spread over all."""
        _, first, group = np.unique(self._X, axis=0, return_index=True, return_inverse=True)
        n = len(first)
        if n < 2:
            raise DataError(f"'X' of {_BY} must hold at least two different rows. Got n_samples=1. Add rows.")
        order = self._rng.permutation(n)
        if self._classifies:
            order = order[np.argsort(self._y[first][order], kind="stable")]
        fold = np.empty(n, dtype=np.intp)
        fold[order] = np.arange(n) % min(self.cv, n)
        return fold[group.ravel()]

    def _state(self, X: Floats, y: NDArray[Any]) -> dict[str, Any]:
        """Return the main predictor on these rows, and all that its features need."""
        state: dict[str, Any] = {"model": fitted(self._seeded(self.estimator), X, y)}
        if "density" in self.features:
            default = make_pipeline(StandardScaler(), KernelDensity(bandwidth="scott"))
            state["density"] = fitted(clone(default if self.density is None else self.density), X, None)
        if "variance" in self.features:
            seed = integer_seed(self._rng)
            bootstrap = SeedEnsemble(self.estimator, self.n_members, resample=True, random_state=seed)
            state["variance"] = fitted(bootstrap if self.variance is None else self._seeded(self.variance), X, y)
        if "seen" in self.features:
            state["seen"] = cKDTree(X)
        return state

    def _phi(self, state: dict[str, Any], X: Floats) -> Floats:
        columns = {
            "x": lambda: X,
            "density": lambda: state["density"].score_samples(X),
            "variance": lambda: np.log(self._variance(state["variance"], X) + _TINY),
            "seen": lambda: state["seen"].query(X)[0] ** 2 <= _SAME,
        }
        return np.column_stack([columns[feature]() for feature in self.features])  # type: ignore[no-untyped-call]

    def _variance(self, model: Any, X: Floats) -> Floats:
        if self.variance is not None:
            return np.asarray(model.predict(X, return_std=True)[1] ** 2)
        if self._classifies:
            return np.asarray(model.member_proba(X).var(axis=0).sum(axis=1))
        return np.asarray(model.member_predict(X).var(axis=0))

    def _errors(self, model: Any, X: Floats, y: NDArray[Any]) -> Floats:
        if not self._classifies:
            return np.asarray((y - model.predict(X)) ** 2)
        p = np.zeros((len(X), len(self._classes)))
        p[:, np.searchsorted(self._classes, model.classes_)] = model.predict_proba(X)
        column = np.searchsorted(self._classes, y)
        if self._loss == "log":
            return -np.log(np.maximum(p[np.arange(len(y)), column], _TINY))
        return np.asarray(((p - np.eye(p.shape[1])[column]) ** 2).sum(axis=1))

    def _noise(self) -> Any:
        """Return the aleatoric uncertainty: a number, or a regressor on the variances among equal rows."""
        if self.aleatoric is None or isinstance(self.aleatoric, int | float):
            return float(self.aleatoric or 0)
        places, group, size = np.unique(self._X, axis=0, return_inverse=True, return_counts=True)
        if size.max() < 2:
            raise DataError(f"'X' of {_BY} must hold equal rows to learn the noise. Got none. Give it as a number.")
        y = self._y[:, None] if not self._classifies else (self._y[:, None] == self._classes)
        totals = np.zeros((len(places), y.shape[1]))
        np.add.at(totals, group.ravel(), y)
        squares = ((y - (totals / size[:, None])[group.ravel()]) ** 2).sum(axis=1)
        within, several = np.bincount(group.ravel(), weights=squares), size > 1
        if isinstance(self.aleatoric, str):
            check_choice(self.aleatoric, ("replicates",), name="aleatoric", by=_BY)
            return float(within.sum() / (size[several] - 1).sum())
        return fitted(self._seeded(self.aleatoric), places[several], within[several] / (size[several] - 1))

    def _remember(self, X: Floats, y: NDArray[Any]) -> None:
        self._buffer = np.concatenate([self._buffer, self._phi(self._now, X)])
        self.errors_ = np.concatenate([self.errors_, self._errors(self._now["model"], X, y)])

    def _refit(self, *, new_state: bool = True) -> Self:
        """Fit the main predictor to all rows unless it is, and the model of the errors to all that were seen."""
        if new_state:
            self._now = self._state(self._X, self._y)
        self.estimator_ = self._now["model"]
        default = RandomForestRegressor(min_samples_leaf=5)
        learner = self._seeded(default if self.error_estimator is None else self.error_estimator)
        target = np.log(np.maximum(self.errors_, np.exp(_LOG_RANGE[0]))) if self.log else self.errors_
        self.error_estimator_ = fitted(learner, self._buffer, target)
        return self

    @property
    def _estimator_type(self) -> Any:
        # scikit-learn before 1.6 reads this in place of the tags.
        return "classifier" if self._classifies else "regressor"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = deepcopy(inner.classifier_tags)
        tags.regressor_tags = deepcopy(inner.regressor_tags)
        tags.target_tags = deepcopy(inner.target_tags)
        tags.target_tags.multi_output, tags.target_tags.single_output = False, True
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        return tags
