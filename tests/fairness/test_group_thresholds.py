import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness import GroupThresholds

CONSTRAINTS = ("equalized_odds", "equal_opportunity", "predictive_equality", "demographic_parity")


def sample(seed, n=40, n_groups=3, digits=1):
    """Rows of groups that all have both classes, with tied scores."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.repeat(np.arange(n_groups), 2), rng.integers(n_groups, size=n)])
    y = np.concatenate([np.tile([0, 1], n_groups), rng.integers(2, size=n)])
    return np.round(y + rng.normal(size=len(y)) * (1 + group), digits), y, group


def rules(scores, y, group):
    """All (fpr, tpr, loss) of single thresholds, a group."""
    out = []
    for g in np.unique(group):
        s, t = scores[group == g], y[group == g]
        picks = [s >= c for c in [np.inf, *np.unique(s)]]
        out.append(
            np.array([[p[t == 0].mean(), p[t == 1].mean(), p.mean(), (p != t).sum() / len(y)] for p in picks])
        )
    return out


def bound(table, constraint):
    columns = {"equalized_odds": [0, 1], "equal_opportunity": [1], "predictive_equality": [0]}
    return table[:, columns.get(constraint, [2])]


def general_programme(scores, y, group, constraint, tolerance, norm="max"):
    """Mixtures of all thresholds, and a bound on each pair of groups and each rate."""
    tables = rules(scores, y, group)
    sizes = [len(t) for t in tables]
    starts = np.cumsum([0, *sizes])
    rows, limits = [], []
    for a, b in itertools.permutations(range(len(tables)), 2):
        rates = [bound(tables[g], constraint) for g in (a, b)]
        if norm == "sum":
            rates = [np.column_stack([r.sum(axis=1), r[:, 1] - r[:, 0]]) for r in rates]
        for k in range(rates[0].shape[1]):
            row = np.zeros(starts[-1])
            row[starts[a] : starts[a + 1]], row[starts[b] : starts[b + 1]] = rates[0][:, k], -rates[1][:, k]
            rows.append(row)
            limits.append(tolerance)
    sums = np.zeros((len(tables), starts[-1]))
    for g in range(len(tables)):
        sums[g, starts[g] : starts[g + 1]] = 1
    cost = np.concatenate([t[:, 3] for t in tables])
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return linprog(cost, rows, limits, sums, np.ones(len(tables)), method="highs-ipm", options=options).fun


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.3])
def test_equals_the_programme_over_all_thresholds(constraint, tolerance):
    for seed in range(5):
        rows = sample(seed)
        found = GroupThresholds(constraint=constraint, tolerance=tolerance).fit(*rows)
        assert found.loss_ == pytest.approx(general_programme(*rows, constraint, tolerance), abs=1e-9)
        assert found.violation_ <= tolerance + 1e-9


def test_sum_of_differences():
    for seed in range(5):
        rows = sample(seed)
        found = GroupThresholds(norm="sum", tolerance=0.1).fit(*rows)
        assert found.loss_ == pytest.approx(general_programme(*rows, "equalized_odds", 0.1, "sum"), abs=1e-9)
        points = found.operating_points_[["fpr", "tpr"]].to_numpy()
        gaps = [np.abs(a - b).sum() for a, b in itertools.combinations(points, 2)]
        assert max(gaps) == pytest.approx(found.violation_)
        assert max(gaps) <= 0.1 + 1e-9


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_single_thresholds_equal_brute_force(constraint):
    for seed, tolerance in itertools.product(range(4), (0.0, 0.1, 0.4)):
        rows = sample(seed, n=20)
        tables = rules(*rows)
        best = np.inf
        for pick in itertools.product(*map(range, map(len, tables))):
            chosen = np.array([t[i] for t, i in zip(tables, pick, strict=True)])
            if np.ptp(bound(chosen, constraint), axis=0).max() <= tolerance + 1e-12:
                best = min(best, chosen[:, 3].sum())
        found = GroupThresholds(constraint=constraint, tolerance=tolerance, randomized=False).fit(*rows)
        assert found.loss_ == pytest.approx(best, abs=1e-12)
        assert found.exact_
        assert found.violation_ <= tolerance + 1e-9


def test_known_answer():
    """Group a is told apart perfectly, b not at all: at tolerance 0 both must be decided at random, or all alike."""
    scores = np.array([0.0, 0, 1, 1, 5, 5, 5, 5])
    y, group = np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.repeat(["a", "b"], 4)
    strict = GroupThresholds().fit(scores, y, group)
    assert strict.loss_ == pytest.approx(0.5)
    half = GroupThresholds(tolerance=0.5).fit(scores, y, group)
    assert half.loss_ == pytest.approx(0.25 + 0.0)  # a stays perfect while b selects half
    assert half.violation_ == pytest.approx(0.5)
    b = half.operating_points_.loc["b"]
    assert (b["fpr"], b["tpr"]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert GroupThresholds(tolerance=np.inf).fit(scores, y, group).loss_ == pytest.approx(0.25)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([0.0, 0.01, 0.2]), st.booleans())
def test_rule_does_on_the_rows_what_the_attributes_say(seed, n_groups, tolerance, randomized):
    s, y, group = sample(seed, n_groups=n_groups)
    method = GroupThresholds(tolerance=tolerance, randomized=randomized).fit(s, y, group)
    chance = method.predict_proba(s, group)[:, 1]
    assert np.mean(np.where(y == 1, 1 - chance, chance)) == pytest.approx(method.loss_)
    tpr = [chance[(group == g) & (y == 1)].mean() for g in range(n_groups)]
    fpr = [chance[(group == g) & (y == 0)].mean() for g in range(n_groups)]
    assert max(np.ptp(tpr), np.ptp(fpr)) == pytest.approx(method.violation_, abs=1e-9)
    assert method.violation_ <= tolerance + 1e-9
    for g in range(n_groups):  # a higher score is never less likely to be selected
        assert (np.diff(method.predict_proba(np.sort(s), np.full(len(s), g))[:, 1]) >= -1e-12).all()


def test_looser_is_never_worse_and_mixing_never_hurts():
    rows = sample(0, n=300, digits=3)
    losses = [GroupThresholds(tolerance=t).fit(*rows).loss_ for t in (0, 0.01, 0.05, 0.2, 1)]
    assert (np.diff(losses) <= 1e-12).all()
    assert losses[-1] == pytest.approx(GroupThresholds(tolerance=np.inf).fit(*rows).loss_)
    for tolerance in (0.02, 0.1):
        single = GroupThresholds(tolerance=tolerance, randomized=False).fit(*rows)
        assert single.loss_ >= GroupThresholds(tolerance=tolerance).fit(*rows).loss_ - 1e-12


def test_draws_have_the_stated_chance():
    s, y, group = sample(1, n=500, digits=3)
    method = GroupThresholds(random_state=0).fit(s, y, group)
    row = int(np.argmin(np.abs(method.predict_proba(s, group)[:, 1] - 0.5)))
    chance = method.predict_proba(s[[row]], group[[row]])[0, 1]
    assert 0.05 < chance < 0.95
    drawn = method.predict(np.full(20_000, s[row]), np.full(20_000, group[row])).mean()
    assert drawn == pytest.approx(chance, abs=0.015)
    np.testing.assert_array_equal(method.predict(s, group), method.predict(s, group))


def test_weights_are_repeats():
    s, y, group = sample(2)
    weight = np.random.default_rng(0).integers(1, 4, size=len(s))
    rows = np.repeat(np.arange(len(s)), weight)
    for randomized in (True, False):
        method = GroupThresholds(tolerance=0.1, randomized=randomized)
        weighted = method.fit(s, y, group, weight).loss_
        assert weighted == pytest.approx(method.fit(s[rows], y[rows], group[rows]).loss_)


def test_monotone_maps_and_order_of_rows_do_not_matter():
    s, y, group = sample(3, n=200)
    first = GroupThresholds(tolerance=0.05).fit(s, y, group)
    order = np.random.default_rng(0).permutation(len(s))
    again = GroupThresholds(tolerance=0.05).fit(np.exp(s[order] / 9), y[order], group[order])
    assert again.loss_ == pytest.approx(first.loss_)
    np.testing.assert_allclose(again.operating_points_, first.operating_points_, atol=1e-9)


def test_costs_move_the_thresholds():
    rows = sample(4, n=400, n_groups=2, digits=3)
    eager = GroupThresholds(fn_cost=10.0, tolerance=0.1).fit(*rows).operating_points_
    wary = GroupThresholds(fp_cost=10.0, tolerance=0.1).fit(*rows).operating_points_
    assert (eager["selection_rate"] > wary["selection_rate"] + 0.3).all()


def test_groups_of_one_class_and_of_one_row():
    s, y, group = [0.1, 0.9, 0.4, 0.6, 0.7], [0, 1, 0, 1, 0], ["a", "a", "b", "b", "one"]
    with pytest.raises(DataError, match="Group 'one' of GroupThresholds has no positives"):
        GroupThresholds().fit(s, y, group)
    with pytest.raises(DataError, match="Group 'one' of GroupThresholds has no negatives"):
        GroupThresholds(constraint="predictive_equality").fit(s, [0, 1, 0, 1, 1], group)
    parity = GroupThresholds(constraint="demographic_parity").fit(s, y, group)
    assert parity.violation_ == pytest.approx(0)
    assert np.isnan(parity.operating_points_.loc["one", "tpr"])
    assert GroupThresholds(constraint="predictive_equality", tolerance=1.0).fit(s, y, group).loss_ == 0


def test_extremes():
    s, y, group = sample(5)
    huge = GroupThresholds(tolerance=0.1).fit(s * 1e30, y, group)
    assert huge.loss_ == pytest.approx(GroupThresholds(tolerance=0.1).fit(s, y, group).loss_)
    constant = GroupThresholds().fit(np.zeros(len(s)), y, group)
    assert constant.loss_ == pytest.approx(min(y.mean(), 1 - y.mean()))
    alone = GroupThresholds(constraint="equal_opportunity")
    assert alone.fit([0.3], [1], ["a"]).predict([0.3], ["a"]).tolist() == [1]
    single = GroupThresholds(tolerance=0.1).fit(s.astype(np.float32), y, group)
    chance = single.predict_proba(s.astype(np.float32), group)[:, 1]
    assert np.mean(np.where(y == 1, 1 - chance, chance)) == pytest.approx(single.loss_)
    many = sample(6, n=3000, n_groups=200)
    assert GroupThresholds(tolerance=0.01).fit(*many).violation_ <= 0.01 + 1e-9


def test_columns_are_crossed():
    s, y, group = sample(7, n_groups=4, n=200)
    frame = pd.DataFrame({"a": np.array(["x", "y"])[group // 2], "b": group % 2})
    crossed = GroupThresholds(tolerance=0.1).fit(s, y, frame)
    assert crossed.groups_ == [("x", 0), ("x", 1), ("y", 0), ("y", 1)]
    assert crossed.loss_ == pytest.approx(GroupThresholds(tolerance=0.1).fit(s, y, group).loss_)
    assert crossed.predict(s, frame).shape == s.shape


def test_thinned_search_keeps_its_word():
    rng = np.random.default_rng(0)
    group, y = rng.integers(6, size=6000), rng.integers(2, size=6000)
    method = GroupThresholds(tolerance=0.03, randomized=False).fit(y + rng.normal(size=6000), y, group)
    assert not method.exact_
    assert method.violation_ <= 0.03 + 1e-9
    assert method.loss_ <= GroupThresholds(tolerance=0.03).fit(y * 0, y, group).loss_


def test_bad_input():
    s, y, group = [0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], ["a", "a", "b", "b"]
    with pytest.raises(DataError, match="finite"):
        GroupThresholds().fit([0.1, np.nan, 0.3, 0.4], y, group)
    with pytest.raises(DataError, match="Row 1"):
        GroupThresholds().fit(s, y, ["a", None, "b", "b"])
    with pytest.raises(DataError, match="4 rows"):
        GroupThresholds().fit(s, y, ["a"])
    with pytest.raises(DataError, match="group 'c'"):
        GroupThresholds().fit(s, y, group).predict([0.1], ["c"])
    with pytest.raises(InvalidParameterError, match="tolerance"):
        GroupThresholds(tolerance=-0.1).fit(s, y, group)
    with pytest.raises(InvalidParameterError, match="equalized_odds"):
        GroupThresholds(constraint="equalised_odds").fit(s, y, group)
    with pytest.raises(InvalidParameterError, match="both be 0"):
        GroupThresholds(fp_cost=0.0, fn_cost=0.0).fit(s, y, group)
    with pytest.raises(InvalidParameterError, match="norm"):
        GroupThresholds(norm="sum", randomized=False).fit(s, y, group)
    with pytest.raises(DataError, match="weigh 0"):
        GroupThresholds(constraint="demographic_parity").fit(s, y, group, [1, 1, 0, 0])
