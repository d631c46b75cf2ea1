import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import betabinom, norm
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score

from corrigible._core.empirical_bayes import beta_prior, normal_prior
from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness import GroupMetricsSum, group_metrics


def sample(seed, n=300, n_groups=3):
    rng = np.random.default_rng(seed)
    group, y = rng.integers(n_groups, size=n), rng.integers(2, size=n)
    return y, (y + rng.normal(size=n) > 0.5).astype(int), group


def value(found, metric, group, column="value", grouping="group"):
    rows = found.groups.query("metric == @metric and grouping == @grouping")
    return rows.loc[[g == group for g in rows["group"]], column].item()


def test_rates_equal_scikit_learn():
    y, d, group = sample(0)
    found = group_metrics(y, d, group)
    for g in range(3):
        t, p = y[group == g], d[group == g]
        tn, fp, fn, tp = confusion_matrix(t, p).ravel()
        expected = {
            "selection_rate": p.mean(), "tpr": recall_score(t, p), "fpr": fp / (fp + tn), "fnr": fn / (fn + tp),
            "precision": precision_score(t, p), "accuracy": accuracy_score(t, p), "error": 1 - accuracy_score(t, p),
        }  # fmt: skip
        for metric, known in expected.items():
            assert value(found, metric, g) == pytest.approx(known)


def test_means_and_their_intervals():
    y, d, group = sample(1)
    rng = np.random.default_rng(0)
    score, loss = rng.uniform(size=300), rng.exponential(size=300)
    found = group_metrics(y, d, group, score=score, loss=loss)
    for g in range(3):
        gap, own = (y - score)[group == g], loss[group == g]
        for metric, v in (("calibration", gap), ("loss", own)):
            assert value(found, metric, g) == pytest.approx(v.mean())
            half = norm.ppf(0.975) * v.std(ddof=1) / np.sqrt(len(v))
            assert value(found, metric, g, "high") == pytest.approx(v.mean() + half)
    assert set(group_metrics(y, d, group).groups["metric"]).isdisjoint({"calibration", "loss"})
    gaps = found.differences.set_index("metric")
    assert np.isnan(gaps.loc["calibration", "ratio"])
    assert gaps.loc["loss", "ratio"] < 1


def test_wilson_and_newcombe_by_hand():
    """56 of 70 and 48 of 80: Newcombe (1998), table II, method 10, prints 0.0524 to 0.3339."""
    d = np.concatenate([np.repeat([1, 0], [56, 14]), np.repeat([1, 0], [48, 32])])
    found = group_metrics(np.ones(150, dtype=int), d, np.repeat(["a", "b"], [70, 80]))
    gap = found.differences.set_index("metric").loc["tpr"]
    assert gap["difference"] == pytest.approx(0.2)
    assert gap["difference_low"] == pytest.approx(0.0524, abs=5e-5)
    assert gap["difference_high"] == pytest.approx(0.3339, abs=5e-5)
    assert (gap["lowest"], gap["highest"]) == ("b", "a")
    assert gap["ratio"] == pytest.approx(0.75)
    assert gap["ratio_low"] < 0.75 < gap["ratio_high"]
    from scipy.stats import binomtest

    interval = binomtest(56, 70).proportion_ci(method="wilson")
    assert value(found, "tpr", "a", "low") == pytest.approx(interval.low)
    assert value(found, "tpr", "a", "high") == pytest.approx(interval.high)


def test_crossed_groups_and_margins():
    y, d, group = sample(2, 800, 4)
    frame = pd.DataFrame({"a": np.array(["x", "y"])[group // 2], "b": group % 2})
    found = group_metrics(y, d, frame)
    assert list(dict.fromkeys(found.groups["grouping"])) == ["a", "b", "a x b"]
    for g in range(4):
        key = (np.array(["x", "y"])[g // 2], g % 2)
        assert value(found, "error", key, grouping="a x b") == pytest.approx((y != d)[group == g].mean())
    assert value(found, "error", "y", grouping="a") == pytest.approx((y != d)[group // 2 == 1].mean())
    with_c = group_metrics(y, d, frame.assign(c=0))
    assert "a x b x c" in set(with_c.groups["grouping"])


def test_prior_by_moments_finds_that_of_a_simulation():
    rng = np.random.default_rng(0)
    n = rng.integers(20, 200, size=3000).astype(float)
    hits = betabinom.rvs(n.astype(int), 4, 12, random_state=rng).astype(float)
    a, b = beta_prior(hits, n)
    assert (a / (a + b), a + b) == (pytest.approx(0.25, abs=0.01), pytest.approx(16, rel=0.1))
    variance = rng.uniform(0.5, 2, size=3000)
    centre, between, doubt = normal_prior(
        3 + 2 * rng.normal(size=3000) + np.sqrt(variance) * rng.normal(size=3000), variance
    )
    assert (centre, between) == (pytest.approx(3, abs=0.2), pytest.approx(4, rel=0.1))
    assert doubt == pytest.approx(5.25 / 3000, rel=0.1)
    # Equal groups: the prior is worth all rows.
    assert sum(beta_prior(np.full(5, 3.0), np.full(5, 10.0))) == pytest.approx(50)
    assert np.isnan(beta_prior(np.array([1.0, 2.0]), np.array([5.0, 5.0]))).all()
    assert np.isnan(beta_prior(np.zeros(4), np.full(4, 9.0))).all()


def test_small_groups_are_pooled_and_said_so():
    rng = np.random.default_rng(1)
    sizes = np.array([400, 300, 200, 5])
    group = np.repeat(["a", "b", "c", "d"], sizes)
    d = (rng.uniform(size=905) < np.repeat([0.2, 0.3, 0.4, 0.5], sizes)).astype(int)
    d[-5:] = 1
    found = group_metrics(np.zeros(905, dtype=int), d, group)
    rows = found.groups.query("metric == 'selection_rate'").set_index("group")
    assert rows["pooled"].tolist() == [False, False, False, True]
    hits, n = np.array([d[group == g].sum() for g in "abcd"]).astype(float), sizes.astype(float)
    a, b = beta_prior(hits, n)
    assert rows.loc["d", "value"] == pytest.approx((a + 5) / (a + b + 5))
    assert rows.loc["d", "low"] == pytest.approx(beta_distribution.ppf(0.025, a + 5, b))
    assert rows.loc["d", "raw"] == 1.0
    assert rows.loc["a", "value"] == rows.loc["a", "raw"]
    assert "1 small groups pooled" in repr(found)
    assert not group_metrics(np.zeros(905, dtype=int), d, group, small=0).groups["pooled"].any()


def test_interval_of_the_largest_difference_covers():
    """Six equal groups: the largest difference of the sample is never 0, the interval must hold 0."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(6), 100)
    equal, apart = 0, 0
    for _ in range(200):
        d = (rng.uniform(size=600) < 0.3).astype(int)
        gap = group_metrics(np.zeros(600, dtype=int), d, group).differences.iloc[0]
        equal += gap["difference_low"] <= 0
        d = (rng.uniform(size=600) < np.linspace(0.2, 0.5, 6)[group]).astype(int)
        gap = group_metrics(np.zeros(600, dtype=int), d, group).differences.iloc[0]
        apart += gap["difference_low"] <= 0.3 <= gap["difference_high"]
    assert equal >= 185
    assert apart >= 185


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 6))
def test_intervals_hold_their_values(seed, n, n_groups):
    y, d, group = sample(seed, n, n_groups)
    found = group_metrics(y, d, group, loss=np.abs(y - d).astype(float))
    rows = found.groups.dropna(subset=["value", "low"])
    assert (rows["low"] <= rows["value"] + 1e-12).all()
    assert (rows["value"] <= rows["high"] + 1e-12).all()
    gaps = found.differences.dropna(subset=["difference", "difference_low"])
    assert (gaps["difference_low"] <= gaps["difference"] + 1e-12).all()
    assert (gaps["difference"] <= gaps["difference_high"] + 1e-12).all()
    ratios = found.differences.dropna(subset=["ratio", "ratio_low"])
    assert ratios["ratio"].between(ratios["ratio_low"] - 1e-12, ratios["ratio_high"] + 1e-12).all()


def test_weights_are_repeats_in_the_values():
    y, d, group = sample(3, 100)
    weight = np.random.default_rng(0).integers(1, 4, size=100)
    rows = np.repeat(np.arange(100), weight)
    weighted = group_metrics(y, d, group, sample_weight=weight, score=d * 0.5, small=0).groups
    repeated = group_metrics(y[rows], d[rows], group[rows], score=d[rows] * 0.5, small=0).groups
    np.testing.assert_allclose(weighted["value"], repeated["value"])
    assert (weighted["n"] <= repeated["n"]).all()
    equal = group_metrics(y, d, group, sample_weight=np.full(100, 7.0)).groups
    pd.testing.assert_frame_equal(equal, group_metrics(y, d, group).groups)


def test_accumulates_with_new_groups_on_the_way():
    y, d, group = sample(4, 200, 5)
    order = np.argsort(group, kind="stable")
    first, second = order[:90], order[90:]
    loss = np.abs(y - d) + 0.5
    total = GroupMetricsSum().update(y[second], d[second], group[second], loss=loss[second])
    total.merge(GroupMetricsSum()).merge(
        GroupMetricsSum().update(y[first], d[first], group[first], loss=loss[first])
    )
    found, whole = total.compute(), group_metrics(y, d, group, loss=loss)
    pd.testing.assert_frame_equal(found.groups, whole.groups)
    pd.testing.assert_frame_equal(found.differences, whole.differences)
    assert found.n == 200


def test_limits_of_single_rows_are_not_known():
    gaps = group_metrics([0, 1], [1, 1], ["a", "b"], loss=[0.0, 1.0]).differences.set_index("metric")
    assert gaps.loc["loss", "difference"] == 1
    assert gaps.loc["loss", ["difference_low", "difference_high"]].isna().all()
    assert gaps.loc["accuracy", "difference_high"] > 0.9


def test_extremes():
    one = group_metrics([1], [1], ["a"])
    assert value(one, "tpr", "a") == 1
    assert np.isnan(value(one, "fpr", "a"))
    assert one.differences["difference"].isna().all()
    y, d, group = sample(5, 50, 50)
    many = group_metrics(y, d, group, loss=np.full(50, 1e30))
    assert many.groups["value"].dropna().abs().max() <= 1.0000001e30
    small = group_metrics(y.astype(np.int8), d.astype(bool), (group * 2 - 50).astype(np.int8))
    assert len(small.groups) == len(many.groups) * 7 // 8
    assert value(group_metrics([0, 1], [0, 1], [-7, 9]), "accuracy", -7) == 1


def test_bad_input():
    y, d, group = [0, 1], [0, 1], ["a", "b"]
    with pytest.raises(DataError, match="decisions"):
        group_metrics(y, [0.2, 0.7], group)
    with pytest.raises(DataError, match="Row 1"):
        group_metrics(y, d, ["a", None])
    with pytest.raises(DataError, match="score"):
        group_metrics(y, d, group, score=[0.1, np.nan])
    with pytest.raises(InvalidParameterError, match="small"):
        group_metrics(y, d, group, small=-1)
    with pytest.raises(DataError, match="no rows"):
        GroupMetricsSum().compute()
    with pytest.raises(InvalidParameterError, match="same parameters"):
        GroupMetricsSum().merge(GroupMetricsSum(small=5))
    with pytest.raises(DataError, match="same group columns"):
        GroupMetricsSum().update(y, d, group).update(y, d, group, loss=[0.1, 0.2])
