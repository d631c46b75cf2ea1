import copy

import numpy as np
import pytest

from corrigible.compare import align_units, mode_connectivity
from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
nn = torch.nn


def network(seed, *, norm=False):
    from corrigible._core.torch_training import seeded

    with seeded(seed):
        middle = [nn.BatchNorm1d(7)] if norm else []
        return nn.Sequential(nn.Linear(4, 7), *middle, nn.ReLU(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture
def data(rng):
    X = rng.normal(size=(60, 4))
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def by_hand(a, b, t, X, y):
    mixed = copy.deepcopy(a).double()
    with torch.no_grad():
        for p, q, r in zip(mixed.parameters(), a.double().parameters(), b.double().parameters(), strict=True):
            p.copy_((1 - t) * q + t * r)
        return float(nn.functional.cross_entropy(mixed(torch.tensor(X)), torch.tensor(y)))


def test_linear_path_is_interpolation_by_hand(data):
    a, b = network(0), network(1)
    found = mode_connectivity(a, b, *data, align=False, n_points=5)
    wanted = [by_hand(a, b, t, *data) for t in np.linspace(0, 1, 5)]
    np.testing.assert_allclose(found.data.loss, wanted, rtol=1e-10)
    excess = max(wanted[i] - (wanted[0] + (wanted[-1] - wanted[0]) * i / 4) for i in range(1, 4))
    assert found.data.barrier == pytest.approx(max(excess, 0.0))


@pytest.mark.parametrize("norm", [False, True])
def test_a_shuffled_copy_is_recovered(data, rng, norm):
    a = network(0, norm=norm).double().eval()
    b = copy.deepcopy(a)
    order = torch.tensor(rng.permutation(7))
    with torch.no_grad():
        first, after = b[0], b[3 if norm else 2]
        first.weight.copy_(first.weight[order].clone())
        first.bias.copy_(first.bias[order].clone())
        after.weight.copy_(after.weight[:, order].clone())
    back = align_units(b, a, data[0])
    for p, q in zip(back.parameters(), a.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    X = torch.tensor(data[0])
    torch.testing.assert_close(back(X), a(X))
    assert mode_connectivity(a, b, *data, align=True).data.barrier == 0.0


def test_alignment_keeps_the_function(data):
    a, b = network(0), network(1)
    X = torch.tensor(data[0])
    torch.testing.assert_close(align_units(b, a, data[0])(X), copy.deepcopy(b).double()(X))


def test_linear_models_have_no_barrier(rng, data):
    a, b = nn.Linear(4, 3), nn.Linear(4, 3)
    assert mode_connectivity(a, b, *data).data.barrier == 0.0


def test_quadratic_path_bends_round_the_barrier(data):
    trained = [_trained(network(s), *data) for s in (0, 1)]
    straight, bent = (mode_connectivity(*trained, *data, path=p, align=False, random_state=0) for p in
                      ("linear", "quadratic"))  # fmt: skip
    assert bent.data.barrier < straight.data.barrier
    np.testing.assert_allclose(bent.data.loss[[0, -1]], straight.data.loss[[0, -1]])
    again = mode_connectivity(*trained, *data, path="quadratic", align=False, random_state=0)
    np.testing.assert_array_equal(again.data.loss, bent.data.loss)


def _trained(net, X, y):
    from corrigible._core.torch_training import Recipe, train

    rows, target = torch.tensor(X).float(), torch.tensor(y)
    return train(net, 60, lambda m, i: nn.functional.cross_entropy(m(rows[i]), target[i]), Recipe(60, 20, 0.02, 0.0),
                 np.random.default_rng(0))  # fmt: skip


def test_counterfactuals_tell_who_reads_a_column(rng):
    X = np.repeat(rng.choice([-1.0, 1.0], size=(80, 1)), 2, axis=1)
    y = (X[:, 0] > 0).astype(int)
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    for column, net in enumerate((a, b)):
        weight = torch.zeros(2, 2)
        weight[:, column] = torch.tensor([-3.0, 3.0])
        net.load_state_dict({"weight": weight, "bias": torch.zeros(2)})
    flipped = X * [1.0, -1.0]
    found = mode_connectivity(a, b, X, y, counterfactuals={"second column flipped": (flipped, y)})
    assert found.invariance_gap("second column flipped") == 1.0
    assert found.data.accuracy[[0, -1]].tolist() == [1.0, 1.0]
    assert found.counterfactuals["second column flipped"].accuracy[[0, -1]].tolist() == [1.0, 0.0]


def test_networks_are_left_alone(data):
    a, b = network(0, norm=True), network(1, norm=True)
    before = [copy.deepcopy(m.state_dict()) for m in (a, b)]
    mode_connectivity(a, b, *data, path="quadratic", max_iter=1, random_state=0)
    for m, state in zip((a, b), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in m.state_dict().items())


def test_what_is_refused(data):
    with pytest.raises(InvalidParameterError, match="one architecture"):
        mode_connectivity(network(0), nn.Linear(4, 3), *data)
    with pytest.raises(InvalidParameterError, match="'path'"):
        mode_connectivity(network(0), network(1), *data, path="cubic")
    with pytest.raises(DataError, match="finite table"):
        mode_connectivity(network(0), network(1), data[0] * np.nan, data[1])
    conv = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 4), nn.Flatten())
    with pytest.raises(InvalidParameterError, match="aligned"):
        mode_connectivity(conv, conv, *data)
    assert mode_connectivity(conv, conv, *data, align=False).data.barrier == 0.0
