"""The arithmetic behind the alerts: spread, bands, and levels that sum to alpha."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from corrigible.watch import watch
from corrigible.watch._bands import Draws, Null, spent
from corrigible.watch._chunks import Chunking
from corrigible.watch._inputs import Part
from corrigible.watch._methods import Method, is_better, minimum_rows
from corrigible.watch._settings import checked

SETTINGS = {
    "target": "y", "proba_columns": ("p",), "prediction_column": None, "by": "cbpe", "chunk": 100, "time": None,
    "features": None, "drop": (), "alpha": 0.05, "spread": "rows", "business_value": None,
    "allow_new_categories": False, "seed": 0, "state": False,
}  # fmt: skip


def part(p, y):
    p, y = np.asarray(p, dtype=float), np.asarray(y, dtype=float)
    return Part(np.column_stack([1 - p, p]), (p > 0.5).astype(np.intp), y, pd.DataFrame(index=range(len(y))))


def null(n, seed=0, metrics=("accuracy", "brier")):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 2, size=n)
    reference = part(p, rng.uniform(size=n) < p)
    return Null(Method.fit(reference, checked(**SETTINGS, metrics=metrics))), reference


# --- levels --------------------------------------------------------------------------------------------------


def test_an_endless_watch_spends_no_more_than_alpha():
    """A million terms summed, and the integral above the rest: the docstring's proof, computed."""
    first = sum(spent(t) for t in range(1, 100_001))
    rest = np.log(30.5) / np.log(100_030.5)
    assert first < 1
    assert first + rest <= 1 + 1e-9
    assert first + rest > 0.999  # nothing is given away either
    assert all(spent(t) > spent(t + 1) for t in range(1, 500))


def test_levels_of_a_watch_of_known_length_sum_to_alpha(rng):
    """Each chunk's band is found again from its level alpha / tests, so that the levels are what they are said to be."""
    p = rng.beta(2, 2, size=3000)
    table = pd.DataFrame({"p": p, "y": (rng.uniform(size=3000) < p).astype(float)})
    table.loc[2500:, "y"] = np.nan
    report = watch(
        table[:2000], table[2000:], target="y", proba_columns=["p"], metrics=["accuracy", "brier"], chunk=250
    )
    tests = 2 * 4 + 2 * 2  # four chunks estimated, two of them labelled
    reference = part(table["p"][:2000], table["y"][:2000])
    bands = Null(Method.fit(reference, checked(**SETTINGS, metrics=("accuracy", "brier"))))
    for chunk in report.chunks:
        band = bands.bands("estimate", 250, 0.05 / tests)["brier"]
        assert chunk.estimated["brier"].band_low == pytest.approx(band.low)
    seen = bands.bands("realised", 250, 0.05 / tests)["accuracy"]
    assert report.chunks[0].realised["accuracy"].band_high == pytest.approx(seen.high)


# --- bands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [100, 700, 5000])
def test_the_band_of_a_realised_share_is_that_of_two_samples(n):
    """An independent answer: the normal interval of a difference of two shares of n and N rows."""
    bands, reference = null(4000, metrics=("accuracy",))
    share = bands.reference["accuracy"]
    half = norm.isf(0.005) * np.sqrt(share * (1 - share) * (1 / n + 1 / len(reference)))
    band = bands.bands("realised", n, 0.01)["accuracy"]
    assert band.high - share == pytest.approx(half, rel=0.15)  # 400 draws tell a deviation to 3.5 %
    assert share - band.low == pytest.approx(half, rel=0.15)


def test_estimates_vary_less_than_realised_values():
    bands, _ = null(4000)
    estimate, seen = (bands.bands(kind, 500, 0.01)["accuracy"] for kind in ("estimate", "realised"))
    assert estimate.high - estimate.low < 0.7 * (seen.high - seen.low)
    assert abs(estimate.centre - seen.centre) < 0.01


def test_the_band_is_the_prediction_interval_of_a_normal(rng):
    values = rng.normal(size=(400, 1))
    draws = Draws(("m",), values - values.mean(), 100, 1 / 100 - 1 / 1000)
    band = draws.bands(200, 1000, 0.001, {"m": 5.0})["m"]
    scale = np.sqrt((1 / 200 + 1 / 1000) / (1 / 100 - 1 / 1000))
    half = student.isf(0.0005, 399) * np.sqrt(1 + 1 / 400) * values.std(ddof=1) * scale
    assert band.centre == pytest.approx(5.0)
    assert [5 - band.low, band.high - 5] == pytest.approx([half, half])


def test_a_long_tail_widens_its_side_alone(rng):
    values = rng.exponential(size=(400, 1))
    draws = Draws(("m",), values - values.mean(), 100, 1 / 100)
    band = draws.bands(100, 10**9, 0.001, {"m": 0.0})["m"]
    normal = student.isf(0.0005, 399) * np.sqrt(1 + 1 / 400) * values.std(ddof=1)
    assert -band.low == pytest.approx(normal)
    assert band.high > 1.5 * normal
    wide = draws.bands(10_000, 10**9, 0.001, {"m": 0.0})["m"]  # the mean of many rows is nearly normal
    assert wide.high / -wide.low < 1.3 < band.high / -band.low


def test_metrics_that_cannot_be_told_have_no_band():
    values = np.column_stack([np.full(50, np.nan), np.zeros(50), np.arange(50.0)])
    draws = Draws(("never", "constant", "lost"), values, 10, 0.1)
    found = draws.bands(10, 100, 0.01, {"never": 1.0, "constant": 1.0, "lost": np.nan})
    assert set(found) == {"constant"}
    assert not found["constant"].excludes(1.0 + 1e-12)
    assert found["constant"].excludes(1.001)
    assert not found["constant"].excludes(float("nan"))


@settings(max_examples=25, deadline=None)
@given(st.integers(40, 5000), st.floats(1e-9, 0.5))
def test_bands_widen_with_fewer_rows_and_smaller_levels(n, level):
    bands, _ = _KEPT
    band, fewer, surer = (
        bands.bands("estimate", rows, a)["brier"] for rows, a in ((n, level), (n // 2, level), (n, level / 10))
    )
    assert surer.low < band.low < band.high < surer.high
    assert fewer.high - fewer.low > band.high - band.low


_KEPT = null(1500, seed=5)


def test_draws_of_refitted_estimators_hold_the_noise_of_the_fit(rng):
    x = rng.uniform(size=800)
    table = pd.DataFrame({"x": x, "said": 0.0, "y": x * rng.normal(size=800)})
    words = SETTINGS | {"proba_columns": (), "prediction_column": "said", "by": "direct_loss", "metrics": ("mae",)}
    reference = Part(np.empty((800, 0)), np.zeros(800), table["y"].to_numpy(), table[["x"]])
    bands = Null(Method.fit(reference, checked(**words)))
    draws = bands._of_rows("estimate", 128)
    assert draws.values.shape == (20, 1)
    assert draws.variance == pytest.approx(1 / 128 + 1 / 672)


# --- what is asked of a chunk ---------------------------------------------------------------------------------------


def test_the_fewest_rows_follow_the_rarest_class(rng):
    y = np.arange(1000) < 20
    rare = part(rng.uniform(size=1000), y)
    for metrics, least in ((("accuracy",), 30), (("accuracy", "recall"), 500)):
        assert minimum_rows(rare, checked(**SETTINGS, metrics=metrics))[0] == least
    said = part(np.where(np.arange(1000) < 40, 0.9, 0.1), rng.uniform(size=1000) < 0.5)
    assert minimum_rows(said, checked(**SETTINGS, metrics=("precision",)))[0] == 250


def test_better_or_worse():
    assert is_better("accuracy", 0.1)
    assert not is_better("rmse", 0.1)
    assert is_better("true_1_pred_1", 0.1)
    assert is_better("true_0_pred_1", -0.1)


@given(st.integers(1, 50), st.lists(st.integers(1, 40), min_size=1, max_size=8), st.sampled_from(["rows", "count"]))
def test_numbers_of_chunks_do_not_depend_on_batches(size, batches, kind):
    rule, total = Chunking(kind, size), sum(batches)
    starts = np.cumsum([0, *batches[:-1]])
    found = np.concatenate([rule.numbers(int(s), n, total, None) for s, n in zip(starts, batches, strict=True)])
    assert (found == rule.numbers(0, total, total, None)).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(
    ("spec", "label"),
    [("1D", "2024-02-29"), ("1M", "2024-02"), ("1Q", "2024Q1"), ("1y", "2024"),
     ("6h", "2024-02-29 12:00 to 2024-02-29 17:00"), ("W", "2024-02-26 to 2024-03-03")],
)  # fmt: skip
def test_periods_have_names(spec, label):
    rule = Chunking.parse(spec)
    times = pd.DatetimeIndex(["2024-02-29 13:30"])
    assert rule.label(int(rule.numbers(0, 1, 1, times)[0]), 0, 1) == label
