import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from corrigible.compare import ImbalanceSelector
from corrigible.compare._imbalance_selector import _fit, _interpolated, _threshold
from corrigible.errors import DataError, InvalidParameterError


def rows(n=800, rare=0.06, seed=0):
    return make_classification(n, 6, n_informative=4, weights=[1 - rare], flip_y=0.0, random_state=seed)


def test_scores_are_those_of_a_loop_over_folds():
    X, y = rows()
    model = LogisticRegression()
    folds = StratifiedKFold(4, shuffle=True, random_state=1)
    found = ImbalanceSelector(model, samplers=["none"], cv=folds, random_state=0).fit(X, y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    known = [
        average_precision_score(y[b], model.fit(Z[a], y[a]).predict_proba(Z[b])[:, 1]) for a, b in folds.split(Z, y)
    ]
    row = found.results_.iloc[0]
    assert row["score"] == pytest.approx(np.mean(known))
    assert row["error"] == pytest.approx(np.std(known, ddof=1) / 2)


def test_the_classifier_that_knows_is_chosen():
    X, y = rows()
    found = ImbalanceSelector({"knows": LogisticRegression(), "not": DummyClassifier()}, random_state=0).fit(X, y)
    assert found.classifier_ == "knows"
    assert (found.results_["classifier"][:5] == "knows").all()
    assert len(found.results_) == 10


def test_cheapest_within_an_error_is_kept_if_wanted():
    X, y = rows()
    words = {"samplers": ["none", "over"], "random_state": 0}
    found = ImbalanceSelector([LogisticRegression(), DecisionTreeClassifier(max_depth=1)], rule="one_se", **words)
    found.fit(X, y)
    best = found.results_.iloc[0]
    chosen = found.results_.query("sampler == @found.sampler_ and classifier == @found.classifier_").iloc[0]
    near = found.results_[found.results_["score"] >= best["score"] - best["error"]]
    assert chosen["seconds"] == near["seconds"].min()


@pytest.mark.parametrize("sampler", ["weight", "under", "over"])
def test_shares_are_put_right(sampler):
    """Mean probability of the rare class stays its share, though the classifier saw as many as of the other."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 2))
    y = rng.uniform(size=6000) < 1 / (1 + np.exp(4 - X[:, 0]))
    found = ImbalanceSelector(LogisticRegression(), samplers=[sampler], cv=2, random_state=0).fit(X, y)
    assert found.model_.predict_proba((X - found.center_) / found.scale_)[:, 1].mean() > 0.35
    assert found.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), rel=0.15)


def test_weights_are_copies():
    rng = np.random.default_rng(0)
    X, rare = rng.normal(size=(40, 2)), np.arange(40) < 10
    weighted, shift = _fit(LogisticRegression(tol=1e-10), "weight", X, rare, 1.0, 0)
    assert shift == pytest.approx(np.log(3))
    copies = LogisticRegression(tol=1e-10).fit(np.vstack([X, X[:10], X[:10]]), np.append(rare, np.ones(20, bool)))
    np.testing.assert_allclose(weighted.coef_, copies.coef_, atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "n"), [("under", 20), ("over", 60), ("smote", 60), ("none", 40), ("weight", 40)]
)
def test_number_of_rows(sampler, n):
    seen = []

    class Counts(GaussianNB):
        def fit(self, X, y, sample_weight=None):
            seen.append((len(y), int(y.sum())))
            return super().fit(X, y, sample_weight)

    X, rare = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) < 10
    _fit(Counts(), sampler, X, rare, 1.0, 0)
    assert seen[0][0] == n
    assert seen[0][1] == (n // 2 if sampler in ("under", "over", "smote") else 10)


def test_interpolated_points_lie_between_a_row_and_a_near_one():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    made = _interpolated(X, 200, rng)
    apart = np.linalg.norm(X[:, None] - X[None], axis=2)
    for point in made:
        through = np.linalg.norm(point - X, axis=1)[:, None] + np.linalg.norm(point - X, axis=1)[None, :] - apart
        i, j = np.unravel_index((through + 9 * np.eye(12)).argmin(), through.shape)
        assert through[i, j] < 1e-9
        assert min(np.argsort(apart[i]).tolist().index(j), np.argsort(apart[j]).tolist().index(i)) <= 5


def test_held_out_rows_are_never_copies():
    """A memoriser gains nothing on noise by copies: it would if rows were drawn before they are split."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 3)), np.arange(400) < 40
    found = ImbalanceSelector(KNeighborsClassifier(1), samplers=["over"], random_state=0).fit(X, y)
    assert found.results_["score"][0] < 0.2


def test_threshold_has_the_largest_f_measure():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=300) < 0.1
    said = np.clip(truth * 0.2 + rng.uniform(size=300) * 0.6, 0, 1).round(2)
    cut = _threshold(truth, said, 1.0)
    known = [f1_score(truth, said >= c) for c in np.unique(said)]
    assert f1_score(truth, said >= cut) == pytest.approx(max(known))
    assert _threshold(truth, said, 5.0) <= cut


def test_labels_order_and_text():
    X, y = rows()
    names = np.where(y == 1, "fraud", "usual")
    found = ImbalanceSelector(LogisticRegression(), cv=3, random_state=0).fit(X, names)
    plain = ImbalanceSelector(LogisticRegression(), cv=3, random_state=0).fit(X, y)
    assert found.rare_ == "fraud"
    np.testing.assert_allclose(found.predict_proba(X)[:, 0], plain.predict_proba(X)[:, 1])
    np.testing.assert_array_equal(found.predict(X) == "fraud", plain.predict(X) == 1)


def test_rows_in_time_few_rare_rows_and_large_values():
    X, y = rows(rare=0.1)
    ImbalanceSelector(LogisticRegression(), cv=TimeSeriesSplit(3), random_state=0).fit(X, y)
    few = np.arange(60) < 2
    found = ImbalanceSelector(LogisticRegression(), random_state=0).fit(1e30 * X[:60], few)
    assert np.isfinite(found.predict_proba(1e30 * X[:60])).all()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"samplers": ["adasyn"]}, "samplers"),
        ({"scoring": "accuracy"}, "scoring"),
        ({"rule": "first"}, "rule"),
        ({"ratio": 0.0}, "ratio"),
        ({"beta": 0.0}, "beta"),
        ({"cv": 1}, "cv"),
        ({"classifiers": []}, "classifiers"),
        ({"classifiers": KNeighborsClassifier(), "samplers": ["weight"]}, "weights"),
    ],
)
def test_bad_parameters_are_told(words, match):
    X, y = rows(100, 0.2)
    with pytest.raises(InvalidParameterError, match=match):
        ImbalanceSelector(**words).fit(X, y)


def test_bad_rows_are_told():
    X, _ = rows(30, 0.5)
    for y in (np.zeros(30), np.arange(30) % 3, np.arange(30) == 0):
        with pytest.raises(DataError, match="binary"):
            ImbalanceSelector(LogisticRegression()).fit(X, y)
    with pytest.raises(DataError, match="No fold"):
        ImbalanceSelector(LogisticRegression(), cv=TimeSeriesSplit(2)).fit(X, np.arange(30) < 3)
