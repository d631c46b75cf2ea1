"""What a model costs by counting: parameters, operations an answer takes, bytes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.onnx_graph import attribute, inner_tensors
from corrigible._utils.optional import require

Floats = NDArray[np.floating]
# Fitted arrays that an answer is computed from, of scikit-learn's estimators.
_ARRAYS = (
    "coef_", "intercept_", "coefs_", "intercepts_", "dual_coef_", "components_", "mean_", "scale_", "min_", "theta_",
    "var_", "class_prior_", "class_log_prior_", "feature_log_prob_", "statistics_", "_fit_X", "scalings_", "means_",
    "cluster_centers_",
)  # fmt: skip
NAN = float("nan")
_UNCOUNTED = ("GRU", "LSTM", "RNN", "Loop", "Scan", "If", "Einsum", "ConvTranspose", "TreeEnsemble", "Attention")


def counted_costs(model: Any, X: Any) -> dict[str, float]:
    """Return parameters, floating point operations a row, and megabytes of a model; NaN where they cannot be counted.

    Parameters
    ----------
    model : fitted estimator, torch module, or ONNX model
        The model.
    X : array-like of shape (n, ...)
        Some rows, of which the operations are counted.

    Notes
    -----
    An operation is a multiplication, an addition or a comparison: a product of matrices (m, k) and (k, n) takes
    ``2 m k n``, a tree one a node that the row passes. What works number by number, as activations, is not counted.
    """
    if hasattr(model, "state_dict"):
        tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}.values()  # shared ones once
        count = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
        size = sum(t.numel() * t.element_size() for t in tensors)
        return {"parameters": float(count), "flops": _torch_flops(model, X), "megabytes": size / 1e6}
    graph = model if hasattr(model, "graph") else getattr(model, "model_", None)
    if graph is not None and hasattr(graph, "graph"):
        return {
            "parameters": _onnx_parameters(graph),
            "flops": _onnx_flops(graph, X),
            "megabytes": graph.ByteSize() / 1e6,
        }
    return {
        "parameters": _parameters(model) or NAN,
        "flops": _flops(model, X),
        "megabytes": len(pickle.dumps(model)) / 1e6,
    }


def _torch_flops(model: Any, X: Any) -> float:
    torch = require("torch", extra="torch", by="A count of operations")
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(X)
    return counter.get_total_flops() / len(X)


# --- estimators ----------------------------------------------------------------------------------------------------


def _members(model: Any) -> list[Any] | None:
    """Return the parts that an estimator asks one after the other, or None if it has none."""
    if hasattr(model, "steps"):
        return [part for _, part in model.steps if part is not None and not isinstance(part, str)]
    if hasattr(model, "calibrated_classifiers_"):
        return [c.estimator for c in model.calibrated_classifiers_]
    if hasattr(model, "estimators_"):
        return [m for m in np.ravel(np.asarray(model.estimators_, dtype=object)) if hasattr(m, "fit")]
    return None


def _parameters(model: Any) -> float:
    parts = _members(model)
    if parts is not None:
        return float(sum(_parameters(p) for p in parts))
    trees = list(_trees(model))
    if trees:  # feature and threshold of each branch, values of each leaf
        return float(sum(2 * (f >= 0).sum() + (f < 0).sum() * width for f, *_, width in trees))
    unread = {"coef_"} if hasattr(model, "support_vectors_") else {"var_"} if hasattr(model, "scale_") else set()
    names = [n for n in _ARRAYS if n not in unread]
    if hasattr(model, "support_vectors_"):
        names.append("support_vectors_")
    return float(sum(_size(getattr(model, n, None)) for n in names))


def _size(value: Any) -> int:
    if value is None:
        return 0
    return sum(map(_size, value)) if isinstance(value, list) else int(getattr(value, "size", 1))


def _flops(model: Any, X: Any) -> float:
    parts = _members(model)
    if parts is None:
        return _own_flops(model, X)
    total = 0.0
    for part in parts:
        total += _flops(part, X)
        if hasattr(model, "steps") and part is not parts[-1]:
            X = part.transform(X)
    return total


def _own_flops(model: Any, X: Any) -> float:
    trees = list(_trees(model))
    if trees:
        rows = np.asarray(X, dtype=np.float64)
        return float(sum(_passed(f, t, left, right, rows) for f, t, left, right, *_ in trees))
    d = X.shape[1]
    if hasattr(model, "support_vectors_"):
        return float(2 * model.support_vectors_.shape[0] * (d + 1))
    if hasattr(model, "coefs_"):
        return float(2 * _size(model.coefs_))
    if hasattr(model, "_fit_X"):
        return float(3 * np.prod(model._fit_X.shape)) if getattr(model, "_fit_method", "") == "brute" else NAN
    if hasattr(model, "theta_"):
        return float(4 * np.size(model.theta_))
    for name in ("coef_", "components_"):
        if hasattr(model, name):
            return float(2 * np.size(getattr(model, name)))
    return float(2 * d) if hasattr(model, "scale_") or hasattr(model, "statistics_") else NAN


def _trees(model: Any) -> Iterator[tuple[Any, ...]]:
    """Yield feature (below 0 at leaves), threshold, left, right of each tree, and the numbers that a leaf holds."""
    if hasattr(model, "tree_"):
        t = model.tree_
        yield t.feature, t.threshold, t.children_left, t.children_right, t.value[0].size
    for predictor in (p for stage in getattr(model, "_predictors", []) for p in stage):
        nodes = predictor.nodes
        feature = np.where(nodes["is_leaf"], -1, nodes["feature_idx"].astype(np.intp))
        yield feature, nodes["num_threshold"], nodes["left"], nodes["right"], 1


def _passed(feature: Any, threshold: Any, left: Any, right: Any, X: Floats) -> float:
    """Return how many branches of a tree a row passes, on average."""
    node, total = np.zeros(len(X), dtype=np.intp), 0
    while (inner := np.flatnonzero(feature[node] >= 0)).size:
        at = node[inner]
        goes_left = X[inner, feature[at]] <= threshold[at]
        node[inner] = np.where(goes_left, left[at], right[at])
        total += inner.size
    return total / len(X)


# --- ONNX ----------------------------------------------------------------------------------------------------------


def _onnx_parameters(model: Any) -> float:
    """Numbers in the tensors of the graph, and in the attributes of operators that hold a model."""
    held = sum(int(np.prod(t.dims)) for t in model.graph.initializer)
    for node in model.graph.node:
        if node.domain == "ai.onnx.ml":
            branches = sum(m != b"LEAF" for m in attribute(node, "nodes_modes", []))
            names = (
                "coefficients",
                "intercepts",
                "support_vectors",
                "offset",
                "scale",
                "class_weights",
                "target_weights",
            )
            held += 2 * branches + sum(len(attribute(node, n, [])) for n in names)
    return float(held)


def _onnx_flops(model: Any, X: Any) -> float:
    from onnx import numpy_helper

    if any(n.op_type in _UNCOUNTED for n in model.graph.node) or len(model.graph.input) != 1:
        return NAN
    shapes = {t.name: numpy_helper.to_array(t).shape for t in model.graph.initializer}
    values: dict[str, Any] = {model.graph.input[0].name: np.asarray(X)}
    values |= dict(inner_tensors(model, X, by="A count of operations"))
    shapes |= {name: v.shape for name, v in values.items()}
    return sum(_node_flops(node, shapes, values) for node in model.graph.node) / len(X)


def _node_flops(node: Any, shapes: dict[str, Any], values: dict[str, Any]) -> float:
    if node.op_type in ("Gemm", "MatMul"):
        a = shapes[node.input[0]]
        depth = a[0] if node.op_type == "Gemm" and attribute(node, "transA", 0) else a[-1]
        return float(2 * depth * np.prod(shapes[node.output[0]]))
    if node.op_type == "Conv":
        return float(2 * np.prod(shapes[node.input[1]][1:]) * np.prod(shapes[node.output[0]]))
    n = shapes[node.input[0]][0] if node.input and len(shapes.get(node.input[0], ())) else 0
    if node.op_type in ("LinearClassifier", "LinearRegressor"):
        return float(2 * n * len(attribute(node, "coefficients")))
    if node.op_type in ("SVMClassifier", "SVMRegressor"):
        return float(2 * n * len(attribute(node, "support_vectors", [])))
    if node.op_type.startswith("TreeEnsemble"):
        rows = values[node.input[0]]
        return float(n * sum(_passed(f, t, left, right, rows) for f, t, left, right in _onnx_trees(node)))
    return 0.0


def _onnx_trees(node: Any) -> Iterator[tuple[Any, ...]]:
    tree = np.array(attribute(node, "nodes_treeids"))
    columns = [
        np.array(attribute(node, f"nodes_{n}")) for n in ("featureids", "values", "truenodeids", "falsenodeids")
    ]
    leaf = np.array([m == b"LEAF" for m in attribute(node, "nodes_modes")])
    columns[0] = np.where(leaf, -1, columns[0])
    for t in np.unique(tree):
        yield tuple(c[tree == t] for c in columns)
