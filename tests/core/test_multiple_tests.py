import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, false_discovery_control, permutation_test, ttest_1samp

from corrigible._core.multiple_tests import corrected, label_test, sign_flip_test, sign_test, t_test


def words(seed=0, **changes):
    return {"alternative": "two-sided", "n_resamples": 9999, "rng": np.random.default_rng(seed)} | changes


def test_holm_by_hand():
    np.testing.assert_allclose(corrected(np.array([0.03, 0.01, 0.02]), "holm"), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(corrected(np.array([0.04, 0.01, 0.03, 0.9]), "holm"), [0.09, 0.04, 0.09, 0.9])


@given(arrays(float, st.integers(0, 12), elements=st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_corrections_keep_the_order_and_only_raise(p):
    holm, fdr = corrected(p, "holm"), corrected(p, "fdr")
    order = np.argsort(p, kind="stable")
    for found in (holm, fdr):
        assert (found >= p - 1e-15).all()
        assert (found <= 1).all()
        assert (np.diff(found[order]) >= -1e-15).all()
    assert (holm >= fdr - 1e-12).all()
    np.testing.assert_array_equal(corrected(p, "none"), p)
    if len(p):
        np.testing.assert_allclose(fdr, false_discovery_control(p))


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_exact_tests_are_scipys(alternative):
    rng = np.random.default_rng(3)
    x = rng.normal(0.4, 1, size=10)
    other = permutation_test((x,), np.mean, permutation_type="samples", alternative=alternative, n_resamples=np.inf)
    found = sign_flip_test(x[:, None], **words(alternative=alternative))
    np.testing.assert_allclose(found, other.pvalue)
    chosen = np.arange(10) < 4
    two = permutation_test(
        (x[chosen], x[~chosen]), lambda a, b: a.mean() - b.mean(), alternative=alternative, n_resamples=np.inf
    )
    # scipy doubles the smaller tail where it is two-sided; ours counts what is as far from the middle.
    if alternative != "two-sided":
        assert label_test(x, chosen, **words(alternative=alternative)) == pytest.approx(two.pvalue)
    student = ttest_1samp(x, 0, alternative=alternative).pvalue
    np.testing.assert_allclose(t_test(x[:, None], alternative=alternative), student)
    expected = binomtest(int((x > 0).sum()), 10, alternative=alternative).pvalue
    np.testing.assert_allclose(sign_test(x[:, None], alternative=alternative), expected)


def test_drawn_tests_are_near_the_exact_ones_and_never_zero():
    x = np.random.default_rng(0).normal(0.3, 1, size=(14, 3))
    exact = sign_flip_test(x, **words(n_resamples=2**14))
    drawn = sign_flip_test(x, **words(n_resamples=4000))
    np.testing.assert_allclose(drawn, exact, atol=0.03)
    assert sign_flip_test(x + 100, **words(n_resamples=50)).min() == pytest.approx(1 / 51)


def test_extremes():
    zero = np.zeros((5, 2))
    assert (sign_flip_test(zero, **words()) == 1).all()
    assert (t_test(zero, alternative="greater") == 0.5).all()
    assert (sign_test(zero, alternative="less") == 1).all()
    tied = label_test(np.ones(6), np.arange(6) < 2, **words())
    assert tied == 1.0
    huge = np.array([[1e30], [2e30], [3e30]])
    np.testing.assert_allclose(sign_flip_test(huge, **words()), 0.25)


def test_level_where_nothing_is_there():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(9, 600))
    assert abs((sign_flip_test(x, **words()) <= 0.05).mean() - 0.05) < 0.03
