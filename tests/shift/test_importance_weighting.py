import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from corrigible._core.density_ratio import TableEncoder, _delong
from corrigible.errors import DataError
from corrigible.shift import DensityRatio, ImportanceWeighting

LINEAR = LogisticRegression()


def test_recovers_the_ratio_of_gaussians(rng):
    source, target = rng.normal(size=(4000, 1)), rng.normal(0.8, 1, size=(4000, 1))
    ratio = DensityRatio(estimator=LINEAR, random_state=0).fit(source, target)
    truth = np.exp(0.8 * source[:, 0] - 0.32)
    assert np.corrcoef(np.log(ratio.weights_), np.log(truth))[0, 1] > 0.99
    assert ratio.weights_ @ source[:, 0] / 4000 == pytest.approx(0.8, abs=0.12)
    np.testing.assert_allclose(ratio.predict(source), ratio.weights_, rtol=0.1)
    assert ratio.auc_interval_[0] < 0.7142 < ratio.auc_interval_[1]  # Phi(0.8 / sqrt 2)


@pytest.mark.parametrize("estimator", [LINEAR, None])
def test_silent_without_shift(rng, estimator):
    seen = []
    for seed in range(3 if estimator is None else 40):
        X = rng.normal(size=(600, 3))
        ratio = DensityRatio(estimator=estimator, cv=3, random_state=seed).fit(X[:300], X[300:])
        seen.append((ratio.p_value_ < 0.05, ratio.auc_interval_[0] <= 0.5, ratio.effective_sample_size_ / 300))
    alarms, covered, effective = np.mean(seen, axis=0)
    assert alarms <= 0.1
    assert covered >= 0.9
    assert effective > 0.95


def test_delong_against_pairs(rng):
    target, source = rng.normal(0.5, 1, size=40).round(1), rng.normal(size=30).round(1)
    wins = (target[:, None] > source) + 0.5 * (target[:, None] == source)
    pairs, auc, variance, _ = _delong(target, source)
    assert pairs == 1200
    assert auc == pytest.approx(roc_auc_score(np.repeat([1, 0], [40, 30]), np.r_[target, source]))
    assert variance == pytest.approx(wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 30)


def test_mixed_tables(rng):
    n = 900
    frame = pd.DataFrame({
        "number": rng.normal(size=n),
        "text": rng.choice(["a", "b", None], size=n),
        "level": pd.Categorical(rng.choice(["low", "high"], size=n)),
        "when": pd.date_range("2026-01-01", periods=n),
        "flag": rng.uniform(size=n) < 0.5,
    })  # fmt: skip
    frame.loc[::7, ["number", "when"]] = np.nan
    moved = frame.assign(text=rng.choice(["b", "new"], size=n))
    found = [
        DensityRatio(cv=2, random_state=0).fit(as_kind(frame), as_kind(moved))
        for as_kind in (lambda f: f, pl.from_pandas)
    ]
    assert found[0].auc_ > 0.7
    np.testing.assert_allclose(found[0].weights_, found[1].weights_)
    encoder = TableEncoder.fit([frame], by="test")
    codes = encoder.transform(moved, by="test")
    assert np.isnan(encoder.transform(frame, by="test")[:, 1]).sum() == frame["text"].isna().sum()
    assert encoder.categorical.tolist() == [False, True, True, False, False]
    assert set(codes[moved["text"] == "new", 1]) == {2.0}
    with pytest.raises(DataError, match="Absent: flag"):
        found[0].predict(frame.drop(columns="flag"))


def test_given_weights_are_scikit_learns(rng):
    p, w = rng.uniform(size=500), rng.uniform(0.1, 3, size=500)
    y = (rng.uniform(size=500) < p).astype(int)
    found = ImportanceWeighting().fit(p[:, None], y, p).estimate(None, p, reference_weight=w)
    assert found["roc_auc"].value == pytest.approx(roc_auc_score(y, p, sample_weight=w))
    assert found["accuracy"].value == pytest.approx(np.average((p > 0.5) == y, weights=w))


def test_standard_error_of_unweighted_accuracy(rng):
    p = rng.uniform(size=4000)
    y = (rng.uniform(size=4000) < p).astype(int)
    estimate = ImportanceWeighting(metric="accuracy").fit(p[:, None], y, p)
    a = estimate.estimate(None, p[:1000], reference_weight=np.ones(4000))
    assert a.standard_error == pytest.approx(np.sqrt(a.value * (1 - a.value) * (1 / 4000 + 1 / 1000)), rel=0.4)


def test_errors(rng):
    X = rng.normal(size=(50, 2))
    with pytest.raises(DataError, match="at least 10 rows"):
        DensityRatio().fit(X, X[:4])
    with pytest.raises(DataError, match="must have 50 rows"):
        ImportanceWeighting().fit(X[:49], np.arange(50) % 2, np.full(50, 0.4))
    method = ImportanceWeighting().fit(X, np.arange(50) % 2, np.full(50, 0.4))
    with pytest.raises(DataError, match="leave 'chunks' out"):
        method.estimate(X, np.full(50, 0.4), chunks=10, reference_weight=np.ones(50))
