"""The estimators that are refitted for their spread, through `watch`: few refits, for they are slow."""

import numpy as np
import pandas as pd
import pytest

from corrigible.errors import DataError
from corrigible.watch import _bands, watch


@pytest.fixture(autouse=True)
def few_refits(monkeypatch):
    monkeypatch.setattr(_bands, "_REFITS", 3)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 2, size=n)
    late = (rng.uniform(size=n) < p).astype(int)
    return pd.DataFrame({"late": late, "p": p, "x": rng.normal(size=n), "city": rng.choice(["a", "b"], n)})


def values(rng, n, scale):
    x = rng.uniform(size=n)
    return pd.DataFrame({"x": x, "said": 0.0, "y": scale * x * rng.normal(size=n)})


@pytest.mark.parametrize("by", ["mcbpe", "importance"])
def test_weighted_methods_take_the_inputs(by):
    reference, table = rows(400, seed=1), rows(200, seed=7)
    words = {"target": "late", "proba_columns": ["p"], "metrics": ["accuracy"], "by": by, "chunk": 100, "drop": []}
    report = watch(reference, table, **words)
    assert 0.6 < report.chunks[0].estimated["accuracy"].value < 0.85
    new = table.assign(city="c")
    with pytest.raises(DataError, match="'city' of --production has the value 'c' \\(Row 0\\)"):
        watch(reference, new, **words)
    taken = watch(reference, new, **words, allow_new_categories=True)
    assert len(taken.chunks) == 2
    left_out = words | {"drop": ["city"]}
    assert (
        watch(reference, new, **left_out).chunks == watch(reference, table, **left_out).chunks
    )  # and the same bits


def test_regression_by_direct_loss(rng):
    reference, easy, hard = values(rng, 1500, 1.0), values(rng, 500, 1.0), values(rng, 500, 1.0)
    hard["x"] = 0.8 + 0.2 * hard["x"]
    hard["y"] = hard["x"] * rng.normal(size=500)
    report = watch(
        reference, pd.concat([easy, hard]), target="y", prediction_column="said", metrics=["mae", "rmse"], chunk=500
    )
    assert report.summary["by"] == "direct_loss"
    first, last = report.chunks
    assert first.realised["mae"].value == pytest.approx(np.abs(easy["y"]).mean())
    assert last.realised["rmse"].value == pytest.approx(np.sqrt((hard["y"] ** 2).mean()))
    assert abs(last.estimated["mae"].value - 0.9 * np.sqrt(2 / np.pi)) < 0.08
    assert {a["chunk"] for a in report.alerts} == {"rows 501–1000"}


def test_large_values(rng):
    table = values(rng, 600, 1e30)
    report = watch(table, table[:200], target="y", prediction_column="said", metrics=["mae"], chunk=200)
    assert np.isfinite(report.chunks[0].estimated["mae"].value)
