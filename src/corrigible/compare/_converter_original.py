"""The model before its conversion: asked, and converted by the package for its kind."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier

from corrigible._core.onnx_graph import OnnxSession, plain_output, read_onnx
from corrigible._utils.optional import require
from corrigible.compare._converter_trace import as_tensor

Array = NDArray[Any]
_BY = "ConverterCheck"


class Original:
    """The model before conversion: an estimator, a torch module, or an ONNX graph.

    Parameters
    ----------
    model : estimator, torch module, path, bytes or ModelProto
        It.
    """

    def __init__(self, model: Any) -> None:
        self.is_torch = hasattr(model, "state_dict") and hasattr(model, "forward")
        self.is_estimator = not self.is_torch and (hasattr(model, "predict") or hasattr(model, "transform"))
        self.model = model if self.is_torch or self.is_estimator else read_onnx(model, by=_BY)
        self._session = None if self.is_torch or self.is_estimator else OnnxSession(self.model, by=_BY)

    def answer(self, X: Any) -> list[Array]:
        """Return the outputs: of a classifier labels and scores."""
        if self._session is not None:
            return [plain_output(v) for v in self._session(X).values()]
        if self.is_torch:
            return self._torch_answer(X)
        if is_classifier(self.model):
            for method in ("predict_proba", "decision_function"):
                if hasattr(self.model, method):
                    return [np.asarray(self.model.predict(X)), np.asarray(getattr(self.model, method)(X))]
            return [np.asarray(self.model.predict(X))]
        out = self.model.predict(X) if hasattr(self.model, "predict") else self.model.transform(X)
        return [out.toarray() if hasattr(out, "toarray") else np.asarray(out)]

    def _torch_answer(self, X: Any) -> list[Array]:
        torch = require("torch", extra="torch", by=_BY)
        was = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                out = self.model(as_tensor(self.model, X))
        finally:
            self.model.train(was)
        return [o.numpy() for o in _flat(out)]

    def convert(self, X: Any, exporter: str) -> Any:
        """Return the conversion to ONNX, by skl2onnx or torch's exporter; an ONNX graph is its own."""
        if self._session is not None:
            return self.model
        if self.is_torch:
            return _from_torch(self.model, as_tensor(self.model, X[:2]), exporter)
        skl2onnx = require("skl2onnx", extra="onnx", by=_BY)
        numbers = isinstance(X, np.ndarray) and X.dtype.kind == "f"
        first = X.iloc[:1] if isinstance(X, pd.DataFrame) else X[:1].astype(np.float32) if numbers else X[:1]
        if isinstance(first, pd.DataFrame):
            first = first.astype({c: np.float32 for c in first if pd.api.types.is_float_dtype(first[c])})
        options = {"zipmap": False} if hasattr(self.model, "predict_proba") else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skl2onnx.to_onnx(self.model, first, options=options)


def _flat(out: Any) -> list[Any]:
    if isinstance(out, tuple | list):
        return [leaf for part in out for leaf in _flat(part)]
    return [out]


def _from_torch(model: Any, X: Any, exporter: str) -> Any:
    torch = require("torch", extra="torch", by=_BY)
    onnx = require("onnx", extra="onnx", by=_BY)
    was, level = model.training, logging.root.manager.disable
    model.eval()
    logging.disable(logging.WARNING)  # the exporter warns of packages that it could use, not of the model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                require("onnxscript", extra="onnx", by=_BY)
                shapes = ({0: torch.export.Dim.DYNAMIC},)
                made = torch.onnx.export(model, (X,), dynamo=True, dynamic_shapes=shapes, verbose=False)
                return made.model_proto
            file = io.BytesIO()
            torch.onnx.export(model, (X,), file, dynamo=False, input_names=["X"], dynamic_axes={"X": {0: "n"}})
            return onnx.load_from_string(file.getvalue())
    finally:
        logging.disable(level)
        model.train(was)
