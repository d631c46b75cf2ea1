"""Paths between the parameters of torch networks."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.torch_training import Module, Tensor
from corrigible._utils.optional import require
from corrigible.errors import InvalidParameterError

Weights = dict[str, Tensor]


def weights_of(network: Module) -> Weights:
    """Return the parameters, detached copies by name."""
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def between(t: Any, a: Weights, b: Weights, middle: Weights | None = None) -> Weights:
    """Return the point t of the straight path, or of the quadratic Bezier path with that middle."""
    if middle is None:
        return {k: (1 - t) * a[k] + t * b[k] for k in a}
    return {k: (1 - t) ** 2 * a[k] + 2 * t * (1 - t) * middle[k] + t**2 * b[k] for k in a}


def at(network: Module, weights: Weights, X: Tensor) -> Module:
    """Return a copy of the network with these parameters; batch normalisation takes its statistics from X anew."""
    torch = require("torch", extra="torch", by="A path between networks")
    made = copy.deepcopy(network).eval()
    made.load_state_dict(weights, strict=False)
    normalised = [m for m in made.modules() if getattr(m, "running_mean", None) is not None]
    for layer in normalised:
        layer.reset_running_stats()
        layer.momentum = None  # plain averages
        layer.train()
    if normalised:
        with torch.no_grad():
            made(X)
    return made.eval()


def alike(a: Module, b: Module, by: str) -> None:
    """Raise if two networks do not have the same parameters by name and shape."""
    shapes = [{k: tuple(v.shape) for k, v in m.named_parameters()} if hasattr(m, "named_parameters") else None
              for m in (a, b)]  # fmt: skip
    if shapes[0] is None or shapes[0] != shapes[1]:
        raise InvalidParameterError(
            f"Both networks of {by} must be torch modules of one architecture. Got {type(a).__name__} and "
            f"{type(b).__name__}, whose parameters differ in name or shape."
        )


def permuted_towards(network: Module, target: Module, X: Tensor) -> Module:
    """Return the network with its hidden units in the order that matches the target's activations best.

    Layer by layer, units are assigned to those of the target so that the summed correlation of their activations on
    X is largest. The function that the network computes stays the same.
    """
    torch = require("torch", extra="torch", by="align_units")
    nn = torch.nn
    made, layers, models = copy.deepcopy(network).eval(), _layers(network, nn), _layers(target, nn)
    ours = _layers(made, nn)
    with torch.no_grad():
        hidden = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        for here, after in pairwise(hidden):
            seen = [nn.Sequential(*net[: here + 1]).eval()(X).numpy() for net in (models, ours)]
            order = torch.tensor(_matching(*seen))
            for layer in ours[here:after]:
                for name in ("weight", "bias", "running_mean", "running_var"):
                    if getattr(layer, name, None) is not None:
                        value = getattr(layer, name)
                        value.copy_(value[order].clone())
            ours[after].weight.copy_(ours[after].weight[:, order].clone())
    return made


def _layers(network: Module, nn: Any) -> list[Module]:
    known = (nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Dropout,
             nn.Identity, nn.ELU)  # fmt: skip
    layers = list(network) if isinstance(network, nn.Sequential) else [network]
    if not all(isinstance(layer, known) for layer in layers):
        raise InvalidParameterError(
            "Units are aligned in a torch.nn.Sequential of linear layers, BatchNorm1d and elementwise functions. Got "
            f"{type(network).__name__}: align the networks yourself."
        )
    return layers


def _matching(target: NDArray[Any], own: NDArray[Any]) -> NDArray[np.intp]:
    """Return for each unit of the target the unit of the network assigned to it."""
    from scipy.optimize import linear_sum_assignment

    centred = [z - z.mean(axis=0) for z in (target, own)]
    unit = [z / np.maximum(np.linalg.norm(z, axis=0), 1e-300) for z in centred]
    return np.asarray(linear_sum_assignment(unit[0].T @ unit[1], maximize=True)[1])
