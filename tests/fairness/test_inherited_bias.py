import copy

import numpy as np
import pytest
from scipy import stats

from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness import inherited_bias

torch = pytest.importorskip("torch")
nn = torch.nn

from corrigible.fairness._inherited_bias import _crossing, _drawn, _put_head  # noqa: E402


def rows(n=600, seed=0):
    rng = np.random.default_rng(seed)
    y, cue = rng.integers(2, size=(2, n))
    return np.column_stack([2 * y - 1 + 1.5 * rng.normal(size=n), 2.0 * cue - 1]), y, cue


def network(on_cue=0.0, seed=0):
    """Sixteen units that read the signal, or mostly the cue."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))
        with torch.no_grad():
            net[0].weight.mul_(torch.tensor([1.0 - on_cue, 1.0 + 4 * on_cue]))
    return net


WORDS = {"n_seeds": 3, "max_iter": 15, "random_state": 0}


@pytest.fixture(scope="module")
def found():
    starts = {"plain": network(), "swayed": network(0.9)}
    return inherited_bias(starts, *rows(), *rows(seed=1), shares=(0.3, 0.5, 0.7, 0.9), n_rows=120, **WORDS)


def test_start_that_reads_the_cue_inherits_bias_and_balance_takes_it_away(found):
    bias = found.curves.set_index(["start", "share"])["bias"]
    assert bias["swayed", 0.9] > bias["plain", 0.9] + 0.05
    assert bias["swayed", 0.9] > bias["swayed", 0.5] + 0.2
    match = found.matching.iloc[0]
    assert 0.5 < match["share"] < 0.9


def test_intervals_are_those_of_a_paired_t(found):
    apart = found.by_seed[1, 3, :, 0] - found.by_seed[0, 3, :, 0]
    row = found.inherited.query("share == 0.9").iloc[0]
    low, high = stats.t.interval(0.95, 2, loc=apart.mean(), scale=stats.sem(apart))
    assert (row["bias"], row["bias_low"], row["bias_high"]) == pytest.approx((apart.mean(), low, high))


def test_bias_and_accuracy_are_counted(found):
    """A network that cannot move says what its bias says: here always 1 where the cue is 1."""
    X, y, cue = rows()
    fixed = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        fixed[0].weight.copy_(torch.tensor([[0.0, -9.0], [0.0, 9.0]]))
        fixed[0].bias.zero_()
    still = inherited_bias({"fixed": fixed}, X, y, cue, X, y, cue, shares=(0.5,), new_head=False, n_seeds=2,
                           learning_rate=1e-9, max_iter=1)  # fmt: skip
    assert still.curves["bias"][0] == 1
    assert still.curves["accuracy"][0] == pytest.approx(0.5)
    assert still.inherited.empty


def test_drawn_rows_have_the_shares():
    _, y, cue = rows()
    for share in (0.0, 0.25, 0.5, 0.9):
        kept = _drawn(2 * y + cue, share, 120, np.random.default_rng(0))
        assert len(set(kept.tolist())) == 120
        assert y[kept].sum() == 60
        for c in (0, 1):
            assert (cue[kept][y[kept] == c] == c).sum() == round(share * 60)


def test_default_number_of_rows_is_the_largest(found):
    X, y, cue = rows()
    words = {"shares": (0.5, 0.9), "n_seeds": 2, "max_iter": 1, "random_state": 0}
    n = inherited_bias({"plain": network()}, X, y, cue, X, y, cue, **words).n_rows
    with pytest.raises(DataError, match=f"can draw {n}"):
        inherited_bias({"plain": network()}, X, y, cue, X, y, cue, n_rows=n + 2, **words)


def test_starts_are_left_alone_seeds_repeat_and_lists_go_by_seed():
    start = network()
    before = copy.deepcopy(start.state_dict())
    words = {**WORDS, "shares": (0.8,), "n_rows": 60}
    one, two = (inherited_bias({"a": start}, *rows(), *rows(seed=1), **words) for _ in range(2))
    np.testing.assert_array_equal(one.by_seed, two.by_seed)
    assert all(torch.equal(v, start.state_dict()[k]) for k, v in before.items())
    other = network(0.9, seed=3)
    mixed = inherited_bias({"a": [start, other]}, *rows(), *rows(seed=1), **words)
    alone = inherited_bias({"a": other}, *rows(), *rows(seed=1), **words)
    np.testing.assert_array_equal(mixed.by_seed[0, 0, [0, 2]], one.by_seed[0, 0, [0, 2]])
    np.testing.assert_array_equal(mixed.by_seed[0, 0, 1], alone.by_seed[0, 0, 1])


def test_new_head_takes_the_place_of_the_last_layer():
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Sequential(nn.Dropout(0.1), nn.Linear(5, 7)))
    _put_head(net, torch)
    assert net(torch.zeros(4, 3)).shape == (4, 2)


def test_crossing_of_a_curve():
    shares = np.array([0.5, 0.7, 0.9])
    assert _crossing(np.array([0.0, 0.2, 0.4]), 0.3, shares) == pytest.approx(0.8)
    assert _crossing(np.array([0.0, 0.2, 0.4]), 0.0, shares) == pytest.approx(0.5)
    assert np.isnan(_crossing(np.array([0.1, 0.2, 0.4]), 0.5, shares))


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        ({"shares": (0.9, 0.5)}, InvalidParameterError, "shares"),
        ({"shares": ()}, InvalidParameterError, "shares"),
        ({"n_seeds": 1}, InvalidParameterError, "n_seeds"),
        ({"starts": {}}, InvalidParameterError, "starts"),
        ({"starts": {"a": "no"}}, InvalidParameterError, "Start 'a'"),
        ({"starts": {"a": nn.ReLU()}}, InvalidParameterError, "Start 'a'"),
        ({"y": np.zeros(600, int)}, DataError, "label 1"),
        ({"attribute": np.full(600, 2)}, DataError, "attribute"),
        ({"X": np.full((600, 2), np.nan)}, DataError, "'X'"),
        ({"X": np.full((600, 2), 1e300)}, DataError, "'X'"),
    ],
)
def test_bad_input_is_told(words, error, match):
    X, y, cue = rows()
    given = {"starts": {"a": network()}, "X": X, "y": y, "attribute": cue}
    tested = {"X_test": X, "y_test": y, "attribute_test": cue}
    with pytest.raises(error, match=match):
        inherited_bias(**{**given, **tested, "max_iter": 1, **words})
