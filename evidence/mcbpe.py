"""M-CBPE: the error of estimated accuracy and ROC AUC under natural and sampled shifts, beside three baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from corrigible.papers import Measurement
from corrigible.shift import CBPE, MCBPE, DensityRatio, ImportanceWeighting

CLAIM = """Under covariate shift, calibrating on the reference weighted to look like the production chunk estimates
performance with less error than one calibration (CBPE), importance weighting, or assuming the reference's."""
PROTOCOL = """Mean absolute error of accuracy and ROC AUC a chunk, divided by the metric's sampling error at the
chunk's size (the paper's scaling). Covariate shift: Adult with production drawn towards the old, towards the
long working hours, and of other races; Massachusetts employment with its LightGBM predictions and a logistic
regression, alike, towards the old, towards the young. Shift of unknown kind, as notes: bank marketing over
time, wine white to red, heart Cleveland to Hungary. Models: boosting and logistic regression. Reference at most
12000 rows, chunks of 2000, two folds."""
METHODS = ("mcbpe", "cbpe", "importance_weighting")
DATA = ("acs_employment_ma", "adult", "bank_marketing", "heart_4sites", "wine_quality")

_METRICS = ("accuracy", "roc_auc")
_REFERENCE, _CHUNK = 12_000, 2000


def _models(X):
    text = [c for c in X if not pd.api.types.is_numeric_dtype(X[c])]
    number = [c for c in X if c not in text]
    linear = make_column_transformer(
        (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), number),
        (OneHotEncoder(handle_unknown="ignore"), text),
    )
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    coded = make_column_transformer((codes, text), remainder="passthrough")
    return {
        "boosting": make_pipeline(coded, HistGradientBoostingClassifier(random_state=0)),
        "logistic": make_pipeline(linear, LogisticRegression(max_iter=2000)),
    }


def _fitted(X, y, train, reference, chunks):
    """Yield for each model the reference and the chunks as (y, p, X)."""
    for name, model in _models(X).items():
        model.fit(X.iloc[train], y[train])
        rows = lambda i, m=model: (y[i], m.predict_proba(X.iloc[i])[:, 1], X.iloc[i])  # noqa: E731
        yield name, rows(reference), [rows(c) for c in chunks]


def _adult(data):
    table = pd.concat([pd.read_parquet(data / "adult" / f"adult_{s}.parquet") for s in ("train", "test")])
    table = table.reset_index(drop=True)
    target = table.columns[-1]
    y = table[target].astype(str).str.contains(">50K").to_numpy().astype(int)
    X = table.drop(columns=target)
    for seed, (name, column) in enumerate([("old", "age"), ("hours", "hours_per_week"), ("race", "race")]):
        rng = np.random.default_rng(seed)
        if column == "race":
            moved = (X[column].astype(str).str.strip() != "White").to_numpy()
            source, production = np.flatnonzero(~moved), np.flatnonzero(moved)
            source, production = rng.permutation(source), rng.permutation(production)
            kept = X.drop(columns=column)
        else:
            order = rng.permutation(len(X))
            source, pool, kept = order[:24_000], order[24_000:], X
            production = np.concatenate([_drawn(pool, X[column].to_numpy(float), 1, rng) for _ in range(3)])
        chunks = [production[i * _CHUNK : (i + 1) * _CHUNK] for i in range(3)]
        train, reference = source[:10_000], source[10_000 : 10_000 + _REFERENCE]
        for model, *rest in _fitted(kept, y, train, reference, chunks):
            yield f"adult {name}, {model}", *rest


def _employment(data):
    table = pd.read_parquet(data / "acs_employment_ma" / "employment_MA_reference.parquet")
    rng = np.random.default_rng(0)
    X = table.drop(columns=["employed", "id", "year", "prediction", "predicted_probability"])
    y, given = table["employed"].to_numpy(), table["predicted_probability"].to_numpy()
    order = rng.permutation(len(y))
    train, reference, pool = np.split(order, [10_000, 10_000 + _REFERENCE])
    logistic = _models(X)["logistic"].fit(X.iloc[train], y[train])
    for model, p in (("LightGBM of the data", given), ("logistic", logistic.predict_proba(X)[:, 1])):
        rows = lambda i, p=p: (y[i], p[i], X.iloc[i])  # noqa: E731
        for name, column, sign in (("alike", "AGEP", 0), ("old", "AGEP", 1), ("young", "AGEP", -1)):
            chunks = [_drawn(pool, X[column].to_numpy(), sign, rng) for _ in range(3)]
            yield f"employment {name}, {model}", rows(reference), [rows(c) for c in chunks]


def _drawn(pool, value, sign, rng):
    """Draw a chunk from the pool, towards large (or small) values."""
    weight = np.exp(sign * (value[pool] - value[pool].mean()) / max(value[pool].std(), 1e-9))
    return rng.choice(pool, size=_CHUNK, p=weight / weight.sum(), replace=False)


def _bank(data):
    table = pd.read_parquet(data / "bank_marketing" / "bank_additional_full.parquet")
    y, X = (table["y"].astype(str) == "yes").to_numpy().astype(int), table.drop(columns=["y", "duration"])
    rng = np.random.default_rng(0)
    first = rng.permutation(24_000)
    starts = np.linspace(24_000, len(X) - _CHUNK, 2).astype(int)
    chunks = [np.arange(s, s + _CHUNK) for s in starts]
    for model, *rest in _fitted(X, y, first[:10_000], first[10_000 : 10_000 + _REFERENCE], chunks):
        yield f"bank, {model}", *rest


def _sites(data):
    wine = pd.read_csv(data / "wine_quality" / "wine_quality.csv.gz")
    colour = next(c for c in wine if wine[c].nunique() == 2)
    white = (wine[colour].astype(str).isin(["white", "1"])).to_numpy()
    wine_y = (wine["quality"] >= 6).to_numpy().astype(int)
    heart = pd.read_csv(data / "heart_4sites" / "heart_cleveland_hungarian.csv.gz")
    site = next(c for c in heart if not pd.api.types.is_numeric_dtype(heart[c]))
    home = heart[site].astype(str).str.lower().str.startswith("cle").to_numpy()
    heart_y = (heart["num"] > 0).to_numpy().astype(int)
    for name, X, y, at_home in (
        ("wine", wine.drop(columns=[colour, "quality"]), wine_y, white),
        ("heart", heart.drop(columns=[site, "num"]), heart_y, home),
    ):
        rng = np.random.default_rng(0)
        source, chunk = rng.permutation(np.flatnonzero(at_home)), np.flatnonzero(~at_home)
        half = len(source) // 2
        for model, *rest in _fitted(X, y, source[:half], source[half:], [chunk]):
            yield f"{name}, {model}", *rest


def _realised(y, p):
    return {"accuracy": float(((p > 0.5) == y).mean()), "roc_auc": roc_auc_score(y, p)}


def _sampling_error(y, p, n, rng):
    draws = [rng.integers(len(y), size=n) for _ in range(60)]
    found = [_realised(y[i], p[i]) for i in draws if 0 < y[i].sum() < n]
    return {m: float(np.std([f[m] for f in found])) for m in _METRICS}


def _errors(pairs):
    """Return a table: pair, metric, method, scaled error, covered."""
    rows, rng = [], np.random.default_rng(0)
    for pair, (y, p, X), chunks in pairs:
        scale, constant = _sampling_error(y, p, len(chunks[0][0]), rng), _realised(y, p)
        cbpe = CBPE(metric=_METRICS).fit(y, p)
        weighted = {
            "M-CBPE": MCBPE(metric=_METRICS).fit(X, y, p),
            "M-CBPE isotonic": MCBPE(metric=_METRICS, calibrator="isotonic").fit(X, y, p),
            "importance weighting": ImportanceWeighting(metric=_METRICS).fit(X, y, p),
        }
        for z, q, Z in chunks:
            ratio = DensityRatio(cv=2, random_state=0).fit(X, Z)
            found = {"CBPE": cbpe.estimate(q)}
            found |= {n: m.estimate(None, q, reference_weight=ratio.weights_) for n, m in weighted.items()}
            for metric, truth in _realised(z, q).items():
                rows.append(
                    (pair, metric, "reference", abs(constant[metric] - truth) / scale[metric], None, ratio.auc_)
                )
                rows += [
                    (pair, metric, n, abs(f[metric].value - truth) / scale[metric],
                     f[metric].low <= truth <= f[metric].high, ratio.auc_)
                    for n, f in found.items()
                ]  # fmt: skip
    return pd.DataFrame(rows, columns=["pair", "metric", "method", "error", "covered", "auc"])


def _compared(table, rng):
    """Yield M-CBPE's mean scaled error, and its ratio to each baseline's with a bootstrap over pairs."""
    by_pair = table.groupby(["metric", "pair", "method"])["error"].mean().unstack()
    for metric in _METRICS:
        mean = by_pair.loc[metric]
        n = len(mean)
        picks = rng.integers(n, size=(2000, n))
        for other in ("CBPE", "importance weighting", "reference"):
            ours, theirs = mean["M-CBPE"].to_numpy(), mean[other].to_numpy()
            draws = ours[picks].mean(axis=1) / theirs[picks].mean(axis=1)
            low, high = np.quantile(draws, [0.025, 0.975])
            yield Measurement(
                f"{metric}: scaled error of M-CBPE over that of {other}, covariate shift",
                ours.mean() / theirs.mean(), low, high, at_most=1.0,
                detail=f"{n} pairs; M-CBPE {ours.mean():.2f}, {other} {theirs.mean():.2f}",
            )  # fmt: skip
        isotonic = mean["M-CBPE isotonic"].mean()
        yield Measurement(f"{metric}: scaled error of M-CBPE with isotonic calibration", isotonic, kind="note")


def run(data):
    rng = np.random.default_rng(0)
    covariate = _errors([*_adult(data), *_employment(data)])
    yield from _compared(covariate, rng)
    for method in ("CBPE", "M-CBPE", "importance weighting"):
        held = covariate.loc[covariate["method"] == method, "covered"].astype(float)
        yield Measurement(
            f"share of 95 % intervals of {method} that hold the realised metric", held.mean(), kind="note",
            detail=f"{len(held)} chunks and metrics under covariate shift",
        )  # fmt: skip
    unknown = _errors([*_bank(data), *_sites(data)])
    apart = unknown.groupby("pair")["auc"].mean()
    for (pair, metric, method), error in unknown.groupby(["pair", "metric", "method"])["error"].mean().items():
        if method in ("M-CBPE", "CBPE", "reference"):
            yield Measurement(
                f"{pair}: scaled error of {metric}, {method}", error, kind="note",
                detail=f"no overlap: AUC of the density ratio {apart[pair]:.3f}",
            )  # fmt: skip
