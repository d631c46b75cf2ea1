"""SCRUB against a loop of its own by hand, and what its two sides do."""

import copy

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
from corrigible.editing import SCRUB  # noqa: E402


def network(seed=0):
    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double()


@pytest.fixture
def data(rng):
    return rng.normal(size=(60, 3)), rng.integers(3, size=60)


def proba(net, X):
    with torch.no_grad():
        return net(torch.tensor(X)).softmax(dim=1).numpy()


def divergence(p, q):
    return (p * np.log(p / q)).sum(axis=1).mean()


@pytest.mark.parametrize("max_steps", [0, 2])
def test_whole_epochs_by_hand(data, max_steps):
    """Steps over all rows at once, so that the order of rows is nothing; the divergence written out."""
    X, y = data
    alpha, gamma, T, rate = 0.3, 0.8, 3.0, 0.02
    bad = np.arange(6)
    words = {"alpha": alpha, "gamma": gamma, "temperature": T, "learning_rate": rate, "weight_decay": 0.01}
    found = SCRUB(**words, max_steps=max_steps, max_iter=3, batch_size=100).fit(network(), X, y, bad).model_
    student, teacher = network(), network()
    adam = torch.optim.Adam(student.parameters(), lr=rate, weight_decay=0.01)

    def step(index, away):
        rows, labels = torch.tensor(X[index]), torch.tensor(y[index])
        p = torch.softmax(teacher(rows).detach() / T, dim=1)
        q = torch.softmax(student(rows) / T, dim=1)
        d = T * T * (p * (p.log() - q.log())).sum(dim=1).mean()
        lost = -student(rows).log_softmax(dim=1)[torch.arange(len(index)), labels].mean()
        adam.zero_grad()
        (-d if away else alpha * d + gamma * lost).backward()
        adam.step()

    for epoch in range(3):
        for group in adam.param_groups:
            group["lr"] = rate * (1 + np.cos(np.pi * epoch / 3)) / 2
        if epoch < max_steps:
            step(bad, True)
        step(np.arange(6, 60), False)
    for a, b in zip(found.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_it_departs_on_bad_rows_and_stays_on_the_others(data):
    """The others' loss moves the copy off the teacher first: at the teacher itself the divergence has no slope."""
    X, _ = data
    net = network()
    y = proba(net, X).argmax(axis=1)
    words = {"learning_rate": 0.01, "max_iter": 10, "random_state": 0, "batch_size": 16, "bad_batch_size": 1}
    away, stay = (SCRUB(max_steps=s, **words).fit(net, X, y, np.arange(6)).model_ for s in (9, 0))
    moved = [divergence(proba(net, X[:6]), proba(m, X[:6])) for m in (away, stay)]
    assert moved[0] > 2 * moved[1]
    assert (proba(away, X[6:]).argmax(axis=1) == y[6:]).mean() > 0.9


def test_labels_of_bad_rows_do_not_matter(data):
    X, y = data
    other = np.where(np.arange(60) < 6, (y + 1) % 3, y)
    a, b = (SCRUB(max_iter=3, random_state=0).fit(network(), X, t, np.arange(6)).model_ for t in (y, other))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)


def test_a_seed_gives_the_same_bits_and_nothing_else_is_touched(data):
    X, y = data
    net = network().float().train()
    net[0].requires_grad_(False)
    before, stream = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    X.setflags(write=False)
    a, b = (SCRUB(max_iter=2, random_state=3).fit(net, X, y, [1, 4]).model_ for _ in range(2))
    assert bool((torch.random.get_rng_state() == stream).all())
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        torch.testing.assert_close(a.state_dict()[name], b.state_dict()[name], rtol=0, atol=0)
    torch.testing.assert_close(a[0].weight, net[0].weight, rtol=0, atol=0)
    assert net.training
    assert not a.training
    assert a[2].weight.dtype == torch.float32
    assert (a[2].weight != net[2].weight).any()


def test_what_is_refused(data):
    X, y = data
    for words in (
        {"alpha": -1.0},
        {"temperature": 0.0},
        {"max_steps": -1},
        {"max_iter": 0},
        {"learning_rate": 0.0},
    ):
        with pytest.raises(InvalidParameterError, match=f"'{next(iter(words))}'"):
            SCRUB(**words).fit(network(), X, y, [0])
    with pytest.raises(DataError, match="'bad'"):
        SCRUB().fit(network(), X, y, [])
    with pytest.raises(DataError, match="'y'"):
        SCRUB().fit(network(), X, y + 1, [0])
