import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import DirectLossEstimation

METRICS = ("mae", "mse", "rmse")


def rows(rng, n, low=0.0):
    """Noise that grows with x: the error of the perfect prediction is known."""
    x = rng.uniform(low, 1, size=(n, 1))
    return x, x[:, 0] * rng.normal(size=n), np.zeros(n)


def test_a_constant_loss_model_gives_the_reference_s_mean(rng):
    """The independent reference: with a model that says nothing, the estimate is the mean loss, its error the usual."""
    x, y, f = rows(rng, 500)
    method = DirectLossEstimation(metric=METRICS, estimator=DummyRegressor(), random_state=0).fit(x, y, f)
    found = method.estimate(x[:200], f[:200])
    assert found["mae"].value == pytest.approx(np.abs(y).mean(), rel=1e-9)
    assert found["mse"].value == pytest.approx((y**2).mean(), rel=1e-9)
    assert found["rmse"].value == pytest.approx(np.sqrt((y**2).mean()), rel=1e-9)
    loss = np.abs(y)
    plain = np.sqrt(loss.var() / 500 + loss.var() / 200)
    # A little above: that of the loss model is counted although the correction takes a constant's error away.
    assert plain <= found["mae"].standard_error <= 1.05 * plain


def test_a_known_density_ratio_mends_a_loss_model_that_says_nothing(rng):
    """Importance weighting is what is left of the estimate then: density 2 on the upper half, 0 on the lower."""
    x, y, f = rows(rng, 20_000)
    weight = 2.0 * (x[:, 0] > 0.5)
    method = DirectLossEstimation(estimator=DummyRegressor(), random_state=0).fit(x, y, f)
    found = method.estimate(x, f, reference_weight=weight)["mae"]
    assert found.value == pytest.approx(np.abs(y)[x[:, 0] > 0.5].mean(), rel=1e-4)


def test_the_loss_is_followed_to_harder_rows(rng):
    x, y, f = rows(rng, 8000)
    z, truth, g = rows(rng, 4000, low=0.7)
    method = DirectLossEstimation(metric=METRICS, random_state=0).fit(x, y, f)
    found = method.estimate(z, g)
    assert found["mae"].value == pytest.approx(np.abs(truth).mean(), rel=0.06)
    assert found["rmse"].value == pytest.approx(np.sqrt((truth**2).mean()), rel=0.06)
    expected = method.expected_loss(z, g, "absolute")
    assert np.corrcoef(expected, z[:, 0])[0, 1] > 0.7
    assert expected.mean() == pytest.approx(found["mae"].value, rel=0.02)


def test_intervals_cover(rng):
    """Of 60 draws of reference and chunk, some 95 % of the realised errors lie inside."""
    held = 0
    for seed in range(60):
        x, y, f = rows(rng, 400)
        z, truth, g = rows(rng, 200, low=0.5)
        method = DirectLossEstimation(metric="mae", estimator=LinearRegression(), random_state=seed)
        found = method.fit(x, y, f).estimate(z, g)
        held += found.low <= np.abs(truth).mean() <= found.high
    assert 52 <= held <= 60


def test_chunks_by_count_and_by_id(rng):
    x, y, f = rows(rng, 600)
    method = DirectLossEstimation(random_state=0).fit(x, y, f)
    by_count = method.estimate(x, f, chunks=200)["mse"]
    by_id = method.estimate(x, f, chunks=np.repeat([2, 0, 1], 200))["mse"]
    assert [e.value for e in by_count] == [by_id[i].value for i in (2, 0, 1)]
    whole = method.estimate(x[:200], f[:200])["mse"]
    assert whole.value == pytest.approx(by_count[0].value, rel=1e-12)


def test_mixed_columns_and_no_columns(rng):
    n = 1500
    X = pd.DataFrame({"a": rng.normal(size=n), "kind": rng.choice(["calm", "wild", None], n)})
    X.loc[::7, "a"] = np.nan
    y = rng.normal(size=n) * np.where(X["kind"] == "wild", 5.0, 1.0)
    f = np.zeros(n)
    method = DirectLossEstimation(metric="mae", random_state=0).fit(X, y, f)
    wild = method.estimate(X[X["kind"] == "wild"], f[X["kind"] == "wild"]).value
    assert wild == pytest.approx(5 * np.sqrt(2 / np.pi), rel=0.15)
    alone = DirectLossEstimation(metric="mae", random_state=0).fit(None, np.abs(f) + y, f)
    assert alone.estimate(None, f).value == pytest.approx(np.abs(y).mean(), rel=1e-6)


def test_relative_and_logarithmic_metrics(rng):
    y = np.exp(rng.normal(size=800))
    f = y * np.exp(0.1 * rng.normal(size=800))
    method = DirectLossEstimation(metric=("mape", "msle", "rmsle"), random_state=0).fit(None, y, f)
    found = method.estimate(None, f)
    assert found["mape"].value == pytest.approx(np.mean(np.abs(y - f) / y), rel=0.02)
    assert found["rmsle"].value == pytest.approx(np.sqrt(found["msle"].value), rel=1e-9)


def test_same_seed_same_bits_and_float32(rng):
    x, y, f = rows(rng, 300)
    a, b = (DirectLossEstimation(random_state=3).fit(x, y, f).estimate(x, f)["mae"] for _ in range(2))
    assert a == b
    single = DirectLossEstimation(random_state=3).fit(x.astype("f4"), y.astype("f4"), f.astype("f4"))
    assert single.estimate(x.astype("f4"), f.astype("f4"))["mae"].value == pytest.approx(a.value, rel=0.05)


def test_huge_and_perfect_predictions(rng):
    x, y, f = rows(rng, 200)
    big = DirectLossEstimation(random_state=0).fit(x, 1e30 * y, 1e30 * f).estimate(x, f)["mae"]
    assert np.isfinite([big.value, big.low, big.high]).all()
    exact = DirectLossEstimation(random_state=0).fit(x, y, y).estimate(x, y)
    assert exact["rmse"].value == exact["mae"].high == 0


def test_bad_input(rng):
    x, y, f = rows(rng, 100)
    with pytest.raises(InvalidParameterError, match="'rmse'"):
        DirectLossEstimation(metric="rmsee").fit(x, y, f)
    with pytest.raises(DataError, match="10 reference rows"):
        DirectLossEstimation().fit(x[:6], y[:6], f[:6])
    with pytest.raises(DataError, match="above -1"):
        DirectLossEstimation(metric="msle").fit(x, y - 5, f)
    with pytest.raises(DataError, match="must be given if fit had it"):
        DirectLossEstimation().fit(x, y, f).estimate(None, f)
    with pytest.raises(DataError, match="a row a prediction"):
        DirectLossEstimation().fit(x, y, f).estimate(x, f[:50])
    with pytest.raises(DataError):
        DirectLossEstimation().fit(x, np.append(y[:-1], np.nan), f)
