"""FEAMOE: a fair mixture of linear experts against single models, on streams with drift, and its explanations."""

from __future__ import annotations

import time
import warnings

import numpy as np
from scipy.stats import spearmanr
from scipy.stats import t as student

from corrigible.datasets import load_collection
from corrigible.fairness import FairAdaptiveMixture
from corrigible.papers import Measurement

CLAIM = """A mixture of linear experts with a fairness penalty is about as accurate as a neural network and fairer; on
a stream it follows drift of accuracy and of fairness where single models do not; its Shapley values are fast and
exact."""
PROTOCOL = """At once: adult (4,000 rows; sex), Compas (black or white defendants), Boston HMDA (black), three random
halves, one-hot columns without the group; mixture (three experts, penalty 20 on demographic parity) against a network
of one hidden layer of 32 and against logistic regression: error, and difference of the shares of positive decisions.
Bars: error at most 0.02 above the network's, difference at most half of it, means of tables. Streams in order of
time: Massachusetts employment (reference 2015, then 2016 to 2018; sex) and bank marketing (2008 to 2010; single or
not), batches of 400, 60 of each, evenly spaced. Each batch is scored before it is learnt from, the first ten are not
counted: log loss and difference of the mean probabilities of groups against a mixture frozen after ten batches (bar:
loss not higher) and one expert learning on without penalty (bar: difference lower). Planted drift: adult in batches
of 400, after 20 of which a half of the positives of men become negative, three orders of rows: drift called within
three batches, and calls in the steady part. As that drift was seen to make rows easier, another one was added, with
the same bars: a half of all men's labels become positive. Shapley values: against enumeration with the row's gate on
six columns of adult; time a row, and rank correlation with a moving gate."""
METHODS = ("fair_adaptive_mixture",)
SOURCES = ("src/corrigible/_core/group_penalties.py", "src/corrigible/_core/subset_shapley.py")
DATA = ("adult", "compas", "hmda_boston", "acs_employment_ma", "bank_marketing")
NOT_REPRODUCED = {
    "stream acs_employment_ma: difference of groups minus that of one expert without penalty": "0.006 (0.001 to 0.011). "
    "The differences themselves, 0.035, 0.028 and 0.030, are hardly more than two random halves of 400 rows show. There "
    "is little for a penalty to take away, and two experts that are fitted to a batch each add to it. On bank marketing "
    "the mixture's difference is half of that of one expert.",
    "planted drift: called within three batches": "In one of three orders. The loss rises by 0.003 only: positives of men "
    "that become negative make the classes less even and the groups more alike, so that neither loss nor difference "
    "rises by three standard deviations. Where men's labels become positive, which costs 0.47 nats, it is called in all.",
}
TABLES = {"adult": "sex", "compas": "race", "hmda": "black"}
WORDS = {"penalty": 20.0, "random_state": 0}


def run(data):
    warnings.simplefilter("ignore")
    yield from _at_once(data)
    for name, column in (("acs_employment_ma", "sex"), ("bank_marketing", "marital")):
        yield from _stream(data, name, column)
    yield from _planted(data)
    yield from _explained(data)


def _rows(data, name, column, n, *, order=None):
    """One-hot columns without the group, labels, groups as 0 and 1; the first rows, or those evenly spaced in time."""
    import pandas as pd

    table = load_collection(name, data)
    group = table.groups[column].astype(str).to_numpy()
    keep = np.isin(group, ["African-American", "Caucasian"]) if name == "compas" else np.ones(len(group), bool)
    rows = np.flatnonzero(keep)
    if order == "time":
        rows = rows[np.argsort(table.time.to_numpy()[rows], kind="stable")] if table.time is not None else rows
        rows = rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]
    else:
        rows = np.random.default_rng(0).permutation(rows)[:n]
    columns = pd.get_dummies(table.X.iloc[rows].drop(columns=column, errors="ignore"), dtype=float)
    columns = columns.fillna(columns.median()).fillna(0.0)
    y = table.y.iloc[rows].to_numpy().astype(int)
    group = group[rows]
    one = "single" if column == "marital" else sorted(set(group))[0]
    return columns.to_numpy(), y, (group == one).astype(int), list(columns.columns)


def _parity(said, group):
    return float(abs(said[group == 1].mean() - said[group == 0].mean()))


def _interval(name, values, **words):
    v = np.asarray(values)
    half = student.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return Measurement(name, float(v.mean()), float(v.mean() - half), float(v.mean() + half), **words)


def _at_once(data):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for name, column in TABLES.items():
        X, y, group, _ = _rows(data, name, column, 4000)
        for half in range(3):
            train, test = np.array_split(np.random.default_rng(half).permutation(len(y)), 2)
            network = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=30, random_state=half))
            linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
            said = [FairAdaptiveMixture(**WORDS).fit(X[train], y[train], group[train]).predict(X[test])]
            said += [m.fit(X[train], y[train]).predict(X[test]) for m in (network, linear)]
            found.append([[np.mean(s != y[test]), _parity(s, group[test])] for s in said])
    found = np.array(found).reshape(len(TABLES), 3, 3, 2).mean(axis=0)  # half, model, (error, parity)
    errors = ", ".join(f"{v:.3f}" for v in found[:, :, 0].mean(axis=0))
    gaps = ", ".join(f"{v:.3f}" for v in found[:, :, 1].mean(axis=0))
    yield _interval("at once: error minus the network's, mean of tables", found[:, 0, 0] - found[:, 1, 0], at_most=0.02,
                    detail=f"mixture, network, logistic: {errors}")  # fmt: skip
    yield _interval("at once: difference of groups over the network's", found[:, 0, 1] / found[:, 1, 1], at_most=0.5,
                    detail=f"mixture, network, logistic: {gaps}")  # fmt: skip
    yield _interval(
        "at once: error minus that of logistic regression", found[:, 0, 0] - found[:, 2, 0], kind="note"
    )


def _stream(data, name, column, size=400, warm=10):
    X, y, group, _ = _rows(data, name, column, 60 * size, order="time")
    models = {
        "mixture": FairAdaptiveMixture(**WORDS),
        "frozen": FairAdaptiveMixture(**WORDS),
        "one expert": FairAdaptiveMixture(n_experts=1, drift=np.inf, penalty=0.0, random_state=0),
    }
    losses, gaps = ({m: [] for m in models} for _ in range(2))
    for b in range(len(y) // size):
        rows = slice(b * size, (b + 1) * size)
        for m, model in models.items():
            if b >= warm:
                chance = model.predict_proba(X[rows])[:, 1].clip(1e-9, 1 - 1e-9)
                losses[m].append(-np.mean(np.log(np.where(y[rows] == 1, chance, 1 - chance))))
                gaps[m].append(_parity(chance, group[rows]))
            if m != "frozen" or b < warm:
                model.partial_fit(X[rows], y[rows], group[rows], classes=[0, 1])
    told = {what: ", ".join(f"{m} {np.mean(v):.3f}" for m, v in of.items())
            for what, of in (("loss", losses), ("gap", gaps))}  # fmt: skip
    change = np.subtract(losses["mixture"], losses["frozen"])
    calls = sum(b["drift"] for b in models["mixture"].history_)
    yield _interval(
        f"stream {name}: log loss minus that of the frozen mixture", change, at_most=0.0, detail=told["loss"]
    )
    yield _interval(f"stream {name}: difference of groups minus that of one expert without penalty",
                    np.subtract(gaps["mixture"], gaps["one expert"]), at_most=0.0, detail=told["gap"])  # fmt: skip
    yield _interval(f"stream {name}: log loss minus that of one expert without penalty",
                    np.subtract(losses["mixture"], losses["one expert"]), kind="note",
                    detail=f"{calls} drifts called in {len(y) // size} batches")  # fmt: skip


def _planted(data, size=400, turn=20):
    X, y, group, _ = _rows(data, "adult", "sex", 36 * size)
    for name, label in (("planted drift", 0), ("planted drift that makes rows harder", 1)):
        called, steady, after, rise = [], [], [], []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(y))
            grown, fixed = FairAdaptiveMixture(**WORDS), FairAdaptiveMixture(**WORDS, drift=np.inf)
            for b in range(36):
                rows = order[b * size : (b + 1) * size]
                turned = (b >= turn) & (group[rows] == 0) & (rng.uniform(size=size) < 0.5)
                for model in (grown, fixed):
                    model.partial_fit(X[rows], np.where(turned, label, y[rows]), group[rows], classes=[0, 1])
            calls = [i for i, h in enumerate(grown.history_) if h["drift"]]
            called.append(any(turn <= i < turn + 3 for i in calls))
            steady.append(sum(10 <= i < turn for i in calls) / (turn - 10))
            losses = np.array([[m.history_[i]["loss"] for i in range(36)] for m in (grown, fixed)])
            after.append((losses[0] - losses[1])[turn + 1 :].mean())
            rise.append(losses[1, turn : turn + 3].mean() - losses[1, 10:turn].mean())
        yield Measurement(f"{name}: called within three batches", float(np.mean(called)), at_least=0.8,
                          detail=f"log loss rises by {np.mean(rise):.3f} at first")  # fmt: skip
        yield Measurement(f"{name}: share of steady batches called", float(np.mean(steady)), at_most=0.05)
        yield _interval(f"{name}: log loss afterwards minus that without new experts", after, kind="note")


def _explained(data):
    X, y, group, names = _rows(data, "adult", "sex", 4000)
    few = [i for i, n in enumerate(names) if n in ("age", "education_num", "hours_per_week", "capital_gain")]
    few += [i for i, n in enumerate(names) if i not in few][:2]
    model = FairAdaptiveMixture(**WORDS).fit(X[:, few], y, group)
    rows = X[:200][:, few]
    still, moving = (model.shapley_values(rows, moving_gate=m) for m in (False, True))
    sums = [np.abs(s.values.sum(axis=1) + s.base - model.decision_function(rows)).max() for s in (still, moving)]
    yield Measurement(
        "Shapley values and base less log-odds, at most", float(max(sums)), at_most=1e-9, kind="reference"
    )
    gap = max(np.abs(still.values[i] - _by_hand(model, rows[i])).max() for i in range(20))
    yield Measurement("gap to enumeration with the row's gate", float(gap), at_most=1e-9, kind="reference")
    rank = np.mean([spearmanr(a, b).statistic for a, b in zip(still.values, moving.values, strict=True)])
    yield Measurement("rank correlation of values with the gate still and moving", float(rank), kind="note")
    start = time.perf_counter()
    model.shapley_values(rows)
    middle = time.perf_counter()
    model.shapley_values(rows, moving_gate=True)
    ratio = (time.perf_counter() - middle) / (middle - start)
    yield Measurement("time of enumeration over that of the still gate, six columns", float(ratio), kind="note")


def _by_hand(model, x):
    """Shapley values with the row's gate, by all subsets of the other features."""
    from itertools import combinations
    from math import comb

    share, z = model.gate(x[None])[0], (x - model.center_) / model.scale_

    def said(inside):
        return float(share @ (model.experts_[:, :-1] @ np.where(inside, z, 0.0) + model.experts_[:, -1]))

    out = np.zeros(len(x))
    for j in range(len(x)):
        others = [k for k in range(len(x)) if k != j]
        for size in range(len(x)):
            for chosen in combinations(others, size):
                inside = np.isin(np.arange(len(x)), chosen)
                out[j] += (said(inside | (np.arange(len(x)) == j)) - said(inside)) / (
                    len(x) * comb(len(x) - 1, size)
                )
    return out
