import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import CQR, ConformalizedQuantileRegressor, SplitConformal


def rows(rng, n=300):
    X = rng.normal(size=(n, 2))
    return X, X[:, 0] + rng.normal(size=n)


def test_intervals_of_a_regressor_by_hand(rng):
    X, y = rows(rng)
    model = LinearRegression().fit(X[:100], y[:100])
    method = SplitConformal(model, alpha=0.2).fit(X[100:199], y[100:199])
    errors = np.sort(np.abs(y[100:199] - model.predict(X[100:199])))
    reach = errors[79]  # ceil(0.8 * 100)
    found = method.predict_interval(X[200:])
    np.testing.assert_allclose(found, model.predict(X[200:])[:, None] + [-reach, reach])
    assert not hasattr(method, "predict_set")


def test_sets_of_a_classifier_by_hand(rng):
    X, y = rows(rng)
    label = np.array(["no", "yes"])[(y > 0).astype(int)]
    model = LogisticRegression().fit(X[:100], label[:100])
    method = SplitConformal(model, alpha=0.2).fit(X[100:199], label[100:199])
    p = model.predict_proba(X[100:199])[np.arange(99), (label[100:199] == "yes").astype(int)]
    limit = np.sort(1 - p)[79]
    np.testing.assert_array_equal(method.predict_set(X[200:]), 1 - model.predict_proba(X[200:]) <= limit + 1e-12)
    assert not hasattr(method, "predict_interval")


def test_before_fit_and_after_another_kind(rng):
    method = SplitConformal()
    assert not hasattr(method, "predict_set")
    assert not hasattr(method, "predict_interval")
    X, y = rows(rng)
    method.fit(X[:, 0], y)
    assert hasattr(method, "predict_interval")
    p = rng.dirichlet([1, 1, 1], size=300)
    assert method.fit(p, rng.integers(3, size=300)).predict_set(p).shape == (300, 3)
    assert not hasattr(method, "predict_interval")


def test_groups_and_weights_are_passed_on(rng):
    X, y = rows(rng)
    groups = np.repeat(["a", "b"], 150)
    y[groups == "b"] *= 5
    method = SplitConformal().fit(X[:, 0], y, groups=groups)
    a, b = method.predict_interval([0.0, 0.0], groups=["a", "b"])
    assert b[1] - b[0] > 2 * (a[1] - a[0])
    weighted = SplitConformal().fit(X[:, 0], y, sample_weight=np.ones(300))
    assert np.isinf(weighted.predict_interval([0.0], sample_weight=[1e6])).all()


def test_bad_input_is_told(rng):
    with pytest.raises(InvalidParameterError, match="alpha"):
        SplitConformal(alpha=1.0).fit(np.zeros(20), np.zeros(20))
    with pytest.raises(DataError, match="at least 9 calibration rows"):
        SplitConformal().fit(np.zeros(8), np.zeros(8))
    with pytest.raises(DataError, match="sum to 1"):
        SplitConformal().fit(np.full((20, 2), 0.9), np.zeros(20, dtype=int))


def test_cqr_is_conformalised_quantile_regression_under_the_name_of_its_paper():
    assert CQR is ConformalizedQuantileRegressor
