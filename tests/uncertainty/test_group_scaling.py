import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from corrigible._core.losses import log
from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import GroupScaling, VectorScaling


def two_class(p):
    return np.column_stack([1 - p, p])


def sample(rng, n, slopes, shifts):
    """Labels whose log-odds are a group's slope times the model's, plus its shift."""
    z, group = rng.normal(scale=1.5, size=n), rng.integers(len(slopes), size=n)
    y = (rng.uniform(size=n) < 1 / (1 + np.exp(-(slopes[group] * z + shifts[group])))).astype(int)
    return two_class(1 / (1 + np.exp(-z))), y, group


def test_recovers_slopes_and_biases(rng):
    slopes, shifts = np.array([1.0, 0.3, 1.8]), np.array([0.0, 1.0, -0.5])
    p, y, group = sample(rng, 60_000, slopes, shifts)
    method = GroupScaling(prior_scale=10.0).fit(p, y, group)
    table = method.groups_.set_index("group").sort_index()
    np.testing.assert_allclose(method.slope_ + table["slope"], slopes, atol=0.05)
    difference = method.bias_[1] - method.bias_[0] + table["bias_1"] - table["bias_0"]
    np.testing.assert_allclose(difference, shifts, atol=0.06)
    np.testing.assert_array_equal(table["n"], np.bincount(group))


def test_is_penalised_logistic_regression(rng):
    """The independent reference: scikit-learn's ridge on group dummies and their products with the log-odds."""
    p, y, group = sample(rng, 400, np.array([1.0, 0.2, 2.0]), np.array([0.5, -0.5, 0.0]))
    z, dummies = np.log(p[:, 1] / p[:, 0]), np.eye(3)[group]
    # All rows' slope is free of the ridge by its unit. A group's two biases of opposite sign, b and -b, cost b^2 and
    # move the log-odds by 2 b: one coefficient of ridge 1 times b's square root of two, and a column of root two.
    X = np.column_stack([1e4 * z, dummies * z[:, None], dummies * np.sqrt(2)])
    # Newton steps are exact whatever the units of the columns, which L-BFGS is not.
    reference = LogisticRegression(C=0.7**2, solver="newton-cholesky", tol=1e-10).fit(X, y)
    # A slope of the log-odds acts on both columns of log p through their difference: same coefficient, same penalty.
    found = GroupScaling(prior_scale=0.7).fit(p, y, group)
    np.testing.assert_allclose(found.predict_proba(p, group)[:, 1], reference.predict_proba(X)[:, 1], atol=2e-6)


def test_without_groups_it_is_platt_scaling(rng):
    """A prior that pools everything leaves the maximum-likelihood slope and bias of all rows."""
    p, y, group = sample(rng, 2000, np.array([0.5, 0.5]), np.array([1.0, 1.0]))
    z = np.log(p[:, 1:] / p[:, :1])
    platt = LogisticRegression(C=1e8, tol=1e-10).fit(z, y)
    found = GroupScaling(prior_scale=1e-4).fit(p, y, group)
    np.testing.assert_allclose(found.predict_proba(p, group)[:, 1], platt.predict_proba(z)[:, 1], atol=1e-4)


def test_unseen_groups_take_what_all_rows_share(rng):
    p, y, group = sample(rng, 3000, np.array([0.5, 2.0]), np.array([1.0, -1.0]))
    method = GroupScaling().fit(p, y, group)
    expected = method.slope_ * np.log(p[:5]) + method.bias_
    expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(method.predict_proba(p[:5], np.full(5, 99)), expected)


def test_small_groups_are_pooled(rng):
    """Groups of ten rows without any difference: pooled scaling stays near the truth, free scaling does not."""
    p, y, _ = sample(rng, 1000, np.array([1.0]), np.array([0.0]))
    group = np.repeat(np.arange(100), 10)
    off = {
        s: np.abs(GroupScaling(prior_scale=s).fit(p, y, group).predict_proba(p, group) - p).mean()
        for s in (0.1, 30)
    }
    assert off[0.1] < 0.04 < 0.1 < off[30]


def test_groupings_overlap_and_frames_serve(rng):
    n = 8000
    frame = pd.DataFrame({"a": rng.choice(["x", "y"], n), "b": rng.integers(3, size=n), "c": rng.normal(size=n)})
    z = rng.normal(size=n)
    y = (rng.uniform(size=n) < 1 / (1 + np.exp(-(z + (frame["a"] == "y") - (frame["b"] == 2))))).astype(int)
    p = two_class(1 / (1 + np.exp(-z)))
    method = GroupScaling().fit(p, y, frame[["a", "b"]])
    truth = 1 / (1 + np.exp(-(z + (frame["a"] == "y") - (frame["b"] == 2))))
    assert np.abs(method.predict_proba(p, frame[["a", "b"]])[:, 1] - truth).mean() < 0.02


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(5, 60))
def test_own_likelihood_is_not_worse_and_rows_sum_to_one(seed, k, n):
    rng = np.random.default_rng(seed)
    p, y, group = rng.dirichlet(np.ones(k), n), rng.integers(k, size=n), rng.integers(3, size=n)
    q = GroupScaling().fit(p, y, group).predict_proba(p, group)
    np.testing.assert_allclose(q.sum(axis=1), 1.0)
    assert log(y, q).mean() <= log(y, p).mean() + 1e-9


def test_weights_are_repeats(rng):
    p, y, group = sample(rng, 200, np.array([0.5, 2.0]), np.array([1.0, -1.0]))
    weight = rng.integers(1, 4, size=200)
    weighted = GroupScaling().fit(p, y, group, weight * 200 / weight.sum())
    rows = np.repeat(np.arange(200), weight)
    # Repeats are more rows against the same prior: scale the prior to match.
    repeated = GroupScaling(prior_scale=np.sqrt(200 / weight.sum())).fit(p[rows], y[rows], group[rows])
    np.testing.assert_allclose(weighted.predict_proba(p, group), repeated.predict_proba(p, group), atol=1e-4)


def test_extremes():
    one_hot = np.eye(2)[[0, 1, 1, 0]]
    q = GroupScaling().fit(one_hot, [0, 1, 0, 0], ["a", "a", "b", "b"]).predict_proba(one_hot, ["a", "a", "b", "c"])
    assert np.isfinite(q).all()
    single = GroupScaling().fit([[0.3, 0.7]], [1], ["only"]).predict_proba([[0.3, 0.7]], ["only"])
    assert np.isfinite(single).all()
    p32 = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    assert np.isfinite(GroupScaling().fit(p32, [0, 1], [0, 1]).predict_proba(p32, [0, 1])).all()


def test_bad_input():
    p, y = two_class(np.array([0.2, 0.6])), [0, 1]
    with pytest.raises(DataError, match="2 rows"):
        GroupScaling().fit(p, y, ["a"])
    with pytest.raises(InvalidParameterError, match="prior_scale"):
        GroupScaling(prior_scale=0.0).fit(p, y, ["a", "b"])
    fitted = GroupScaling().fit(p, y, ["a", "b"])
    with pytest.raises(DataError, match="1 columns"):
        fitted.predict_proba(p, [["a", "b"], ["a", "b"]])


def test_equals_vector_scaling_s_bias_for_one_group_with_equal_slopes(rng):
    """With one group and labels drawn from biased logits of slope 1, both find the same probabilities."""
    z, bias = rng.normal(size=(30_000, 3)), np.array([0.5, 0.0, -0.5])
    y = (z + bias + rng.gumbel(size=z.shape)).argmax(axis=1)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    ours = GroupScaling().fit(p, y, np.zeros(len(y))).predict_proba(p, np.zeros(len(y)))
    assert np.abs(ours - VectorScaling().fit(p, y).predict_proba(p)).mean() < 0.005
