"""ONNX models: run, fed from any table, with inner tensors shown, and their graph walked."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._utils.optional import require
from corrigible.errors import DataError

Array = NDArray[Any]
_DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_, "tensor(string)": object,
}  # fmt: skip


def read_onnx(given: Any, *, by: str) -> Any:
    """Return a ModelProto from one, from bytes, or from a file, checked.

    Raises
    ------
    DataError
        If it is no valid ONNX model.
    """
    onnx = require("onnx", extra="onnx", by=by)
    try:
        if isinstance(given, str | Path):
            model = onnx.load(str(given))
        else:
            model = onnx.load_from_string(given) if isinstance(given, bytes) else given
        onnx.checker.check_model(model)
        if not model.graph.output:
            raise ValueError("it has no outputs")
    except Exception as error:  # protobuf, the checker and the file system raise types of their own
        what = f"{str(given)!r}" if isinstance(given, str | Path) else "What was given"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{what} is no valid ONNX model for {by} ({reason}).") from error
    return model


class OnnxSession:
    """An ONNX model on the processor, run by onnxruntime.

    Parameters
    ----------
    model : ModelProto
        The model.
    by : str
        Who needs it, for messages.
    optimise : bool
        Let the runtime rewrite the graph, as it does by default.
    n_threads : int
        Threads of one operator; 0 leaves it to the runtime.
    """

    def __init__(self, model: Any, *, by: str, optimise: bool = True, n_threads: int = 1) -> None:
        runtime = require("onnxruntime", extra="onnx", by=by)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = list(self.session.get_inputs())
        self.outputs = [o.name for o in self.session.get_outputs()]

    def feed(self, X: Any) -> dict[str, Array]:
        """Return the inputs for rows X: one tensor of all of them, or one input a column of a dataframe."""
        if len(self.inputs) == 1:
            kind = self.inputs[0].type
            return {self.inputs[0].name: as_input(X, kind, self.inputs[0].name)}
        names = [i.name for i in self.inputs]
        if not isinstance(X, pd.DataFrame):
            raise DataError(
                f"The ONNX model takes {len(names)} inputs ({', '.join(names[:4])}…): give a dataframe."
            )
        columns = {str(c).replace(" ", "_"): c for c in X} | {str(c): c for c in X}
        if missing := [n for n in names if n not in columns]:
            raise DataError(f"The ONNX model expects the input {missing[0]!r}, which is no column of the table.")
        return {i.name: as_input(X[[columns[i.name]]], i.type, i.name) for i in self.inputs}

    def __call__(self, X: Any) -> dict[str, Any]:
        """Return all outputs for rows X, by name."""
        return dict(zip(self.outputs, self.session.run(None, self.feed(X)), strict=True))


_CHILD = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, dict(numpy.load(sys.argv[2])))
"""


def run_apart(model: Any, feed: dict[str, Array]) -> str | None:
    """Run a model in a process of its own, as some inputs make the runtime abort; return what it said if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(model.SerializeToString())
        np.savez(Path(folder) / "rows.npz", **{k: v for k, v in feed.items() if v.dtype != object})  # type: ignore[arg-type]
        words = [sys.executable, "-c", _CHILD, str(Path(folder) / "model.onnx"), str(Path(folder) / "rows.npz")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if done.returncode == 0:
        return None
    said = (done.stderr.strip().splitlines() or ["no message"])[-1][:160]
    return f"the process is aborted ({said})" if done.returncode < 0 else said


def as_input(X: Any, kind: str, name: str) -> Array:
    """Return rows as a contiguous array of an input's type."""
    if kind not in _DTYPES:
        raise DataError(f"The input {name!r} of the ONNX model is a {kind}, which no table holds.")
    values = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "tensor(string)":
            return np.asarray(values, dtype=object)
        return np.ascontiguousarray(values.astype(_DTYPES[kind], copy=False))


def plain_output(value: Any) -> Array:
    """Return an output as an array; a list of dicts, as skl2onnx gives by default, becomes their table."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([[row[k] for k in value[0]] for row in value])
    return np.asarray(value)


def inner_tensors(model: Any, X: Any, *, by: str, chunk: int = 64) -> Iterator[tuple[str, Array]]:
    """Yield name and value of every tensor that a node puts out, in the order of the graph.

    The graph is run as it is written, without the runtime's rewriting, in runs that show `chunk` tensors each.
    """
    onnx = require("onnx", extra="onnx", by=by)
    names = [o for node in model.graph.node for o in node.output if o]
    for start in range(0, len(names), chunk):
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        del shown.graph.output[:]
        shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names[start : start + chunk])
        for name, value in OnnxSession(shown, by=by, optimise=False)(X).items():
            if not (isinstance(value, list) and not (value and isinstance(value[0], dict))):
                yield name, plain_output(value)


def ancestors(model: Any, tensors: Iterable[str]) -> set[int]:
    """Return the numbers of the nodes that these tensors are computed from."""
    made = {o: i for i, node in enumerate(model.graph.node) for o in node.output}
    found: set[int] = set()
    waiting = [made[t] for t in tensors if t in made]
    while waiting:
        i = waiting.pop()
        if i not in found:
            found.add(i)
            waiting += [made[t] for t in model.graph.node[i].input if t in made]
    return found


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute."""
    onnx = require("onnx", extra="onnx", by="An ONNX model")
    for a in node.attribute:
        if a.name == name:
            return onnx.helper.get_attribute_value(a)
    return default


def class_labels(model: Any) -> list[Any] | None:
    """Return the class labels that a classifier's node names, in the order of its columns."""
    for node in reversed(model.graph.node):
        for name in ("classlabels_int64s", "classlabels_ints", "classlabels_strings"):
            labels = attribute(node, name)
            if labels:
                return [v.decode() if isinstance(v, bytes) else int(v) for v in labels]
    return _looked_up(model)


def _looked_up(model: Any) -> list[Any] | None:
    """Return the labels that an ArrayFeatureExtractor picks from, as skl2onnx writes other classifiers."""
    onnx = require("onnx", extra="onnx", by="An ONNX model")
    held = {i.name: i for i in model.graph.initializer}
    for node in reversed(model.graph.node):
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in held:
            values = onnx.numpy_helper.to_array(held[node.input[0]]).ravel()
            if values.dtype.kind in "iO":
                return [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    return None


def last_operators(model: Any, output: str) -> Sequence[str]:
    """Return the operators that make an output, the last first, along first inputs."""
    made = {o: node for node in model.graph.node for o in node.output}
    found: list[str] = []
    while output in made and len(found) < 8:
        found.append(made[output].op_type)
        if not made[output].input:
            break
        output = made[output].input[0]
    return found
