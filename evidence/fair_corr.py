"""Correlation shift: new shares of labels and groups before fair training, where the link of the two has moved."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import minimize
from scipy.stats import t as student

from corrigible.datasets import load_collection
from corrigible.fairness import CorrelationShift
from corrigible.papers import Measurement

CLAIM = """Where the correlation of labels and groups has shifted, weighing the training rows to the shifted
correlation before training under a fairness constraint makes both the error and the violation of demographic parity
on shifted rows smaller than training under the constraint alone."""
PROTOCOL = """Adult (a random 5,000 rows; sex), Compas (black or white defendants) and Boston HMDA (black), six random
halves. The correlation of the test half is moved by dropping positives of the group of higher rate at random, to 0.1
and 0.2 below that of the table, two shifts a table. Training under the constraint: logistic regression on one- hot
columns, reweighed over 15 rounds by FairBatch's rule on whole epochs (weights of groups within a label move by 0.04
against the difference of mean probability of a positive decision), with and without the new shares, which are told
the correlation of the test half (as in the paper) and, as a note, 200 labelled rows of it. Compared on the test half,
paired: error, and difference of the shares of positive decisions. Bars: the mean over tables and shifts of each
difference is at most 0. t intervals over the means of the six halves. Reference: a general solver from many starts,
40 random programmes."""
METHODS = ("correlation_shift",)
DATA = ("adult", "compas", "hmda_boston")
TABLES = {"adult": "sex", "compas": "race", "hmda": "black"}
DROPS = (0.1, 0.2)
HALVES = 6


def run(data):
    yield _reference()
    found = np.array([_table(data, name) for name in TABLES])  # table, half, shift, way, (error, violation)
    for k, what in enumerate(("error", "violation of demographic parity")):
        change = found[:, :, :, 1, k] - found[:, :, :, 0, k]
        yield _interval(f"{what}: new shares and constraint, minus constraint alone", change, at_most=0.0)
        for name, rows in zip(TABLES, change, strict=True):
            before, after = found[list(TABLES).index(name), :, :, :2, k].mean(axis=(0, 1))
            yield _interval(f"{what}, {name}", rows[None], kind="note", detail=f"from {before:.4f} to {after:.4f}")
        counted = found[:, :, :, 2, k] - found[:, :, :, 0, k]
        yield _interval(f"{what}, correlation counted on 200 rows", counted, kind="note")
        alone = found[:, :, :, 3, k] - found[:, :, :, 0, k]
        yield _interval(f"{what}, new shares without a constraint", alone, kind="note")


def _interval(name, change, **words):
    means = change.mean(axis=(0, 2))
    half = student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return Measurement(name, float(means.mean()), float(means.mean() - half), float(means.mean() + half), **words)


def _table(data, name):
    X, y, group = _rows(data, name)
    return [_half(X, y, group, seed) for seed in range(HALVES)]


def _rows(data, name):
    import pandas as pd
    from sklearn.preprocessing import StandardScaler

    table = load_collection(name, data)
    group = table.groups[TABLES[name]].astype(str).to_numpy()
    keep = np.isin(group, ["African-American", "Caucasian"]) if name == "compas" else np.ones(len(group), bool)
    if name == "adult":
        keep &= np.random.default_rng(0).permutation(len(group)) < 5_000
    columns = pd.get_dummies(table.X[keep].drop(columns=TABLES[name], errors="ignore"), dtype=float)
    columns = columns.fillna(columns.median())
    y, group = table.y[keep].to_numpy().astype(int), group[keep]
    rates = {g: y[group == g].mean() for g in np.unique(group)}
    # The group of higher rate is 1, so that the correlation is above 0 in every table.
    return StandardScaler().fit_transform(columns), y, (group == max(rates, key=rates.get)).astype(int)


def _correlation(y, group):
    return y[group == 1].mean() - y[group == 0].mean()


def _shifted(y, group, target, rng):
    """Rows left after positives of group 1 are dropped at random until the correlation is the target."""
    rate = y[group == 0].mean() + target
    cell = rng.permutation(np.flatnonzero((y == 1) & (group == 1)))
    others = ((y == 0) & (group == 1)).sum()
    return np.setdiff1d(np.arange(len(y)), cell[int(rate / (1 - rate) * others) :])


def _half(X, y, group, seed):
    rng = np.random.default_rng(seed)
    train, test = np.array_split(rng.permutation(len(y)), 2)
    out = []
    for drop in DROPS:
        rows = test[_shifted(y[test], group[test], _correlation(y, group) - drop, rng)]
        there = _correlation(y[rows], group[rows])
        few = rng.permutation(rows)[:200]
        told = CorrelationShift(correlation=float(there), label_slack=0.3, group_slack=0.3)
        weight = told.fit(y[train], group[train]).sample_weight_
        counted = CorrelationShift(label_slack=0.3, group_slack=0.3)
        guessed = counted.fit(y[train], group[train], y[few], group[few]).sample_weight_
        ways = [(np.ones(len(train)), True), (weight, True), (guessed, True), (weight, False)]
        said = [_fair(X[train], y[train], group[train], w, bound).predict(X[rows]) for w, bound in ways]
        out.append([(np.mean(s != y[rows]), _parity(s, group[rows])) for s in said])
    return out


def _parity(said, group):
    return abs(said[group == 1].mean() - said[group == 0].mean())


def _fair(X, y, group, weight, bound, rounds=15, step=0.04):
    """Logistic regression whose weights of groups within labels move against the difference of the groups."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=60, tol=1e-3, warm_start=True)
    cell = 2 * y + group
    mass = np.bincount(cell, weight, 4).reshape(2, 2)
    share = (mass / mass.sum(axis=1, keepdims=True))[:, 1]  # of group 1 within each label
    for _ in range(rounds if bound else 1):
        wanted = np.column_stack([1 - share, share]) * mass.sum(axis=1, keepdims=True)
        model.fit(X, y, sample_weight=weight * (wanted / mass).ravel()[cell])
        chance = model.predict_proba(X)[:, 1]
        gap = np.subtract(*(np.average(chance[group == g], weights=weight[group == g]) for g in (1, 0)))
        # Group 1 decided upon more often: less of its positives, more of its negatives.
        share = np.clip(share + step * np.sign(gap) * np.array([1, -1]), 0.01, 0.99)
    return model


def _reference():
    worst, tried = 0.0, 0
    for seed in itertools.count():
        rng = np.random.default_rng(seed)
        counts = 1 + rng.multinomial(500, rng.dirichlet(np.ones(4) * 2))
        cells = np.repeat(np.arange(4), counts)
        shares = counts / counts.sum()
        here = shares[3] / (shares[1] + shares[3]) - shares[2] / (shares[0] + shares[2])
        c = float(np.clip(here + rng.uniform(-0.15, 0.15), -0.95, 0.95))
        found = CorrelationShift(correlation=c).fit(cells // 2, cells % 2)
        worst = max(worst, found.distance_**2 - _general(shares, c, rng))
        tried += 1
        if tried == 40:
            break
    return Measurement(
        "squared distance above that of a general solver, at most", worst, at_most=1e-8, kind="reference"
    )


def _general(w, c, rng):
    rules = [
        {"type": "eq", "fun": lambda v: v.sum() - 1},
        {"type": "eq", "fun": lambda v: v[3] * v[0] - v[2] * v[1] - c * (v[1] + v[3]) * (v[0] + v[2])},
        {"type": "ineq", "fun": lambda v: 0.1 - abs(v[2] + v[3] - w[2] - w[3])},
        {"type": "ineq", "fun": lambda v: 0.1 - abs(v[1] + v[3] - w[1] - w[3])},
    ]
    best = np.inf
    for start in [w, *rng.dirichlet(np.ones(4), size=6)]:
        found = minimize(lambda v: ((v - w) ** 2).sum(), start, bounds=[(0, 1)] * 4, constraints=rules,
                         method="SLSQP", options={"maxiter": 300, "ftol": 1e-15})  # fmt: skip
        broken = max(
            abs(rules[0]["fun"](found.x)), abs(rules[1]["fun"](found.x)), *(-r["fun"](found.x) for r in rules[2:])
        )
        best = min(best, found.fun) if broken < 1e-9 else best
    return best
