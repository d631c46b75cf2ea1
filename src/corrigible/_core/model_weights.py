"""Models as dicts of arrays: what mergers that need data take and give, whatever the framework."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError

Weights = Mapping[str, NDArray[Any]]
_LINEAR = ("coef_", "intercept_")


def weights_of(model: Any, *, by: str) -> dict[str, NDArray[Any]]:
    """Return the floating-point weights of a dict of arrays, a torch module or a scikit-learn model.

    Parameters
    ----------
    model : mapping, torch module or estimator
        An estimator must be linear (``coef_`` and ``intercept_``) or a multilayer perceptron.
    by : str
        Who asks, for errors.
    """
    if isinstance(model, Mapping):
        return {str(k): _array(v) for k, v in model.items()}
    if hasattr(model, "state_dict"):
        return {k: _array(v) for k, v in model.state_dict().items() if v.is_floating_point()}
    if hasattr(model, "coefs_"):
        return {
            f"{part}.{i}": np.asarray(w)
            for part in ("coefs_", "intercepts_")
            for i, w in enumerate(getattr(model, part))
        }
    if hasattr(model, "coef_"):
        return {
            name: np.asarray(getattr(model, name), dtype=np.float64) for name in _LINEAR if hasattr(model, name)
        }
    raise InvalidParameterError(
        f"{by} needs weights by name, a torch module, or a fitted linear or MLP model of scikit-learn. "
        f"Got {type(model).__name__}."
    )


def with_weights(model: Any, weights: Weights) -> Any:
    """Return a copy of a model with these weights, in the form that `weights_of` gives."""
    if isinstance(model, Mapping):
        return dict(weights)
    made = copy.deepcopy(model)
    if hasattr(made, "state_dict"):
        torch = require("torch", extra="torch", by="A torch module")
        state = made.state_dict()
        state |= {k: torch.as_tensor(np.ascontiguousarray(v)).to(state[k].dtype) for k, v in weights.items()}
        made.load_state_dict(state)
        return made
    if hasattr(made, "coefs_"):
        for part in ("coefs_", "intercepts_"):
            setattr(made, part, [np.array(weights[f"{part}.{i}"]) for i in range(len(getattr(made, part)))])
        return made
    for name, value in weights.items():
        setattr(made, name, np.array(value))
    return made


def check_alike(models: Sequence[Weights], *, by: str) -> None:
    """Raise unless all models have the same tensors; the first ten that differ are listed."""
    if not models:
        raise DataError(f"{by} needs at least one model. Got none.")
    shapes = [{k: tuple(np.shape(v)) for k, v in m.items()} for m in models]
    if differing := differences(shapes, [f"model {i}" for i in range(len(models))]):
        raise DataError(f"The models of {by} differ in architecture: {differing}.")


def differences(shapes: Sequence[Mapping[str, tuple[int, ...]]], names: Sequence[str], shown: int = 10) -> str:
    """Say which tensors differ in shape, or are missing, between the first model and the others; at most ten."""
    found = []
    for other, name in zip(shapes[1:], names[1:], strict=True):
        for key in sorted(shapes[0].keys() | other.keys()):
            a, b = shapes[0].get(key), other.get(key)
            if a != b:
                found.append(f"{key} ({_shape(a)} in {names[0]}, {_shape(b)} in {name})")
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    return ", ".join(found[:shown]) + more


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "scalar"


def _array(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return np.asarray(value.float() if str(value.dtype) == "torch.bfloat16" else value)
    return np.asarray(value)
