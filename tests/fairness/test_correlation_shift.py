import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import NotFittedError

from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness import CorrelationShift


def rows(counts):
    """Labels and groups with these counts of cells (0, 0), (0, 1), (1, 0), (1, 1)."""
    cells = np.repeat(np.arange(4), counts)
    return cells // 2, cells % 2


def correlation(y, groups, weight):
    rate = [np.average(y[groups == g], weights=weight[groups == g]) for g in (0, 1)]
    return rate[1] - rate[0]


def general(w, c, label_slack, group_slack, starts=12, seed=0):
    """Least squared distance by a general solver, from many starts; cells (0, 0), (0, 1), (1, 0), (1, 1)."""
    rng, best = np.random.default_rng(seed), np.inf
    label, group = w[2] + w[3], w[1] + w[3]
    rules = [
        {"type": "eq", "fun": lambda v: v.sum() - 1},
        {"type": "eq", "fun": lambda v: v[3] * v[0] - v[2] * v[1] - c * (v[1] + v[3]) * (v[0] + v[2])},
        {"type": "ineq", "fun": lambda v: label_slack - (v[2] + v[3] - label)},
        {"type": "ineq", "fun": lambda v: label_slack + (v[2] + v[3] - label)},
        {"type": "ineq", "fun": lambda v: group_slack - (v[1] + v[3] - group)},
        {"type": "ineq", "fun": lambda v: group_slack + (v[1] + v[3] - group)},
    ]
    for start in [w, *rng.dirichlet(np.ones(4), size=starts)]:
        found = minimize(lambda v: ((v - w) ** 2).sum(), start, bounds=[(0, 1)] * 4, constraints=rules,
                         method="SLSQP", options={"maxiter": 400, "ftol": 1e-14})  # fmt: skip
        broken = max(max(abs(r["fun"](found.x)) if r["type"] == "eq" else -r["fun"](found.x) for r in rules), 0)
        if broken < 1e-8:
            best = min(best, found.fun)
    return best


@pytest.mark.parametrize("seed", range(25))
def test_no_other_shares_are_nearer(seed):
    rng = np.random.default_rng(seed)
    y, groups = rows(1 + rng.multinomial(400, rng.dirichlet(np.ones(4) * 2)))
    here = CorrelationShift(correlation=(-1, 1)).fit(y, groups)
    c, slacks = here.correlation_ + rng.uniform(-0.25, 0.25), rng.uniform(0, 0.15, size=2)
    method = CorrelationShift(correlation=float(np.clip(c, -1, 1)), label_slack=slacks[0], group_slack=slacks[1])
    try:
        found = method.fit(y, groups)
    except DataError:
        assert general(here.shares_.ravel(), c, *slacks) == np.inf
        return
    assert found.distance_**2 == pytest.approx(general(found.shares_.ravel(), c, *slacks), abs=2e-7)
    new = found.new_shares_
    assert new.sum() == pytest.approx(1, abs=1e-12)
    assert new.min() >= 0
    assert abs(new[1].sum() - y.mean()) <= slacks[0] + 1e-9
    assert abs(new[:, 1].sum() - groups.mean()) <= slacks[1] + 1e-9


def test_weighted_rows_have_the_correlation_asked_for():
    y, groups = rows([300, 250, 60, 190])
    found = CorrelationShift(correlation=0.1).fit(y, groups)
    assert found.correlation_ == pytest.approx(correlation(y, groups, np.ones(len(y))))
    assert correlation(y, groups, found.sample_weight_) == pytest.approx(0.1, abs=1e-10)
    assert found.sample_weight_.mean() == pytest.approx(1)


def test_without_slack_only_one_answer_is_left():
    """Both margins kept: P(y) = m and P(z) = q leave p0 = m - q c."""
    y, groups = rows([300, 250, 60, 190])
    found = CorrelationShift(correlation=0.1, label_slack=0, group_slack=0).fit(y, groups)
    m, q = y.mean(), groups.mean()
    low = m - q * 0.1
    expected = [[(1 - q) * (1 - low), q * (1 - low - 0.1)], [(1 - q) * low, q * (low + 0.1)]]
    np.testing.assert_allclose(found.new_shares_, expected, atol=1e-12)


def test_sample_has_the_shares_and_keeps_one_cell_whole():
    y, groups = rows([3000, 2500, 600, 1900])
    found = CorrelationShift(correlation=0.05, random_state=3).fit(y, groups)
    drawn = found.resample()
    assert len(np.unique(drawn)) == len(drawn)
    assert correlation(y[drawn], groups[drawn], np.ones(len(drawn))) == pytest.approx(0.05, abs=2e-3)
    kept = np.bincount(2 * y[drawn] + groups[drawn]) / np.bincount(2 * y + groups)
    assert kept.max() == 1
    np.testing.assert_array_equal(drawn, found.resample())


def test_range_moves_to_its_near_end_or_not_at_all():
    y, groups = rows([300, 250, 60, 190])
    inside = CorrelationShift(correlation=(0.2, 0.4)).fit(y, groups)
    assert inside.distance_ == 0
    np.testing.assert_array_equal(inside.sample_weight_, 1.0)
    far = [CorrelationShift(correlation=c).fit(y, groups).distance_ for c in np.linspace(-0.1, 0.1, 9)]
    ranged = CorrelationShift(correlation=(-0.1, 0.1)).fit(y, groups)
    assert ranged.target_ == 0.1
    assert ranged.distance_ == pytest.approx(min(far))


def test_order_of_rows_and_swap_of_groups():
    y, groups = rows([300, 250, 60, 190])
    order = np.random.default_rng(0).permutation(len(y))
    plain = CorrelationShift(correlation=0.1).fit(y, groups)
    mixed = CorrelationShift(correlation=0.1).fit(y[order], groups[order])
    np.testing.assert_array_equal(plain.sample_weight_[order], mixed.sample_weight_)
    swapped = CorrelationShift(correlation=-0.1).fit(y, 1 - groups)
    np.testing.assert_allclose(plain.sample_weight_, swapped.sample_weight_, atol=1e-9)
    flipped = CorrelationShift(correlation=-0.1).fit(1 - y, groups)
    np.testing.assert_allclose(plain.sample_weight_, flipped.sample_weight_, atol=1e-9)


def test_correlation_is_counted_on_rows_of_deployment():
    y, groups = rows([300, 250, 60, 190])
    there = rows([40, 50, 40, 50])
    found = CorrelationShift().fit(y, groups, *there)
    assert found.target_ == pytest.approx(0.0)
    with pytest.raises(DataError, match="groups_deployed"):
        CorrelationShift().fit(y, groups, there[0], ["a"] * len(there[0]))


def test_four_rows_are_enough_and_names_may_be_text():
    found = CorrelationShift(correlation=0.0).fit([0, 0, 1, 1], ["m", "f", "m", "f"])
    assert found.groups_ == ["f", "m"]
    assert found.distance_ == 0


@pytest.mark.parametrize(("slacks", "c"), [((0.0, 0.0), 0.9), ((0.02, 0.02), -0.8)])
def test_what_cannot_be_reached_is_told_with_what_can(slacks, c):
    y, groups = rows([300, 250, 60, 190])
    method = CorrelationShift(correlation=c, label_slack=slacks[0], group_slack=slacks[1])
    with pytest.raises(DataError, match="reaches correlations from"):
        method.fit(y, groups)
    try:
        method.fit(y, groups)
    except DataError as error:
        ends = [float(word) for word in str(error).split(" with")[0].split("from ")[1].split(" to ")]
    end = ends[1] if c > 0 else ends[0]
    inside = end - np.sign(c) * 2e-4
    CorrelationShift(correlation=inside, label_slack=slacks[0], group_slack=slacks[1]).fit(y, groups)
    shares = np.bincount(2 * y + groups) / len(y)
    assert general(shares, end + np.sign(c) * 0.01, *slacks) == np.inf


@pytest.mark.parametrize(
    ("y", "groups", "match"),
    [
        ([0, 1, 0, 1], ["a", "a", "b", "c"], "two groups"),
        ([0, 1, 0, 1], ["a"] * 4, "two groups"),
        ([0, 1, 0, 0], ["a", "a", "b", "b"], "has none with label 1"),
        ([0, 1, 0, 2], ["a", "a", "b", "b"], "'y'"),
        ([0, 1, np.nan, 1], ["a", "a", "b", "b"], "'y'"),
        ([0, 1, 0, 1], ["a", None, "b", "b"], "missing"),
    ],
)
def test_bad_rows_are_told(y, groups, match):
    with pytest.raises(DataError, match=match):
        CorrelationShift(correlation=0.0).fit(y, groups)


@pytest.mark.parametrize("c", [None, 2.0, (0.3, 0.1), (0.1, 0.2, 0.3), float("nan")])
def test_bad_correlation_is_told(c):
    with pytest.raises(InvalidParameterError, match="orrelation"):
        CorrelationShift(correlation=c).fit([0, 1, 0, 1], ["a", "a", "b", "b"])


def test_sampling_needs_a_fit():
    with pytest.raises(NotFittedError):
        CorrelationShift(correlation=0.0).resample()
