"""PLeaS: permuted copies, ensembles at double width, least squares against numpy's, assignments against all orders."""

import copy
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier, MLPRegressor

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import PLeaS
from corrigible.merging._pleas import _shares
from corrigible.merging._unit_chain import chains
from corrigible.merging._unit_merging import divided, matched, moments, together


def perceptron(seed, hidden=(7, 5), activation="relu", n_in=4, n_out=3):
    """Return a network of random weights."""
    rng = np.random.default_rng(seed)
    model = MLPRegressor(hidden_layer_sizes=hidden, activation=activation, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rng.normal(size=(20, n_in)), rng.normal(size=(20, n_out)))
    sizes = (n_in, *hidden, n_out)
    model.coefs_ = [rng.normal(size=s) for s in itertools.pairwise(sizes)]
    model.intercepts_ = [rng.normal(size=s) for s in sizes[1:]]
    return model


def shuffled(model, seed):
    """Return the same function with its hidden units in another order."""
    made, rng = copy.deepcopy(model), np.random.default_rng(seed)
    for i in range(len(made.coefs_) - 1):
        order = rng.permutation(made.coefs_[i].shape[1])
        made.coefs_[i] = made.coefs_[i][:, order]
        made.intercepts_[i] = made.intercepts_[i][order]
        made.coefs_[i + 1] = made.coefs_[i + 1][order]
    return made


@pytest.fixture
def X(rng):
    return rng.normal(size=(120, 4))


@pytest.mark.parametrize("matching", ["activations", "weights"])
@pytest.mark.parametrize("least_squares", [True, False])
def test_a_permuted_copy_merges_to_the_network(X, matching, least_squares):
    one = perceptron(0)
    found = PLeaS(matching=matching, least_squares=least_squares).fit([one, shuffled(one, 1)], X)
    assert found.widths_ == [7, 5]
    np.testing.assert_allclose(found.model_.predict(X), one.predict(X), atol=1e-9)


@pytest.mark.parametrize("least_squares", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_double_width_is_the_mean_of_both_outputs(X, least_squares, activation):
    nets = [perceptron(s, activation=activation) for s in (0, 1)]
    found = PLeaS(width=2.0, least_squares=least_squares).fit(nets, X)
    assert found.widths_ == [14, 10]
    mean = (nets[0].predict(X) + nets[1].predict(X)) / 2
    np.testing.assert_allclose(found.model_.predict(X), mean, atol=1e-8)


def test_least_squares_of_a_layer_is_numpys(X):
    nets = [perceptron(s, hidden=(6,)) for s in (0, 1)]
    found = PLeaS(ridge=0.0).fit(nets, X)
    order = found.orders_[0]
    hidden = [np.maximum(X @ n.coefs_[0] + n.intercepts_[0], 0) for n in nets]
    inputs = np.column_stack([(hidden[0] + hidden[1][:, order]) / 2, np.ones(len(X))])
    wanted = (nets[0].predict(X) + nets[1].predict(X)) / 2
    solved, rest, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
    np.testing.assert_allclose(found.model_.coefs_[1], solved[:-1], atol=1e-8)
    np.testing.assert_allclose(found.model_.intercepts_[1], solved[-1], atol=1e-8)
    assert found.errors_[1, 1] == pytest.approx(rest.sum() / (wanted**2).sum())


def test_kept_units_read_nothing_of_the_other_network(X):
    nets = [perceptron(s, hidden=(4, 4)) for s in (0, 1)]
    found = PLeaS(width=1.5).fit(nets, X)  # two pairs, two of the first, two of the second
    weight = found.model_.coefs_[1]
    assert not weight[2:4, 4:6].any()
    assert not weight[4:6, 2:4].any()
    assert (weight[:2] != 0).all()


def test_refitting_never_errs_more(X):
    nets = [perceptron(s) for s in (3, 4)]
    for width in (1.0, 1.4, 1.8):
        errors = PLeaS(width=width).fit(nets, X).errors_
        assert (errors[:, 1] <= errors[:, 0] + 1e-12).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1.0, 1.3, 1.7]))
def test_the_order_of_units_changes_nothing(seed, width):
    X = np.random.default_rng(5).normal(size=(60, 4))
    one, other = perceptron(0), perceptron(1)
    expected = PLeaS(width=width).fit([one, other], X).model_.predict(X)
    found = PLeaS(width=width).fit([one, shuffled(other, seed)], X).model_.predict(X)
    np.testing.assert_allclose(found, expected, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_matching_is_the_best_of_all_orders(seed):
    likeness = np.random.default_rng(seed).normal(size=(5, 5))
    best = max(itertools.permutations(range(5)), key=lambda p: likeness[np.arange(5), list(p)].sum())
    np.testing.assert_array_equal(matched(likeness), best)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 6))
def test_the_least_alike_stay_apart(seed, kept):
    likeness = np.random.default_rng(seed).normal(size=(6, 6))
    order = matched(likeness)
    units = divided(order, likeness, kept)
    assert units.width == 6 + kept
    assert sorted([*units.a, *units.only_a]) == sorted([*units.b, *units.only_b]) == list(range(6))
    if 0 < kept < 6:
        pairs = likeness[np.arange(6), order]
        assert pairs[units.a].min() >= pairs[units.only_a].max()


def test_weight_matching_by_all_orders():
    nets = [perceptron(s, hidden=(4,)) for s in (0, 1)]
    found = PLeaS(matching="weights", least_squares=False).fit(nets)
    a, b = nets

    def likeness(order):
        order = list(order)
        return (
            (a.coefs_[0] * b.coefs_[0][:, order]).sum()
            + a.intercepts_[0] @ b.intercepts_[0][order]
            + (a.coefs_[1] * b.coefs_[1][order]).sum()
        )

    best = max(itertools.permutations(range(4)), key=likeness)
    np.testing.assert_array_equal(found.orders_[0], best)


def test_distances_between_activations(X):
    nets = [perceptron(s, hidden=(4,)) for s in (0, 1)]
    found = moments(*chains(nets, by="test", separate=False), X, 17)
    z = [X @ n.coefs_[0] + n.intercepts_[0] for n in nets]
    by_hand = np.sqrt(((z[0][:, :, None] - z[1][:, None]) ** 2).mean(axis=0))
    np.testing.assert_allclose(found[0].distances_out(), by_hand, atol=1e-9)
    h = [np.maximum(x, 0) for x in z]
    by_hand = np.sqrt(((h[0][:, :, None] - h[1][:, None]) ** 2).mean(axis=0))
    np.testing.assert_allclose(found[1].distances_in(), by_hand, atol=1e-9)


def test_widths_by_layer_and_bad_ones(X):
    nets = [perceptron(s) for s in (0, 1)]
    assert PLeaS(width=[2.0, 1.2]).fit(nets, X).widths_ == [14, 6]
    for width in (0.9, 2.1, [1.0], [1.0, np.nan]):
        with pytest.raises(InvalidParameterError, match="width"):
            PLeaS(width=width).fit(nets, X)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(1.0, 2.0))
def test_a_budget_is_kept_and_used(seed, budget):
    rng = np.random.default_rng(seed)
    costs, gains = rng.uniform(1, 9, size=4), rng.uniform(0.1, 1, size=3)
    shares = _shares(costs, gains, budget)
    r = np.array([0, *shares, 0])
    cost = (costs * (1 + r[:-1] + r[1:] - r[:-1] * r[1:])).sum() / costs.sum()
    assert ((shares >= 0) & (shares <= 1)).all()
    assert cost <= budget + 1e-9
    # No point of a grid within the budget gains more.
    grid = np.array(list(itertools.product(np.linspace(0, 1, 9), repeat=3)))
    g = np.column_stack([np.zeros(len(grid)), grid, np.zeros(len(grid))])
    fits = (costs * (1 + g[:, :-1] + g[:, 1:] - g[:, :-1] * g[:, 1:])).sum(axis=1) / costs.sum() <= budget
    assert gains @ shares >= (grid[fits] @ gains).max() - 1e-6


def test_a_budget_goes_where_the_score_says(X):
    nets = [perceptron(s, hidden=(20, 20)) for s in (0, 1)]
    widths = []
    for wanted in (0, 1):
        found = PLeaS(budget=1.3, score=lambda m, i=wanted: m.coefs_[i].shape[1]).fit(nets, X)
        assert found.gains_[wanted] > found.gains_[1 - wanted]
        widths.append(found.widths_)
    assert widths[0][0] > widths[0][1]
    assert widths[1][1] > widths[1][0]


def test_an_estimator_stays_one_and_trains_on():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 4)), rng.integers(0, 3, size=150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nets = [MLPClassifier((6,), max_iter=5, random_state=i).fit(X, y) for i in range(2)]
    before = copy.deepcopy(nets[0].coefs_)
    merged = PLeaS(width=1.5).fit(nets, X).model_
    np.testing.assert_allclose(merged.predict_proba(X).sum(axis=1), 1)
    merged.partial_fit(X, y)
    assert merged.coefs_[0].shape == (4, 9)
    for old, now in zip(before, nets[0].coefs_, strict=True):
        np.testing.assert_array_equal(old, now)
    other = MLPClassifier((6,), max_iter=5, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.fit(X, y + 1)
    with pytest.raises(DataError, match="classes"):
        PLeaS().fit([nets[0], other], X)


def test_refuses(X):
    nets = [perceptron(0), perceptron(1)]
    for words, fit, error, said in (
        ({}, (nets[:1], X), DataError, "two networks"),
        ({}, ([nets[0], perceptron(1, hidden=(7, 4))], X), DataError, "differ"),
        ({}, (nets, None), DataError, "rows X"),
        ({}, (nets, X[:, :3]), DataError, "4 features"),
        ({}, (nets, X * np.nan), DataError, "finite"),
        ({"heads": "separate"}, (nets, X), InvalidParameterError, "torch"),
        ({"heads": "both"}, (nets, X), InvalidParameterError, "heads"),
        ({"width": 1.5, "budget": 1.5}, (nets, X), InvalidParameterError, "either"),
        ({"score": len}, (nets, X), InvalidParameterError, "budget"),
        ({"ridge": -1.0}, (nets, X), InvalidParameterError, "ridge"),
        ({}, ([{"w": X}, {"w": X}], X), InvalidParameterError, "dict"),
    ):
        with pytest.raises(error, match=said):
            PLeaS(**words).fit(*fit)


# --- torch ----------------------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def convnet(torch, seed, outputs=3):
    nn = torch.nn
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Conv2d(4, 5, (3, 2), stride=2, bias=False), nn.GELU(),
        nn.Flatten(), nn.Linear(5 * 1 * 2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, outputs),
    ).double()  # fmt: skip
    net(torch.randn(40, 2, 8, 8, dtype=torch.float64) * 2 + 1)  # running statistics of their own
    for norm in (net[0][1], net[5]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias)
    return net.eval()


def test_convolutions_at_double_width(torch):
    nets = [convnet(torch, s) for s in (0, 1)]
    X = torch.randn(30, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = ((nets[0](X) + nets[1](X)) / 2).numpy()
        for least_squares in (False, True):
            found = PLeaS(width=2.0, least_squares=least_squares, batch_size=7).fit(nets, X)
            assert found.widths_ == [8, 10, 12]
            np.testing.assert_allclose(found.model_(X).numpy(), expected, atol=1e-8)


def test_permuted_convolutions_merge_to_the_network(torch):
    one = convnet(torch, 0)
    other = copy.deepcopy(one)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for layer, names in ((other[0][0], ("weight", "bias")),
                             (other[0][1], ("weight", "bias", "running_mean", "running_var"))):  # fmt: skip
            for name in names:
                getattr(layer, name).copy_(getattr(layer, name)[order].clone())
        other[1].weight.copy_(other[1].weight[:, order].clone())
        swapped = torch.tensor([1, 0, 4, 3, 2])
        other[1].weight.copy_(other[1].weight[swapped].clone())
        linear = other[4].weight.reshape(6, 5, 2)[:, swapped]
        other[4].weight.copy_(linear.reshape(6, 10).clone())
        X = torch.randn(50, 2, 8, 8, dtype=torch.float64)
        np.testing.assert_allclose(other(X).numpy(), one(X).numpy(), atol=1e-10)
        for words in ({}, {"matching": "weights"}, {"matching": "weights", "least_squares": False}):
            found = PLeaS(**words).fit([one, other], X)
            np.testing.assert_array_equal(found.orders_[1], np.argsort(swapped.numpy()))
            np.testing.assert_allclose(found.model_(X).numpy(), one(X).numpy(), atol=1e-8)


def test_separate_heads_stand_side_by_side(torch):
    nets = [convnet(torch, 0, 3), convnet(torch, 1, 2)]
    X = torch.randn(30, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.cat([n(X) for n in nets], dim=1).numpy()
        found = PLeaS(width=2.0, heads="separate").fit(nets, X)
        np.testing.assert_allclose(found.model_(X).numpy(), expected, atol=1e-8)
        for matching in ("activations", "weights"):
            assert PLeaS(heads="separate", matching=matching).fit(nets, X).model_(X).shape == (30, 5)
    with pytest.raises(DataError, match="differ"):
        PLeaS().fit(nets, X)


def test_errors_are_those_of_the_layers(torch):
    nets = [convnet(torch, s) for s in (0, 1)]
    X = torch.randn(40, 2, 8, 8, dtype=torch.float64)
    found = PLeaS(ridge=0.0).fit(nets, X)
    with torch.no_grad():
        seen = [net[0](X) for net in nets]
        o1, o2 = (torch.as_tensor(o) for o in found.orders_[:2])
        inputs = (seen[0] + seen[1][:, o1]) / 2
        wanted = (nets[0][1](seen[0]) + nets[1][1](seen[1])[:, o2]) / 2
        error = ((found.model_[1](inputs) - wanted) ** 2).sum() / (wanted**2).sum()
    assert found.errors_[1, 1] == pytest.approx(float(error), rel=1e-6)
    assert found.errors_[1, 1] < found.errors_[1, 0]


def test_torch_refuses_what_it_cannot_read(torch):
    nn, X = torch.nn, torch.randn(5, 4)

    class Own(nn.Module):
        pass

    shared = nn.Linear(4, 4)
    for net, said in (
        (Own(), "Sequential"),
        (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)), "LayerNorm"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2)), "BatchNorm1d"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 3)), "groups=2"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten(0), nn.Linear(3, 2)), "Flatten"),
        (nn.Sequential(nn.Linear(4, 2)), "hidden layer"),
        (nn.Sequential(shared, nn.ReLU(), shared), "twice"),
    ):
        with pytest.raises(InvalidParameterError, match=said):
            PLeaS().fit([net, copy.deepcopy(net)], X)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(DataError, match="cannot take"):
        PLeaS().fit([net, net], torch.randn(5, 7))
    with pytest.raises(DataError, match="one kind"):
        PLeaS().fit([net, perceptron(0)], X)


def test_together_is_every_unit():
    assert together(3).width == 3
