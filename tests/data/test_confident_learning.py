import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigible.data import ConfidentJoint, ConfidentLearning, ConfidentThresholds
from corrigible.errors import DataError, InvalidParameterError

METHODS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given")


def planted(rng, n, k, *, share=0.1, distance=4.0):
    true = rng.integers(k, size=n)
    z = rng.normal(size=(n, k))
    z[np.arange(n), true] += distance
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    wrong = rng.uniform(size=n) < share
    return np.where(wrong, (true + rng.integers(1, k, size=n)) % k, true), p, wrong


def brute_counts(y, p):
    """Confident counting, a row at a time."""
    k = p.shape[1]
    t = [p[y == j, j].mean() if (y == j).any() else 2.0 for j in range(k)]
    counts, off = np.zeros((k, k)), np.zeros(len(y), bool)
    for i, row in enumerate(p):
        passed = [j for j in range(k) if row[j] >= max(t[j], 2e-6) - 1e-6]
        if passed:
            j = passed[0] if len(passed) == 1 else int(row.argmax())
            counts[y[i], j] += 1
            off[i] = j != y[i]
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    return counts, off


def brute_flags(y, p, method, keep=1):
    """Each rule as the paper words it, on rows sorted one pair of classes at a time; earlier rows first."""
    k, n = p.shape[1], np.bincount(y, minlength=p.shape[1])
    counts, off = brute_counts(y, p)
    joint = ConfidentLearning(random_state=0).fit(y, p).confident_joint_
    np.testing.assert_array_equal(joint.sum(axis=1), n)
    assert np.abs(joint - counts / counts.sum(axis=1, keepdims=True) * n[:, None]).max() <= 1
    rate, least = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for i in range(k):
        members = np.flatnonzero(y == i)
        if len(members) <= max(keep, 1):
            continue
        diagonal = max(joint[i, i], keep)
        cut = (diagonal - joint[i, i]) / max(np.count_nonzero(joint[i]) - 1, 1)
        for j in range(k):
            if j != i:
                m = int(max(joint[i, j] - cut, 0))
                rate[members[np.argsort(-(p[members, j] - p[members, i]), kind="stable")[:m]]] = True
        m = len(members) - diagonal
        least[members[np.argsort(p[members, i], kind="stable")[: max(m, 0)]]] = True
    raised = p.copy()
    raised[np.arange(len(y)), y] += 1e-6
    rules = dict(zip(METHODS, (rate, least, rate & least, off, p.argmax(1) != y), strict=True))
    return rules[method] & (raised.argmax(1) != y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [2, 12])
@pytest.mark.parametrize("distance", [0.5, 4.0])
def test_flags_are_those_of_brute_force(rng, method, k, distance):
    y, p, _ = planted(rng, 600, k, distance=distance)
    found = ConfidentLearning(method=method, random_state=0).fit(y, p)
    np.testing.assert_array_equal(found.issue_mask, brute_flags(y, p, method))
    np.testing.assert_array_equal(found.suggested_label, np.where(found.issue_mask, p.argmax(1), y))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(2, 80),
    k=st.integers(2, 5),
    levels=st.sampled_from([1, 2, 4, 10]),
    keep=st.integers(0, 4),
    method=st.sampled_from(METHODS),
)
def test_flags_with_ties_rare_and_missing_classes(seed, n, k, levels, keep, method):
    rng = np.random.default_rng(seed)
    p = rng.multinomial(levels, rng.dirichlet(np.ones(k), size=n)) / levels
    y = rng.choice(k, size=n, p=rng.dirichlet(np.full(k, 0.5)))
    found = ConfidentLearning(method=method, min_examples_per_class=keep, random_state=0).fit(y, p)
    np.testing.assert_array_equal(found.issue_mask, brute_flags(y, p, method, keep))
    parts = np.array_split(np.arange(n), 2)
    batched = ConfidentLearning(method=method, min_examples_per_class=keep, random_state=0)
    batched.fit_batches([(y[i], p[i]) for i in parts])
    np.testing.assert_array_equal(batched.issue_mask, found.issue_mask)


@pytest.mark.parametrize("method", ["prune_by_noise_rate", "prune_by_class"])
def test_of_equals_the_first_are_flagged(method):
    """Ten rows alike, of which the joint says that some are wrong: the flags are the first of them."""
    p = np.vstack([np.tile([0.2, 0.8], (10, 1)), np.tile([0.9, 0.1], (90, 1)), np.tile([0.05, 0.95], (100, 1))])
    y = np.r_[np.zeros(100, int), np.ones(100, int)]
    p[:4] = [0.01, 0.99]
    found = ConfidentLearning(method=method, random_state=0).fit(y, p)
    flagged = np.flatnonzero(found.issue_mask)
    assert 0 < len(flagged) <= 10
    np.testing.assert_array_equal(flagged, np.arange(len(flagged)))


def test_known_answer():
    """Thresholds 0.65 and 0.7; row 2 is counted as truly class 1."""
    p = np.array([[0.95, 0.05], [0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.3, 0.7]])
    y = np.array([0, 0, 0, 1, 1])
    found = ConfidentLearning(random_state=0).fit(y, p)
    np.testing.assert_allclose(found.thresholds_, [0.65, 0.7])
    np.testing.assert_array_equal(found.confident_joint_, [[2, 1], [0, 2]])
    np.testing.assert_allclose(found.noise_matrix_, [[1, 1 / 3], [0, 2 / 3]])
    np.testing.assert_allclose(found.inverse_noise_matrix_, [[2 / 3, 0], [1 / 3, 1]])
    np.testing.assert_allclose(found.prior_, [0.4, 0.6])
    assert found.n_errors_ == pytest.approx(1.0)
    assert found.issue_mask.tolist() == [False, False, True, False, False]


def test_noise_matrix_is_recovered_from_a_perfect_model(rng):
    noise = np.array([[0.9, 0.05, 0.0], [0.1, 0.8, 0.3], [0.0, 0.15, 0.7]])  # p(given | true), columns
    true = rng.integers(3, size=60_000)
    y = (rng.uniform(size=(true.size, 1)) > noise.T[true].cumsum(axis=1)[:, :2]).sum(axis=1)
    found = ConfidentLearning(random_state=0).fit(y, np.eye(3)[true])
    np.testing.assert_allclose(found.noise_matrix_, noise, atol=0.01)
    assert found.n_errors_ == pytest.approx((y != true).sum(), rel=1e-6)


@pytest.mark.parametrize(("k", "share", "distance"), [(3, 0.1, 2.0), (10, 0.3, 3.0)])
def test_interval_is_as_wide_as_that_of_resampled_rows(rng, k, share, distance):
    y, p, _ = planted(rng, 2000, k, share=share, distance=distance)
    low, high = ConfidentLearning(random_state=0).fit(y, p).n_errors_interval_
    draws = []
    for _ in range(200):
        rows = rng.integers(len(y), size=len(y))
        counts, _ = brute_counts_fast(y[rows], p[rows])
        draws.append(np.bincount(y[rows], minlength=k) @ (1 - counts.diagonal() / counts.sum(axis=1)))
    assert high - low == pytest.approx(np.diff(np.quantile(draws, [0.025, 0.975]))[0], rel=0.3)


def brute_counts_fast(y, p):
    k = p.shape[1]
    t = np.array([p[y == j, j].mean() for j in range(k)])
    passed = p >= t - 1e-6
    j = np.where(passed.sum(1) > 1, p.argmax(1), passed.argmax(1))
    counts = np.zeros((k, k))
    np.add.at(counts, (y[passed.any(1)], j[passed.any(1)]), 1)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    return counts, passed


def test_accumulators_agree_for_any_split_and_order(rng):
    y, p, _ = planted(rng, 5000, 4)
    whole = ConfidentLearning(random_state=0).fit(y, p)
    order = rng.permutation(5000)
    pieces = np.array_split(order, 7)
    thresholds = [ConfidentThresholds().update(y[i], p[i]) for i in pieces]
    first = thresholds[3]
    for other in thresholds[:3] + thresholds[4:]:
        first.merge(other)
    np.testing.assert_allclose(first.compute(), whole.thresholds_, rtol=1e-13)
    joints = [ConfidentJoint(first.compute(), random_state=0).update(y[i], p[i]) for i in pieces]
    total = joints[5]
    for other in joints[:5] + joints[6:]:
        total.merge(other)
    estimate = total.compute()
    np.testing.assert_array_equal(estimate.confident_joint, whole.confident_joint_)
    assert estimate.n_errors_interval == whole.n_errors_interval_
    json.dumps(estimate.to_dict())


@pytest.mark.parametrize("score", ["self_confidence", "normalized_margin"])
@pytest.mark.parametrize("method", METHODS)
def test_batches_give_what_fit_gives(rng, method, score):
    y, p, _ = planted(rng, 30_000, 3)
    parts = np.array_split(np.arange(len(y)), 11)
    whole = ConfidentLearning(method=method, score=score, adjust_pred_proba=True, random_state=0).fit(y, p)
    batched = ConfidentLearning(method=method, score=score, adjust_pred_proba=True, random_state=0)
    batched.fit_batches([(y[i], p[i]) for i in parts])
    np.testing.assert_array_equal(batched.issue_mask, whole.issue_mask)
    np.testing.assert_allclose(batched.issue_scores, whole.issue_scores, atol=1e-12)
    np.testing.assert_array_equal(batched.suggested_label, whole.suggested_label)


def test_layout_and_precision_do_not_matter(rng):
    y, p, _ = planted(rng, 4000, 6)
    whole = ConfidentLearning(random_state=0).fit(y, p)
    for other in (np.asfortranarray(p), np.repeat(p, 2, axis=0)[::2], p.tolist()):
        np.testing.assert_array_equal(ConfidentLearning(random_state=0).fit(y, other).issue_mask, whole.issue_mask)


def test_refusals(rng):
    y, p, _ = planted(rng, 50, 3)
    bad = p.copy()
    bad[7, 1] = np.nan
    with pytest.raises(DataError, match="Row 7"):
        ConfidentLearning().fit(y, bad)
    with pytest.raises(DataError, match="Row 7"):
        ConfidentLearning().fit(y, np.where(np.arange(50)[:, None] == 7, 0.9, p))
    with pytest.raises(DataError, match="labels"):
        ConfidentLearning().fit(y + 1, p)
    with pytest.raises(InvalidParameterError, match="method"):
        ConfidentLearning(method="prune").fit(y, p)
    with pytest.raises(InvalidParameterError, match="adjust_pred_proba"):
        ConfidentLearning(score="confidence_weighted_entropy", adjust_pred_proba=True).fit(y, p)
    with pytest.raises(DataError, match="three times"):
        ConfidentLearning().fit_batches(iter([(y, p)]))
    with pytest.raises(DataError, match="thresholds"):
        ConfidentJoint([0.5, 0.5]).merge(ConfidentJoint([0.5, 0.6]))
    with pytest.raises(DataError, match="no rows"):
        ConfidentThresholds().compute()
