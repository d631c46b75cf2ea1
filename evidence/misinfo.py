"""Time, source and domain held out: what is left of a score by chance, on real dated rows and real texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from corrigible.datasets import load_builtin, load_collection
from corrigible.models import default_model
from corrigible.papers import Measurement
from corrigible.shift import axis_report

CLAIM = """Models lose performance along every axis (time, topic, publisher, domain) that they are tested beyond, against a
split by chance."""
PROTOCOL = """Texts: 2,500 sentences each of three collections of opinions (films: SST-2 and MR; products: CR), films or
products as domain; bag of words, logistic regression. Rows: 12,000 flights along their months, carriers and airports;
12,000 bank calls along their order and months; boosted trees. No dated texts with publishers could be had. Each split
beside one by chance of the same sizes, ROC AUC, t interval over splits (two of the domain: it is wide); bars: a mean drop
for the texts' domain, for both times, and on average over all axes."""
METHODS = ("axis_report",)
DATA = ("text_small", "bank_marketing")


def run(data):
    drops = {}
    for name, (model, X, y, axes, ordered) in _cases(data).items():
        report = axis_report(model, X, y, axes, ordered=ordered, scoring="roc_auc", n_splits=5, rng=0)
        for axis, row in report.table.iterrows():
            bar = {"at_least": 0.0} if axis in ("domain", "time") else {"kind": "note"}
            drops[f"{name}, {axis}"] = row["drop"]
            yield Measurement(
                f"{name}, {axis}: AUC by chance less along the axis", row["drop"], row["low"], row["high"],
                detail=f"{row['by_chance']:.3f} and {row['score']:.3f}, {row['splits']:.0f} splits", **bar,
            )  # fmt: skip
    yield Measurement("mean fall over all axes", float(np.mean(list(drops.values()))), at_least=0.0,
                      detail=f"{len(drops)} axes")  # fmt: skip


def _cases(data):
    texts = []
    for name in ("sst2", "mr", "cr"):
        table = pd.read_parquet(data / "text_small" / f"{name}.parquet")
        texts.append(
            table.sample(2500, random_state=0).assign(domain="films" if name != "cr" else "products", source=name)
        )
    text = pd.concat(texts, ignore_index=True)
    words = make_pipeline(TfidfVectorizer(min_df=2, ngram_range=(1, 2)), LogisticRegression(max_iter=300))
    flights = load_builtin("flights")
    rows = np.random.default_rng(0).permutation(len(flights.y))[:12_000]
    X, y = flights.X.iloc[rows].reset_index(drop=True), flights.y.iloc[rows].to_numpy()
    when = next(c for c in X if pd.api.types.is_datetime64_any_dtype(X[c]))
    boosted = default_model(classification=True)
    bank = load_collection("bank_marketing", data)
    calls = np.sort(np.random.default_rng(0).permutation(len(bank.y))[:12_000])
    Z, z = bank.X.iloc[calls].reset_index(drop=True), bank.y.iloc[calls].to_numpy()
    return {
        "opinions": (words, text["text"], text["label"].to_numpy(), {"domain": text["domain"]}, ()),
        "flights": (boosted, X.drop(columns=[when]), y, {"time": X[when], "carrier": X["carrier"].astype(str),
                    "origin": X["origin"].astype(str)}, ("time",)),
        "bank calls": (boosted, Z.drop(columns=["month"]), z, {"time": np.arange(len(z)), "month": Z["month"].astype(str)},
                       ("time",)),
    }  # fmt: skip
