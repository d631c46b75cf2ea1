"""ONNX models as estimators: what another runtime serves, asked like a scikit-learn model."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from corrigible._core.onnx_graph import OnnxSession, class_labels, last_operators, plain_output, read_onnx
from corrigible._core.simplex import softmax
from corrigible._utils.validation import check_choice
from corrigible.errors import DataError, InvalidParameterError

Floats = NDArray[np.floating]
_BY = "An ONNX model"


def load_onnx(given: Any, *, task: str = "auto", classes: Any = None) -> Any:
    """Return an ONNX model as a fitted classifier or regressor; nothing in the file is run but its graph.

    Parameters
    ----------
    given : path, bytes or ModelProto
        The model: an input of rows, or one a column; an output of labels and one of probabilities, or one of
        probabilities, log-probabilities, logits or values.
    task : {"auto", "classification", "regression"}, default="auto"
        By default classification if there are labels among the outputs or several columns.
    classes : array-like of shape (n_classes,), optional
        Class labels in the order of the columns; by default those that the graph names, or numbers from 0.

    Returns
    -------
    OnnxClassifier or OnnxRegressor
        The model.

    Raises
    ------
    DataError
        If it is no valid ONNX model or its outputs fit neither.
    """
    check_choice(task, ("auto", "classification", "regression"), name="task", by="load_onnx")
    model = read_onnx(given, by=_BY)
    made = OnnxClassifier if _is_classifier(model, task) else OnnxRegressor
    return made(model.SerializeToString(), **({} if made is OnnxRegressor else {"classes": classes}))


def _is_classifier(model: Any, task: str) -> bool:
    if task != "auto":
        return task == "classification"
    if len(model.graph.output) > 1 or class_labels(model) is not None:
        return True
    shape = model.graph.output[0].type.tensor_type.shape.dim
    return len(shape) == 2 and shape[1].dim_value > 1


class _Onnx(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share: the model as bytes, so that they pickle, and a session made when asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def fit(self, X: Any, y: Any) -> Self:
        """Refuse: an ONNX model is fitted where it was made."""
        raise InvalidParameterError("An ONNX model cannot be fitted. Fit the model that it was converted from.")

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_session", "_read")}

    @property
    def model_(self) -> Any:
        """The ModelProto."""
        if not hasattr(self, "_read"):
            self._read = read_onnx(self.content, by=_BY)
        return self._read

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the inputs, where there is one a column."""
        names = [i.name for i in self._run.inputs]
        if len(names) == 1:
            raise AttributeError("An ONNX model of one input does not name its columns.")
        return np.array(names, dtype=object)

    @property
    def _run(self) -> OnnxSession:
        if not hasattr(self, "_session"):
            try:
                self._session = OnnxSession(self.model_, by=_BY, n_threads=0)
            except Exception as error:  # the runtime raises types of its own
                reason = str(error).strip().splitlines()[0]
                raise DataError(f"onnxruntime cannot run the ONNX model ({reason}).") from error
        return self._session

    def _outputs(self, X: Any) -> dict[str, NDArray[Any]]:
        run = self._run
        width = run.inputs[0].shape
        given = X.shape[1] if hasattr(X, "shape") and len(X.shape) == 2 else None
        if len(run.inputs) == 1 and len(width) == 2 and isinstance(width[1], int) and given not in (None, width[1]):
            raise DataError(f"The ONNX model takes rows of {width[1]} columns. Got {given}.")
        if isinstance(X, pd.DataFrame) and run.inputs[0].type != "tensor(string)" and len(run.inputs) == 1:
            text = [c for c in X if not pd.api.types.is_numeric_dtype(X[c]) and X[c].dtype != bool]
            if text:
                raise DataError(f"The ONNX model takes numbers. Column {text[0]!r} is {X[text[0]].dtype}.")
        try:
            return {name: plain_output(value) for name, value in run(X).items()}
        except DataError:
            raise
        except Exception as error:  # the runtime raises types of its own
            raise DataError(
                f"The ONNX model cannot answer these rows ({str(error).strip().splitlines()[0]})."
            ) from error


class OnnxClassifier(ClassifierMixin, _Onnx):  # type: ignore[misc]
    """A classifier that onnxruntime serves.

    Parameters
    ----------
    content : bytes
        The model file.
    classes : array-like of shape (n_classes,), optional
        Class labels in column order.
    """

    def __init__(self, content: bytes, *, classes: Any = None) -> None:
        super().__init__(content)
        self.classes = classes

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels, in the order of the probability columns."""
        if self.classes is not None:
            return np.asarray(self.classes)
        labels = class_labels(self.model_)
        if labels is not None:
            return np.asarray(labels)
        dims = self.model_.graph.output[-1].type.tensor_type.shape.dim
        width = dims[1].dim_value if len(dims) == 2 else 0
        if width < 1:
            raise DataError("The ONNX model does not say which classes it has. Pass classes to load_onnx.")
        return np.arange(max(width, 2))

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities (n, k): as they are, or by softmax of logits."""
        name, p = self._scores(X)
        p = p.astype(np.float64).reshape(len(p), -1)
        if p.shape[1] == 1:
            p = p if self._is_proba(name) else 1 / (1 + np.exp(-p))
            return np.column_stack([1 - p, p])
        operators = last_operators(self.model_, name)
        if operators[:1] == ["LogSoftmax"]:
            return np.exp(p)
        return p if self._is_proba(name) else softmax(p)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return class labels (n,)."""
        outputs = self._outputs(X)
        for value in outputs.values():
            if value.dtype.kind not in "fc" and value.ndim == 1:
                labels = np.array([v.decode() if isinstance(v, bytes) else v for v in value.tolist()])
                return labels if len(labels) else self.classes_[:0]
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _scores(self, X: Any) -> tuple[str, NDArray[Any]]:
        found = [(k, v) for k, v in self._outputs(X).items() if v.dtype.kind == "f"]
        if not found:
            raise DataError("The ONNX model has no output of probabilities or scores.")
        return found[-1]

    def _is_proba(self, name: str) -> bool:
        """Whether the graph itself makes probabilities: told by its operators, not by the values of some rows."""
        linear = {"Gemm", "MatMul", "Conv"}
        for operator in last_operators(self.model_, name):
            if operator in linear:
                return False
            if operator in ("Softmax", "Sigmoid", "Normalizer", "ZipMap", "LogSoftmax") or operator.endswith(
                "Classifier"
            ):
                return True
        return class_labels(self.model_) is not None


class OnnxRegressor(RegressorMixin, _Onnx):  # type: ignore[misc]
    """A regressor that onnxruntime serves.

    Parameters
    ----------
    content : bytes
        The model file.
    """

    def predict(self, X: Any) -> Floats:
        """Return values (n,)."""
        values = next(iter(self._outputs(X).values()))
        if values.size != len(values):
            raise DataError(
                f"The ONNX model must answer with one value a row. It answers with shape {values.shape}."
            )
        return values.astype(np.float64).ravel()
