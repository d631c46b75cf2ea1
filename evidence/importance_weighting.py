"""The density ratio: silent without shift, right with it, and the weighted performance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from corrigible.papers import Measurement
from corrigible.shift import DensityRatio, ImportanceWeighting

CLAIM = """Weights by the density ratio carry averages of the reference over to production under covariate shift,
and are nearly 1, with no alarm, where there is no shift."""
PROTOCOL = """False alarms: 60 splits of 1200 Adult rows into halves, boosting on mixed columns, 3 folds. Truth:
20 draws of two Gaussians with a known ratio. Carried over: Adult rows drawn towards the old, 10 draws; the
share with high income, which the weights never see. As an estimator of performance it is compared in the
evidence mcbpe."""
METHODS = ("importance_weighting",)
PAPERS = ()
DATA = ("adult",)


def run(data):
    table = pd.read_parquet(data / "adult" / "adult_train.parquet")
    rich = table["income"].astype(str).str.contains(">50K").to_numpy().astype(int)
    X = table.drop(columns="income")
    rng = np.random.default_rng(0)
    alike = []
    for seed in range(60):
        rows = rng.permutation(len(X))[:1200]
        ratio = DensityRatio(cv=3, random_state=seed).fit(X.iloc[rows[:600]], X.iloc[rows[600:]])
        alike.append((ratio.p_value_ < 0.05, ratio.auc_interval_[0] > 0.5, ratio.effective_sample_size_ / 600))
    alarms, above, effective = np.mean(alike, axis=0)
    detail = "60 splits without shift"
    yield Measurement("p-values below 0.05 without shift", alarms, at_most=0.1, detail=detail)
    yield Measurement("95 % intervals of the AUC above 0.5 without shift", above, at_most=0.06, detail=detail)
    yield Measurement("effective share of the weights without shift", effective, at_least=0.95, detail=detail)
    gaps = []
    for seed in range(20):
        source, target = rng.normal(size=(2000, 1)), rng.normal(0.8, 1, size=(2000, 1))
        ratio = DensityRatio(estimator=LogisticRegression(), random_state=seed).fit(source, target)
        truth = np.minimum(np.exp(0.8 * source[:, 0] - 0.32), 20)
        gaps.append(np.abs(ratio.weights_ - truth / truth.mean()).mean())
    yield Measurement(
        "mean absolute gap to the true ratio of Gaussians", np.mean(gaps), at_most=0.1, kind="reference",
        detail="20 draws of 2000 rows a side; the ratio has mean 1",
    )  # fmt: skip
    age = X["age"].to_numpy(float)
    errors, held = [], []
    for seed in range(10):
        rows = rng.permutation(len(X))
        source, pool = rows[:4000], rows[4000:]
        tilt = np.exp((age[pool] - age.mean()) / age.std())
        target = rng.choice(pool, size=2000, p=tilt / tilt.sum(), replace=False)
        ratio = DensityRatio(cv=3, random_state=seed).fit(X.iloc[source], X.iloc[target])
        # A model that always says no: its accuracy is the share without high income.
        method = ImportanceWeighting(metric="accuracy").fit(X.iloc[source], rich[source], np.full(4000, 0.2))
        found = method.estimate(None, np.full(2000, 0.2), reference_weight=ratio.weights_)
        truth, before = 1 - rich[target].mean(), 1 - rich[source].mean()
        errors.append((abs(found.value - truth), abs(before - truth)))
        held.append(found.low <= truth <= found.high)
    weighted, plain = np.mean(errors, axis=0)
    yield Measurement(
        "error of the share with high income, weighted over unweighted", weighted / plain, at_most=0.5,
        detail=f"10 draws; mean absolute error {weighted:.4f} against {plain:.4f}",
    )  # fmt: skip
    yield Measurement(
        "share of intervals that hold it", np.mean(held), kind="note", detail="10 draws, weights as known"
    )
