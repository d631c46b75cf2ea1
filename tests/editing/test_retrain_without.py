"""Training again: known bad rows leave no trace, and the answer is scikit-learn's where there is one answer."""

import copy

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
from corrigible.editing import FineTuneWithout, RetrainWithout  # noqa: E402

BOTH = [RetrainWithout, FineTuneWithout]


def network(seed=0):
    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture
def data(rng):
    X = rng.normal(size=(120, 3)).astype(np.float32)
    return X, (X[:, 0] + rng.normal(size=120) > 0).astype(int)


def same(a, b):
    return all(bool((p == q).all()) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("method", BOTH)
def test_logistic_regression_without_the_bad_rows(data, method):
    X, y = data
    bad = np.arange(20)
    wrong = np.where(np.arange(120) < 20, 1 - y, y)
    words = {"max_iter": 300, "batch_size": 100, "learning_rate": 0.1, "weight_decay": 0.0, "random_state": 0}
    net = method(**words).fit(torch.nn.Linear(3, 2), X, wrong, bad).model_
    with torch.no_grad():
        found = net(torch.tensor(X)).softmax(dim=1).numpy()
    reference = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(X[20:], y[20:])
    np.testing.assert_allclose(found, reference.predict_proba(X), atol=2e-3)


@pytest.mark.parametrize("method", BOTH)
def test_bad_rows_leave_no_trace(data, method):
    X, y = data
    mask = np.arange(120) % 10 == 0
    other = np.where(mask[:, None], 7.0, X), np.where(mask, 1 - y, y)
    a, b = (method(max_iter=2, random_state=0).fit(network(), *rows, mask).model_ for rows in ((X, y), other))
    assert same(a, b)


def test_only_fine_tuning_remembers_the_start(data):
    X, y = data
    for method, remembers in zip(BOTH, (False, True), strict=True):
        a, b = (method(max_iter=1, random_state=0).fit(network(s), X, y, [0]).model_ for s in (0, 1))
        assert same(a, b) is not remembers


@pytest.mark.parametrize("method", BOTH)
def test_a_seed_gives_the_same_bits_and_nothing_else_is_touched(data, method):
    X, y = data
    net = network().double().train()
    net[0].requires_grad_(False)
    before, stream = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    X.setflags(write=False)
    a, b = (method(max_iter=2, random_state=3).fit(net, X, y, [1, 4]).model_ for _ in range(2))
    assert same(a, b)
    assert bool((torch.random.get_rng_state() == stream).all())
    assert all(bool((v == before[n]).all()) for n, v in net.state_dict().items())
    assert net.training
    assert not a.training
    assert {p.dtype for p in a.parameters()} == {torch.float64}
    torch.testing.assert_close(a[0].weight, net[0].weight.float().double(), rtol=0, atol=0)


def test_a_layer_that_cannot_start_anew_is_named(data):
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))

        def forward(self, X):
            return X * self.scale

    X, y = data
    net = torch.nn.Sequential(Scaled(), torch.nn.Linear(3, 2))
    with pytest.raises(InvalidParameterError, match="0, a Scaled"):
        RetrainWithout().fit(net, X, y, [0])
    FineTuneWithout(max_iter=1).fit(net, X, y, [0])


@pytest.mark.parametrize("method", BOTH)
def test_what_is_refused(data, method):
    X, y = data
    with pytest.raises(InvalidParameterError, match="'max_iter'"):
        method(max_iter=0).fit(network(), X, y, [0])
    with pytest.raises(DataError, match="'bad'"):
        method().fit(network(), X, y, [])
    with pytest.raises(DataError, match="'y'"):
        method().fit(network(), X, y + 1, [0])
