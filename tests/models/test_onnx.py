"""ONNX models as estimators: the answers of the model they were converted from."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible.errors import DataError, InvalidParameterError
from corrigible.models import OnnxClassifier, OnnxRegressor, load_model, load_onnx
from corrigible.versions import compare_versions

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")
helper = onnx.helper


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def converted(model, X, **options):
    return skl2onnx.to_onnx(model, X[:1].astype(np.float32), options=options or None)


@pytest.mark.parametrize("options", [{"zipmap": False}, {}])
@pytest.mark.parametrize("words", [False, True])
def test_a_classifier_answers_as_its_original(iris, tmp_path, options, words):
    X, y = iris
    labels = np.array(["a", "b", "c"])[y] if words else y
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, labels)
    path = tmp_path / "model.onnx"
    path.write_bytes(converted(model, X, **options).SerializeToString())
    served = load_model(path)
    assert isinstance(served, OnnxClassifier)
    np.testing.assert_array_equal(served.classes_, model.classes_)
    np.testing.assert_allclose(served.predict_proba(X), model.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(served.predict(X), model.predict(X))
    again = pickle.loads(pickle.dumps(served))
    np.testing.assert_array_equal(again.predict_proba(X), served.predict_proba(X))


def test_values(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    model = Ridge().fit(X, y)
    served = load_onnx(converted(model, X))
    assert isinstance(served, OnnxRegressor)
    np.testing.assert_allclose(served.predict(X), model.predict(X), rtol=1e-5)


def network(last):
    """A linear layer of 2 numbers and 3 classes, and what comes after it."""
    w = np.arange(6, dtype=np.float32).reshape(2, 3) / 5
    nodes = [helper.make_node("Gemm", ["X", "w"], ["z"])]
    nodes += (
        [helper.make_node(last, ["z"], ["p"], axis=1)] if last else [helper.make_node("Identity", ["z"], ["p"])]
    )
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("X", 1, ["n", 2])],
        [helper.make_tensor_value_info("p", 1, ["n", 3])], [onnx.numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), w


@pytest.mark.parametrize("last", ["", "Softmax", "LogSoftmax"])
def test_probabilities_follow_from_what_the_graph_ends_with(rng, last):
    model, w = network(last)
    X = rng.normal(size=(5, 2)).astype(np.float32)
    e = np.exp(X @ w)
    served = load_onnx(model, classes=["x", "y", "z"])
    np.testing.assert_allclose(served.predict_proba(X), e / e.sum(axis=1, keepdims=True), rtol=1e-5)
    assert served.predict(X).tolist() == [served.classes_[i] for i in e.argmax(axis=1)]


def test_compare_takes_onnx_files(iris, tmp_path):
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=y)
    old = RandomForestClassifier(5, random_state=0).fit(X[::2], y[::2])
    for name, model in (("old", old), ("new", LogisticRegression(max_iter=500).fit(X, y))):
        (tmp_path / f"{name}.onnx").write_bytes(converted(model, X, zipmap=False).SerializeToString())
    report = compare_versions(tmp_path / "old.onnx", tmp_path / "new.onnx", frame, target="y")
    assert report.n == 150
    assert report.changes["zero_one"]["old"] == pytest.approx(1 - old.score(X, y))
    assert report.costs["seconds a thousand rows"]["old"] > 0


def test_columns_become_inputs(rng):
    frame = pd.DataFrame({"a": rng.normal(size=30), "b": rng.normal(size=30)})
    y = (frame["a"] > 0).astype(int)
    scale = make_column_transformer((StandardScaler(), ["a", "b"]))
    model = make_pipeline(scale, LogisticRegression()).fit(frame, y)
    served = load_onnx(skl2onnx.to_onnx(model, frame[:1].astype(np.float32), options={"zipmap": False}))
    assert served.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_allclose(served.predict_proba(frame[["b", "a"]]), model.predict_proba(frame), atol=1e-5)
    with pytest.raises(DataError, match="expects the input 'b'"):
        served.predict(frame[["a"]])


def test_what_is_refused(iris, tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match="no valid ONNX model"):
        load_model(tmp_path / "no.onnx")
    served = load_onnx(network("Softmax")[0])
    with pytest.raises(DataError, match="rows of 2 columns"):
        served.predict(np.zeros((3, 4)))
    with pytest.raises(InvalidParameterError, match="cannot be fitted"):
        served.fit(*iris)
    with pytest.raises(InvalidParameterError, match="'task'"):
        load_onnx(network("")[0], task="x")
    with pytest.raises(DataError, match="takes numbers"):
        served.predict(pd.DataFrame({"a": ["x"], "b": ["y"]}))
