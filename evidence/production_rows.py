"""Production rows unlike known ones, and drift of all columns together, in the audit: nulls, planted rows, red wine."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.ensemble import HistGradientBoostingClassifier

from corrigible.audit._problem import Problem
from corrigible.audit._production import joint_drift, unlike_known
from corrigible.datasets import load_builtin, load_collection
from corrigible.papers import Measurement
from corrigible.shift import DensityRatio

CLAIM = """The share of production rows unlike the training rows is told without an arbitrary cut: its 95 % interval
holds 0 where production is as training was, and the share that was mixed in where rows are far; the rows named are
those, up to the false discovery rate; drift of all columns is told at its level, and what it does to the loss."""
PROTOCOL = """Adult, bank marketing, ACS employment, flights and white wine, 4 seeds: 1500 rows to train, 600 to test,
600 of production at random (null), and the same with 15 % of the rows' columns each shuffled among all rows and moved
by three spreads (planted). Wine: white wine, and production with 30 % red. Histogram gradient boosting. Drift, beside the
null: production drawn with probability by the rank of a column, labels known: the change of the loss and its interval."""
METHODS = ("conformal_p_values", "mmd_test")
DATA = ("adult", "bank_marketing", "acs_employment_ma", "wine_quality")
SOURCES = ("src/corrigible/audit/_production.py",)
NOT_REPRODUCED = {}
NAMES = ("adult", "bank_marketing", "acs_employment_ma", "flights", "wine_quality")
SEEDS = range(4)


def read(name, data):
    """Return rows without dates, class numbers, and for wine which rows are red."""
    table = load_builtin(name) if name == "flights" else load_collection(name, data)
    X, y = table.X.reset_index(drop=True), np.asarray(table.y)
    X = X.drop(columns=[c for c in X if pd.api.types.is_datetime64_any_dtype(X[c])])
    if name != "wine_quality":
        X = X.apply(lambda c: c if pd.api.types.is_numeric_dtype(c) else pd.Categorical(c).codes.astype(float))
        return X, pd.factorize(y, sort=True)[0], None
    colour = next(c for c in X if not pd.api.types.is_numeric_dtype(X[c]) or X[c].nunique() == 2)
    red = X[colour].astype(str).str.lower().isin(["red", "1", "1.0", "true"]).to_numpy()
    return X.drop(columns=colour), (y >= 6).astype(int), red


def checked(X, y, train, test, production):
    """Return an audit's problem, without its other checks."""
    parts = [X.iloc[rows].reset_index(drop=True) for rows in (train, test, production)]
    model = HistGradientBoostingClassifier(max_iter=25, random_state=0).fit(parts[0], y[train])
    return Problem(
        task="classification", loss="zero_one", classes=model.classes_, y_test=y[test],
        test_output=model.predict_proba(parts[1]), X_test=parts[1], X_train=parts[0], y_train=y[train],
        X_production=parts[2], production_output=model.predict_proba(parts[2]), model=model,
    )  # fmt: skip


def moved(rows, share, rng):
    """Return rows of which a share has shuffled columns, the numeric ones moved by three spreads; and which."""
    rows, far = rows.copy(), rng.uniform(size=len(rows)) < share
    for column in rows:
        values = rows[column].sample(frac=1, random_state=rng.integers(2**31)).to_numpy()
        if pd.api.types.is_numeric_dtype(rows[column]) and not pd.api.types.is_bool_dtype(rows[column]):
            spread = float(np.nanstd(rows[column].to_numpy(dtype=float)))
            rows[column] = rows[column].astype(float)
            values = values.astype(float) + 3 * spread * rng.choice([-1, 1], len(rows))
        rows.loc[far, column] = values[far]
    return rows, far


def drift_of(problem, seed):
    ratio = DensityRatio(random_state=seed).fit(problem.X_test, problem.X_production)
    return joint_drift(problem, ratio, seed=seed)[0]


def run(data):
    null, planted, red_runs, false, level, drifts = [], [], [], [], [], []
    for name in NAMES:
        X, y, red = read(name, data)
        white = np.arange(len(X)) if red is None else np.flatnonzero(~red)
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            rows = rng.permutation(white)
            train, test, ahead = rows[:1500], rows[1500:2100], rows[2100:2700]
            problem = checked(X, y, train, test, ahead)
            expected = np.zeros(len(ahead))
            null.append(unlike_known(problem, expected, seed=seed)[0]["share"]["low"] <= 0)
            level.append(drift_of(problem, seed)["p_value"] <= 0.05)
            drifts.append(_drift(problem, X, y, rows[2100:], seed))
            problem.X_production, far = moved(problem.X_production, 0.15, rng)
            found = unlike_known(problem, expected, seed=seed)[0]["share"]
            planted.append((found["low"] <= far.mean() <= found["high"], found["value"] - far.mean()))
            if red is not None:
                red_runs.append(_red(X, y, red, train, test, ahead, rng, seed))
    yield _share("nothing unlike: intervals that hold 0", null, at_least=0.9)
    yield _share("15 % moved: intervals that hold the share", [h for h, _ in planted], at_least=0.9)
    yield Measurement("15 % moved: mean error of the share", float(np.mean([e for _, e in planted])), kind="note")
    held, false = zip(*red_runs, strict=True)
    yield _share("30 % red wine: intervals that hold the share, or lie below it", held, at_least=0.9)
    yield Measurement("30 % red wine: white among the rows named", float(np.mean(false)), at_most=0.1)
    yield _share("no drift: tests that say there is, at 5 %", level, at_most=0.1)
    found = [d for d in drifts if d is not None]
    yield _share("drift: tests that see it", [d[0] for d in found], at_least=0.9)
    yield _share("drift: intervals of the change of the loss that hold it", [d[1] for d in found], at_least=0.9)


def _share(name, values, **bar):
    found = binomtest(int(np.sum(values)), len(values))
    low, high = found.proportion_ci()
    return Measurement(name, float(np.mean(values)), float(low), float(high), **bar, detail=f"{len(values)} runs")


def _drift(problem, X, y, pool, seed):
    """Return whether drift is seen, and whether the interval of the loss's change holds the change realised."""
    column = next(c for c in X if X[c].nunique() > 20 and pd.api.types.is_numeric_dtype(X[c]))
    rank = X[column].iloc[pool].rank(pct=True).fillna(0.5).to_numpy()
    rng = np.random.default_rng([seed, 9])
    chosen = pool[rng.choice(len(pool), size=600, replace=False, p=rank**2 / (rank**2).sum())]
    before = problem.X_production
    problem.X_production = X.iloc[chosen].reset_index(drop=True)
    found = drift_of(problem, seed)
    p = problem.model.predict_proba(problem.X_production)
    now = problem.row_loss(p, y[chosen]).mean()
    change = now - problem.row_loss(problem.test_output, problem.y_test).mean()
    problem.X_production = before
    return found["p_value"] <= 0.05, found["loss_change"]["low"] <= change <= found["loss_change"]["high"]


def _red(X, y, red, train, test, ahead, rng, seed):
    """Return whether the share is held or understated, and the share of white wine among the rows named."""
    mixed = np.r_[ahead[:420], rng.choice(np.flatnonzero(red), 180, replace=False)]
    problem = checked(X, y, train, test, mixed)
    found, blocks = unlike_known(problem, np.zeros(600), seed=seed)
    named = np.array([row[0] for row in blocks[1]["rows"]]) if len(blocks) > 1 else np.empty(0)
    return found["share"]["low"] <= 0.3, float((named < 420).mean()) if len(named) else 0.0
