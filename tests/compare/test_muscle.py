import copy

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
from corrigible.compare import muscle  # noqa: E402
from corrigible.compare._muscle import _adapter  # noqa: E402

SMALL = {"max_iter": 30, "learning_rate": 0.02, "random_state": 0}


def network(seed, hidden=16):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2))


def proba(net, X):
    with torch.no_grad():
        return net(torch.tensor(X).float()).softmax(dim=1).numpy()


@pytest.fixture
def data(rng):
    X = rng.normal(size=(200, 3))
    return X, (X[:, 0] > 0).astype(int)


def test_an_adapter_starts_as_the_new_network(data):
    X, _ = data
    new = network(1)
    with torch.no_grad():
        np.testing.assert_array_equal(
            _adapter(torch, new, 2)(torch.tensor(X).float()), new(torch.tensor(X).float())
        )


@pytest.mark.parametrize("mask", ["none", "wrong"])
def test_without_masked_rows_the_new_network_stays(data, mask):
    """The gradient is 0 but for rounding, and Adam hovers at a distance in proportion to its rate: a small one shows it."""
    X, y = data
    old, new = network(0), network(1)
    if mask == "wrong":
        y = proba(new, X).argmax(axis=1)
    words = {**SMALL, "learning_rate": 2e-6}
    moved = [np.abs(proba(muscle(old, new, X, y, mask=m, **words), X) - proba(new, X)).max() for m in (mask, "all")]
    assert moved[0] < 2.5e-7  # two units in the last place of float32 near 1
    assert moved[1] > 100 * moved[0]  # had the old network taught


def test_the_old_network_teaches_where_all_rows_are_masked(data):
    X, y = data
    old, new = network(0), network(1)
    found = proba(muscle(old, new, X, y, mask="all", rank=16, **SMALL), X)
    assert np.abs(found - proba(old, X)).mean() < 0.2 * np.abs(proba(new, X) - proba(old, X)).mean()


def test_the_first_step_is_that_of_the_masked_loss_by_hand(data):
    """One full-batch step of Adam moves every entry of B by the rate, against the sign of its gradient G A^T."""
    X, y = data
    old, new = network(0), network(1)
    weight = new[2].weight.detach().clone().requires_grad_(True)
    hidden = new[:2](torch.tensor(X).float()).detach()
    log_p = (hidden @ weight.T + new[2].bias.detach()).log_softmax(dim=1)
    target = torch.tensor(np.where((log_p.argmax(1).numpy() != y)[:, None], proba(old, X), proba(new, X)))
    torch.nn.functional.kl_div(log_p, target, reduction="batchmean").backward()
    rate = 1e-2
    adapted = muscle(old, new, X, y, rank=1, max_iter=1, batch_size=200, learning_rate=rate, random_state=0)
    moved = (adapted[2].weight - new[2].weight).detach()
    right = moved[0] / rate  # A, but for its sign, which cancels; A itself has not moved, as B was 0
    expected = -rate * torch.outer(torch.sign(weight.grad @ right), right)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-6)


def free_rows(n=40):
    """Networks whose answer to a row is free of those to the others."""
    torch.manual_seed(5)
    return np.eye(n), torch.nn.Linear(n, 2), torch.nn.Linear(n, 2)


def test_each_row_takes_after_its_teacher(rng):
    X, old, new = free_rows()
    old.weight.data *= 10
    new.weight.data *= 10
    y = rng.integers(2, size=len(X))
    p, before, after = (proba(n, X) for n in (
        muscle(old, new, X, y, rank=2, mask="likelihood", max_iter=400, learning_rate=0.05, random_state=0), old, new
    ))  # fmt: skip
    at = np.arange(len(X))
    from_old = before[at, y] > after[at, y]
    assert 5 < from_old.sum() < 35
    np.testing.assert_allclose(p, np.where(from_old[:, None], before, after), atol=0.01)


def test_a_wrong_row_follows_the_old_network_until_it_is_right(rng):
    """Where both are wrong it becomes the old network's answer; where the old one is right it stops at the boundary."""
    X, old, new = free_rows()
    old.weight.data *= 10
    new.weight.data *= 10
    y = rng.integers(2, size=len(X))
    adapted = muscle(old, new, X, y, rank=2, max_iter=400, learning_rate=0.05, random_state=0)
    p, before, after = (proba(n, X) for n in (adapted, old, new))
    was_right, is_right = before.argmax(1) == y, after.argmax(1) == y
    for rows, expected in ((is_right, after), (~is_right & ~was_right, before)):
        assert rows.sum() > 3
        np.testing.assert_allclose(p[rows], expected[rows], atol=0.02)
    at_stake = was_right & ~is_right
    assert at_stake.sum() > 3
    np.testing.assert_allclose(p[at_stake], 0.5, atol=0.06)


def test_the_precision_of_the_new_network_is_kept(data):
    X, y = data
    for kind in (torch.float64, torch.bfloat16):
        adapted = muscle(network(0), network(1).to(kind), X, y, **SMALL)
        assert {p.dtype for p in adapted.parameters()} == {kind}
        assert (adapted[0].weight != network(1).to(kind)[0].weight).any()


def test_networks_given_are_left_alone_and_a_seed_gives_the_same_bits(data):
    X, y = data
    old, new = network(0).train(), network(1).train()
    before = copy.deepcopy(new.state_dict())
    a, b = (muscle(old, new, X, y, rank=2, **SMALL) for _ in range(2))
    for name, value in new.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        torch.testing.assert_close(a.state_dict()[name], b.state_dict()[name], rtol=0, atol=0)
    assert new.training
    assert not a.training


def test_the_change_is_of_the_rank_given(data):
    X, y = data
    new = network(1)
    adapted = muscle(network(0), new, X, y, rank=2, **SMALL)
    change = (adapted[0].weight - new[0].weight).detach().double()
    assert torch.linalg.matrix_rank(change, tol=1e-5) <= 2
    torch.testing.assert_close(adapted[0].bias, new[0].bias)


def test_images_and_convolutions(rng):
    X = rng.normal(size=(40, 1, 5, 5)).astype(np.float32)
    X.setflags(write=False)
    torch.manual_seed(0)
    nets = [torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten(), torch.nn.Linear(27, 4)) for _ in "ab"]
    y = rng.integers(4, size=40)
    adapted = muscle(*nets, X, y, mask="likelihood", **SMALL)
    assert (adapted[0].weight != nets[1][0].weight).any()


def test_what_is_refused(data):
    X, y = data
    old, new = network(0), network(1)
    with pytest.raises(InvalidParameterError, match="'rank'"):
        muscle(old, new, X, y, rank=0)
    with pytest.raises(InvalidParameterError, match="'mask'"):
        muscle(old, new, X, y, mask="x")
    with pytest.raises(DataError, match="same classes"):
        muscle(torch.nn.Linear(3, 5), new, X, y)
    with pytest.raises(DataError, match="finite"):
        muscle(old, new, X * np.nan, y)
    with pytest.raises(DataError, match="'y'"):
        muscle(old, new, X, y + 5)
    with pytest.raises(InvalidParameterError, match="layer to adapt"):
        muscle(torch.nn.ReLU(), torch.nn.ReLU(), X[:, :2], y)
