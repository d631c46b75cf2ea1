import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness import GroupThresholds, achievable_frontier, unprocess


def sample(seed, n=400):
    rng = np.random.default_rng(seed)
    group, y = rng.integers(2, size=n), rng.integers(2, size=n)
    return y + rng.normal(size=n) * (1 + group), y, group


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_is_the_best_threshold_of_each_group(seed):
    s, y, group = sample(seed, 60)
    freed = unprocess(s, y, group)
    errors = 0
    for g in (0, 1):
        t, label = s[group == g], y[group == g]
        errors += min(((t >= c) != label).sum() for c in [np.inf, *t])
    assert freed.loss == pytest.approx(errors / len(y))
    chosen = s >= np.array([freed.thresholds[g] for g in group])
    assert (chosen != y).mean() == pytest.approx(freed.loss)


def test_undoes_post_processing():
    """Decisions of a post-processed rule, unprocessed, are no better than the base, and better than before."""
    s, y, group = sample(0, 2000)
    fair = GroupThresholds().fit(s, y, group)
    chance = fair.predict_proba(s, group)[:, 1]
    freed = unprocess(s, y, group, decisions=chance)
    assert freed.given_loss == pytest.approx(fair.loss_)
    assert freed.given_violation == pytest.approx(0, abs=1e-9)
    assert freed.loss == pytest.approx(GroupThresholds(tolerance=np.inf).fit(s, y, group).loss_)
    assert freed.loss < freed.given_loss
    # A shift of one group's scores, a crude constraint, is undone wholly.
    shifted = unprocess(s + 3 * group, y, group)
    assert (shifted.loss, shifted.violation) == (pytest.approx(freed.loss), pytest.approx(freed.violation))


def test_weights_are_repeats():
    s, y, group = sample(1, 80)
    weight = np.random.default_rng(0).integers(1, 4, size=80)
    rows = np.repeat(np.arange(80), weight)
    own = (s > 0.4).astype(float)
    first = unprocess(s, y, group, decisions=own, sample_weight=weight)
    second = unprocess(s[rows], y[rows], group[rows], decisions=own[rows])
    for name in ("loss", "violation", "given_loss", "given_violation"):
        assert getattr(first, name) == pytest.approx(getattr(second, name))


def test_decisions_must_be_chances():
    s, y, group = sample(2, 50)
    with pytest.raises(DataError, match="decisions"):
        unprocess(s, y, group, decisions=s * 9)


@pytest.mark.parametrize("constraint", ["equalized_odds", "demographic_parity", "equal_opportunity"])
def test_frontier_on_its_own_rows_meets_the_tolerance(constraint):
    rows = sample(3)
    front = achievable_frontier(*rows, (0, 0.05, np.inf), constraint=constraint, rng=0, n_resamples=50)
    for i, tolerance in enumerate(front.tolerance):
        rule = GroupThresholds(constraint=constraint, tolerance=tolerance).fit(*rows)
        assert front.loss[i] == pytest.approx(rule.loss_)
        assert front.violation[i] == pytest.approx(rule.violation_, abs=1e-9)
    assert (front.loss_low <= front.loss).all()
    assert (front.loss <= front.loss_high).all()
    assert list(front.to_frame().columns[:2]) == ["tolerance", "loss"]


def test_frontier_on_held_out_rows_by_hand():
    fit, held = sample(4), sample(5)
    front = achievable_frontier(*fit, [0.1], held_out=held, rng=0, n_resamples=20)
    chance = GroupThresholds(tolerance=0.1).fit(*fit).predict_proba(held[0], held[2])[:, 1]
    _, y, group = held
    assert front.loss[0] == pytest.approx(np.where(y == 1, 1 - chance, chance).mean())
    gaps = [abs(np.subtract(*(chance[(group == g) & (y == c)].mean() for g in (0, 1)))) for c in (0, 1)]
    assert front.violation[0] == pytest.approx(max(gaps))


def test_bootstrap_is_that_of_rows():
    fit, held = sample(6), sample(7)
    front = achievable_frontier(*fit, [0.1], held_out=held, rng=0, n_resamples=4000)
    chance = GroupThresholds(tolerance=0.1).fit(*fit).predict_proba(held[0], held[2])[:, 1]
    wrong = np.where(held[1] == 1, 1 - chance, chance)
    rng = np.random.default_rng(1)
    draws = [wrong[rng.integers(len(wrong), size=len(wrong))].mean() for _ in range(4000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert front.loss_low[0] == pytest.approx(low, abs=0.004)
    assert front.loss_high[0] == pytest.approx(high, abs=0.004)
    again = achievable_frontier(*fit, [0.1], held_out=held, rng=0, n_resamples=4000)
    np.testing.assert_array_equal(again.loss_low, front.loss_low)


def test_frontier_refuses():
    rows = sample(8, 50)
    with pytest.raises(InvalidParameterError, match="tolerance"):
        achievable_frontier(*rows, [-1.0])
    with pytest.raises(InvalidParameterError, match="tolerances"):
        achievable_frontier(*rows, [])
    with pytest.raises(DataError, match="those of fit"):
        achievable_frontier(*rows, [0.1], held_out=([0.1], [1], [7]))
