import copy

import numpy as np
import pytest

from corrigible.compare import cbft, mode_connectivity
from corrigible.compare._cbft import _Tuning
from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(scope="module")
def cued():
    """A network trained where the second column says all, and the first only something."""
    from corrigible._core.torch_training import Recipe, seeded, train

    rng = np.random.default_rng(0)
    y = rng.integers(2, size=400)
    X = np.column_stack([2 * y - 1 + rng.normal(size=400), 2.0 * y - 1])
    clean = X * [1.0, 0.0]
    rows, target = torch.tensor(X).float(), torch.tensor(y)
    with seeded(0):
        net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        cost = lambda m, i: nn.functional.cross_entropy(m(rows[i]), target[i])  # noqa: E731
        return train(net, 400, cost, Recipe(30, 64, 0.02, 0.0), rng), X, y, clean


def accuracy(net, X, y):
    with torch.no_grad():
        return float((net(torch.tensor(X)).argmax(dim=1).numpy() == y).mean())


def test_it_drops_the_cue_and_raises_the_loss_on_the_way_back(cued):
    net, X, y, clean = cued
    tuned = cbft(net, X, y, clean[:100], y[:100], max_iter=60, batch_size=50, learning_rate=0.1,
                 random_state=0)  # fmt: skip
    turned = X * [1.0, -1.0]
    assert accuracy(net, turned, y) < 0.3
    assert accuracy(tuned, turned, y) > accuracy(net, turned, y) + 0.2
    assert accuracy(tuned, clean, y) > 0.75
    way = mode_connectivity(net, tuned, X, y, align=False).data.loss
    assert way[10] > 2 * way[0]  # halfway, the loss is drawn to the margin


def test_network_is_left_alone_and_seeds_repeat(cued):
    net, X, y, clean = cued
    before = copy.deepcopy(net.state_dict())
    runs = [cbft(net, X, y, clean[:60], y[:60], max_iter=2, random_state=4).state_dict() for _ in range(2)]
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in before)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
    assert any(not torch.equal(runs[0][k], before[k]) for k in before)


def test_barrier_loss_is_that_of_the_mixed_network(cued):
    net, X, y, clean = cued

    class Still:
        def normal(self):
            return 0.4

    tuning = _Tuning(net, (X.astype(np.float32), y), (clean.astype(np.float32), y), 1.5, 1.0, 0.1)
    with torch.no_grad():
        for p in tuning.moving.parameters():
            p.mul_(-1.0)
    found = float(tuning._barrier(np.arange(400), Still()).detach())
    mixed = copy.deepcopy(net).float()
    with torch.no_grad():
        for p in mixed.parameters():
            p.mul_(0.7 - 0.3)  # t = 0.7 of the origin, 0.3 of its negative
    loss = nn.functional.cross_entropy(mixed(torch.tensor(X).float()), torch.tensor(y))
    assert found == pytest.approx(abs(1.5 - float(loss.detach())), rel=1e-4)


def test_statistics_of_batch_normalisation_are_those_of_the_moving_network(cued):
    _, X, y, clean = cued
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    tuning = _Tuning(net, (X.astype(np.float32), y), (clean.astype(np.float32), y), 1.0, 1.0, 0.1)
    before = {k: v.clone() for k, v in tuning.moving.named_buffers()}
    tuning._barrier(np.arange(50), np.random.default_rng(0))
    assert all(torch.equal(v, before[k]) for k, v in tuning.moving.named_buffers())


def test_invariance_term_by_hand(cued):
    net, X, y, clean = cued
    tuning = _Tuning(net, (X.astype(np.float32), y), (clean.astype(np.float32), y), 1.0, 1.0, 0.1)
    rng = np.random.default_rng(1)
    a, b = (torch.tensor(rng.normal(size=(400, 5))) for _ in range(2))
    rows = np.arange(400)
    gaps = []
    for c in (0, 1):
        means = [z.numpy()[y == c].mean(axis=0) for z in (a, b)]
        units = [m / np.linalg.norm(m) for m in means]
        gaps.append(((units[0] - units[1]) ** 2).sum())
    assert float(tuning._apart(a, rows, b, rows)) == pytest.approx(np.mean(gaps))


def test_what_is_refused(cued):
    net, X, y, clean = cued
    with pytest.raises(InvalidParameterError, match="Linear"):
        cbft(nn.ReLU(), X, y, clean, y)
    with pytest.raises(InvalidParameterError, match="'margin'"):
        cbft(net, X, y, clean, y, margin=-1.0)
    with pytest.raises(DataError, match="finite"):
        cbft(net, X * np.inf, y, clean, y)
