"""Where a converted model leaves its original: inner values of both, matched, and the graph between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.onnx_graph import ancestors, inner_tensors
from corrigible._utils.optional import require

Array = NDArray[Any]
_BY = "ConverterCheck"


@dataclass(frozen=True)
class Divergence:
    """The first node whose value the original does not have.

    Attributes
    ----------
    node : str
        Its name, or that of its first output.
    operator : str
        What it computes.
    suspects : tuple of str
        Nodes between the last values that agree and the output, in order; the first is `node`. Where the original
        shows few inner values, the fault may lie in any of them up to `before`.
    expected : str
        First value of the original that the converted model does not reach.
    before : str
        The node that should have made it, where the shapes tell; else the last of the suspects.
    """

    node: str
    operator: str
    suspects: tuple[str, ...]
    expected: str
    before: str


def locate(model: Any, converted: Any, X: Any, *, rtol: float, atol: float) -> Divergence | None:
    """Return the first node that diverges, or None if every suspect's value is found in the original.

    Each tensor of the converted graph that equals a value of the original clears the nodes that it is computed from.
    What is left, in the order of the graph, starts with the first node that diverges, whatever the branches.
    """
    values = [(name, v) for name, v in checkpoints(model, X) if v.size]
    tensors = list(inner_tensors(converted, X, by=_BY))
    found, agreeing = set(), set()
    for name, tensor in tensors:
        for i, (_, value) in enumerate(values):
            if alike(tensor, value, rtol, atol):
                found.add(i)
                agreeing.add(name)
    outputs = [o.name for o in converted.graph.output]
    suspects = sorted(ancestors(converted, outputs) - ancestors(converted, agreeing))
    suspects = [i for i in suspects if not _is_constant(converted, i)]
    if not suspects:  # of a node with several outputs one may be wrong beside another that is right
        wrong = (set(outputs) - agreeing) or set(outputs)  # or it is right for another place, as logits at the end
        suspects = [i for i, node in enumerate(converted.graph.node) if wrong & set(node.output)]
    if not suspects:
        return None
    names = [_name(converted.graph.node[i]) for i in suspects]
    missing = [i for i in range(len(values)) if i not in found]
    later = [i for i in missing if i > max(found, default=-1)] or missing
    expected, before = "the output", names[-1]
    if later:
        expected = values[later[0]][0]
        shapes = {name: t.shape for name, t in tensors}
        size = values[later[0]][1].size
        nodes = [converted.graph.node[i] for i in suspects]
        same = [_name(node) for node in nodes if any(_size(shapes.get(o)) == size for o in node.output)]
        before = same[0] if same else names[-1]
    return Divergence(names[0], converted.graph.node[suspects[0]].op_type, tuple(names), expected, before)


def _size(shape: tuple[int, ...] | None) -> int:
    return -1 if shape is None else int(np.prod(shape))


def _is_constant(model: Any, i: int) -> bool:
    """Whether a node's output does not depend on the inputs of the model."""
    inputs = {v.name for v in model.graph.input}
    nodes = ancestors(model, model.graph.node[i].output)
    return not any(name in inputs for j in nodes for name in model.graph.node[j].input)


def _name(node: Any) -> str:
    return str(node.name or node.output[0])


def alike(tensor: Array, value: Array, rtol: float, atol: float) -> bool:
    """Whether two arrays hold the same numbers in the same order, in any shape; constants say nothing."""
    if tensor.size != value.size:
        return False
    if not all(v.dtype.kind in "fiub" for v in (tensor, value)):
        return bool((tensor.astype(str).ravel() == value.astype(str).ravel()).all())
    a, b = tensor.ravel().astype(np.float64), value.ravel().astype(np.float64)
    if a.size > 1 and (b == b[0]).all():
        return False
    scale = max(1.0, float(np.nanmax(np.abs(b), initial=0.0)))
    with np.errstate(invalid="ignore"):
        return bool(np.allclose(a, b, rtol=rtol, atol=atol * scale, equal_nan=True))


def checkpoints(model: Any, X: Any) -> Iterator[tuple[str, Array]]:
    """Yield the inner values of the original with their names, in the order in which they are computed."""
    if hasattr(model, "state_dict"):
        yield from _torch_values(model, X)
    elif hasattr(model, "graph"):
        yield from inner_tensors(model, X, by=_BY)
    else:
        yield from _estimator_values(model, X, type(model).__name__)


def _estimator_values(model: Any, X: Any, name: str) -> Iterator[tuple[str, Array]]:
    steps = getattr(model, "steps", None)
    if steps is not None:
        for step, part in steps[:-1]:
            if part is not None and part != "passthrough":
                X = part.transform(X)
                X = X.toarray() if hasattr(X, "toarray") else X
                yield f"step {step!r}", np.asarray(X, dtype=np.float64)
        last = steps[-1]
        yield from _estimator_values(last[1], X, f"step {last[0]!r}")
        return
    if hasattr(model, "coefs_") and hasattr(model, "activation"):
        yield from _hidden_layers(model, X, name)
    for method in ("decision_function", "predict_log_proba", "predict_proba", "transform"):
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(getattr(model, method)(X), dtype=np.float64)
        except (AttributeError, ValueError, TypeError):
            continue
        yield f"{method} of {name}", value
        if method == "decision_function" and value.ndim == 1:
            yield f"{method} of {name}, both signs", np.column_stack([-value, value])
    if hasattr(model, "predict"):
        yield f"predict of {name}", np.asarray(model.predict(X))


def _hidden_layers(model: Any, X: Any, name: str) -> Iterator[tuple[str, Array]]:
    from sklearn.neural_network._base import ACTIVATIONS

    value = np.asarray(X, dtype=np.float64)
    for i, (w, b) in enumerate(zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True)):
        value = value @ w + b
        yield f"sums of hidden layer {i} of {name}", value.copy()
        ACTIVATIONS[model.activation](value)
        yield f"hidden layer {i} of {name}", value.copy()
    yield f"sums of the last layer of {name}", value @ model.coefs_[-1] + model.intercepts_[-1]


def _torch_values(model: Any, X: Any) -> Iterator[tuple[str, Array]]:
    """Every tensor that an operator of torch puts out, named by the module in which it did."""
    torch = require("torch", extra="torch", by=_BY)
    from torch.utils._python_dispatch import TorchDispatchMode

    kept: list[tuple[str, Array]] = []
    with _named_modules(model) as where:

        class Recorder(TorchDispatchMode):  # type: ignore[misc]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = func(*args, **(kwargs or {}))
                for value in out if isinstance(out, tuple | list) else [out]:
                    if isinstance(value, torch.Tensor) and not func.is_view:
                        label = f"{func.__name__.split('.')[0]} in {where[-1] or type(model).__name__}"
                        kept.append((label, value.detach().numpy().copy()))
                return out

        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # attention as one operator would hide its inner values
        try:
            from torch.nn.attention import SDPBackend, sdpa_kernel

            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Recorder():
                model(as_tensor(model, X))
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    yield from kept


@contextmanager
def _named_modules(model: Any) -> Iterator[list[str]]:
    """Keep, inside the block, the names of the modules that are at work, the innermost last."""
    stack, hooks = [""], []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda m, i, n=name: stack.append(n)))
        hooks.append(module.register_forward_hook(lambda m, i, o: (stack.pop(), None)[1]))
    try:
        yield stack
    finally:
        for hook in hooks:
            hook.remove()


def as_tensor(model: Any, X: Any) -> Any:
    """Return rows as a torch tensor: numbers in the type of the network's weights, whole numbers as they are."""
    torch = require("torch", extra="torch", by=_BY)
    tensor = torch.as_tensor(np.ascontiguousarray(X))
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return (
        tensor if not tensor.is_floating_point() else tensor.to(torch.float32 if weight is None else weight.dtype)
    )
