import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, mode, pearsonr
from sklearn.metrics import cohen_kappa_score

from corrigible.compare import JudgePanel, self_preference
from corrigible.errors import DataError, InvalidParameterError


def votes(seed=0, n=300, quality=(0.8, 0.7, 0.75), k=2):
    rng = np.random.default_rng(seed)
    people = rng.integers(k, size=n)
    right = rng.uniform(size=(n, len(quality))) < quality
    return np.where(
        right, people[:, None], (people[:, None] + 1 + rng.integers(k - 1, size=right.shape)) % k
    ), people


@pytest.mark.parametrize("k", [2, 4])
def test_agreement_is_scikit_learns_kappa_and_the_vote_scipys_mode(k):
    given_votes, people = votes(k=k)
    panel = JudgePanel(n_resamples=50, random_state=0).fit(given_votes, people)
    for j in range(3):
        assert panel.agreement_["agreement"].iloc[j] == pytest.approx(cohen_kappa_score(given_votes[:, j], people))
    pooled = panel.predict(given_votes)
    assert panel.agreement_.loc["panel", "agreement"] == pytest.approx(cohen_kappa_score(pooled, people))
    clear = np.array([len(set(row)) < 3 for row in given_votes])
    np.testing.assert_array_equal(pooled[clear], mode(given_votes[clear], axis=1).mode)
    np.testing.assert_array_equal(pooled[~clear], given_votes[~clear, 0])


def test_scores_are_averaged_and_compared_by_correlation():
    rng = np.random.default_rng(0)
    people = rng.normal(size=200)
    scores = people[:, None] + rng.normal(size=(200, 4))
    panel = JudgePanel(pooling="mean", random_state=0).fit(scores, people)
    assert panel.agreement_["agreement"].iloc[1] == pytest.approx(pearsonr(scores[:, 1], people).statistic)
    np.testing.assert_allclose(panel.predict(scores), scores.mean(axis=1))
    assert panel.gain_[1] > 0


def test_independent_judges_gain_and_copies_do_not():
    given_votes, people = votes(n=800, quality=(0.75, 0.75, 0.75))
    assert JudgePanel(random_state=0).fit(given_votes, people).gain_[1] > 0
    copies = np.repeat(given_votes[:, :1], 3, axis=1)
    assert JudgePanel(random_state=0).fit(copies, people).gain_ == (0.0, 0.0, 0.0)


def test_panels_costs_and_systems():
    given_votes, people = votes(n=600)
    systems = np.arange(600) % 6
    panel = JudgePanel(n_resamples=20, random_state=0).fit(
        given_votes, people, judges=["a", "b", "c"], systems=systems, costs=[10.0, 1.0, 1.0]
    )
    assert len(panel.panels_) == 7
    assert panel.agreement_.loc["panel", "cost"] == 12
    row = panel.panels_.set_index("judges").loc["b + c"]
    assert (row["cost"], row["size"]) == (2, 2)
    best = panel.panels_[panel.panels_["efficient"]]
    for one in panel.panels_.itertuples():
        assert any((best["cost"] <= one.cost) & (best["agreement"] >= one.agreement))
    means = [[column[systems == s].mean() for s in range(6)] for column in (given_votes[:, 0], people)]
    assert panel.agreement_.loc["a", "tau"] == pytest.approx(kendalltau(*means).statistic)


def test_words_serve_as_votes_and_the_same_seed_gives_the_same_bits():
    given_votes, people = votes()
    words = np.array(["no", "yes"])
    a = JudgePanel(random_state=1).fit(words[given_votes], words[people])
    b = JudgePanel(random_state=1).fit(given_votes, people)
    np.testing.assert_array_equal(a.agreement_.to_numpy(), b.agreement_.to_numpy())
    assert a.predict([["yes", "no", "yes"]]).tolist() == ["yes"]


@given(st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_self_preference_is_a_difference_of_differences(seed):
    rng = np.random.default_rng(seed)
    own, quality = rng.uniform(size=60) < 0.5, rng.normal(size=60)
    own[:2] = [True, False]
    harsh = quality - 3
    found = self_preference(harsh + 0.5 * own, np.column_stack([quality, quality + 2]), own, rng=0, n_resamples=20)
    assert found.value == pytest.approx(0.5)
    assert (found.n_own, found.n_other) == (own.sum(), (~own).sum())


def test_its_interval_covers():
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        own = np.arange(80) < 30
        found = self_preference(rng.normal(size=80) + 0.4 * own, np.zeros(80), own, rng=seed, n_resamples=300)
        hits += found.low <= 0.4 <= found.high
    assert hits >= 86


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: JudgePanel().fit([[1, 0]], [1, 0]), DataError, "shapes"),
        (lambda: JudgePanel().fit([[1, 0], [0, np.nan]], [1, 0]), DataError, "Item 1"),
        (lambda: JudgePanel().fit([[1, 0], [0, 1]], [1, 1]), DataError, "differ"),
        (lambda: JudgePanel().fit([[1, 0], [0, 1]], [0, 1], judges=["a"]), DataError, "2 judges"),
        (lambda: JudgePanel(pooling="max").fit([[1], [0]], [0, 1]), InvalidParameterError, "pooling"),
        (lambda: self_preference([1.0, 2.0], [1.0, 2.0], [True, True]), DataError, "not all"),
        (lambda: self_preference([1.0, 2.0], [1.0], [True, False]), DataError, "others"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
