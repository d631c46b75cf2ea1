"""Monte Carlo dropout: passes through a network with units dropped at random, at prediction too.

Paper: Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning (Gal, Ghahramani,
ICML 2016). Original: https://github.com/yaringal/DropoutUncertaintyExps
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import ShuffleSplit
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.network_fits import Observed, dropout_layers, sampled_dropout, train_values
from corrigible._core.simplex import softmax
from corrigible._core.torch_training import (
    Factory,
    Floats,
    Module,
    Recipe,
    built,
    encode,
    outputs,
    small_network,
    train_member,
)
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_gaps, check_number

CARD = Card(
    name="mc_dropout",
    kind="estimator",
    obj="MCDropout",
    papers=(),
    refs=("gal2016dropout",),
    source="https://github.com/yaringal/DropoutUncertaintyExps",
    differs="The units dropped in a pass are the same for all rows, one draw of the weights, so that a row's answer does "
    "not depend on its batch; the authors' code draws them for each row. The noise of a regression is that of the "
    "largest likelihood of held-out rows rather than of a search over a grid with weight decay.",
    inputs="X, y classes",
    stochastic=True,
    cost="One training of max_iter epochs; n_samples passes a prediction",
    use_when="A torch network has dropout layers, or one training is all you can afford.",
    avoid_when="Several trainings can be paid for: DeepEnsemble. Or the network is trained already and has no dropout: "
    "LastLayerLaplace.",
    also=("MCDropoutRegressor",),
    test_params=({"n_samples": 10, "max_iter": 20},),
    requires=("torch",),
)
_RATE = 0.2


class _Dropped(BaseEstimator):
    """What classifier and regressor share: the passes."""

    module: Factory | None
    n_samples: int
    random_state: Any

    def _start(self, n_inputs: int, n_outputs: int) -> Module:
        by = type(self).__name__
        if self.module is None:
            return small_network(n_inputs, n_outputs, dropout=_RATE)
        module = built(self.module, n_inputs, n_outputs, by=by)
        dropout_layers(module, by=by)
        return module

    def _passes(self, X: Floats) -> Floats:
        """Return the outputs of each pass, (n_samples, n, n_outputs)."""
        found = []
        for number in range(self.n_samples):
            with sampled_dropout(self.module_, self.seed_ + number, by=type(self).__name__):
                found.append(outputs(self.module_, X))
        return np.stack(found)


class MCDropout(ClassifierMixin, _Dropped):
    """Average class probabilities over passes through one network with units dropped.

    The network is trained with dropout. Each pass t drops units at random, which is a draw of weights W_t from an
    approximate posterior, and ``p(x) = (1 / T) sum_t softmax f(x; W_t)``.

    Parameters
    ----------
    module : callable, optional
        Function of (n_inputs, n_outputs) that returns a new torch module with dropout layers, from rows
        (n, n_inputs) to logits (n, n_outputs). By default one hidden layer of 64 units, a fifth of them dropped.
    n_samples : int, default=50
        Number T of passes.
    max_iter : int, default=50
        Epochs.
    batch_size : int, default=64
        Rows a step.
    learning_rate : float, default=0.01
        First step size of Adam; it falls to 0 along half a cosine.
    weight_decay : float, default=1e-4
        Decoupled weight decay.
    random_state : None, int, Generator or RandomState
        Source of start, shuffles and dropped units; those of the passes are fixed by ``fit``.

    Attributes
    ----------
    module_ : torch module
        The trained network, in float64.
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_iter_ : int
        Epochs trained.

    See Also
    --------
    DeepEnsemble : Several trainings, at several times the cost.
    LastLayerLaplace : A posterior of the last layer alone.
    MCDropoutRegressor : For numeric targets.

    References
    ----------
    .. [1] Gal, Y. and Ghahramani, Z. (2016). Dropout as a Bayesian Approximation: Representing Model Uncertainty in
       Deep Learning. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from corrigible.uncertainty import MCDropout
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MCDropout(n_samples=20, random_state=0).fit(X, y)
    >>> network.member_proba(X).shape
    (20, 150, 3)
    >>> bool(network.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        module: Factory | None = None,
        *,
        n_samples: int = 50,
        max_iter: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        random_state: RandomState = None,
    ) -> None:
        self.module = module
        self.n_samples = n_samples
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; standardise them, or let the module do so.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If the network has no dropout layer.
        MissingDependencyError
            If torch is not installed.
        """
        check_count(self.n_samples, name="n_samples", by="MCDropout")
        recipe = Recipe.of(self, "MCDropout")
        rows, codes = encode(self, X, y)
        rng = as_generator(self.random_state)
        self.seed_ = integer_seed(rng)
        plan = Observed(self._start)
        self.module_ = train_member(plan, rows, codes, len(self.classes_), recipe, integer_seed(rng))
        self.n_iter_ = recipe.max_iter
        return self

    def member_proba(self, X: ArrayLike) -> Floats:
        """Return the class probabilities of each pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_passes, n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        rows = check_gaps(self, X, reset=False, gaps=False)
        return np.stack([softmax(said) for said in self._passes(rows)])

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the mean of the passes' class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        return np.asarray(self.member_proba(X).mean(axis=0))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the largest mean probability.

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


class MCDropoutRegressor(RegressorMixin, _Dropped):
    """Predict numbers with standard deviations, from passes through one network with units dropped.

    The prediction is the mean of the passes; its variance is theirs plus that of the noise, ``1 / tau``. Tau is that
    of the largest mean of ``log (1 / T) sum_t N(y; f(x; W_t), 1 / tau)`` over held-out rows.

    Parameters
    ----------
    module, n_samples, max_iter, batch_size, learning_rate, weight_decay, random_state
        As in `MCDropout`; the network has one output and trains on targets of mean 0 and variance 1.
    validation_fraction : float, default=0.1
        Share of the rows held out for the noise.

    Attributes
    ----------
    module_ : torch module
        The trained network.
    noise_ : float
        Standard deviation of the noise, in the units of y.

    See Also
    --------
    MCDropout : For classes.

    References
    ----------
    .. [1] Gal, Y. and Ghahramani, Z. (2016). Dropout as a Bayesian Approximation: Representing Model Uncertainty in
       Deep Learning. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from corrigible.uncertainty import MCDropoutRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> mean, std = MCDropoutRegressor(n_samples=10, random_state=0).fit(X, y).predict(X, return_std=True)
    >>> bool((abs(y - mean) < 1.96 * std).mean() > 0.85)
    True
    """

    def __init__(
        self,
        module: Factory | None = None,
        *,
        n_samples: int = 50,
        validation_fraction: float = 0.1,
        max_iter: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        random_state: RandomState = None,
    ) -> None:
        self.module = module
        self.n_samples = n_samples
        self.validation_fraction = validation_fraction
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the network and measure the noise on held-out rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; standardise them, or let the module do so.
        y : array-like of shape (n_samples,)
            Numbers.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If the network has no dropout layer.
        MissingDependencyError
            If torch is not installed.
        """
        by, share = "MCDropoutRegressor", self.validation_fraction
        check_count(self.n_samples, name="n_samples", by=by)
        check_number(share, name="validation_fraction", by=by, low=0.0, high=1.0, closed="neither")
        recipe = Recipe.of(self, by)
        rows, y = check_gaps(self, X, y, numeric=True, gaps=False)
        y = np.asarray(y, dtype=np.float64)
        rng = as_generator(self.random_state)
        self.seed_, seed, split = (integer_seed(rng) for _ in range(3))
        learnt = held = np.arange(len(y))
        if len(y) > 2:
            learnt, held = next(ShuffleSplit(1, test_size=share, random_state=split).split(rows))
        self.shift_, self.scale_ = float(y[learnt].mean()), float(y[learnt].std()) or 1.0
        target = (y - self.shift_) / self.scale_
        self.module_ = train_values(self._start, rows[learnt], target[learnt], recipe, seed, by=by)
        self.n_iter_ = recipe.max_iter
        self.noise_ = _noise(self._passes(rows[held])[..., 0], target[held]) * self.scale_
        return self

    def member_predictions(self, X: ArrayLike) -> Floats:
        """Return the prediction of each pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_passes, n_samples)
            In the units of y.
        """
        check_is_fitted(self)
        rows = check_gaps(self, X, reset=False, gaps=False)
        return self._passes(rows)[..., 0] * self.scale_ + self.shift_

    def predict(self, X: ArrayLike, *, return_std: bool = False) -> Any:
        """Return the mean of the passes, and on request the standard deviation of a new y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        return_std : bool, default=False
            Whether to return standard deviations, too.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            Predictions.
        std : ndarray of shape (n_samples,)
            With the noise; only with `return_std`.
        """
        said = self.member_predictions(X)
        mean = said.mean(axis=0)
        return (mean, np.sqrt(said.var(axis=0) + self.noise_**2)) if return_std else mean


def _noise(said: Floats, y: Floats) -> float:
    """Return the noise's standard deviation under which passes (T, n) make the rows likeliest."""
    squares = (said - y) ** 2
    middle = float(np.log(max(squares.mean(), 1e-12)))

    def lost(log_variance: float) -> float:
        likely = logsumexp(-0.5 * squares / np.exp(log_variance), axis=0) - 0.5 * log_variance
        return -float(likely.mean())

    bounds = (middle - 12.0, middle + 2.0)
    return float(np.exp(0.5 * minimize_scalar(lost, bounds=bounds, method="bounded").x))
