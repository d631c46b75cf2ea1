import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KernelDensity, KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import DEUP

EXACT = DecisionTreeRegressor()  # reproduces what it is given


def test_leave_one_out_errors_are_those_of_sklearn(rng):
    """The independent reference: cross_val_predict with one fold a row."""
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    method = DEUP(LinearRegression(), EXACT, cv=30, random_state=0).fit(X, y)
    expected = (y - cross_val_predict(LinearRegression(), X, y, cv=LeaveOneOut())) ** 2
    np.testing.assert_allclose(np.sort(method.errors_), np.sort(expected), rtol=1e-9)
    np.testing.assert_allclose(method.predict_total(X), expected, rtol=1e-9)
    np.testing.assert_allclose(method.predict(X), LinearRegression().fit(X, y).predict(X))


def test_recovers_the_excess_risk_of_a_biased_model(rng):
    """A constant has excess risk (f(x) - mean)^2 whatever the noise."""
    X = rng.uniform(-1, 1, size=(6000, 1))
    y = 2 * X[:, 0] + rng.normal(scale=0.5, size=len(X))
    method = DEUP(DummyRegressor(), KNeighborsRegressor(300), aleatoric=0.25, random_state=0).fit(X, y)
    at = np.array([[-0.8], [-0.4], [0.0], [0.5]])
    np.testing.assert_allclose(method.predict_uncertainty(at), 4 * at[:, 0] ** 2, atol=0.2)


def test_replicates_give_the_noise(rng):
    X = np.repeat(np.arange(50.0), 40)[:, None]
    y = X[:, 0] ** 2 + rng.normal(scale=np.where(X[:, 0] < 25, 1.0, 3.0))
    pooled = DEUP(LinearRegression(), aleatoric="replicates", random_state=0).fit(X, y)
    within = [y[X[:, 0] == v].var(ddof=1) for v in range(50)]
    assert pooled.aleatoric_ == pytest.approx(np.mean(within))
    learned = DEUP(LinearRegression(), aleatoric=EXACT, random_state=0).fit(X, y)
    np.testing.assert_allclose(learned.predict_aleatoric(np.arange(50.0)[:, None]), within)


def test_equal_rows_are_never_both_trained_on_and_held_out():
    X, y = np.repeat(np.arange(20.0), 3)[:, None], np.repeat(np.arange(20.0) % 2, 3) * 10
    method = DEUP(KNeighborsRegressor(1), random_state=0).fit(X, y)
    assert (method.errors_ > 0).any()  # a leak would let the nearest row answer everywhere


def test_seen_rows_have_no_error_of_a_model_that_memorises(rng):
    X, y = rng.normal(size=(100, 2)), rng.normal(size=100)
    method = DEUP(KNeighborsRegressor(1), EXACT, features=("seen",), cv=4, random_state=0).fit(X, y)
    assert len(method.errors_) == 400
    np.testing.assert_allclose(method.predict_uncertainty(X), 0, atol=1e-12)
    new = rng.normal(size=(5, 2))
    assert (method.predict_uncertainty(new) > 0.5).all()
    errors = (method.predict(new) - 3.0) ** 2
    method.update(new, np.full(5, 3.0))
    np.testing.assert_allclose(method.errors_[-10:], [*errors, *np.zeros(5)], atol=1e-12)
    np.testing.assert_allclose(method.predict_uncertainty(new), 0, atol=1e-12)


def test_density_and_variance_are_the_given_ones(rng):
    X, y = rng.normal(size=(40, 1)), rng.normal(size=40)
    gp = GaussianProcessRegressor(alpha=0.1, optimizer=None)
    method = DEUP(
        gp, features=("density", "variance"), density=KernelDensity(), variance=gp, cv=2, random_state=0
    ).fit(X, y)
    phi = method._phi(method._now, X)
    np.testing.assert_allclose(phi[:, 0], KernelDensity().fit(X).score_samples(X))
    np.testing.assert_allclose(np.exp(phi[:, 1]), gp.fit(X, y).predict(X, return_std=True)[1] ** 2, rtol=1e-4)


@pytest.mark.parametrize(("loss", "expected"), [("log", np.log(2)), ("brier", 0.5)])
def test_classifier_losses(loss, expected):
    X, y = np.arange(40.0)[:, None], np.tile(["a", "b"], 20)
    method = DEUP(DummyClassifier(strategy="prior"), loss=loss, cv=2, random_state=0).fit(X, y)
    np.testing.assert_allclose(method.predict_uncertainty(X), expected, rtol=1e-9)


def test_a_class_missing_from_a_fold_costs_its_log_loss(rng):
    X, y = rng.normal(size=(31, 2)), np.array([0, 1] * 15 + [2])
    assert DEUP(LogisticRegression(), random_state=0).fit(X, y).errors_.max() > 20


def test_same_seed_same_bits(rng):
    X, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    a, b = (DEUP(EXACT, features=("x", "variance"), random_state=3).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(a.predict_uncertainty(X), b.predict_uncertainty(X))


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.1, 1e3), log=st.booleans())  # below, impurities meet the trees' absolute least one
def test_uncertainty_scales_with_the_square_of_the_target(scale, log):
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = X[:, 0] ** 2
    a, b = (DEUP(LinearRegression(), EXACT, log=log, random_state=0).fit(X, t) for t in (y, scale * y))
    np.testing.assert_allclose(b.predict_uncertainty(X), scale**2 * a.predict_uncertainty(X), rtol=1e-5, atol=1e-9)


def test_refusals(rng):
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    with pytest.raises(DataError, match="equal rows"):
        DEUP(LinearRegression(), aleatoric="replicates").fit(X, y)
    with pytest.raises(DataError, match="two different rows"):
        DEUP(LinearRegression()).fit(np.ones((5, 1)), np.arange(5.0))
    with pytest.raises(InvalidParameterError, match="features"):
        DEUP(LinearRegression(), features=("nothing",)).fit(X, y)
    with pytest.raises(InvalidParameterError, match="brier"):
        DEUP(LogisticRegression(), aleatoric="replicates").fit(X, y > 0)
    method = DEUP(LogisticRegression(), random_state=0).fit(X, y > 0)
    with pytest.raises(DataError, match="classes of fit"):
        method.update(X, np.full(20, 7))
