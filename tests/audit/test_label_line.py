"""The line of label errors: cleanings, and where the price of right labels stands."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from corrigible.audit import audit
from corrigible.audit._label_line import CLASS_CLEANINGS


def rows(seed, n, n_classes=2):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    score = X["a"] + 0.8 * X["b"] + 0.7 * rng.normal(size=n)
    return X, np.searchsorted(np.quantile(score, np.arange(1, n_classes) / n_classes), score)


def flipped(y, share, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    moved = (y + rng.integers(1, n_classes, len(y))) % n_classes
    return np.where(rng.uniform(size=len(y)) < share, moved, y)


def report_of(model, share, *, n_classes=2, loss="zero_one", seed=0, n=1500):
    X, y = rows(seed, 2 * n, n_classes)
    given = flipped(y[:n], share, n_classes, seed)
    return audit(model, X[:n], given, X[n:], y[n:], loss=loss, lines=["label_errors"], seed=seed)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_flipped_training_labels_get_points_and_a_share(n_classes):
    report = report_of(DecisionTreeClassifier(max_depth=6, random_state=0), 0.3, n_classes=n_classes)
    line = report.budget["label_errors"]
    assert line.high > 0.01
    told = int(line.why.split("as if ")[1].split("%")[0])
    assert 15 <= told <= 45
    if not line.kept:
        assert (line.basis, line.remedy[:6]) == ("estimated", "asking")


@pytest.mark.parametrize("seed", range(3))
def test_labels_as_good_as_the_test_s_are_not_priced(seed):
    line = report_of(LogisticRegression(), 0.0, seed=seed, n=600).budget["label_errors"]
    assert line.basis == "measured"
    assert "as if" not in line.why


def test_noise_in_training_and_test_alike_is_not_priced():
    """The line cannot see what the test labels share; it says so in the docs, and claims nothing."""
    X, y = rows(0, 3000)
    given = flipped(y, 0.3, 2)
    line = audit(GaussianNB(), X[:1500], given[:1500], X[1500:], given[1500:], lines=["label_errors"]).budget
    assert "as if" not in line["label_errors"].why


def test_an_estimated_line_is_taken_off_before_the_learning_curve_s():
    X, y = rows(0, 3000)
    given = flipped(y[:1500], 0.3, 2)
    both = ["label_errors", "data_size"]
    model = DecisionTreeClassifier(max_depth=6, random_state=0)
    budget = audit(model, X[:1500], given, X[1500:], y[1500:], loss="log", lines=both).budget
    assert budget["label_errors"].basis == "estimated"
    spent = sum(line.points or 0 for line in budget.lines)
    assert abs(budget.total["value"] - spent - budget.rest["value"]) < 1e-9
    assert budget["data_size"].points <= budget.total["value"] - budget["label_errors"].points + 1e-9


def test_a_cleaning_drops_or_replaces():
    labels, mask, instead = np.array([0, 1, 1]), np.array([False, True, False]), np.array([1, 0, 0])
    for cleaning in CLASS_CLEANINGS:
        fit, keep = cleaning.apply(labels, mask, instead)
        np.testing.assert_array_equal(fit, [0, 1, 1] if cleaning.drop else [0, 0, 1])
        np.testing.assert_array_equal(keep, [True, False, True] if cleaning.drop else [True] * 3)
