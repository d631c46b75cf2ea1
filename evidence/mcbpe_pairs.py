"""M-CBPE over eight tables, three shifts each and three models: 72 pairs, beside what else needs no labels."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from corrigible.datasets import load_collection
from corrigible.papers import Measurement
from corrigible.shift import CBPE, MCBPE, DensityRatio, ImportanceWeighting

CLAIM = """Over many real tables, models and shifts M-CBPE has the lowest mean error of estimated accuracy and ROC AUC among
what needs no labels, and where nothing shifts it gives no alarm."""
PROTOCOL = """Adult, bank marketing, heart, wine (6 or more), bikes (above the median), COMPAS, ACS employment, HMDA;
logistic regression, boosting, random forest. Three shifts a table: production drawn towards large values of one column,
towards small values of another (weights exp(+-z)), and production of one group with the column left out, which is no pure
covariate shift. A third of the rows each to train, for reference (at most 4000) and to draw from, a chunk of at most
1000. Errors a metric are divided by its sampling error at the chunk's size; the mean over 72 pairs, and the bootstrap
over pairs. Alarms: 40 chunks of ACS employment without shift. Bars set beforehand: lowest of all,
and at most 5 % of alarms without a shift."""
METHODS = ("mcbpe", "cbpe", "importance_weighting")
PAPERS = ("mcbpe",)
DATA = (
    "acs_employment_ma", "adult", "bank_marketing", "bikeshare", "compas", "heart_4sites", "hmda_boston", "wine_quality",
)  # fmt: skip
NOT_REPRODUCED = {
    "roc_auc: scaled error of M-CBPE over that of CBPE":
        "One shift decides it: wine of the other colour, where quality hangs on other things and the reference hardly "
        "overlaps (7.6 against 4.3). Without it the errors are 2.13 and 2.22, the lowest of all.",
}  # fmt: skip
METRICS = ("accuracy", "roc_auc")
# Columns drawn towards large and small values, and the group that production is of.
SHIFTS = {
    "adult": ("age", "hours_per_week", "sex"),
    "bank_marketing": ("age", "campaign", "contact"),
    "heart": ("age", "thalach", "sex"),
    "wine_quality": ("alcohol", "volatile_acidity", "colour"),
    "bikeshare": ("temp", "hr", "workingday"),
    "compas": ("priors_count", "age", "race"),
    "acs_employment_ma": ("AGEP", "SCHL", "CIT"),
    "hmda": ("lvr", "dir", "black"),
}
BASELINES = ("CBPE", "importance weighting", "reference")


def run(data):
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = [row for name in SHIFTS for row in _table_rows(name, data)]
    table = pd.DataFrame(rows, columns=["pair", "kind", "metric", "method", "error", "covered"])
    rng = np.random.default_rng(0)
    for metric in METRICS:
        mean = table[table["metric"] == metric].pivot(index="pair", columns="method", values="error")
        picks = rng.integers(len(mean), size=(2000, len(mean)))
        for other in BASELINES:
            ours, theirs = mean["M-CBPE"].to_numpy(), mean[other].to_numpy()
            low, high = np.quantile(ours[picks].mean(axis=1) / theirs[picks].mean(axis=1), [0.025, 0.975])
            yield Measurement(
                f"{metric}: scaled error of M-CBPE over that of {other}", ours.mean() / theirs.mean(), low, high,
                at_most=1.0, detail=f"{len(mean)} pairs; {ours.mean():.2f} against {theirs.mean():.2f}",
            )  # fmt: skip
    for kind, part in table.groupby("kind"):
        means = part.groupby(["metric", "method"])["error"].mean().unstack()
        for metric in METRICS:
            told = ", ".join(f"{m} {v:.2f}" for m, v in means.loc[metric].sort_values().items())
            yield Measurement(f"{kind}, {metric}: scaled error of M-CBPE", means.loc[metric, "M-CBPE"], kind="note",
                              detail=told)  # fmt: skip
    held = table[table["method"] == "M-CBPE"].groupby("kind")["covered"].mean()
    for kind, share in held.items():
        yield Measurement(
            f"{kind}: share of M-CBPE's 95 % intervals that hold the realised metric", share, kind="note"
        )
    yield _silence(data)


def _table(name, data):
    table = load_collection(name, data)
    y = table.y
    if name == "wine_quality":
        y = y >= 6
    elif name == "bikeshare":
        y = y > y.median()
    return table.X.reset_index(drop=True), pd.factorize(y, sort=True)[0]


def _table_rows(name, data):
    X, y = _table(name, data)
    large, small, group = SHIFTS[name]
    rng = np.random.default_rng(0)
    for kind in ("towards large", "towards small", "one group"):
        if kind == "one group":
            inside = (X[group] == X[group].mode()[0]).to_numpy()
            source, pool = rng.permutation(np.flatnonzero(inside)), rng.permutation(np.flatnonzero(~inside))
            features = X.drop(columns=group)
            source = np.array_split(source, 2)
            chunk = pool[:1000]
        else:
            *source, pool = np.array_split(rng.permutation(len(X)), 3)
            features = X
            column = pd.to_numeric(X[large if kind == "towards large" else small], errors="coerce")
            z = ((column - column.mean()) / column.std()).fillna(0).to_numpy()[pool]
            weight = np.exp(z if kind == "towards large" else -z)
            chunk = rng.choice(pool, size=min(1000, len(pool) // 3), p=weight / weight.sum(), replace=False)
        train, reference = source[0][:10_000], source[1][:4000]
        ratio = DensityRatio(cv=2, random_state=0).fit(features.iloc[reference], features.iloc[chunk])
        for model_name, model in _models(features).items():
            model.fit(features.iloc[train], y[train])
            p, q = (model.predict_proba(features.iloc[i])[:, 1] for i in (reference, chunk))
            given = (y[reference], p, features.iloc[reference])
            yield from _pair(f"{name}, {kind}, {model_name}", kind, given, (y[chunk], q), ratio.weights_)


def _models(X):
    text = [c for c in X if not pd.api.types.is_numeric_dtype(X[c])]
    number = [c for c in X if c not in text]
    linear = make_column_transformer(
        (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), number),
        (OneHotEncoder(handle_unknown="ignore"), text),
    )
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    coded = make_column_transformer((codes, text), (SimpleImputer(keep_empty_features=True), number))
    return {
        "logistic": make_pipeline(linear, LogisticRegression(max_iter=500)),
        "boosting": make_pipeline(coded, HistGradientBoostingClassifier(max_iter=60, random_state=0)),
        "forest": make_pipeline(coded, RandomForestClassifier(60, min_samples_leaf=5, random_state=0)),
    }


def _realised(y, p):
    return {"accuracy": float(((p > 0.5) == y).mean()), "roc_auc": float(roc_auc_score(y, p))}


def _pair(pair, kind, reference, production, weights):
    y, p, X = reference
    z, q = production
    rng = np.random.default_rng(0)
    picks = (rng.integers(len(y), size=len(z)) for _ in range(60))
    draws = [_realised(y[i], p[i]) for i in picks if 0 < y[i].sum() < len(i)]
    found = {"CBPE": CBPE(metric=METRICS).fit(y, p).estimate(q)}
    for name, method in (("M-CBPE", MCBPE), ("importance weighting", ImportanceWeighting)):
        found[name] = method(metric=METRICS).fit(X, y, p).estimate(None, q, reference_weight=weights)
    constant, truth = _realised(y, p), _realised(z, q)
    for metric in METRICS:
        scale = np.std([d[metric] for d in draws])
        yield pair, kind, metric, "reference", abs(constant[metric] - truth[metric]) / scale, None
        for name, estimates in found.items():
            e = estimates[metric]
            yield pair, kind, metric, name, abs(e.value - truth[metric]) / scale, e.low <= truth[metric] <= e.high


def _silence(data):
    """Share of chunks without shift of which M-CBPE's interval leaves out the reference's metric."""
    X, y = _table("acs_employment_ma", data)
    rng = np.random.default_rng(1)
    train, reference, pool = np.split(rng.permutation(len(X)), [8000, 12_000])
    model = _models(X)["logistic"].fit(X.iloc[train], y[train])
    p = model.predict_proba(X)[:, 1]
    fitted = MCBPE(metric=METRICS, random_state=0).fit(X.iloc[reference], y[reference], p[reference])
    usual, alarms = _realised(y[reference], p[reference]), []
    for chunk in np.array_split(pool[:40_000], 40):
        ratio = DensityRatio(cv=2, random_state=0).fit(X.iloc[reference], X.iloc[chunk])
        found = fitted.estimate(None, p[chunk], reference_weight=ratio.weights_)
        alarms += [not found[m].low <= usual[m] <= found[m].high for m in METRICS]
    return Measurement("ACS employment without shift: share of alarms", float(np.mean(alarms)), at_most=0.05,
                       detail=f"{len(alarms)} chunks and metrics")  # fmt: skip
