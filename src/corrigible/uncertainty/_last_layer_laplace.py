"""Laplace approximation of the last layer of a trained model.

Paper: Laplace Redux - Effortless Bayesian Deep Learning (Daxberger, Kristiadi, Immer, Eschenhagen, Bauer, Hennig,
NeurIPS 2021). Original: https://github.com/aleximmer/Laplace
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.last_layer import (
    STRUCTURES,
    Full,
    best_precision,
    class_curvature,
    expected_proba,
    log_evidence,
    proba_of,
)
from corrigible._core.last_layer_model import LastLayerModel, final_step, of_kind, trained_already
from corrigible._core.network_fits import Observed, train_values
from corrigible._core.torch_training import Factory, Floats, Recipe, built, encode, train_member
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_gaps, check_number
from corrigible.errors import DataError

CARD = Card(
    name="last_layer_laplace",
    kind="estimator",
    obj="LastLayerLaplace",
    papers=(),
    refs=("daxberger2021laplace", "mackay1992evidence"),
    source="https://github.com/aleximmer/Laplace",
    differs="Last layer only, after training; not the online form that trains under the evidence. One prior precision "
    "for all weights. The Kronecker factors take the bias as a feature, the authors' code gives it a block of its own.",
    inputs="X, y classes",
    stochastic=True,
    cost="One training, then n d^2 k^2 for the Hessian and (d k)^3 for its eigenvalues (structure='full'); d^3 + k^3 "
    "with 'kron'",
    use_when="One trained network or logistic regression is at hand and should be less sure far from its training rows.",
    avoid_when="Rows are like those of training: it is too cautious there if the network had little decay; calibrate. Or "
    "layers before the last are in doubt too and several trainings can be paid for: DeepEnsemble.",
    also=("LastLayerLaplaceRegressor",),
    test_params=(
        {},
        {"structure": "kron", "link": "mc", "prior_precision": 1.0},
        {"structure": "diag", "link": "bridge", "prior_precision": "validation"},
    ),
)
_GRID = np.geomspace(1e-4, 1e4, 21)


class LastLayerLaplace(ClassifierMixin, LastLayerModel):
    """Give the last layer's weights a normal posterior, and average class probabilities over it.

    With features phi(x) of all layers but the last, logits are ``f = W phi(x)``. Under the prior
    ``W ~ N(0, 1 / delta)`` the posterior is taken for a normal one at the trained weights with precision

    ``H + delta I,  H = sum_n (diag(p_n) - p_n p_n') (x) phi_n phi_n'``,

    so that logits are normal with covariance ``S(x) = J (H + delta I)^-1 J'``. By MacKay's approximation,
    ``p(x) = softmax(f_c / sqrt(1 + pi S_cc / 8))``. The evidence that chooses delta is

    ``log p(y | W) - delta |W|^2 / 2 - sum_i log(1 + h_i / delta) / 2``, with eigenvalues h of H.

    Parameters
    ----------
    model : LogisticRegression, Pipeline that ends with one, torch module or callable, optional
        What is trained. A callable is a function of (n_inputs, n_outputs) that returns a new torch module from rows to
        logits, ending with a ``torch.nn.Linear``. By default ``LogisticRegression(max_iter=1000)``.
    prefit : bool, default=False
        Whether `model` is trained already (a torch module must be), on classes in sorted order; then ``fit`` learns
        the posterior alone, from the rows that the model was trained on.
    structure : {"full", "kron", "diag"}, default="full"
        Form of H: as it is, a Kronecker product ``mean Lambda (x) sum phi phi'``, or its diagonal.
    prior_precision : {"evidence", "validation"} or float, default="evidence"
        delta: of the largest evidence, of the least log loss of held-out rows, or given.
    link : {"probit", "mc", "bridge"}, default="probit"
        How the mean probability is had: MacKay's approximation, samples, or the Laplace bridge to a Dirichlet.
    n_samples : int, default=200
        Draws with ``link="mc"``, the same for all rows.
    validation_fraction : float, default=0.1
        Share of the rows held out with ``prior_precision="validation"``; nothing is learnt from them but delta.
    max_iter, batch_size, learning_rate, weight_decay
        Training of torch networks, as in `DeepEnsemble`.
    random_state : None, int, Generator or RandomState
        Source of starts, shuffles, draws and of the held-out rows.

    Attributes
    ----------
    model_ : object
        The trained model.
    coef_ : ndarray of shape (n_outputs, n_inner)
        Mean weights, with the bias last; of a binary LogisticRegression one row.
    curvature_ : object
        H with its eigenvalues.
    prior_precision_ : float
        delta.
    marginal_likelihood_ : float
        Logarithm of the evidence of the training rows, in nats.
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_iter_ : int
        Epochs or steps of the training.

    See Also
    --------
    DeepEnsemble : Several trainings.
    MCDropout : One training with dropout, several passes.
    LastLayerLaplaceRegressor : For numeric targets.

    References
    ----------
    .. [1] Daxberger, E., Kristiadi, A., Immer, A., Eschenhagen, R., Bauer, M. and Hennig, P. (2021). Laplace Redux -
       Effortless Bayesian Deep Learning. NeurIPS.
    .. [2] MacKay, D. J. C. (1992). The Evidence Framework Applied to Classification Networks. Neural Computation.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from corrigible.uncertainty import LastLayerLaplace
    >>> X, y = load_iris(return_X_y=True)
    >>> posterior = LastLayerLaplace().fit(X, y)
    >>> far = 10 * X[:1]
    >>> bool(posterior.predict_proba(far).max() < posterior.model_.predict_proba(far).max())
    True
    """

    def __init__(
        self,
        model: Factory | Any | None = None,
        *,
        prefit: bool = False,
        structure: str = "full",
        prior_precision: str | float = "evidence",
        link: str = "probit",
        n_samples: int = 200,
        validation_fraction: float = 0.1,
        max_iter: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        random_state: RandomState = None,
    ) -> None:
        self.model = model
        self.prefit = prefit
        self.structure = structure
        self.prior_precision = prior_precision
        self.link = link
        self.n_samples = n_samples
        self.validation_fraction = validation_fraction
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the model, or take the trained one, and learn the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If the model does not end with a linear layer.
        MissingDependencyError
            If the model is a network and torch is not installed.
        """
        by = "LastLayerLaplace"
        recipe = self._checked()
        check_choice(self.link, ("probit", "mc", "bridge"), name="link", by=by)
        check_count(self.n_samples, name="n_samples", by=by)
        rows, codes = encode(self, X, y)
        if len(self.classes_) < 2:
            raise DataError(f"'y' of {by} must hold at least two classes. Got one class, {self.classes_[0]!r}.")
        rng = as_generator(self.random_state)
        seed = integer_seed(rng)
        learnt, held = self._split(len(rows), integer_seed(rng))
        if len(held) and len(np.unique(codes[learnt])) < len(self.classes_):
            learnt = slice(None)  # a class of few rows: these then serve twice
        self.model_ = self._trained(rows[learnt], codes[learnt], recipe, seed)
        self.coef_ = self._weights()
        if max(2, len(self.coef_)) != len(self.classes_):
            raise DataError(f"'model' of {by} must tell {len(self.classes_)} classes apart. Got {len(self.coef_)}.")
        self.normal_ = rng.normal(size=(self.n_samples, len(self.coef_)))
        self._learn(self._features(rows[learnt]), codes[learnt])
        if self.prior_precision == "validation":
            held = held if len(held) else np.arange(len(rows))
            self._choose(self._features(rows[held]), codes[held])
        self.marginal_likelihood_ = self.log_marginal_likelihood(self.prior_precision_)
        return self

    def _trained(self, X: Floats, codes: NDArray[np.intp], recipe: Recipe, seed: int) -> Any:
        model, by = self.model, "LastLayerLaplace"
        self.n_iter_ = recipe.max_iter
        if self.prefit:
            return trained_already(model, (LogisticRegression,), by)
        if callable(model) and not hasattr(model, "state_dict"):
            plan = Observed(lambda n_in, n_out: built(model, n_in, n_out, by=by))
            return train_member(plan, X, codes, len(self.classes_), recipe, seed)
        model = of_kind(
            LogisticRegression(max_iter=1000) if model is None else clone(model), (LogisticRegression,), by
        )
        model.fit(X, codes)
        self.n_iter_ = int(np.max(final_step(model).n_iter_))
        return model

    def _learn(self, features: Floats, codes: NDArray[np.intp]) -> None:
        proba = proba_of(features @ self.coef_.T)
        tiny = np.finfo(float).tiny
        self.log_likelihood_ = float(np.log(proba[np.arange(len(codes)), codes].clip(min=tiny)).sum())
        curvature = class_curvature(proba if len(self.coef_) > 1 else proba[:, 1:])
        self.curvature_ = STRUCTURES[self.structure].of(features, curvature)
        given = self.prior_precision
        square = float((self.coef_**2).sum())
        self.prior_precision_ = (
            best_precision(self.curvature_.eigenvalues, square) if isinstance(given, str) else float(given)
        )

    def _choose(self, features: Floats, codes: NDArray[np.intp]) -> None:
        """Take the prior precision under which held-out rows lose least."""

        def lost(precision: float) -> float:
            covariance = self.curvature_.covariance(features, precision)
            proba = expected_proba(features @ self.coef_.T, covariance, self.link, self.normal_)
            return -float(np.log(proba[np.arange(len(codes)), codes].clip(min=np.finfo(float).tiny)).mean())

        self.prior_precision_ = float(min(_GRID, key=lost))

    def log_marginal_likelihood(self, prior_precision: float) -> float:
        """Return the logarithm of the evidence under another prior precision.

        Parameters
        ----------
        prior_precision : float
            delta, above 0.

        Returns
        -------
        float
            In nats.
        """
        check_is_fitted(self)
        square = float((self.coef_**2).sum())
        return log_evidence(self.log_likelihood_, self.curvature_.eigenvalues, square, prior_precision)

    def logit_distribution(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Return means and covariances of the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_outputs)
            Logits of the trained model; of a binary LogisticRegression one column.
        covariance : ndarray of shape (n_samples, n_outputs, n_outputs)
            Under the posterior of the weights.
        """
        return self._said(X)

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the class probabilities, averaged over the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        mean, covariance = self._said(X)
        return expected_proba(mean, covariance, self.link, self.normal_)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the largest averaged probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


class LastLayerLaplaceRegressor(RegressorMixin, LastLayerModel):
    """Give the last layer's weights of a regression a normal posterior; predict with standard deviations.

    With noise of variance s^2, ``H = sum_n phi_n phi_n' / s^2``; the prediction is normal around that of the trained
    model with variance ``phi' (H + delta I)^-1 phi + s^2``. Delta and s^2 are those of the largest evidence, found by
    turns.

    Parameters
    ----------
    model : LinearRegression, Ridge, Pipeline that ends with one, torch module or callable, optional
        As in `LastLayerLaplace`; by default ``LinearRegression()``. Networks made by a callable train on targets of
        mean 0 and variance 1.
    prefit, max_iter, batch_size, learning_rate, weight_decay, random_state
        As in `LastLayerLaplace`.
    prior_precision : "evidence" or float, default="evidence"
        delta, in the units of the model's output.
    noise : "evidence" or float, default="evidence"
        s, in the units of y.

    Attributes
    ----------
    model_, coef_, curvature_, prior_precision_, marginal_likelihood_
        As in `LastLayerLaplace`; the evidence is that of y.
    noise_ : float
        s.

    See Also
    --------
    LastLayerLaplace : For classes.

    References
    ----------
    .. [1] Daxberger, E., Kristiadi, A., Immer, A., Eschenhagen, R., Bauer, M. and Hennig, P. (2021). Laplace Redux -
       Effortless Bayesian Deep Learning. NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from corrigible.uncertainty import LastLayerLaplaceRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> mean, std = LastLayerLaplaceRegressor().fit(X, y).predict(X, return_std=True)
    >>> bool((abs(y - mean) < 1.96 * std).mean() > 0.9)
    True
    """

    structure = "full"
    validation_fraction = 0.5

    def __init__(
        self,
        model: Factory | Any | None = None,
        *,
        prefit: bool = False,
        prior_precision: str | float = "evidence",
        noise: str | float = "evidence",
        max_iter: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        random_state: RandomState = None,
    ) -> None:
        self.model = model
        self.prefit = prefit
        self.prior_precision = prior_precision
        self.noise = noise
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the model, or take the trained one, and learn the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Numbers.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If the model does not end with a linear layer.
        """
        by = "LastLayerLaplaceRegressor"
        recipe = self._checked()
        if self.noise != "evidence":
            check_number(self.noise, name="noise", by=by, low=0.0, high=1e30, closed="right")
        rows, y = check_gaps(self, X, y, numeric=True, gaps=False)
        y = np.asarray(y, dtype=np.float64)
        self.shift_, self.scale_ = (0.0, 1.0) if self.prefit else (float(y.mean()), float(y.std()) or 1.0)
        target = (y - self.shift_) / self.scale_
        self.model_ = self._trained(rows, target, recipe)
        self.coef_ = self._weights()
        if len(self.coef_) != 1:
            raise DataError(f"'model' of {by} must have one output. Got {len(self.coef_)}.")
        features = self._features(rows)
        self.curvature_ = Full.of(features, np.ones((len(rows), 1, 1)))
        self._learn(float(((target - features @ self.coef_[0]) ** 2).sum()), len(y))
        return self

    def _trained(self, X: Floats, target: Floats, recipe: Recipe) -> Any:
        model, by, kinds = self.model, "LastLayerLaplaceRegressor", (LinearRegression, Ridge)
        self.n_iter_ = recipe.max_iter
        if self.prefit:
            return trained_already(model, kinds, by)
        if callable(model) and not hasattr(model, "state_dict"):
            seed = integer_seed(as_generator(self.random_state))
            return train_values(
                lambda n_in, n_out: built(model, n_in, n_out, by=by), X, target, recipe, seed, by=by
            )
        return of_kind(LinearRegression() if model is None else clone(model), kinds, by).fit(X, target)

    def _learn(self, lost: float, n: int) -> None:
        """Set noise and prior precision to those of the largest evidence, where they are not given."""
        square, values = float((self.coef_**2).sum()), self.curvature_.eigenvalues

        def settled(log_variance: float) -> tuple[float, float]:
            variance = float(np.exp(log_variance))
            given = self.prior_precision
            delta = best_precision(values / variance, square) if isinstance(given, str) else given * self.scale_**2
            fit = -0.5 * (n * np.log(2 * np.pi * variance * self.scale_**2) + lost / variance)
            return log_evidence(float(fit), values / variance, square, delta), delta

        if isinstance(self.noise, str):
            middle = float(np.log(max(lost / n, 1e-12)))
            words: dict[str, Any] = {"bounds": (middle - 1.0, middle + 7.0), "method": "bounded"}
            found = float(minimize_scalar(lambda v: -settled(v)[0], **words).x)
        else:
            found = 2 * float(np.log(self.noise / self.scale_))
        self.marginal_likelihood_, delta = settled(found)
        self.prior_precision_ = delta / self.scale_**2
        self.noise_ = float(np.exp(found / 2)) * self.scale_

    def predict(self, X: ArrayLike, *, return_std: bool = False) -> Any:
        """Return predictions, and on request their standard deviations.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        return_std : bool, default=False
            Whether to return the standard deviation of a new y, too.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            That of the trained model.
        std : ndarray of shape (n_samples,)
            With the noise; only with `return_std`.
        """
        check_is_fitted(self)
        features = self._features(check_gaps(self, X, reset=False, gaps=False))
        mean = features @ self.coef_[0] * self.scale_ + self.shift_
        if not return_std:
            return mean
        variance = self.noise_**2
        spread = variance * self.curvature_.covariance(features, self.prior_precision_ * variance)[:, 0, 0]
        return mean, np.sqrt(spread + variance)
