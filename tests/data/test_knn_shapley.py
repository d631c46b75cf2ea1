from itertools import combinations
from math import comb

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corrigible.data import KNNShapley
from corrigible.errors import DataError


def utility(rows, X, y, x, label, k):
    near = sorted(rows, key=lambda i: (abs(X[i] - x), i))[:k]
    return sum(y[i] == label for i in near) / k


def brute(X, y, x, label, k):
    """Shapley's definition: the mean gain over all subsets of the other rows."""
    n, values = len(X), np.zeros(len(X))
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        for size in range(n):
            for rows in combinations(rest, size):
                gain = utility([*rows, i], X, y, x, label, k) - utility(rows, X, y, x, label, k)
                values[i] += gain / comb(n - 1, size) / n
    return values


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_exact_values_are_shapleys_definition(rng, k):
    X, y = rng.normal(size=7), rng.integers(3, size=7)
    tests, right = rng.normal(size=4), rng.integers(3, size=4)
    expected = np.mean([brute(X, y, x, label, k) for x, label in zip(tests, right, strict=True)], axis=0)
    found = KNNShapley(k=k, epsilon=0).fit(X[:, None], y, X_test=tests[:, None], y_test=right)
    np.testing.assert_allclose(found.values_, expected, atol=1e-12)


def test_against_each_other_leaves_the_test_out(rng):
    X, y = rng.normal(size=6), rng.integers(2, size=6)
    expected = np.zeros(6)
    for t in range(6):
        rest = [i for i in range(6) if i != t]
        expected[rest] += brute(X[rest], y[rest], X[t], y[t], 2) / 6
    np.testing.assert_allclose(KNNShapley(k=2, epsilon=0).fit(X[:, None], y).values_, expected, atol=1e-12)


def test_values_sum_to_the_utility(rng):
    X, y = rng.normal(size=(60, 2)), rng.integers(3, size=60)
    T, t = rng.normal(size=(30, 2)), rng.integers(3, size=30)
    far = ((T[:, None] - X[None]) ** 2).sum(axis=2)
    share = (y[np.argsort(far, axis=1)[:, :5]] == t[:, None]).mean()
    assert KNNShapley(k=5, epsilon=0).fit(X, y, X_test=T, y_test=t).values_.sum() == pytest.approx(share)


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.2])
def test_truncation_keeps_its_bound(rng, epsilon):
    X, y = rng.normal(size=(300, 2)), rng.integers(2, size=300)
    T, t = rng.normal(size=(1, 2)), [1]
    exact = KNNShapley(k=3, epsilon=0).fit(X, y, X_test=T, y_test=t).values_
    near = KNNShapley(k=3, epsilon=epsilon).fit(X, y, X_test=T, y_test=t).values_
    assert 0 < np.abs(exact - near).max() <= epsilon


def test_flipped_labels_are_worth_less(rng):
    true = rng.integers(2, size=400)
    X = rng.normal(size=(400, 2)) + 4 * true[:, None]
    wrong = rng.uniform(size=400) < 0.1
    y = np.where(wrong, 1 - true, true)
    assert roc_auc_score(wrong, KNNShapley(epsilon=0).fit(X, y).issue_scores) > 0.98
    found = KNNShapley().fit(X, y)  # a wrong row that is near no other is worth nothing, and not flagged
    assert (found.values_[wrong] <= 0).mean() > 0.9
    assert found.issue_mask[~wrong].mean() < 0.05


def test_names_of_classes_do_not_matter(rng):
    X, y = rng.normal(size=(50, 2)), rng.integers(3, size=50)
    one, other = KNNShapley().fit(X, y), KNNShapley().fit(X, np.array(["q", "a", "z"])[y])
    np.testing.assert_array_equal(one.values_, other.values_)


def test_bad_input():
    with pytest.raises(DataError, match="together"):
        KNNShapley().fit(np.zeros((3, 1)), [0, 1, 0], X_test=np.zeros((1, 1)))
    with pytest.raises(DataError, match="two rows"):
        KNNShapley().fit(np.zeros((1, 1)), [0])
    with pytest.raises(DataError, match="'y'"):
        KNNShapley().fit(np.zeros((3, 1)), [0, 1])
    with pytest.raises(DataError, match="columns"):
        KNNShapley().fit(np.zeros((3, 1)), [0, 1, 0], X_test=np.zeros((1, 2)), y_test=[0])
    with pytest.raises(DataError, match=r"Row 1 has 0\.5; VeracityScores"):
        KNNShapley().fit(np.zeros((3, 1)), [0.0, 0.5, 1.0])
    with pytest.raises(DataError, match="Row 2 has none"):
        KNNShapley().fit(np.zeros((3, 1)), ["a", "b", None])
