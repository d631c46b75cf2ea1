"""Conformal methods: coverage on real tables is that of theory, and weights restore it under a planted shift."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible.papers import Measurement
from corrigible.uncertainty import (
    AdaptiveConformal,
    ConformalizedQuantileRegressor,
    ConformalPredictiveSystem,
    ConformalPValues,
    CrossConformalRegressor,
    RiskControl,
    SplitConformal,
    SplitConformalClassifier,
    SplitConformalRegressor,
)

CLAIM = """Split conformal intervals, CQR, predictive systems, p-values and randomised sets cover new
exchangeable rows with probability (rank)/(n + 1), whatever the data and the model; CV+ covers at least 1 - 2
alpha. Weighted by the ratio of densities, coverage holds under covariate shift, where unweighted intervals lose
it (Tibshirani et al. 2019). Conformal risk control bounds the mean loss, RCPS and learn then test the chance
that the risk exceeds its level. Adaptive inference keeps the long-run share of misses in a stream that drifts
(Gibbs and Candes 2021)."""
PROTOCOL = """Wine quality (linear model and boosted quantiles of quality plus uniform noise in [-0.5, 0.5], so
that there are no ties; for sets, logistic regression of three classes of quality) with a quarter of the rows to
train; 300 random splits of the rest into 199 calibration and 200 new rows; alpha 0.1. Coverage is the mean over
splits, its bar within 3 standard errors over splits of 0.9, the beta-binomial law's mean (180 of 200). CV+ on
200 rows, 30 draws: at least 0.8. Shift, planted: 1,000 calibration rows, 500 new ones drawn from the others with
probability proportional to exp(1.5 z), z the standardised alcohol; normal noise of deviation exp(z / 2) is added;
weights are those of the draw; 100 draws; bars: weighted at least 0.88, unweighted at most 0.88. Risk: loss 1 where
the true class has a probability below 1 minus a threshold, level 0.1, delta 0.1,
300 splits; mean risk of crc at most 0.1 plus 3 standard errors, share of splits whose risk on all other rows
exceeds 0.1 at most 0.1 plus 3 of its standard errors. Stream: wine rows in order of alcohol, gamma 0.02; misses
within the paper's bound of 0.1, those of a fixed level beside as a note."""
METHODS = (
    "split_conformal",
    "split_conformal_regressor",
    "split_conformal_classifier",
    "conformalized_quantile_regressor",
    "conformal_predictive_system",
    "conformal_p_values",
    "cross_conformal_regressor",
    "risk_control",
    "adaptive_conformal",
)
SOURCES = ("src/corrigible/_core/conformal.py",)
DATA = ("wine_quality",)
_SPLITS, _CAL, _NEW = 300, 199, 200


def _wine(data):
    table = pd.read_csv(data / "wine_quality" / "wine_quality.csv.gz").drop_duplicates()
    X = table.drop(columns=["quality", "colour"])
    rng = np.random.default_rng(0)
    order = rng.permutation(len(table))
    quality = table["quality"].to_numpy(float)[order]
    return X.iloc[order], quality + rng.uniform(-0.5, 0.5, size=len(order)), np.digitize(quality, [5.5, 6.5])


def _inside(ends, y):
    return ((ends[:, 0] <= y) & (y <= ends[:, 1])).mean()


def _arms(X, y, c, n_train):
    """Return what each method takes and says: name to (arrays, covered share of new rows)."""
    train, rest = slice(0, n_train), slice(n_train, None)
    point = LinearRegression().fit(X[train], y[train]).predict(X[rest])
    ends = np.column_stack(
        [
            HistGradientBoostingRegressor(loss="quantile", quantile=q, max_iter=40, random_state=0)
            .fit(X[train], y[train])
            .predict(X[rest])
            for q in (0.05, 0.95)
        ]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X[train], c[train])
    proba, y, c = model.predict_proba(X[rest]), y[rest], c[rest]

    def intervals(method, rows):
        return lambda a, b, s: _inside(method.fit(rows[a], y[a]).predict_interval(rows[b]), y[b])

    def sets(score):
        def share(a, b, s):
            method = SplitConformalClassifier(score=score, random_state=s).fit(proba[a], c[a])
            return method.predict_set(proba[b])[np.arange(len(b)), c[b]].mean()

        return share

    def classes(a, b, s):
        return SplitConformal().fit(proba[a], c[a]).predict_set(proba[b])[np.arange(len(b)), c[b]].mean()

    def p_values(a, b, s):
        error = np.abs(y - point)
        return (ConformalPValues(random_state=s).fit(error[a]).p_values(error[b]) > 0.1).mean()

    return {
        "split, absolute residual": intervals(SplitConformalRegressor(), point),
        "split, of numbers": intervals(SplitConformal(), point),
        "split, of classes": classes,
        "split, two sides": intervals(SplitConformalRegressor(symmetric=False), point),
        "CQR": intervals(ConformalizedQuantileRegressor(), ends),
        "predictive system": intervals(ConformalPredictiveSystem(), point),
        "p-values": p_values,
        "LAC": sets("lac"),
        "APS": sets("aps"),
        "RAPS": sets("raps"),
    }, len(y)


def run(data):
    X, y, c = _wine(data)
    arms, n = _arms(X, y, c, len(y) // 4)
    rng = np.random.default_rng(1)
    splits = [rng.permutation(n)[: _CAL + _NEW] for _ in range(_SPLITS)]
    for name, share in arms.items():
        values = np.array([share(s[:_CAL], s[_CAL:], seed) for seed, s in enumerate(splits)])
        error = values.std(ddof=1) / np.sqrt(_SPLITS)
        yield Measurement(
            f"coverage of 0.9: {name}", float(values.mean()), float(values.mean() - 2 * error),
            float(values.mean() + 2 * error), at_least=0.9 - 3 * error, at_most=0.9 + 3 * error,
        )  # fmt: skip
    values = []
    for seed, s in enumerate(splits[:30]):
        method = CrossConformalRegressor(LinearRegression(), random_state=seed).fit(X.iloc[s[:200]], y[s[:200]])
        values.append(_inside(method.predict_interval(X.iloc[s[200:]]), y[s[200:]]))
    yield Measurement("coverage: CV+ on 200 rows", float(np.mean(values)), min(values), max(values), at_least=0.8)
    yield from _shifted(X, y)
    yield from _risks(X, c, len(y) // 4)
    yield _stream(X, y, AdaptiveConformal(gamma=0.02), "adaptive", bound=True)
    yield _stream(X, y, AdaptiveConformal(gamma=0.0), "fixed level", bound=False)


def _shifted(X, y):
    z = StandardScaler().fit_transform(X[["alcohol"]])[:, 0]
    noise = (
        np.exp(z / 2) * norm.ppf((np.arange(len(z)) + 0.5) / len(z))[np.random.default_rng(0).permutation(len(z))]
    )
    truth, weight = y + noise, np.exp(1.5 * z)
    train = len(y) // 4
    point = LinearRegression().fit(X[:train], truth[:train]).predict(X)
    shares = {"unweighted": [], "weighted": []}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rest = train + rng.permutation(len(y) - train)
        a, pool = rest[:1000], rest[1000:]
        b = rng.choice(pool, size=500, p=weight[pool] / weight[pool].sum())
        plain = SplitConformalRegressor().fit(point[a], truth[a]).predict_interval(point[b])
        method = SplitConformalRegressor().fit(point[a], truth[a], sample_weight=weight[a])
        weighted = method.predict_interval(point[b], sample_weight=weight[b])
        shares["unweighted"].append(_inside(plain, truth[b]))
        shares["weighted"].append(_inside(weighted, truth[b]))
    for name, bar in (("unweighted", {"at_most": 0.88}), ("weighted", {"at_least": 0.88})):
        v = shares[name]
        yield Measurement(f"coverage under shift, {name}", float(np.mean(v)), min(v), max(v), **bar)


def _risks(X, c, n_train):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X[:n_train], c[:n_train])
    own = model.predict_proba(X[n_train:])[np.arange(len(c) - n_train), c[n_train:]]
    losses = (own[:, None] < 1 - np.linspace(0, 1, 101)).astype(float)
    for name, method in (
        ("crc", RiskControl()),
        ("rcps", RiskControl(method="rcps")),
        ("ltt, fixed sequence", RiskControl(method="ltt")),
        ("ltt, Bonferroni", RiskControl(method="ltt", correction="bonferroni")),
    ):
        risks = []
        for seed in range(_SPLITS):
            order = np.random.default_rng(seed).permutation(len(own))
            column = method.fit(losses[order[:_CAL]]).column_
            risks.append(losses[order[_CAL:], column].mean())
        risks = np.array(risks)
        if name == "crc":
            bar = 0.1 + 3 * risks.std(ddof=1) / np.sqrt(_SPLITS)
            yield Measurement("mean risk at level 0.1: crc", float(risks.mean()), at_most=float(bar))
        else:
            bar = 0.1 + 3 * np.sqrt(0.09 / _SPLITS)
            yield Measurement(f"share of splits above level 0.1: {name}", float((risks > 0.1).mean()), at_most=bar)


def _stream(X, y, method, name, *, bound):
    order = np.argsort(X["alcohol"].to_numpy(), kind="stable")
    z, truth = StandardScaler().fit_transform(X)[order], y[order]
    point = LinearRegression().fit(z[:500], truth[:500]).predict(z)
    method.fit(point[500:700], truth[500:700]).update(point[700:], truth[700:])
    share, slack = method.n_missed_ / method.n_seen_, (0.9 + 0.02) / (0.02 * method.n_seen_)
    bar = {"at_least": 0.1 - slack, "at_most": 0.1 + slack} if bound else {"kind": "note"}
    return Measurement(f"share of misses in a stream by alcohol: {name}", share, **bar)
