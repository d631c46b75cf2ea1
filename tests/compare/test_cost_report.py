"""Costs against counts by hand and other counters; contradictions against planted ones."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from corrigible._core.model_costs import counted_costs
from corrigible.compare import cost_report
from corrigible.compare._cost_report import _agreement, _contradictions, _tau, _undominated
from corrigible.errors import DataError, InvalidParameterError

X, y = load_iris(return_X_y=True)
QUICK = {"n_rounds": 4, "n_calls": 2, "n_warm_up": 1}


def test_counts_by_hand():
    assert counted_costs(LogisticRegression(max_iter=500).fit(X, y), X)["parameters"] == 15
    network = MLPClassifier((5,), max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(X, y)
    found = counted_costs(make_pipeline(StandardScaler().fit(X), network), X)
    assert found["parameters"] == 8 + 4 * 5 + 5 + 5 * 3 + 3
    assert found["flops"] == 2 * 4 + 2 * (4 * 5 + 5 * 3)
    kernel = SVC().fit(X, y)
    assert counted_costs(kernel, X)["flops"] == 2 * len(kernel.support_vectors_) * 5


def test_branches_are_those_of_the_decision_path():
    forest = RandomForestClassifier(7, random_state=0).fit(X, y)
    passed = forest.decision_path(X)[0].sum(axis=1) - 7  # its leaves are no branches
    assert counted_costs(forest, X)["flops"] == pytest.approx(float(passed.mean()))
    leaves = sum(t.tree_.n_leaves for t in forest)
    branches = sum(t.tree_.node_count for t in forest) - leaves
    assert counted_costs(forest, X)["parameters"] == 2 * branches + 3 * leaves
    boosted = HistGradientBoostingClassifier(max_iter=3).fit(X, y)
    assert 0 < counted_costs(boosted, X)["flops"] < 3 * 3 * 31


def test_a_model_that_cannot_be_counted_says_nan():
    class Odd:
        def predict(self, X):
            return np.zeros(len(X))

    Odd.__module__, Odd.__qualname__ = __name__, "Odd"
    globals()["Odd"] = Odd
    found = counted_costs(Odd(), X)
    assert np.isnan(found["flops"])
    assert np.isnan(found["parameters"])


def test_torch_and_onnx_count_alike():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import io

    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
                                  torch.nn.Linear(3 * 16, 5)).eval()  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(6, 1, 4, 4)).astype(np.float32)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.tensor(rows),), file, dynamo=False, input_names=["X"],
                          dynamic_axes={"X": {0: "n"}})  # fmt: skip
    onnx = pytest.importorskip("onnx")
    served = onnx.load_from_string(file.getvalue())
    a, b = counted_costs(network, torch.tensor(rows)), counted_costs(served, rows)
    by_hand = 2 * 9 * 3 * 16 + 2 * 48 * 5
    assert a["flops"] == b["flops"] == by_hand
    assert a["parameters"] == 9 * 3 + 3 + 48 * 5 + 5
    assert b["parameters"] >= a["parameters"]  # the shape to flatten to may be among them
    assert a["megabytes"] == 4 * a["parameters"] / 1e6


class Slow:
    """Few parameters, long answers."""

    coef_ = np.zeros(3)

    def predict(self, X):
        total = 0.0
        for i in range(20_000):
            total += i
        return np.full(len(X), total)


class Large(Slow):
    """Many parameters, quick answers."""

    coef_ = np.zeros(30_000)

    def predict(self, X):
        return np.zeros(len(X))


@pytest.fixture(scope="module")
def report():
    scores = {"slow": np.tile([1.0, 0.0], 50), "large": np.ones(100)}
    return cost_report({"slow": Slow(), "large": Large()}, X, quality=scores, rng=np.random.default_rng(0))


def test_a_planted_contradiction_is_found(report):
    found = report.contradictions
    pair = found[(found["indicator"] == "parameters") & (found["but"] == "latency")].iloc[0]
    assert (pair["cheaper"], pair["dearer"]) == ("slow", "large")
    assert pair["ratio"] == pytest.approx(1e-4)
    assert pair["other ratio, low"] > 1.1
    tau = report.agreement.set_index(["indicator", "other"])["tau"]
    assert tau["parameters", "latency"] == -1
    assert tau["parameters", "flops"] == 1


def test_the_front_keeps_what_nothing_beats(report):
    assert bool(report.front.loc["slow", "parameters"])
    assert bool(report.front.loc["large", "latency"])
    assert not bool(report.front.loc["slow", "latency"])
    assert report.front.loc["slow", "latency, share"] == 0


def test_a_model_does_not_contradict_itself():
    model = LogisticRegression(max_iter=500).fit(X, y)
    found = cost_report({"a": model, "b": model}, X, rng=np.random.default_rng(0))
    exact = {"parameters", "flops", "megabytes"}
    assert not set(found.contradictions["indicator"]) & exact
    assert found.conditions["threads"] == 1
    assert (found.low["latency"] <= found.table["latency"]).all()
    assert (found.table["tail latency"] >= found.table["latency"]).all()


def draws(**columns):
    return {name: pd.DataFrame(np.log(np.array(v))) for name, v in columns.items()}


def test_an_interval_that_holds_the_margin_is_no_contradiction():
    names = ("parameters", "flops", "megabytes", "latency", "tail latency", "seconds a row", "peak megabytes")
    same = {n: [[1.0, 2.0]] * 3 for n in names}
    assert _contradictions(draws(**same), 2.0, 0.1).empty
    noisy = {**same, "latency": [[2.0, 1.0], [1.0, 2.0], [3.0, 1.0]]}
    assert _contradictions(draws(**noisy), 2.0, 0.1).empty
    clear = {**same, "latency": [[2.0, 1.0], [2.01, 1.0], [1.99, 1.0]]}
    assert len(_contradictions(draws(**clear), 2.0, 0.1)) == 6
    assert len(_agreement(draws(**clear), 0.95)) == 21


def test_ranks_agree_as_scipy_says(rng):
    from scipy.stats import kendalltau

    a, b = rng.integers(4, size=(2, 6, 7)).astype(float)
    expected = [kendalltau(x, z).statistic for x, z in zip(a, b, strict=True)]
    np.testing.assert_allclose(_tau(a, b), expected)


def test_fronts_by_hand():
    front = _undominated(np.array([1.0, 2.0, 2.0, 0.5]), np.array([1.0, 2.0, 3.0, np.nan]))
    assert front.tolist() == [True, True, False, False]
    assert _undominated(np.array([1.0, 1.0]), np.array([1.0, 1.0])).all()


def test_peak_memory_counts_what_an_answer_allocates():
    class Hungry(Slow):
        def predict(self, X):
            return np.ones((1000, 5000)).sum(axis=1)[: len(X)]

    globals()["Hungry"] = Hungry
    Hungry.__qualname__ = "Hungry"
    found = cost_report({"a": Hungry(), "b": Large()}, X, **QUICK)
    assert 38 < found.table.loc["a", "peak megabytes"] < 90
    assert found.table.loc["b", "peak megabytes"] < 38


def test_what_is_refused():
    model = LogisticRegression(max_iter=500).fit(X, y)
    with pytest.raises(DataError, match="needs a model"):
        cost_report({}, X)
    with pytest.raises(InvalidParameterError, match="'n_rounds'"):
        cost_report({"a": model}, X, n_rounds=0)
    with pytest.raises(DataError, match="cannot answer"):
        cost_report({"a": model}, X[:, :2])
    with pytest.raises(DataError, match="lacks 'a'"):
        cost_report({"a": model}, X, quality={})
    with pytest.raises(InvalidParameterError, match="cannot be asked"):
        cost_report({"a": object()}, X)
