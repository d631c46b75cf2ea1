"""CBPE: the arithmetic against brute force, and its intervals on real predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import f1_score, roc_auc_score

from corrigible.papers import Measurement
from corrigible.shift import CBPE

CLAIM = "Calibrated scores give the metrics of unlabelled rows, with intervals that hold the realised ones."
PROTOCOL = """Massachusetts employment of 2015 with its LightGBM predictions: reference of 6000 rows, chunks of
2000 from the rest, 200 draws of both; realised accuracy, ROC AUC and F1. Reference: scikit-learn's isotonic
regression on the rows and all pairs for the ROC AUC. Beside nannyml at a million rows:
benchmarks/label_free_performance.py."""
METHODS = ("cbpe",)
DATA = ("acs_employment_ma",)

_METRICS = ("accuracy", "roc_auc", "f1")


def _by_hand(y, p, q):
    c = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(p, y).predict(q)
    hit = q > 0.5
    pairs = np.outer(c, 1 - c)
    np.fill_diagonal(pairs, 0.0)
    won = (q[:, None] > q) + 0.5 * (q[:, None] == q)
    return {
        "accuracy": np.where(hit, c, 1 - c).mean(),
        "roc_auc": (pairs * won).sum() / pairs.sum(),
        "f1": 2 * c[hit].sum() / (hit.sum() + c.sum()),
    }


def run(data):
    table = pd.read_parquet(data / "acs_employment_ma" / "employment_MA_reference.parquet")
    y, p = table["employed"].to_numpy(), table["predicted_probability"].to_numpy()
    rng = np.random.default_rng(0)
    gaps, held, errors = [], [], []
    for draw in range(200):
        order = rng.permutation(len(y))[:8_000]
        a, b = order[:6_000], order[6_000:]
        found = CBPE(metric=_METRICS).fit(y[a], p[a]).estimate(p[b])
        truth = {
            "accuracy": ((p[b] > 0.5) == y[b]).mean(),
            "roc_auc": roc_auc_score(y[b], p[b]),
            "f1": f1_score(y[b], p[b] > 0.5),
        }
        held.append([found[m].low <= truth[m] <= found[m].high for m in _METRICS])
        errors.append([(found[m].value - truth[m]) / found[m].standard_error for m in _METRICS])
        if draw < 10:
            exact = _by_hand(y[a], p[a], p[b])
            forced = CBPE(metric=_METRICS, calibration="isotonic").fit(y[a], p[a]).estimate(p[b])
            gaps.append(max(abs(forced[m].value - exact[m]) for m in _METRICS))
    yield Measurement(
        "largest gap to isotonic regression and all pairs, by rows", max(gaps), at_most=1e-3, kind="reference",
        detail="10 draws; accuracy, ROC AUC, F1",
    )  # fmt: skip
    whole = CBPE(metric=_METRICS, calibration="isotonic").fit(y[:30_000], p[:30_000])
    binned = whole.estimate(p[30_000:60_000])
    rows = whole.estimate(p[30_000:60_000], chunks=10_000)
    gap = abs(np.mean([e.value for e in rows["accuracy"]]) - binned["accuracy"].value)
    yield Measurement("accuracy: cells of scores against rows", gap, at_most=1e-4, kind="reference")
    for metric, share, z in zip(_METRICS, np.mean(held, axis=0), np.array(errors).T, strict=True):
        yield Measurement(
            f"{metric}: share of 95 % intervals that hold the realised value", share,
            share - 1.96 * np.sqrt(share * (1 - share) / 200), share + 1.96 * np.sqrt(share * (1 - share) / 200),
            at_least=0.92, detail=f"200 draws; errors are {z.std():.2f} standard errors wide, mean {z.mean():.2f}",
        )  # fmt: skip
