"""Networks as chains of linear maps between hidden units: what matching, merging and refitting units needs of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError

Floats = NDArray[np.float64]

# Functions that act on each unit by itself, or on the positions of one unit's map.
_BETWEEN = {
    "ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Softplus", "Softsign",
    "Hardtanh", "Hardswish", "Hardsigmoid", "Identity", "Flatten", "Dropout", "Dropout2d", "MaxPool2d", "AvgPool2d",
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d",
}  # fmt: skip
_NORMS = ("BatchNorm1d", "BatchNorm2d")
_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "logistic": expit,
}


@dataclass(frozen=True)
class Link:
    """A linear map from the units of one layer to those of the next.

    Each unit of the layer before has `span` values: the pixels of a flattened map, or the positions of a kernel.
    """

    weight: Floats  # (n_out, n_in, span)
    bias: Floats  # (n_out,)

    @property
    def flat(self) -> Floats:
        """The weight as a matrix of shape (n_out, n_in * span)."""
        return self.weight.reshape(len(self.weight), -1)


class Chain(Protocol):
    """A network as links with functions between them that treat all units alike."""

    links: list[Link]

    def designs(self, X: Any) -> list[Floats]:
        """Return what each link reads, one array of shape (n_rows, n_in, span) a link."""

    def rebuilt(self, links: Sequence[Link]) -> Any:
        """Return a copy of the network with these links, of any width."""


def chains(models: Sequence[Any], *, by: str, separate: bool) -> tuple[Chain, Chain]:
    """Return two networks as chains, once they are found to be of one architecture.

    Raises
    ------
    InvalidParameterError
        If there are not two networks, or one has layers that are not known here.
    DataError
        If they differ in architecture; with separate heads the numbers of outputs may differ.
    """
    if len(models) != 2:
        raise DataError(f"{by} merges two networks. Got {len(models)}.")
    first, second = (_chain(m, by) for m in models)
    if type(first) is not type(second):
        raise DataError(
            f"{by} merges two networks of one kind. Got {' and '.join(type(m).__name__ for m in models)}."
        )
    first.check_alike(second, by, separate)
    return first, second


def _chain(model: Any, by: str) -> _EstimatorChain | _TorchChain:
    if hasattr(model, "coefs_"):
        return _EstimatorChain(model)
    if hasattr(model, "state_dict"):
        return _TorchChain(model, by)
    raise InvalidParameterError(
        f"{by} takes torch.nn.Sequential networks or fitted multilayer perceptrons of scikit-learn. "
        f"Got {type(model).__name__}."
    )


class _EstimatorChain:
    """A multilayer perceptron of scikit-learn."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.links = [
            Link(np.asarray(w, dtype=np.float64).T[:, :, None], np.asarray(b, dtype=np.float64))
            for w, b in zip(model.coefs_, model.intercepts_, strict=True)
        ]

    def designs(self, X: Any) -> list[Floats]:
        z, found = np.asarray(X, dtype=np.float64), []
        width = self.links[0].weight.shape[1]
        if z.ndim != 2 or z.shape[1] != width:
            raise DataError(
                f"The rows must have {width} features, as the networks do. Got an array of shape {z.shape}."
            )
        for link in self.links:
            found.append(z[:, :, None])
            z = _ACTIVATIONS[self.model.activation](z @ link.flat.T + link.bias)
        return found

    def rebuilt(self, links: Sequence[Link]) -> Any:
        made = copy.deepcopy(self.model)
        kept = self.model.coefs_[0].dtype
        made.coefs_ = [np.ascontiguousarray(link.flat.T, dtype=kept) for link in links]
        made.intercepts_ = [link.bias.astype(kept) for link in links]
        made.hidden_layer_sizes = tuple(len(link.bias) for link in links[:-1])
        made.__dict__.pop("_optimizer", None)  # its moments are of other shapes: further training makes a new one
        return made

    def check_alike(self, other: Any, by: str, separate: bool) -> None:
        if separate:
            raise InvalidParameterError(
                f"{by} keeps two heads in torch networks only: a classifier of scikit-learn has one set of classes."
            )
        said = []
        for m in (self.model, other.model):
            shapes = [w.shape for w in m.coefs_]
            said.append((shapes, m.activation, m.out_activation_, list(getattr(m, "classes_", []))))
        if said[0] != said[1]:
            raise DataError(
                f"The networks of {by} differ in layers, activation or classes: {said[0]} and {said[1]}."
            )


class _TorchChain:
    """A torch network of nested Sequentials."""

    def __init__(self, network: Any, by: str) -> None:
        self._torch = require("torch", extra="torch", by=by)
        nn = self._torch.nn
        self.network, self._by = network, by
        if not isinstance(network, nn.Sequential):
            raise InvalidParameterError(
                f"{by} reads the order of layers from a torch.nn.Sequential, nested or not. Got "
                f"{type(network).__name__}: of other modules it cannot be known which layer feeds which."
            )
        layers = list(_flattened(copy.deepcopy(network).eval(), ""))
        self._layers = [layer for _, layer in layers]
        self._norms: list[str] = []
        self._places: list[str] = []
        self.links: list[Link] = []
        for i, (path, layer) in enumerate(layers):
            name = type(layer).__name__
            if isinstance(layer, nn.Linear | nn.Conv2d):
                self._add(path, layer)
            elif name in _NORMS and i and _is_affine(self._layers[i - 1], nn):
                self._fold(path, layer)
            elif name not in _BETWEEN or getattr(layer, "start_dim", 1) != 1:
                raise InvalidParameterError(_unknown(by, path, layer))
        if len(self.links) < 2:
            raise InvalidParameterError(
                f"{by} needs a hidden layer to merge. The network has {len(self.links)} layers."
            )

    def _add(self, path: str, layer: Any) -> None:
        conv = hasattr(layer, "kernel_size")
        if any(self._layer_at(path) is self._layer_at(p) for p in self._places):
            raise InvalidParameterError(f"{self._by} cannot merge a layer that is used twice ({path}).")
        if conv and (layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise InvalidParameterError(_unknown(self._by, path, layer))
        weight = layer.weight.detach().double().cpu().numpy()
        out = len(weight)
        # After a Flatten the columns of one unit stand side by side.
        units = weight.shape[1] if conv or not self.links else len(self.links[-1].bias)
        if weight.size % (out * units):
            raise DataError(
                f"The layer {path} of {self._by} has {weight.shape[1]} inputs for {units} units before it."
            )
        bias = np.zeros(out) if layer.bias is None else layer.bias.detach().double().cpu().numpy()
        self.links.append(Link(weight.reshape(out, units, -1), bias))
        self._places.append(path)

    def _fold(self, path: str, norm: Any) -> None:
        """Make a batch normalisation, as it acts in evaluation, part of the link before it."""
        if norm.running_mean is None:
            raise InvalidParameterError(_unknown(self._by, path, norm))
        mean, var = norm.running_mean.double().cpu().numpy(), norm.running_var.double().cpu().numpy()
        scale, shift = 1 / np.sqrt(var + norm.eps), np.zeros(len(mean))
        if norm.weight is not None:
            scale, shift = (
                scale * norm.weight.detach().double().cpu().numpy(),
                norm.bias.detach().double().cpu().numpy(),
            )
        link = self.links[-1]
        self.links[-1] = Link(link.weight * scale[:, None, None], (link.bias - mean) * scale + shift)
        self._norms.append(path)

    def _layer_at(self, path: str) -> Any:
        return self.network.get_submodule(path)

    def designs(self, X: Any) -> list[Floats]:
        torch = self._torch
        found: list[Floats] = []
        kind = next(self.network.parameters())
        x = torch.as_tensor(X).to(device=kind.device, dtype=kind.dtype)
        try:
            with torch.no_grad():
                for layer in self._layers:
                    behind = layer(x)  # first: it says best what does not fit
                    if _is_affine(layer, torch.nn):
                        found.append(self._design(layer, x, self.links[len(found)].weight.shape))
                    x = behind
        except RuntimeError as error:
            raise DataError(f"The networks of {self._by} cannot take the rows given ({error}).") from error
        return found

    def _design(self, layer: Any, x: Any, shape: tuple[int, ...]) -> Floats:
        if hasattr(layer, "kernel_size"):
            words = {"kernel_size": layer.kernel_size, "dilation": layer.dilation, "padding": layer.padding}
            patches = self._torch.nn.functional.unfold(x, stride=layer.stride, **words)
            x = patches.transpose(1, 2)
        elif x.ndim != 2:
            raise DataError(
                f"A linear layer of {self._by} must read one vector a row. It is given {tuple(x.shape)}."
            )
        return np.asarray(x.double().cpu().numpy().reshape(-1, *shape[1:]))

    def rebuilt(self, links: Sequence[Link]) -> Any:
        torch, made = self._torch, copy.deepcopy(self.network)
        for path, link in zip(self._places, links, strict=True):
            old = self._layer_at(path)
            out, units, span = link.weight.shape
            words = {"bias": True, "device": old.weight.device, "dtype": old.weight.dtype}
            if hasattr(old, "kernel_size"):
                words |= {"stride": old.stride, "padding": old.padding, "dilation": old.dilation}
                new = torch.nn.Conv2d(units, out, old.kernel_size, **words)
            else:
                new = torch.nn.Linear(units * span, out, **words)
            with torch.no_grad():
                new.weight.copy_(torch.as_tensor(link.flat).reshape(new.weight.shape))
                new.bias.copy_(torch.as_tensor(link.bias))
            _put(made, path, new.train(old.training))
        for path in self._norms:
            _put(made, path, torch.nn.Identity())
        return made

    def check_alike(self, other: Any, by: str, separate: bool) -> None:
        mine, theirs = ([str(layer) for layer in c._layers] for c in (self, other))
        if separate:
            last = max(i for i, layer in enumerate(self._layers) if _is_affine(layer, self._torch.nn))
            mine, theirs = mine[:last] + mine[last + 1 :], theirs[:last] + theirs[last + 1 :]
        if mine != theirs:
            apart = [f"{a} and {b}" for a, b in zip(mine, theirs, strict=False) if a != b]
            found = ", ".join(apart[:10]) or f"{len(mine)} and {len(theirs)} layers"
            raise DataError(f"The networks of {by} differ in architecture: {found}.")


def _is_affine(layer: Any, nn: Any) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d)


def _flattened(module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, child in module._modules.items():  # named_children passes over what comes a second time
        path = f"{prefix}.{name}".lstrip(".")
        if type(child).__name__ == "Sequential":
            yield from _flattened(child, path)
        else:
            yield path, child


def _put(network: Any, path: str, layer: Any) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent) if parent else network, name, layer)


def _unknown(by: str, path: str, layer: Any) -> str:
    return (
        f"{by} knows linear layers, ungrouped 2-d convolutions with zero padding, batch normalisation right after them, "
        f"pooling, Flatten and functions of single units. Layer {path} is {layer}."
    )


def row_batches(X: Any, size: int) -> Iterator[Any]:
    """Yield the rows a batch at a time."""
    for start in range(0, len(X), size):
        yield X[start : start + size]
