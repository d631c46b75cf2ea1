"""Nonparametric transfer learning: a posterior over fine-tuned networks, with what a pretrained one says as its prior.

Paper: Enhancing Transfer Learning with Flexible Nonparametric Posterior Sampling (Lee, Nam, Fong, Lee, ICLR 2024).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from corrigible._card import Card
from corrigible._core.simplex import softmax
from corrigible._core.torch_training import (
    Module,
    NetworkEnsemble,
    Objective,
    Tensor,
    cross_entropy,
    encode,
    outputs,
)
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import InvalidParameterError

CARD = Card(
    name="nonparametric_transfer",
    kind="estimator",
    obj="NonparametricTransfer",
    papers=("nptl",),
    refs=("lee2024enhancing", "lyddon2018nonparametric", "shin2021neural"),
    source="",
    differs="Of the paper, abstract, beginning and summaries could be read, of the authors' code nothing: base measure, "
    "block weights and start follow these summaries and the theory of nonparametric learning. Blocks are drawn anew "
    "for each member and hold a row together with its pseudo-row's own weight; the probe is a penalised logistic "
    "regression solved to its optimum; the average of the weights in place of predictions (NPTL-Soup) is not built.",
    inputs="X, y classes",
    stochastic=True,
    cost="One logistic regression on the features and n_members fine-tunings of max_iter epochs over 2 n rows",
    use_when="A pretrained torch network is fine-tuned on few rows and its probabilities are to be believed.",
    avoid_when="The pretrained features say nothing of the new task: the prior's labels are then wrong.",
    test_params=(
        {"n_members": 2, "max_iter": 20, "learning_rate": 0.05},
        {"n_members": 2, "max_iter": 20, "learning_rate": 0.05, "n_blocks": 10, "pseudo_labels": "hard"},
    ),
    requires=("torch",),
)

Floats = NDArray[np.floating]


class NonparametricTransfer(NetworkEnsemble):
    """Average networks fine-tuned to random distributions of the data, drawn around rows and a probe's labels of them.

    What is not known is the distribution F of rows and labels. Its prior is a Dirichlet process around what the
    pretrained network knows: inputs as observed, labels as a linear probe of the pretrained features gives them. Given
    n rows, a draw of F puts weights

    ``(w, v) ~ Dirichlet(1, ..., 1, c, ..., c)``

    on the rows and on the same inputs with the probe's labels, and a member is the network that minimises
    ``sum_i w_i L(x_i, y_i) + v_i L(x_i, probe(x_i))``, trained from the pretrained weights with a new head. With
    `n_blocks` the rows are split at random into blocks that share their weights.

    Parameters
    ----------
    backbone : torch module, optional
        Pretrained network from rows (n, n_inputs) to features (n, n_features). It is copied, and is not changed.
        By default the inputs are the features, and members are linear.
    n_members : int, default=5
        Number of draws.
    concentration : float, default=1.0
        The prior's weight c a row, against 1 of the observed label.
    n_blocks : int, optional
        Number of blocks; by default each row has a weight of its own.
    pseudo_labels : {"soft", "hard"}, default="soft"
        Whether a pseudo-row has the probe's probabilities or its most probable class for a label.
    probe_l2 : float, default=1e-3
        Ridge on the probe's weights, in nats a row, on features of mean 0 and variance 1.
    max_iter : int, default=50
        Epochs of fine-tuning.
    batch_size : int, default=64
        Rows a step, observed and pseudo-rows together.
    learning_rate : float, default=1e-3
        First step size of Adam; it falls to 0 along half a cosine.
    weight_decay : float, default=1e-4
        Decoupled weight decay.
    random_state : None, int, Generator or RandomState
        Source of weights, blocks, heads and shuffles.
    n_jobs : int, optional
        Members trained at once.

    Attributes
    ----------
    members_ : list of torch modules
        The trained networks, in float64.
    probe_proba_ : ndarray of shape (n_samples, n_classes)
        The probe's probabilities of the training rows.
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_iter_ : int
        Epochs trained.

    See Also
    --------
    MixupMP : A prior from mixtures of rows, without pretraining.
    DeepEnsemble : No prior, and no weights.

    References
    ----------
    .. [1] Lee, H., Nam, G., Fong, E. and Lee, J. (2024). Enhancing Transfer Learning with Flexible Nonparametric
       Posterior Sampling. ICLR.
    .. [2] Lyddon, S., Walker, S. and Holmes, C. (2018). Nonparametric learning from Bayesian models with randomized
       objective functions. NeurIPS.
    .. [3] Shin, M. et al. (2021). Neural Bootstrapper. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from corrigible.uncertainty import NonparametricTransfer
    >>> X, y = load_iris(return_X_y=True)
    >>> pretrained = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU())
    >>> posterior = NonparametricTransfer(pretrained, n_members=3, learning_rate=0.03, random_state=0).fit(X, y)
    >>> posterior.member_proba(X).shape
    (3, 150, 3)
    >>> bool(posterior.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        backbone: Module | None = None,
        *,
        n_members: int = 5,
        concentration: float = 1.0,
        n_blocks: int | None = None,
        pseudo_labels: str = "soft",
        probe_l2: float = 1e-3,
        max_iter: int = 50,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.n_members = n_members
        self.concentration = concentration
        self.n_blocks = n_blocks
        self.pseudo_labels = pseudo_labels
        self.probe_l2 = probe_l2
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the probe, then draw and train the members.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as the pretrained network takes them.
        y : array-like of shape (n_samples,)
            Labels of the new task.

        Returns
        -------
        self

        Raises
        ------
        MissingDependencyError
            If torch is not installed.
        InvalidParameterError
            If the backbone is no torch module, or does not map rows to a matrix of features.
        """
        by = "NonparametricTransfer"
        check_number(self.concentration, name="concentration", by=by, low=0.0, high=1e6)
        check_number(self.probe_l2, name="probe_l2", by=by, low=0.0, high=1e6, closed="right")
        check_choice(self.pseudo_labels, ("soft", "hard"), name="pseudo_labels", by=by)
        if self.n_blocks is not None:
            check_count(self.n_blocks, name="n_blocks", by=by)
        backbone = _pretrained(self.backbone)
        rows, codes = encode(self, X, y)
        features = _features(backbone, rows)
        self.probe_proba_ = probe(features, codes, len(self.classes_), self.probe_l2)
        said = self.probe_proba_
        if self.pseudo_labels == "hard":
            said = np.eye(len(self.classes_))[said.argmax(axis=1)]
        plan = _Posterior(backbone, features.shape[1], said, self.concentration, self.n_blocks)
        return self._fit_members(X, y, plan)


@dataclass(frozen=True)
class _Posterior:
    backbone: Module
    n_features: int
    said: Floats
    concentration: float
    n_blocks: int | None

    def start(self, n_inputs: int, n_classes: int) -> Module:
        nn = require("torch.nn", extra="torch", by="NonparametricTransfer")
        return nn.Sequential(deepcopy(self.backbone), nn.Linear(self.n_features, n_classes))

    def objective(self, X: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[int, Objective]:
        torch = require("torch", extra="torch", by="NonparametricTransfer")
        n, label = len(X), torch.cat([target, torch.tensor(self.said).float()])
        weight = torch.tensor(block_weights(n, self.concentration, self.n_blocks, rng)).float()

        def loss(module: Any, rows: NDArray[np.intp]) -> Tensor:
            return cross_entropy(module, X[rows % n], label[rows], weight[rows])

        return 2 * n, loss


def block_weights(n: int, concentration: float, n_blocks: int | None, rng: np.random.Generator) -> Floats:
    """Draw the weights (2 n,) of n rows and then of their pseudo-rows, scaled to a mean of 1.

    Parameters
    ----------
    n : int
        Number of rows.
    concentration : float
        Dirichlet parameter of a pseudo-row's block; that of a row's block is 1.
    n_blocks : int or None
        Number of blocks that share a weight; None or more than n gives each row its own.
    rng : Generator
        Source of the blocks and the weights.
    """
    block = np.arange(n) if n_blocks is None or n_blocks >= n else rng.permutation(n) % n_blocks
    shapes = np.repeat([1.0, concentration], block.max() + 1).reshape(2, -1)
    gamma = rng.gamma(shapes)[:, block].ravel()
    return np.asarray(gamma / gamma.mean())


def probe(features: Floats, codes: NDArray[np.intp], n_classes: int, l2: float) -> Floats:
    """Return what a logistic regression fitted to features, with a ridge, says of the same rows, (n, n_classes)."""
    spread = features.std(axis=0)
    z = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    n, d = z.shape
    z1, onehot = np.column_stack([z, np.ones(n)]), np.eye(n_classes)[codes]
    # The bias has a trace of the ridge, so that the optimum is unique.
    ridge = np.r_[np.full(d, l2), 1e-6 * l2][:, None]

    def loss(flat: Floats) -> tuple[float, Floats]:
        theta = flat.reshape(d + 1, n_classes)
        p = softmax(z1 @ theta)
        given = np.maximum((p * onehot).sum(axis=1), np.finfo(float).tiny)
        value = -np.log(given).mean() + (ridge * theta**2).sum() / 2
        return float(value), (z1.T @ (p - onehot) / n + ridge * theta).ravel()

    found = minimize(loss, np.zeros((d + 1) * n_classes), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return softmax(z1 @ found.x.reshape(d + 1, n_classes))


def _pretrained(backbone: Module | None) -> Module:
    nn = require("torch.nn", extra="torch", by="NonparametricTransfer")
    if backbone is None:
        return nn.Identity()
    if not isinstance(backbone, nn.Module):
        raise InvalidParameterError(
            f"The 'backbone' parameter of NonparametricTransfer must be a torch.nn.Module that returns features, or "
            f"None. Got {type(backbone).__name__}."
        )
    return backbone


def _features(backbone: Module, X: Floats) -> Floats:
    features = outputs(deepcopy(backbone).double().eval(), X)
    if features.ndim != 2:
        raise InvalidParameterError(
            f"The 'backbone' of NonparametricTransfer must map rows to a matrix of features. Got shape "
            f"{features.shape}. Append torch.nn.Flatten()."
        )
    return features
