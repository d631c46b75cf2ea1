"""Cost indicators contradict each other, and the report finds where; on equal models it finds nothing."""

from __future__ import annotations

import warnings

import numpy as np

from corrigible._core.model_costs import counted_costs
from corrigible._core.torch_training import seeded
from corrigible.compare import cost_report
from corrigible.papers import Measurement

CLAIM = """Cost indicators do not agree: sharing parameters between layers lowers parameters but not operations; sparse
models have many parameters and few operations; depth and width of like operations differ in latency. A report of one
indicator can name the dearer model the cheaper."""
PROTOCOL = """Torch networks on a batch of 128 rows: 8 layers of width 256 that share parameters beside 4 that do not; a
network that looks its rows up in a large table beside a dense one; 20 layers of width 64 against 2 of width 256, which
takes more operations; scikit-learn on digits: logistic regression, forest, nearest neighbours, perceptron. One thread;
times are of the processor, which other work on the machine does not count in, medians over 40 rounds in each of which
all models are asked in random order; the whole is repeated 3 times, and a contradiction must be found in each. Ratios
are medians of the repeats, with their least and largest.
References: torch's own parameters, operations by hand, decision paths by scikit-learn. Null: 10 pairs of one model with
itself. Each contradiction is one that the papers describe; bars set beforehand."""
METHODS = ("cost_report",)
PAPERS = ("efficiency", "efficient_dl")
DATA = ()
SOURCES = ("src/corrigible/_core/model_costs.py",)
REPEATS = 3


def run(data):
    warnings.simplefilter("ignore")
    yield from _references()
    X = np.random.default_rng(0).normal(size=(128, 256)).astype(np.float32)
    networks = _networks()
    reports = [_report(networks, X, seed) for seed in range(REPEATS)]
    for cheaper, dearer, first, second in (
        ("shared", "half as deep", "parameters", "flops"), ("shared", "half as deep", "parameters", "seconds a row"),
        ("table", "shared", "flops", "parameters"), ("deep and narrow", "wide and flat", "flops", "latency"),
        ("deep and narrow", "wide and flat", "parameters", "latency"),
    ):  # fmt: skip
        found = [_found(r, cheaper, dearer, first, second) for r in reports]
        yield Measurement(f"{cheaper} against {dearer}: repeats in which {first} and {second} contradict each other",
                          sum(found), at_least=REPEATS,
                          detail=_ratios(reports, cheaper, dearer, first, second))  # fmt: skip
    for slower, quicker, indicator in (
        ("shared", "half as deep", "seconds a row"), ("deep and narrow", "wide and flat", "latency")
    ):  # fmt: skip
        r = _ratio(reports, slower, quicker, indicator)
        yield Measurement(
            f"{slower} over {quicker}: {indicator}", *r, kind="note", detail="least and largest repeat"
        )
    yield from _scikit_learn()
    yield from _null()


def _report(models, X, seed, **words):
    return cost_report(models, X, n_rounds=40, clock="processor", rng=np.random.default_rng(seed), **words)


def _found(report, cheaper, dearer, first, second):
    c = report.contradictions
    keys = list(zip(c["cheaper"], c["dearer"], c["indicator"], c["but"], strict=True))
    return (cheaper, dearer, first, second) in keys or (dearer, cheaper, second, first) in keys


def _ratio(reports, a, b, name):
    found = [float(r.table.loc[a, name] / r.table.loc[b, name]) for r in reports]
    return float(np.median(found)), min(found), max(found)


def _ratios(reports, a, b, *names):
    parts = ["{} {:.3g} ({:.3g} to {:.3g})".format(n, *_ratio(reports, a, b, n)) for n in names]
    return f"{', '.join(parts)} of the other's"


def _networks():
    import torch
    from torch import nn

    def stack(n, width, *, n_in=256, shared=False):
        layers = [nn.Linear(n_in, width), nn.ReLU()]
        same = nn.Linear(width, width)
        for _ in range(n - 1):
            layers += [same if shared else nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, 10)).eval()

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.last = nn.Embedding(50_000, 32), nn.Linear(32, 10)

        def forward(self, x):
            return self.last(self.rows((x[:, :8].abs() * 1e4).long() % 50_000).mean(dim=1))

    with seeded(0):
        made = {
            "shared": stack(8, 256, shared=True),
            "half as deep": stack(4, 256),
            "table": Table().eval(),
            "deep and narrow": stack(20, 64),
            "wide and flat": stack(2, 256),
        }
    assert isinstance(made["table"], torch.nn.Module)
    return made


def _references():
    import torch
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    network = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5))
    found = counted_costs(network, torch.zeros(7, 20))
    by_hand = {"parameters": 20 * 30 + 30 + 30 * 5 + 5, "flops": 2 * (20 * 30 + 30 * 5)}
    gap = max(abs(found[k] / v - 1) for k, v in by_hand.items())
    X, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(20, random_state=0).fit(X, y)
    branches = float((forest.decision_path(X)[0].sum(axis=1) - 20).mean())
    gap = max(gap, abs(counted_costs(forest, X)["flops"] / branches - 1))
    yield Measurement("largest relative gap of counts to references", gap, at_most=1e-12, kind="reference")


def _scikit_learn():
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:1200], order[1200:]
    models = {
        "logistic": LogisticRegression(max_iter=100), "forest": RandomForestClassifier(100, random_state=0),
        "neighbours": KNeighborsClassifier(algorithm="brute"),
        "perceptron": MLPClassifier((128,), max_iter=60, random_state=0),
    }  # fmt: skip
    models = {name: m.fit(X[train] / 16, y[train]) for name, m in models.items()}
    quality = {name: m.predict(X[test] / 16) == y[test] for name, m in models.items()}
    reports = [_report(models, X[test] / 16, seed, quality=quality) for seed in range(REPEATS)]
    report = reports[0]
    tau = report.agreement.set_index(["indicator", "other"])
    lowest = tau["tau"].idxmin()
    pairs = [
        {frozenset(p) for p in zip(r.contradictions["cheaper"], r.contradictions["dearer"], strict=True)}
        for r in reports
    ]
    common = set.intersection(*pairs)
    yield Measurement("digits: pairs of 4 models that some indicators order otherwise", len(common), at_least=1,
                      detail="of 6; forest: few operations, long latency: "
                      + _ratios(reports, "forest", "perceptron", "flops", "latency"))  # fmt: skip
    yield Measurement("digits: lowest rank agreement of two indicators", float(tau.loc[lowest, "tau"]),
                      float(tau.loc[lowest, "low"]), float(tau.loc[lowest, "high"]), kind="note",
                      detail=f"{lowest[0]} and {lowest[1]}")  # fmt: skip
    front = report.front[list(report.table.columns[:7])]
    yield Measurement("digits: models on the front by every indicator", int(front.all(axis=1).sum()), kind="note",
                      detail=", ".join(f"{n}: {int(front[n].sum())}" for n in front))  # fmt: skip


def _null():
    """One model twice: whatever is told apart is told wrongly."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    X, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=50).fit(X / 16, y)
    wrong = 0
    for seed in range(10):
        found = _report({"a": model, "b": model}, X[:200] / 16, seed).contradictions
        timed = found["indicator"].isin(("latency", "tail latency", "seconds a row")) & found["but"].isin(
            ("latency", "tail latency", "seconds a row")
        )
        wrong += int(timed.any())
    yield Measurement("a model against itself: runs of 10 with a contradiction of times", wrong, at_most=1)
