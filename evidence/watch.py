"""Watching a model: the chance of any false alert, what is found, and a year of dated rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from corrigible.papers import Measurement
from corrigible.watch import watch
from corrigible.watch._bands import Null, spent
from corrigible.watch._inputs import Reader, feature_columns
from corrigible.watch._methods import Method
from corrigible.watch._settings import checked

CLAIM = """If chunks are drawn as the reference was, the chance of any alert at all, over all chunks and metrics,
estimated and realised, is at most alpha, for a watch of known length and for one without end; a fall of accuracy by
six or seven points is found in 1000 rows."""
PROTOCOL = """Massachusetts employment of 2015 with its LightGBM predictions, and adult's test rows with boosting fitted
to its training rows: a reference and chunks drawn without replacement, accuracy, ROC AUC and F1, estimated (CBPE) and
realised, alpha 0.05; the share of streams with any alert, with exact 95 % intervals. Without end: 200 chunks through a
state file at alpha 0.2. Estimators that are refitted (M-CBPE; direct loss estimation on hourly bike rentals): single
values at level 0.1. Power: the last two of ten chunks of 1000 rows, drawn towards rows the model is unsure of until
its accuracy is six points lower (estimates alone), or with 10 % of labels flipped. Dated rows: bike rentals of 2011,
model and reference from alternate days of January to March, the other weeks watched; bank marketing from May 2008 on,
model and reference from alternate rows of the first half, the rest watched by 1000 rows."""
METHODS = ()
DATA = ("acs_employment_ma", "adult", "bikeshare", "bank_marketing")
SOURCES = (
    "src/corrigible/watch/_bands.py",
    "src/corrigible/watch/_chunks.py",
    "src/corrigible/watch/_inputs.py",
    "src/corrigible/watch/_methods.py",
    "src/corrigible/watch/_source.py",
    "src/corrigible/watch/_state.py",
    "src/corrigible/watch/_watch.py",
)

NOT_REPRODUCED = {
    "streams with an alert before the shift":
        "5 of 60; the exact 95 % interval, 0.03 to 0.18, holds 0.05. 500 further streams of this kind (ten chunks of 1000 "
        "rows, estimates alone, other seeds) had 18, that is 0.036, so this is put down to chance; the bar stands.",
}  # fmt: skip

_ROLES = {"target": "y", "proba_columns": ["p"]}
_CLASSES = ("accuracy", "roc_auc", "f1")


def run(data):
    acs = pd.read_parquet(data / "acs_employment_ma" / "employment_MA_reference.parquet")
    features = [c for c in acs if c not in ("id", "employed", "year", "prediction", "predicted_probability")]
    acs = acs.rename(columns={"employed": "y", "predicted_probability": "p"})
    yield from _false_alerts("employment", acs[["y", "p"]], 120, reference=6000, chunks=20, rows=500)
    yield from _false_alerts("adult", _adult(data), 60, reference=5000, chunks=20, rows=400)
    yield from _without_end(acs[["y", "p"]])
    yield from _refitted(acs[["y", "p", *features]], _rentals(data))
    yield from _power(acs[["y", "p"]])
    yield from _year(_rentals(data))
    yield from _campaign(data)


def _rate(name, hits, **bar):
    low, high = binomtest(int(np.sum(hits)), len(hits)).proportion_ci()
    return Measurement(name, float(np.mean(hits)), float(low), float(high), **bar)


def _adult(data):
    train, test = (pd.read_parquet(data / "adult" / f"adult_{part}.parquet") for part in ("train", "test"))
    y, z = (t.pop("income").astype(str).str.contains(">50K").astype(int) for t in (train, test))
    text = train.select_dtypes(exclude="number").columns
    for t in (train, test):
        t[text] = t[text].astype("category")
    test[text] = test[text].apply(lambda c: c.cat.set_categories(train[c.name].cat.categories))
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=60, random_state=0)
    return pd.DataFrame({"y": z.to_numpy(), "p": model.fit(train, y).predict_proba(test)[:, 1]})


# --- nothing changed ---------------------------------------------------------------------------------------------


def _false_alerts(name, table, streams, *, reference, chunks, rows):
    hits, tested = [], 0
    for stream in range(streams):
        drawn = np.random.default_rng([0, stream]).permutation(len(table))[: reference + chunks * rows]
        part = table.iloc[drawn]
        words = {**_ROLES, "metrics": _CLASSES, "chunk": rows, "alpha": 0.05, "seed": stream}
        report = watch(part[:reference], part[reference:], **words)
        hits.append(bool(report.alerts))
        tested += report.summary["tested"]
    detail = f"{streams} streams of {tested // streams} chunks of {rows} rows, reference of {reference}, alpha 0.05"
    yield _rate(f"{name}: streams with any false alert", hits, at_most=0.05, detail=detail)


def _without_end(table):
    streams, chunks, rows, alpha = 40, 200, 250, 0.2
    hits = []
    with tempfile.TemporaryDirectory() as folder:
        for stream in range(streams):
            part = table.iloc[np.random.default_rng([1, stream]).permutation(len(table))[: 6000 + chunks * rows]]
            state = Path(folder) / f"{stream}.jsonl"
            words = {**_ROLES, "metrics": ["accuracy", "f1"], "chunk": rows, "alpha": alpha, "state": state}
            hits.append(bool(watch(part[:6000], part[6000:], **words, seed=stream).alerts))
    share = sum(spent(t) for t in range(1, chunks + 1))
    detail = (
        f"{streams} streams of {chunks} chunks of {rows} rows, alpha {alpha}, of which {share:.2f} is spent by then"
    )
    yield _rate("without end: streams with any false alert", hits, at_most=alpha, detail=detail)


def _refitted(acs, bikes):
    """Share of single null values outside of a band of level 0.1, estimators that are refitted for their spread."""
    for by, table, words, references in (
        ("mcbpe", acs, {"proba_columns": ["p"], "prediction_column": None, "metrics": ["accuracy"]}, 1),
        ("direct_loss", bikes, {"proba_columns": (), "prediction_column": "p", "metrics": ["mae"]}, 1),
    ):
        out = []
        for number in range(references):
            rng = np.random.default_rng([2, number])
            part = table.iloc[rng.permutation(len(table))[: 2000 + 15 * 250]].reset_index(drop=True)
            settings = checked(
                target="y", by=by, chunk=250, time=None, features=None, drop=(), alpha=0.1, spread="rows",
                business_value=None, allow_new_categories=True, seed=number, state=False, **words,
            )  # fmt: skip
            reader = Reader.of_reference(part, settings, feature_columns(part, part.columns, settings))
            rows = reader.part(part, by="", where="", first=0, reference=True)
            null = Null(Method.fit(rows[:2000], settings))
            band = null.bands("estimate", 250, 0.1)[words["metrics"][0]]
            found = [null.method.estimate(rows[s : s + 250]) for s in range(2000, len(rows), 250)]
            out += [band.excludes(e[words["metrics"][0]].value) for e in found]
        detail = f"{references} reference of 2000 rows, 15 chunks of 250 each, which share their reference's error"
        yield _rate(f"{by}: null values outside of the band of level 0.1", out, kind="note", detail=detail)


# --- something changed --------------------------------------------------------------------------------------------


def _power(table):
    unsure, flipped, before = [], [], []
    for stream in range(60):
        rng = np.random.default_rng([3, stream])
        part = table.iloc[rng.permutation(len(table))].reset_index(drop=True)
        reference, production, rest = part[:6000], part[6000:14_000], part[14_000:]
        right = (rest["p"] > 0.5) == rest["y"]
        weight = _towards_unsure(rest["p"].to_numpy(), right.to_numpy(), right.mean() - 0.06)
        hard = rest.iloc[rng.choice(len(rest), 2000, replace=False, p=weight)].drop(columns="y")
        words = {**_ROLES, "metrics": _CLASSES, "chunk": 1000, "seed": stream}
        blind = watch(reference, pd.concat([production.drop(columns="y"), hard]), **words)
        unsure += [_alerted(blind, f"rows {s}") for s in ("8001", "9001")]
        before.append(any(a["chunk"] < "rows 8" for a in blind.alerts))
        wrong = rest[:2000].copy()
        flip = rng.uniform(size=2000) < 0.1
        wrong["y"] = np.where(flip, 1 - wrong["y"], wrong["y"])
        seen = watch(reference, pd.concat([production, wrong]), **words)
        flipped += [_alerted(seen, f"rows {s}") for s in ("8001", "9001")]
    detail = "60 streams, the last two of ten chunks of 1000 rows"
    yield _rate(
        "accuracy lower by 6 points, no labels: shifted chunks with an alert", unsure, at_least=0.9, detail=detail
    )
    yield _rate("10 % of labels flipped: chunks with an alert", flipped, at_least=0.8, detail=detail)
    yield _rate("streams with an alert before the shift", before, at_most=0.05, detail="alpha 0.05, eight chunks")


def _alerted(report, start):
    return any(a["chunk"].startswith(start) for a in report.alerts)


def _towards_unsure(p, right, wanted):
    """Return weights that grow towards a probability of a half, so that the rows' accuracy is as wanted."""
    low, high = 0.0, 50.0
    for _ in range(60):
        slope = (low + high) / 2
        weight = np.exp(-slope * np.abs(p - 0.5))
        weight /= weight.sum()
        low, high = (slope, high) if weight @ right > wanted else (low, slope)
    return weight


# --- dated rows ---------------------------------------------------------------------------------------------------


def _rentals(data):
    table = pd.read_csv(data / "bikeshare" / "bikeshare_hourly_islp.csv.gz")
    when = (
        pd.Timestamp("2011-01-01")
        + pd.to_timedelta(table["day"] - 1, unit="D")
        + pd.to_timedelta(table["hr"], unit="h")
    )
    inputs = ["hr", "weekday", "workingday", "temp", "hum", "windspeed"]
    early = when < pd.Timestamp("2011-04-01")
    model = HistGradientBoostingRegressor(max_iter=100, random_state=0)
    fitted = model.fit(
        table.loc[early & (table["day"] % 2 == 0), inputs], table.loc[early & (table["day"] % 2 == 0), "bikers"]
    )
    found = table[inputs].assign(y=table["bikers"].astype(float), p=fitted.predict(table[inputs]), when=when)
    return (
        found[~early | (table["day"] % 2 == 1)]
        .drop(columns="when")
        .set_index(when[~early | (table["day"] % 2 == 1)])
    )


def _year(table):
    table = table.rename_axis("when").reset_index()
    early = table["when"] < pd.Timestamp("2011-04-01")
    words = {"target": "y", "prediction_column": "p", "time": "when", "chunk": "1W", "metrics": ["mae"]}
    report = watch(table[early], table[~early], **words)
    seen = np.array([c.realised["mae"].value for c in report.chunks])
    told = np.array([c.estimated["mae"].value for c in report.chunks])
    kinds = [a["kind"] for a in report.alerts]
    yield Measurement(
        "rentals of April to December: share of weeks with an alert from realised values",
        kinds.count("realised") / len(seen),
        kind="note", detail=f"{len(seen)} weeks; realised MAE {seen.min():.0f} to {seen.max():.0f}, reference "
        f"{report.reference['mae']:.1f}: rentals grow with spring, which three months of winter cannot tell",
    )  # fmt: skip
    yield Measurement(
        "rentals: share of weeks with an alert from estimates alone", kinds.count("estimated") / len(seen), kind="note",
        detail=f"estimated MAE {told.min():.0f} to {told.max():.0f}: a model of the loss does not extrapolate either",
    )  # fmt: skip


def _campaign(data):
    table = pd.read_parquet(data / "bank_marketing" / "bank_additional_full.parquet").drop(columns="duration")
    y = (table.pop("y") == "yes").astype(int)
    text = table.select_dtypes(exclude="number").columns
    table[text] = table[text].astype("category")
    half = len(table) // 2
    fit = np.arange(half) % 2 == 0
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=60, random_state=0)
    model.fit(table[:half][fit], y[:half][fit])
    found = pd.DataFrame({"y": y, "p": model.predict_proba(table)[:, 1]})
    reference, production = found[:half][~fit], found[half:]
    report = watch(reference, production, **_ROLES, metrics=["accuracy", "log_loss"], chunk=1000)
    for metric in ("accuracy", "log_loss"):
        seen = np.array([c.realised[metric].value for c in report.chunks])
        told = np.array([c.estimated[metric].value for c in report.chunks])
        blind = np.abs(report.reference[metric] - seen).mean()
        alerts = {
            kind: sum(a["kind"] == kind and a["metric"] == metric for a in report.alerts)
            for kind in ("estimated", "realised")
        }
        yield Measurement(
            f"bank marketing: mean distance of estimated to realised {metric}, over that of the reference's",
            float(np.abs(told - seen).mean() / blind), kind="note",
            detail=f"{len(seen)} chunks through the crisis; alerts: {alerts['estimated']} estimated, "
            f"{alerts['realised']} realised; realised {seen.min():.2f} to {seen.max():.2f}",
        )  # fmt: skip
