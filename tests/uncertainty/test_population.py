import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel

from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import Population, population_effects

torch = pytest.importorskip("torch")


def network(dropout=0.5):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn = torch.nn
        return nn.Sequential(nn.Linear(3, 200), nn.Dropout(dropout), nn.ReLU(), nn.Linear(200, 1))


X = torch.tensor(np.random.default_rng(0).normal(size=(6, 3))).float()


def answer(model):
    return model(X)[:, 0]


def test_a_member_is_the_network_without_some_neurons_the_rest_scaled():
    net = network()
    population = Population(dropout=0.25, random_state=0).fit(net)
    hidden = net[0](X).detach().numpy()
    for number in (0, 5):
        with population.member(number) as model:
            seen = model[:2](X).detach().numpy()
        kept = (seen != 0).any(axis=0)
        np.testing.assert_allclose(seen, hidden * kept / 0.75, rtol=1e-5)
        assert 0.6 < kept.mean() < 0.9


def test_a_member_answers_alike_whenever_and_whatever_it_is_asked_beside():
    population = Population(n_members=3, random_state=0).fit(network())
    together = population.scores(answer)
    np.testing.assert_array_equal(together, population.scores(answer))
    alone = np.stack([population.scores(lambda m, i=i: m(X[i : i + 1])[:, 0])[:, 0] for i in range(6)], axis=1)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    assert np.ptp(together, axis=0).min() > 0


def test_members_average_to_the_network_where_it_is_linear_behind_the_layer():
    net = torch.nn.Sequential(torch.nn.Linear(3, 50), torch.nn.Dropout(), torch.nn.Linear(50, 1)).eval()
    population = Population(n_members=400, dropout=0.2, random_state=0).fit(net)
    scores = population.scores(answer)
    error = scores.std(axis=0) / np.sqrt(400)
    assert (np.abs(scores.mean(axis=0) - answer(net).detach().numpy()) < 4.5 * error).all()


def test_the_network_is_as_it_was():
    net = network().train()
    population = Population(random_state=0).fit(net)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(RuntimeError, match="shape"), population.member(0) as model:
        model(torch.ones(1, 7))
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks for m in net.modules())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    without = Population(n_members=2, dropout=0.0, random_state=0).fit(net)
    np.testing.assert_array_equal(without.scores(answer)[0], answer(net.eval()).detach().numpy())


def test_layers_are_found_by_default_and_by_name():
    class TinyMLP(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = torch.nn.Linear(3, 8), torch.nn.Linear(8, 3)

        def forward(self, x):
            return self.down(torch.relu(self.up(x)))

    blocks = torch.nn.ModuleDict({"a": TinyMLP(), "b": TinyMLP()})
    assert Population().fit(blocks).layers_ == ["a.down", "b.down"]
    assert Population(layers=["*.up"]).fit(blocks).layers_ == ["a.up", "b.up"]
    blocks["attn_dropout"] = torch.nn.Dropout()
    blocks["dropout"] = torch.nn.Dropout()
    assert Population().fit(blocks).layers_ == ["dropout"]
    with pytest.raises(InvalidParameterError, match="named_modules"):
        Population(layers=["nothing"]).fit(blocks)
    with pytest.raises(InvalidParameterError, match="Name some"):
        Population().fit(torch.nn.Linear(2, 2))
    with pytest.raises(InvalidParameterError, match=r"torch\.nn\.Module"):
        Population().fit(None)


def test_effects_are_scipys():
    rng = np.random.default_rng(0)
    scores, chosen = rng.normal(size=(15, 8)) + np.r_[np.full(4, 0.5), np.zeros(4)], np.arange(8) < 4
    found = population_effects(scores, chosen, test="t", rng=0)
    other = ttest_rel(scores[:, chosen].mean(axis=1), scores[:, ~chosen].mean(axis=1))
    assert found.p_value[0] == pytest.approx(other.pvalue)
    interval = other.confidence_interval()
    np.testing.assert_allclose([found.low[0], found.high[0]], [interval.low, interval.high])
    table = population_effects(found.member_effects, test="t", rng=0)
    assert table.p_value[0] == pytest.approx(other.pvalue)
    assert np.isnan(table.p_items[0])
    plain = ttest_1samp(found.member_effects[:, 0], 0).pvalue
    assert plain == pytest.approx(other.pvalue)


def test_a_few_odd_items_pass_over_members_and_not_over_items():
    rng = np.random.default_rng(0)
    items = rng.normal(size=8)
    items[0] = 10.0
    scores = items + 0.01 * rng.normal(size=(20, 8))
    found = population_effects(scores, np.arange(8) < 4, rng=0)
    assert found.p_value[0] < 0.001
    assert found.p_items[0] > 0.05


def test_pairs_take_off_what_items_share():
    rng = np.random.default_rng(0)
    base = np.repeat(5 * rng.normal(size=8), 2)
    chosen, pair = np.tile([True, False], 8), np.repeat(np.arange(8), 2)
    scores = base + 0.5 * chosen + 0.1 * rng.normal(size=(10, 16))
    loose = population_effects(scores, chosen, rng=0).p_items[0]
    tight = population_effects(scores, chosen, pair=pair, rng=0).p_items[0]
    assert tight == pytest.approx(2 / 2**8)
    assert loose > 0.3


@given(st.integers(0, 99), st.floats(-1e3, 1e3), st.floats(0.01, 1e3))
@settings(max_examples=25, deadline=None)
def test_p_values_do_not_hang_on_units(seed, shift, scale):
    rng = np.random.default_rng(seed)
    scores, chosen, group = rng.normal(size=(6, 12)), np.tile([True, False], 6), np.repeat(["a", "b"], 6)
    one = population_effects(scores, chosen, group=group, rng=0)
    two = population_effects(shift + scale * scores, chosen, group=group, rng=0)
    np.testing.assert_allclose(one.p_value, two.p_value)
    np.testing.assert_allclose(one.p_items, two.p_items)
    np.testing.assert_allclose(two.mean, scale * one.mean, rtol=1e-6, atol=1e-9 * max(1.0, abs(shift)))


def test_correction_counts_the_groups():
    rng = np.random.default_rng(0)
    scores, chosen, group = rng.normal(size=(8, 20)), np.tile([True, False], 10), np.repeat(np.arange(5), 4)
    plain = population_effects(scores, chosen, group=group, correction="none", rng=0)
    holm = population_effects(scores, chosen, group=group, rng=0)
    assert holm.p_value.min() == pytest.approx(min(1.0, 5 * plain.p_value.min()))


@pytest.mark.parametrize(
    ("scores", "condition", "more", "match"),
    [
        (np.ones((1, 4)), [1, 1, 0, 0], {}, "two members"),
        (np.full((3, 4), np.nan), [1, 1, 0, 0], {}, "finite"),
        (np.ones((3, 4)), [1, 1, 1, 1], {}, "both conditions"),
        (np.ones((3, 4)), [1, 2, 0, 0], {}, "true or false"),
        (np.ones((3, 4)), [1, 0], {}, "4 entries"),
        (np.ones((3, 4)), [1, 1, 0, 0], {"pair": [0, 0, 1, 1]}, "one item of each"),
        (np.ones((3, 4)), None, {"group": [0, 0, 1, 1]}, "condition"),
    ],
)
def test_errors(scores, condition, more, match):
    with pytest.raises(DataError, match=match):
        population_effects(scores, condition, **more)
