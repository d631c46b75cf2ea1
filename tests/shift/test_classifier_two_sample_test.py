import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import DensityRatio, classifier_two_sample_test


def test_auc_is_that_of_the_best_classifier_in_closed_form(rng):
    """Two normals one apart: no classifier ranks better than Phi(1 / sqrt 2) = 0.7602."""
    x, z = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(4000, 1))
    found = classifier_two_sample_test(x, z, estimator=LogisticRegression(), rng=0)
    assert found.auc == pytest.approx(0.7602, abs=0.02)
    assert found.auc_low < 0.7602 < found.auc_high
    assert found.p_value < 1e-10
    # E[w]^2 / E[w^2] of the ratio exp(x - 1/2) is 1 / e.
    assert found.effective_sample_size / 4000 == pytest.approx(np.exp(-1), rel=0.15)


def test_auc_by_scikit_learn(rng):
    x, z = rng.normal(size=(300, 2)), rng.normal(0.4, 1, size=(300, 2))
    found = classifier_two_sample_test(x, z, estimator=LinearDiscriminantAnalysis(), rng=0)
    rows, domain = np.vstack([x, z]), np.repeat([0, 1], 300)
    folds = StratifiedKFold(5, shuffle=True, random_state=1)
    p = cross_val_predict(LinearDiscriminantAnalysis(), rows, domain, cv=folds, method="predict_proba")[:, 1]
    assert found.auc == pytest.approx(roc_auc_score(domain, p), abs=0.02)


def test_p_values_without_a_difference(rng):
    p = [
        classifier_two_sample_test(
            *rng.normal(size=(2, 60, 2)), estimator=LinearDiscriminantAnalysis(), rng=s
        ).p_value
        for s in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.1
    # Widened for what folds share: they are not below the uniform law anywhere.
    assert kstest(p, "uniform", alternative="greater").pvalue > 1e-3


def test_the_effect_is_the_known_change_and_its_interval_holds(rng):
    held, errors = [], []
    for _ in range(20):
        x, z = rng.uniform(size=(800, 1)), np.sqrt(rng.uniform(size=(800, 1)))
        loss, later = (v[:, 0] ** 2 + rng.exponential(0.2, size=len(v)) for v in (x, z))
        found = classifier_two_sample_test(x, z, loss=loss, estimator=LogisticRegression(), rng=rng)
        change = later.mean() - loss.mean()
        held.append(found.loss_low <= change <= found.loss_high)
        errors.append(found.loss_effect - change)
    assert np.mean(held) >= 0.8  # 16 of 20: fewer come once in 400 times where 95 % hold
    # The mean of x^2 rises from 1/3 to 1/2.
    assert abs(np.mean(errors)) < 0.015
    assert change == pytest.approx(1 / 6, abs=0.06)


def test_it_is_the_density_ratio_by_another_name(rng):
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": rng.choice(list("uv"), size=200)})
    frame.loc[::9, "a"] = np.nan
    later = frame.assign(a=frame["a"] + 1)
    found, ratio = classifier_two_sample_test(frame, later, rng=3), DensityRatio(random_state=3).fit(frame, later)
    assert (found.auc, found.p_value) == (ratio.auc_, ratio.p_value_)
    np.testing.assert_array_equal(found.weight, ratio.weights_)


def test_extremes(rng):
    same = classifier_two_sample_test(np.ones((50, 2)), np.ones((50, 2)), loss=np.zeros(50), rng=0)
    assert (same.auc, same.loss_effect) == (0.5, 0.0)
    assert same.p_value >= 0.5
    apart = classifier_two_sample_test(np.zeros((50, 1), np.float32), np.full((50, 1), 1e30, np.float32), rng=0)
    assert apart.auc == 1.0
    below = classifier_two_sample_test(*rng.normal(size=(2, 100, 1)), loss=-rng.exponential(size=100), rng=0)
    assert below.loss_low < below.loss_effect < below.loss_high


def test_bad_input_is_told(rng):
    x = rng.normal(size=(50, 2))
    with pytest.raises(DataError, match="50 entries"):
        classifier_two_sample_test(x, x, loss=[1.0])
    with pytest.raises(DataError, match="at least 10 rows"):
        classifier_two_sample_test(x, x[:5])
    with pytest.raises(DataError, match="Absent"):
        classifier_two_sample_test(pd.DataFrame({"a": [1] * 20}), pd.DataFrame({"b": [1] * 20}))
    for words in ({"cv": 1}, {"confidence": 1.0}, {"min_denominator": 0}):
        with pytest.raises(InvalidParameterError):
            classifier_two_sample_test(x, x, **words)
