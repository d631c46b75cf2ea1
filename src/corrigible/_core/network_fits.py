"""Single torch networks: trained for classes as a member of an ensemble is, or for numbers; their last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.blocks import row_blocks
from corrigible._core.torch_training import Floats, Module, Objective, Recipe, Tensor, cross_entropy, seeded, train
from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError

Start = Callable[[int, int], Module]


@dataclass(frozen=True)
class Observed:
    """The plan of one network that learns from the observed rows alone."""

    start: Start

    def objective(self, X: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[int, Objective]:
        """Return the number of rows, and the cross-entropy of a batch of them."""

        def loss(module: Any, rows: Any) -> Tensor:
            return cross_entropy(module, X[rows], target[rows])

        return len(X), loss


def train_values(start: Start, X: Floats, y: Floats, recipe: Recipe, seed: int, *, by: str) -> Module:
    """Return a network of one output, trained by squared error; all that is random in it follows from the seed.

    Parameters
    ----------
    start : callable
        Function of (n_inputs, 1) that returns the new network.
    X : ndarray of shape (n, n_inputs)
        Rows.
    y : ndarray of shape (n,)
        Numbers, best of mean 0 and variance 1.
    recipe : Recipe
        Steps and their sizes.
    seed : int
        Of the network's start and the shuffles.
    by : str
        Whose rows they are, for the message.
    """
    if float(np.abs(X).max()) > float(np.finfo(np.float32).max):
        raise DataError(f"'X' of {by} must fit float32, in which networks train. Got larger values. Rescale it.")
    with seeded(seed) as torch:
        rows_in, target = torch.tensor(X).float(), torch.tensor(y).float()[:, None]

        def loss(module: Any, rows: NDArray[np.intp]) -> Tensor:
            return ((module(rows_in[rows]) - target[rows]) ** 2).mean()

        return train(start(X.shape[1], 1), len(X), loss, recipe, np.random.default_rng(seed))


def last_linear(module: Module, *, by: str) -> Module:
    """Return the linear layer that a network ends with."""
    nn = require("torch.nn", extra="torch", by=by)
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise InvalidParameterError(f"The network of {by} must end with a torch.nn.Linear. Got none in it.")
    return layers[-1]


def linear_inputs(module: Module, X: Floats, *, by: str) -> Floats:
    """Return what a network's last layer is given for rows X, (n, d), and check that its answer is the network's."""
    torch = require("torch", extra="torch", by=by)
    seen: list[Any] = []
    hook = last_linear(module, by=by).register_forward_hook(lambda _, given, said: seen.append((given[0], said)))
    found = []
    try:
        with torch.no_grad():
            for rows in row_blocks(*X.shape):
                seen.clear()
                answer = module(torch.tensor(X[rows]).to(next(module.parameters()).dtype))
                if len(seen) != 1 or not torch.equal(seen[0][1], answer):
                    raise InvalidParameterError(
                        f"The network of {by} must answer with what its last torch.nn.Linear says. Got another layer "
                        "after it; return logits, without a softmax."
                    )
                found.append(seen[0][0].numpy())
    finally:
        hook.remove()
    return np.concatenate(found).astype(np.float64)


@contextmanager
def sampled_dropout(module: Module, seed: int, *, by: str) -> Iterator[None]:
    """Inside the block every dropout layer of a network drops the units that the seed says, the same for all rows."""
    torch = require("torch", extra="torch", by=by)
    layers = dropout_layers(module, by=by)

    def drop(number: int) -> Callable[..., Any]:
        def dropped(layer: Any, given: Any, said: Any) -> Any:
            shape = [1, *said.shape[1:]]
            if not isinstance(layer, torch.nn.Dropout):  # whole channels
                shape[2:] = [1] * (said.ndim - 2)
            # Drawn in numpy from seed and layer: a row's answer does not depend on the batch it comes in.
            kept = np.random.default_rng([seed, number]).uniform(size=shape) >= layer.p
            return said * torch.as_tensor(kept / max(1 - layer.p, 1e-12)).to(said.dtype)

        return dropped

    hooks = [layer.register_forward_hook(drop(i)) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def dropout_layers(module: Module, *, by: str) -> list[Any]:
    """Return the layers of a network that drop units or channels."""
    nn = require("torch.nn", extra="torch", by=by)
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    layers = [m for m in module.modules() if isinstance(m, kinds)]
    if not layers:
        raise InvalidParameterError(f"The network of {by} must hold a torch.nn.Dropout layer. Got none in it.")
    return layers
