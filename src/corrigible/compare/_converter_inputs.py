"""Rows on which a converted model is compared: real ones, and ones at the edges of arithmetic and of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# What a converted model cannot be blamed for: its inputs are rounded, or its arithmetic overflows.
_RISKS = ("float64", "large integers", "huge")


@dataclass(frozen=True)
class Family:
    """Rows of one kind.

    Parameters
    ----------
    name : str
        Kind.
    rows : dataframe or ndarray
        They, of the type of the rows given.
    is_risk : bool
        Whether a difference is a risk and no fault: float32 cannot hold such rows, or the rows given are not of the
        kind, as without missing values.
    """

    name: str
    rows: Any
    is_risk: bool = False


def families(model: Any, X: Any, *, n_fuzzed: int, rng: np.random.Generator) -> Iterator[Family]:
    """Yield the rows given, rounded to float32, and rows made from them."""
    unseen = {*_RISKS, "unknown words", "empty words"}
    if (
        not pd.isna(X).to_numpy().any()
        if isinstance(X, pd.DataFrame)
        else X.dtype.kind == "f" and not np.isnan(X).any()
    ):
        unseen.add("missing")
    if isinstance(X, pd.DataFrame) or (X.dtype.kind == "f" and not np.isinf(X).any()):
        unseen.add("infinite")
    made = _frame_families if isinstance(X, pd.DataFrame) else _array_families
    yield from (Family(name, rows, name in unseen) for name, rows in made(model, X, n_fuzzed, rng))


def _array_families(
    model: Any, X: NDArray[Any], n: int, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[Any]]]:
    if X.dtype.kind != "f":
        yield "real", X
        if X.dtype.kind in "iu":
            yield (
                "within range",
                X[rng.integers(len(X), size=n)[:, None], np.arange(X.shape[1])] if X.ndim == 2 else X,
            )
            if model_is_tabular(model):
                yield "large integers", _with_one(X, rng, n, [2**24 + 1, -(2**24) - 1, 2**53 + 1])
        return
    single = X.astype(np.float32).astype(X.dtype)
    yield "real", single
    low, high = np.nanmin(single, axis=0), np.nanmax(single, axis=0)
    mixed = (low + rng.uniform(size=(n, *X.shape[1:])) * (high - low)).astype(np.float32).astype(X.dtype)
    yield "within range", mixed
    edges = np.stack([low, high, np.zeros_like(low), low - (high - low), high + (high - low)])
    flat, rows = edges.reshape(5, -1), single[rng.integers(len(X), size=n)].reshape(n, -1).copy()
    which = rng.integers(rows.shape[1], size=n)
    rows[np.arange(n), which] = flat[rng.integers(5, size=n), which]
    yield "boundaries", rows.reshape(n, *X.shape[1:]).astype(np.float32).astype(X.dtype)
    thresholds = at_thresholds(model, single, n, rng)
    if thresholds is not None:
        yield "thresholds of trees", thresholds
    if X.dtype == np.float64 and not np.array_equal(single, X, equal_nan=True):
        yield "float64", X
    yield "tiny", _with_one(single, rng, n, [1e-30, -1e-30, 1e-42, -0.0])
    yield "missing", _with_one(single, rng, n, [np.nan])
    yield "infinite", _with_one(single, rng, n, [np.inf, -np.inf])
    yield "huge", _with_one(single, rng, n, [1e30, -1e30, 3e38])


def _with_one(X: NDArray[Any], rng: np.random.Generator, n: int, values: list[Any]) -> NDArray[Any]:
    """Return rows in which one number is replaced by one of the values."""
    rows = X[rng.integers(len(X), size=n)].reshape(n, -1).copy()
    rows[np.arange(n), rng.integers(rows.shape[1], size=n)] = rng.choice(np.array(values, dtype=X.dtype), size=n)
    return rows.reshape(n, *X.shape[1:])


def model_is_tabular(model: Any) -> bool:
    """Whether a model reads its numbers as quantities: a network may read integers as tokens."""
    return not hasattr(model, "state_dict")


def _frame_families(model: Any, X: pd.DataFrame, n: int, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    """Rows of a dataframe: numbers as in an array, words that were never seen."""
    numbers: list[Any] = [c for c in X if pd.api.types.is_float_dtype(X[c])]
    single = X.astype(dict.fromkeys(numbers, np.float32)).astype({c: X[c].dtype for c in numbers})
    yield "real", single
    shuffled = pd.DataFrame({c: single[c].to_numpy()[rng.integers(len(X), size=n)] for c in X})
    yield "within range", shuffled.astype(dict(X.dtypes))
    for name, rows in _array_families(model, single[numbers].to_numpy(dtype=np.float64), n, rng) if numbers else ():
        if name not in ("real", "within range", "float64", "thresholds of trees"):
            changed = shuffled.astype(dict(X.dtypes)).copy()
            changed[numbers] = rows
            yield name, changed
    words: list[Any] = [c for c in X if not pd.api.types.is_numeric_dtype(X[c])]
    for value, name in (("never seen before", "unknown words"), ("", "empty words")):
        if words:
            changed = single.iloc[rng.integers(len(X), size=n)].reset_index(drop=True)
            column = rng.integers(len(words), size=n)
            for j, c in enumerate(words):
                changed[c] = np.where(column == j, value, changed[c].astype(object))
            yield name, changed


def at_thresholds(model: Any, X: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any] | None:
    """Return rows that reach a node of a tree and stand at its threshold, or one float32 below or above it.

    The thresholds are those of the model's trees (``tree_``, or the nodes of histogram boosting), in its own columns.
    """
    trees = [t for t in _trees(model) if len(t[0])]
    if not trees or X.ndim != 2:
        return None
    rows = X[rng.integers(len(X), size=n)].astype(np.float32)
    for i in range(n):
        path = list(_path(trees[rng.integers(len(trees))], rows[i]))
        feature, threshold = path[rng.integers(len(path))]
        at = np.float32(threshold)
        rows[i, feature] = (at, np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf)))[i % 3]
    return rows.astype(X.dtype)


def _trees(model: Any) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield (feature, threshold, left, right) of each tree; feature < 0 at leaves."""
    if hasattr(model, "tree_"):
        t = model.tree_
        if t.node_count > 1:
            yield t.feature, t.threshold, t.children_left, t.children_right
    elif hasattr(model, "_predictors"):
        for predictor in (p for stage in model._predictors for p in stage):
            nodes = predictor.nodes
            if not nodes["is_leaf"][0] and not nodes["is_categorical"].any():
                feature = np.where(nodes["is_leaf"], -1, nodes["feature_idx"].astype(np.intp))
                yield feature, nodes["num_threshold"], nodes["left"], nodes["right"]
    else:
        for member in np.ravel(getattr(model, "estimators_", [])):
            if hasattr(member, "tree_"):
                yield from _trees(member)


def _path(tree: tuple[NDArray[Any], ...], row: NDArray[Any]) -> Iterator[tuple[int, float]]:
    """Yield feature and threshold of the nodes that a row passes."""
    feature, threshold, left, right = tree
    node = 0
    while feature[node] >= 0:
        yield int(feature[node]), float(threshold[node])
        node = int(left[node] if row[feature[node]] <= threshold[node] else right[node])
