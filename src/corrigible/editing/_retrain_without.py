"""The two ways of unlearning that need no new idea: training again without the known bad rows, from scratch or on.

Paper: Corrective Machine Unlearning (Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024).
Original: https://github.com/drimpossible/corrective-unlearning-bench
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._core.torch_training import Module, Recipe, Tensor, seeded, train
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible.editing._unlearning import checked_rows, known_rows, network_copy
from corrigible.errors import InvalidParameterError

CARD = Card(
    name="retrain_without",
    kind="measure",
    obj="RetrainWithout",
    also=("FineTuneWithout",),
    papers=("corr_unlearn",),
    refs=("goel2024corrective",),
    source="https://github.com/drimpossible/corrective-unlearning-bench",
    differs="Adam with decoupled weight decay, its step falling along half a cosine, where the authors use gradient "
    "descent with momentum; all layers are trained, not only the last few. The last epoch is kept; the authors keep the "
    "one that is best on test rows.",
    inputs="model, X, y, bad",
    stochastic=True,
    cost="max_iter epochs over the rows not known to be bad",
    use_when="Nearly all bad rows are known, or a baseline is wanted that any other method must beat.",
    avoid_when="A small part of them is known: the network learns the rest again.",
    requires=("torch",),
)


class RetrainWithout(BaseEstimator):
    """Train the network from scratch on the rows that are not known to be bad.

    Parameters
    ----------
    max_iter : int, default=20
        Epochs.
    batch_size : int, default=64
        Rows a step.
    learning_rate : float, default=0.001
        First step size of Adam; it falls to 0 along half a cosine.
    weight_decay : float, default=0.0001
        Decoupled from the gradient.
    random_state : None, int, Generator or RandomState
        Source of the new start and the shuffles.

    Attributes
    ----------
    model_ : torch module
        The new network, in evaluation mode, of the precision of the old one.

    See Also
    --------
    FineTuneWithout : Goes on from the network as it is.

    References
    ----------
    .. [1] Goel, S., Prabhu, A., Torr, P., Kumaraguru, P. and Sanyal, A. (2024). Corrective Machine Unlearning. TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.editing import RetrainWithout
    >>> X = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    >>> y = (X[:, 0] > 0).astype(int)
    >>> new = RetrainWithout(learning_rate=0.1, random_state=0).fit(torch.nn.Linear(3, 2), X, y, bad=[3, 8]).model_
    >>> float((new(torch.tensor(X)).argmax(dim=1).numpy() == y).mean()) > 0.9
    True
    """

    def __init__(
        self,
        *,
        max_iter: int = 20,
        batch_size: int = 64,
        learning_rate: float = 0.001,
        weight_decay: float = 0.0001,
        random_state: RandomState = None,
    ) -> None:
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(
        self,
        model: Any,
        X: Any,
        y: ArrayLike,
        bad: ArrayLike,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Train a copy of the network.

        Parameters
        ----------
        model : torch module
            From rows to logits; left as it is. Parameters that require no gradient stay as they are.
        X : array-like or tensor of shape (n_samples, ...)
            The training rows, bad ones included. Of arrays, memory-mapped ones too, a batch at a time is read.
        y : array-like of shape (n_samples,)
            The labels it was trained on, as numbers of the logits' columns.
        bad : array-like of bool of shape (n_samples,), or of row numbers
            The rows known to be bad.
        X_val, y_val : array-like, optional
            Not used; here so that all methods are called alike.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If rows are not finite, labels do not fit the logits, or no row or every row is bad.
        InvalidParameterError
            If a parameter is out of range, or a layer of the network has no ``reset_parameters``.
        """
        by = type(self).__name__
        recipe = Recipe.of(self, by)
        network = network_copy(model, by)
        kind = next(network.parameters()).dtype
        network.float()
        rows = checked_rows(network, X, y, by=by)
        known = known_rows(bad, len(rows), by)
        others = np.setdiff1d(np.arange(len(rows)), known)
        seed = integer_seed(as_generator(self.random_state))

        def cost(module: Module, batch: Any) -> Tensor:
            inputs, labels = rows.batch(others[batch])
            return rows.torch.nn.functional.cross_entropy(module(inputs), labels)

        with seeded(seed):
            self._start(network, by)
            train(network, len(others), cost, recipe, np.random.default_rng(seed))
        self.model_ = network.to(kind)
        return self

    def _start(self, network: Module, by: str) -> None:
        for name, module in network.named_modules():
            own = [p for p in module.parameters(recurse=False) if p.requires_grad]
            if own and not hasattr(module, "reset_parameters"):
                raise InvalidParameterError(
                    f"Every layer of the 'model' of {by} must have reset_parameters to start anew. "
                    f"{name or 'The network itself'}, a {type(module).__name__}, has not. Give it one."
                )
            if own:
                module.reset_parameters()


class FineTuneWithout(RetrainWithout):
    """Go on training the network on the rows that are not known to be bad, and trust that it forgets the others.

    Parameters
    ----------
    max_iter : int, default=20
        Epochs.
    batch_size : int, default=64
        Rows a step.
    learning_rate : float, default=0.001
        First step size of Adam; it falls to 0 along half a cosine.
    weight_decay : float, default=0.0001
        Decoupled from the gradient.
    random_state : None, int, Generator or RandomState
        Source of the shuffles.

    Attributes
    ----------
    model_ : torch module
        The corrected copy, in evaluation mode, of the precision of the network given.

    References
    ----------
    .. [1] Goel, S., Prabhu, A., Torr, P., Kumaraguru, P. and Sanyal, A. (2024). Corrective Machine Unlearning. TMLR.
    """

    def _start(self, network: Module, by: str) -> None:
        """Start from the weights as they are."""
