"""A converted model against its original: planted faults are found, named and placed; healthy conversions pass."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from corrigible.compare import ConverterCheck
from corrigible.compare._converter_causes import UNKNOWN, crash_cause, likely_cause
from corrigible.compare._converter_inputs import at_thresholds, families
from corrigible.errors import DataError, InvalidParameterError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), X


@pytest.fixture(scope="module")
def sound(wine):
    return ConverterCheck(random_state=0, n_fuzzed=50).run(*wine)


def broken(proto, operator, **values):
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    node = next(n for n in made.graph.node if n.op_type.startswith(operator))
    for name, value in values.items():
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        node.attribute.append(onnx.helper.make_attribute(name, value))
    return made


def close(a, b):
    return bool(np.allclose(a, b, rtol=1e-3, atol=1e-5))


def test_a_sound_conversion_passes(sound):
    assert sound.passed
    assert (sound.stage, sound.cause, sound.divergence) == ("", "", None)
    assert set(sound.frame()["severity"]) <= {"risk"}
    assert sound.n_rows > 178


def test_a_lost_mean_is_placed(wine, sound):
    model, X = wine
    found = ConverterCheck(random_state=0).run(
        model, X, converted=broken(sound.converted, "Scaler", offset=[0.0] * 13)
    )
    assert not found.passed
    assert found.stage == "behaviour"
    assert found.divergence.operator == "Scaler"
    assert found.divergence.expected == "step 'standardscaler'"


def test_labels_are_compared_too(wine, sound):
    proto = broken(sound.converted, "LinearClassifier", classlabels_ints=[2, 1, 0])
    found = ConverterCheck(random_state=0).run(*wine, converted=proto)
    assert "label" in found.cause
    assert found.divergence.operator == "LinearClassifier"


def test_thresholds_need_their_own_rows(rng):
    """``<`` for ``<=`` shows on no random row, only at a threshold."""
    X = rng.normal(size=(300, 3))
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, (X[:, 0] + X[:, 1] > 0).astype(int))
    proto = ConverterCheck(random_state=0).run(tree, X).converted
    modes = [b"BRANCH_LT" if m == b"BRANCH_LEQ" else m for m in onnx.helper.get_attribute_value(
        next(a for a in proto.graph.node[0].attribute if a.name == "nodes_modes"))]  # fmt: skip
    found = ConverterCheck(random_state=0).run(tree, X, converted=broken(proto, "TreeEnsemble", nodes_modes=modes))
    assert {f.family for f in found.findings if f.severity == "fault"} == {"thresholds of trees"}
    assert "threshold" in found.cause


def test_threshold_rows_reach_the_threshold(rng):
    X = rng.normal(size=(100, 3)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    for model in (RandomForestClassifier(3, random_state=0), HistGradientBoostingClassifier(max_iter=3)):
        rows = at_thresholds(model.fit(X, y), X, 300, np.random.default_rng(0))
        below, at = rows[1::3], rows[2::3]
        assert rows.shape == (300, 3)
        assert (below != at).any()
    stump = DecisionTreeClassifier(max_depth=1).fit(X[:, :1], (X[:, 0] > 0.1).astype(int))
    rows = at_thresholds(stump, X[:, :1], 30, np.random.default_rng(0))
    t = np.float32(stump.tree_.threshold[0])
    assert set(rows[:, 0].tolist()) == {t, np.nextafter(t, np.float32(-9)), np.nextafter(t, np.float32(9))}


def test_kinds_of_rows_that_are_not_among_those_given_are_risks(rng):
    X = rng.normal(size=(60, 2))
    known = {f.name: f.is_risk for f in families(None, X, n_fuzzed=5, rng=rng)}
    assert known["missing"]
    assert known["huge"]
    assert not known["real"]
    X[0, 0] = np.nan
    assert not {f.name: f.is_risk for f in families(None, X, n_fuzzed=5, rng=rng)}["missing"]


def test_a_fixed_batch_and_a_crash_are_told(wine, sound):
    fixed = onnx.ModelProto()
    fixed.CopyFrom(sound.converted)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    found = ConverterCheck(random_state=0).run(*wine, converted=fixed)
    assert (found.stage, found.passed) == ("running", False)
    assert "batch size is fixed" in found.cause

    class Odd(LogisticRegression):
        """A class that no converter knows."""

    model = Odd(max_iter=500).fit(*load_iris(return_X_y=True))
    found = ConverterCheck(random_state=0).run(model, load_iris().data)
    assert found.stage == "conversion"
    assert "does not know" in found.cause


def test_the_same_seed_says_the_same(wine, sound):
    again = ConverterCheck(random_state=0, n_fuzzed=50).run(*wine)
    pd.testing.assert_frame_equal(again.frame(), sound.frame())


def test_dataframes_with_words(rng):
    frame = pd.DataFrame({"a": rng.normal(size=80), "town": rng.choice(["u", "v"], size=80)})
    y = ((frame["a"] > 0) ^ (frame["town"] == "u")).astype(int)
    encode = make_column_transformer((StandardScaler(), ["a"]), (OneHotEncoder(handle_unknown="ignore"), ["town"]))
    model = make_pipeline(encode, LogisticRegression()).fit(frame, y)
    found = ConverterCheck(random_state=0, n_fuzzed=30).run(model, frame)
    assert found.passed, found.frame()


def test_two_onnx_models(wine, sound):
    proto = sound.converted
    assert ConverterCheck(random_state=0).run(proto, wine[1].astype(np.float32), converted=proto).passed
    other = broken(proto, "Scaler", scale=[1.0] * 13)
    found = ConverterCheck(random_state=0).run(proto, wine[1].astype(np.float32), converted=other)
    assert found.divergence.operator == "Scaler"


def test_networks():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LeakyReLU(0.3), torch.nn.Linear(8, 3))
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    check = ConverterCheck(random_state=0, exporter="torchscript", n_fuzzed=30)
    sound = check.run(network.train(), X)
    assert sound.passed, sound.frame()
    assert network.training
    found = check.run(network, X, converted=broken(sound.converted, "LeakyRelu", alpha=0.01))
    assert found.divergence.operator == "LeakyRelu"
    assert found.divergence.expected == "leaky_relu in 1"


p = np.random.default_rng(1).dirichlet(np.ones(3), size=40)
z = np.random.default_rng(2).normal(size=(40, 3)) * 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (p, p[:, [1, 0, 2]], "another order"),
        (p, np.log(p) + 3, "softmax or sigmoid is missing"),
        (p, np.exp(p) / np.exp(p).sum(1, keepdims=True), "twice"),
        (z, np.exp(z) / np.exp(z).sum(1, keepdims=True), "does not have"),
        (p, np.log(p), "missing"),
        (z, -z, "sign"),
        (z, np.repeat(z[:1], 40, axis=0), "does not depend"),
        (z, np.trunc(z), "cut to integers"),
        (z, z + np.array([1.0, 0.0, 2.0]), "constant is added"),
        (z, 0.7 * z, "scaled"),
        (z, z * (1 + 2e-3 * np.sin(np.arange(120).reshape(40, 3))), "lower precision"),
        (z, z[:, :2], "shape"),
        (z, z.T, "transposed"),
        (z, np.full_like(z, np.nan), "not finite"),
        (z, np.random.default_rng(5).normal(size=z.shape), UNKNOWN),
    ],
)
def test_causes_by_their_pattern(old, new, words):
    assert words in likely_cause(old, new, close)


def test_kinds_of_crashes():
    assert "type" in crash_cause(TypeError("Expected an int, got a boolean"))
    assert "does not know" in crash_cause(RuntimeError("Unsupported operator X"))
    assert "versions" in crash_cause(RuntimeError("Opset 99 is too new"))
    assert "an error of the converter" in crash_cause(RuntimeError(""))


def test_what_is_refused(wine):
    model, X = wine
    with pytest.raises(InvalidParameterError, match="'rtol'"):
        ConverterCheck(rtol=-1).run(model, X)
    with pytest.raises(InvalidParameterError, match="'exporter'"):
        ConverterCheck(exporter="x").run(model, X)
    with pytest.raises(DataError, match="rows and columns"):
        ConverterCheck().run(model, X[:0])
    with pytest.raises(DataError, match="no valid ONNX"):
        ConverterCheck().run(model, X, converted=b"no")
