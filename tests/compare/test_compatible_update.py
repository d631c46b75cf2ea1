import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from corrigible.compare import CompatibleUpdate
from corrigible.compare._compatible_update import _fitted_softly
from corrigible.errors import DataError, InvalidParameterError


@pytest.fixture
def data(rng):
    X = rng.normal(size=(300, 3))
    return X, (X[:, 0] + 0.5 * rng.normal(size=300) > 0).astype(int)


class Oracle:
    """An old model that is always right, if not sure."""

    classes_ = np.array([0, 1])

    def __init__(self, X, y):
        self.truth = {tuple(row): label for row, label in zip(X, y, strict=True)}

    def predict_proba(self, X):
        right = np.array([self.truth[tuple(row)] for row in X])
        return np.where(np.eye(2)[right] > 0, 0.8, 0.2)


def test_mask_is_where_only_the_old_model_is_right(data):
    X, y = data
    update = CompatibleUpdate(LogisticRegression(), old=Oracle(X, y), random_state=0).fit(X, y)
    assert 0 < update.mask_.sum() < 100
    plain = LogisticRegression().fit(X, y).predict(X)
    assert (plain[update.mask_] != y[update.mask_]).mean() > 0.8


def test_targets_by_hand(data):
    X, y = data
    update = CompatibleUpdate(LogisticRegression(), old=Oracle(X, y), weight=0.25)
    update.classes_ = np.array([0, 1])
    new = np.column_stack([np.full(300, 0.6), np.full(300, 0.4)])
    targets, mask = update._targets(X, y, new)
    np.testing.assert_array_equal(mask, y == 1)
    np.testing.assert_allclose(targets[y == 1], [[0.25 * 0.2, 0.75 + 0.25 * 0.8]] * mask.sum())
    np.testing.assert_allclose(targets[y == 0], [[0.75 + 0.25 * 0.6, 0.25 * 0.4]] * (~mask).sum())


def test_soft_targets_minimise_the_cross_entropy(data, rng):
    """Independent: scipy's minimum of the weighted soft cross-entropy with the same penalty."""
    from scipy.optimize import minimize

    X, _ = data
    q = rng.uniform(0.05, 0.95, size=300)
    w = rng.uniform(0.5, 2.0, size=300)
    model = _fitted_softly(LogisticRegression(tol=1e-10), X, np.column_stack([1 - q, q]), w)

    def cost(theta):
        z = X @ theta[:3] + theta[3]
        return (w * (np.logaddexp(0, z) - q * z)).sum() + (theta[:3] ** 2).sum() / 2

    best = minimize(cost, np.zeros(4), tol=1e-10).x
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), best, atol=1e-4)


def test_without_weight_it_is_the_plain_model(data):
    X, y = data
    update = CompatibleUpdate(LogisticRegression(), weight=0.0, random_state=0).fit(X, y)
    np.testing.assert_allclose(update.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X), atol=1e-6)
    assert not update.mask_.any()


def test_more_emphasis_keeps_more_of_the_old(data):
    X, y = data
    kept = [CompatibleUpdate(DecisionTreeClassifier(max_depth=4), old=Oracle(X, y), emphasis=e, weight=1.0,
                             random_state=0).fit(X, y) for e in (0.1, 50.0)]  # fmt: skip
    share = [float((u.predict(X) == y)[u.mask_].mean()) for u in kept]
    assert share[1] > share[0]


def test_labels_may_be_words_and_classes_may_come(data):
    X, y = data
    old = LogisticRegression().fit(X, np.array(["a", "b"])[y])
    words = np.array(["a", "b", "c"])[np.where(X[:, 1] > 1, 2, y)]
    update = CompatibleUpdate(LogisticRegression(), old=old, random_state=0).fit(X, words)
    assert set(update.predict(X)) <= {"a", "b", "c"}
    again = CompatibleUpdate(LogisticRegression(), old=old, random_state=0).fit(X, words)
    np.testing.assert_array_equal(again.predict_proba(X), update.predict_proba(X))


def test_what_is_refused(data):
    X, y = data
    with pytest.raises(InvalidParameterError, match="'weight'"):
        CompatibleUpdate(weight=2.0).fit(X, y)
    with pytest.raises(DataError, match="two classes"):
        CompatibleUpdate().fit(X, np.zeros(300))
    with pytest.raises(InvalidParameterError, match="'old'"):
        CompatibleUpdate(LogisticRegression(), old=LinearSVC().fit(X, y)).fit(X, y)
    with pytest.raises(DataError, match="do not hold"):
        CompatibleUpdate(LogisticRegression(), old=LogisticRegression().fit(X, y + 5)).fit(X, y)
