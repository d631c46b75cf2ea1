import numpy as np
import pytest
from scipy import stats

from corrigible.compare import judge_bias
from corrigible.errors import DataError


def judged(rng, n=50, bias=0.0, controls=1):
    accuracy = rng.uniform(0.3, 0.9, size=(n, controls))
    similarity = 0.5 * accuracy.sum(axis=1) + 0.1 * rng.normal(size=n)
    return accuracy.sum(axis=1) + bias * similarity + 0.05 * rng.normal(size=n), similarity, accuracy


def test_partial_correlation_is_that_of_the_inverse_covariance(rng):
    for controls in (1, 3):
        score, similarity, accuracy = judged(rng, bias=0.3, controls=controls)
        found = judge_bias(score, similarity, accuracy)
        precision = np.linalg.inv(np.cov(np.column_stack([score, similarity, accuracy]).T))
        expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
        assert found.partial_correlation == pytest.approx(expected, abs=1e-9)
        assert found.correlation == pytest.approx(np.corrcoef(score, similarity)[0, 1])


def test_regression_against_normal_equations(rng):
    score, similarity, accuracy = judged(rng, bias=0.3)
    design = np.column_stack([np.ones(50), similarity, accuracy])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ score
    left = score - design @ coefficients
    error = np.sqrt(left @ left / 47 * inverse[1, 1])
    found = judge_bias(score, similarity, accuracy[:, 0])
    assert found.similarity_effect == pytest.approx(coefficients[1])
    assert found.accuracy_effect == pytest.approx(coefficients[2:])
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(coefficients[1] / error), 47))
    assert found.effect_interval == pytest.approx(coefficients[1] + error * np.array(stats.t.interval(0.95, 47)))
    assert found.r2 == pytest.approx(1 - left.var() / score.var())


def test_without_bias_p_values_are_uniform(rng):
    p = [judge_bias(*judged(rng, n=30)).p_value for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean([judge_bias(*judged(rng, n=30, bias=0.6)).p_value < 0.01 for _ in range(50)]) > 0.8


def test_assumptions_are_tested(rng):
    score, similarity, accuracy = judged(rng, n=300)
    fine = judge_bias(score, similarity, accuracy)
    spread = judge_bias(score + rng.normal(size=300) * (accuracy[:, 0] > 0.6), similarity, accuracy)
    heavy = judge_bias(score + rng.standard_t(1.5, size=300), similarity, accuracy)
    assert spread.homoscedasticity_p_value < 1e-6 < fine.homoscedasticity_p_value
    assert heavy.normality_p_value < 1e-6 < fine.normality_p_value


def test_units_change_effects_only(rng):
    score, similarity, accuracy = judged(rng, bias=0.3)
    found, other = judge_bias(score, similarity, accuracy), judge_bias(100 * score, 1 + 1e6 * similarity, accuracy)
    assert other.partial_correlation == pytest.approx(found.partial_correlation)
    assert other.similarity_effect == pytest.approx(found.similarity_effect * 1e-4)


def test_extremes(rng):
    score, similarity, accuracy = judged(rng)
    for fixed in (judge_bias(np.ones(50), similarity, accuracy), judge_bias(score, 2 * accuracy[:, 0], accuracy)):
        assert np.isnan([fixed.partial_correlation, fixed.p_value, *fixed.interval]).all()
    with pytest.raises(DataError, match="four beyond"):
        judge_bias([1, 2, 3], [1, 2, 4], [0, 1, 0])
    with pytest.raises(DataError, match="n_controls"):
        judge_bias(score, similarity, accuracy[:10])
    with pytest.raises(DataError, match="finite"):
        judge_bias(score, similarity, np.full(50, np.nan))
