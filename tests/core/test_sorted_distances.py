import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance

from corrigible._core.sorted_distances import sorted_distances


def checked(a, b, rtol=1e-9):
    a, b = np.sort(a), np.sort(b)
    distance, area = sorted_distances(a, b)
    assert distance == pytest.approx(ks_2samp(a, b, method="asymp").statistic, abs=1e-12)
    scale = max(float(np.ptp(np.r_[a, b])), float(np.abs(np.r_[a, b]).max()) * 1e-7)
    assert area == pytest.approx(wasserstein_distance(a, b), rel=rtol, abs=1e-9 * scale)


@given(st.integers(0, 10_000), st.integers(2, 3000), st.integers(2, 3000), st.sampled_from([0.0, 0.05, 3.0]),
       st.sampled_from([None, 0, 1]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_distances_are_scipys(seed, n, m, shift, decimals):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), shift + rng.normal(size=m)
    checked(*(x if decimals is None else x.round(decimals) for x in (a, b)))


@pytest.mark.parametrize("seed", range(3))
def test_large_samples(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=200_000), rng.normal(size=150_000)
    checked(a, b)
    checked(a, a)
    checked(a, np.abs(a))
    checked(a.astype(np.float32), b.astype(np.float32), rtol=1e-5)
    checked(1e18 + 1e12 * a, 1e18 + 1e12 * b + 1e10, rtol=1e-6)
    checked(rng.integers(0, 3, 100_000), rng.integers(0, 4, 100_000))


def test_apart_one_value_and_huge():
    assert sorted_distances(np.zeros(5), np.ones(3)) == (1.0, 1.0)
    assert sorted_distances(np.ones(5), np.zeros(3)) == (1.0, 1.0)
    assert sorted_distances(np.ones(1), np.ones(1)) == (0.0, 0.0)
    checked(1e30 * np.arange(100.0), 1e30 * np.arange(50.0))
    assert np.isnan(sorted_distances(np.empty(0), np.ones(2))).all()


def test_infinite_values_count_and_have_no_area():
    distance, area = sorted_distances(np.r_[0.0, 1.0, np.inf, np.inf], np.r_[-np.inf, 0.0, 1.0, 2.0])
    assert distance == 0.5
    assert np.isnan(area)
