import numpy as np
import pytest
from scipy.stats import binom, binomtest

from corrigible.compare import FlipAccumulator, negative_flips, score_flips
from corrigible.errors import DataError

Y = np.array([0, 0, 1, 1, 2, 2, 2, 0])
OLD = np.array([0, 0, 1, 0, 0, 1, 2, 1])
NEW = np.array([0, 1, 2, 1, 1, 1, 2, 2])


def brute(y, old, new):
    """The definitions, row by row."""
    rows = list(zip(y, old, new, strict=True))
    return {
        "n_negative": sum(o == t != n for t, o, n in rows),
        "n_positive": sum(n == t != o for t, o, n in rows),
        "n_inconsistent": sum(o != t and n not in (t, o) for t, o, n in rows),
        "n_both_wrong": sum(o != t and n != t for t, o, n in rows),
        "n_both_right": sum(t == o == n for t, o, n in rows),
    }


def test_known_rows():
    flips = negative_flips(Y, OLD, NEW)
    assert flips.negative.tolist() == [False, True, True, False, False, False, False, False]
    assert flips.positive.tolist() == [False, False, False, True, False, False, False, False]
    assert flips.inconsistent.tolist() == [False, False, False, False, True, False, False, True]
    assert (flips.old_accuracy, flips.new_accuracy) == (4 / 8, 3 / 8)
    assert flips.negative_or_inconsistent_rate == 4 / 8
    assert flips.relative_negative_rate == pytest.approx((2 / 8) / (4 / 8 * 5 / 8))


@pytest.mark.parametrize("kind", ["int", "str", "object"])
def test_agrees_with_the_definition_on_any_type(rng, kind):
    words = np.array(["no", "yes", "perhaps"])
    drawn = [rng.integers(3, size=400) for _ in range(3)]
    y, old, new = (d if kind == "int" else words[d].astype(kind) for d in drawn)
    groups = rng.choice(["a", "b"], size=400)
    flips = negative_flips(y, old, new, groups=groups)
    for name, count in brute(y, old, new).items():
        assert getattr(flips, name) == count
        assert sum(getattr(part, name) for part in flips.groups.values()) == count
    part = groups == "b"
    assert flips.groups["b"].p_value == negative_flips(y[part], old[part], new[part]).p_value


def test_interval_is_clopper_pearson_and_test_is_mcnemar(rng):
    y, old, new = (rng.integers(2, size=150) for _ in range(3))
    flips = negative_flips(y, old, new, confidence=0.9)
    expected = binomtest(flips.n_negative, 150).proportion_ci(0.9, "exact")
    np.testing.assert_allclose(flips.negative_interval, expected, rtol=1e-9)
    n, k = flips.n_negative + flips.n_positive, min(flips.n_negative, flips.n_positive)
    assert flips.p_value == pytest.approx(min(1, 2 * binom.cdf(k, n, 0.5)))


def test_the_same_model_and_the_opposite():
    same = negative_flips(Y, OLD, OLD)
    assert (same.negative_rate, same.positive_rate, same.inconsistent_rate, same.p_value) == (0, 0, 0, 1)
    assert same.negative_interval[0] == 0
    worst = negative_flips([1], [1], [0])
    assert (worst.negative_rate, worst.relative_negative_rate) == (1, 1)
    assert worst.negative_interval[1] == 1
    assert np.isnan(negative_flips([1, 1], [0, 0], [0, 0]).relative_negative_rate)


def test_independent_models_have_a_relative_rate_of_one(rng):
    y = np.zeros(200_000, int)
    old, new = (rng.uniform(size=y.size) < share for share in (0.2, 0.3))
    assert negative_flips(y, old, new).relative_negative_rate == pytest.approx(1, abs=0.02)


def test_accumulator_needs_rows():
    with pytest.raises(DataError, match="update"):
        FlipAccumulator().compute()


def test_scores():
    flips = score_flips([1.0, 2.0, 3.0, 4.0], [1.5, 1.0, 3.05, 4.0], tolerance=0.1)
    assert flips.negative.tolist() == [False, True, False, False]
    assert (flips.negative_rate, flips.mean_drop, flips.mean_rise) == (0.25, 1.0, 0.5)
    assert flips.gain - flips.regression == pytest.approx(np.mean([0.5, -1, 0.05, 0]))


def test_zero_one_scores_flip_as_answers_do(rng):
    y, old, new = (rng.integers(3, size=300) for _ in range(3))
    scored, counted = score_flips(old == y, new == y), negative_flips(y, old, new)
    assert scored.regression == pytest.approx(counted.negative_rate)
    assert scored.gain == pytest.approx(counted.positive_rate)


def test_errors():
    with pytest.raises(DataError, match="'new'"):
        negative_flips([0, 1], [0, 1], [0])
    with pytest.raises(DataError, match="Row 1"):
        negative_flips([0, np.nan], [0, 1], [0, 1])
    with pytest.raises(DataError, match="Row 0"):
        negative_flips(np.array([None, "a"], object), ["a", "a"], ["a", "a"])
