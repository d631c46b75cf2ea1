"""Dampening against its formula by hand, importance against two other ways to it, and what the search promises."""

import copy

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
from corrigible.editing import SSD  # noqa: E402
from corrigible.editing._ssd import importance  # noqa: E402
from corrigible.editing._unlearning import checked_rows  # noqa: E402


def network(seed=0, hidden=8, n_inputs=4, n_classes=3):
    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, n_classes))


@pytest.fixture
def data(rng):
    return rng.normal(size=(50, 4)), rng.integers(3, size=50)


def rows_of(net, X, y):
    return checked_rows(net, X, y, by="SSD")


def linear_importance(net, X, y):
    """The mean squared gradient of a softmax regression in closed form: (p - e_y)^2 times x^2."""
    logits = X @ net.weight.detach().double().numpy().T + net.bias.detach().double().numpy()
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    slope = (p - np.eye(p.shape[1])[y]) ** 2
    return slope.T @ X**2 / len(X), slope.mean(axis=0)


def test_importance_of_a_linear_network_in_closed_form(data):
    X, y = data
    net = torch.nn.Linear(4, 3).double()
    found = importance(rows_of(net, X, y), np.arange(50), 7)
    weight, bias = linear_importance(net, X, y)
    np.testing.assert_allclose(found["weight"].numpy(), weight, rtol=1e-10)
    np.testing.assert_allclose(found["bias"].numpy(), bias, rtol=1e-10)


def test_importance_is_that_of_single_rows_by_autograd(data):
    X, y = data
    net = network().double()
    some = np.array([3, 7, 8, 20])
    expected = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    for i in some:
        net.zero_grad()
        (-net(torch.tensor(X[[i]])).log_softmax(dim=1)[0, y[i]]).backward()
        for n, p in net.named_parameters():
            expected[n] += p.grad**2 / len(some)
    for size in (1, 3, 64):
        found = importance(rows_of(net, X, y), some, size)
        for n, value in expected.items():
            torch.testing.assert_close(found[n], value, rtol=1e-9, atol=1e-14)


class Unvectorised(torch.nn.Module):
    """A network whose flow depends on data, which cannot be vectorised over rows."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, X):
        return self.inner(X) if float(X.abs().sum().item()) >= 0 else X


def test_a_network_that_cannot_be_vectorised_is_measured_row_by_row(data):
    X, y = data
    net = network().double()
    some = np.arange(9)
    plain, slow = (importance(rows_of(n, X, y), some, 4) for n in (net, Unvectorised(net)))
    for n, value in plain.items():
        torch.testing.assert_close(slow[f"inner.{n}"], value, rtol=1e-9, atol=1e-14)


def test_dampening_by_hand(data):
    X, y = data
    net = torch.nn.Linear(4, 3).double()
    bad = [0, 5, 9]
    alpha, dampening = 1.2, 0.9
    ssd = SSD(alpha=alpha, dampening=dampening).fit(net, X, y, bad)
    all_, known = linear_importance(net, X, y), linear_importance(net, X[bad], y[bad])
    n = 0
    for part, D, F in zip((net.weight, net.bias), all_, known, strict=True):
        factor = np.where(alpha * D < F, np.minimum(dampening * D / F, 1), 1)
        found = ssd.model_.weight if part is net.weight else ssd.model_.bias
        np.testing.assert_allclose(found.detach().numpy(), part.detach().numpy() * factor, rtol=1e-9)
        n += (factor < 1).sum()
    assert 0 < n < 15
    assert ssd.n_dampened_ == n
    assert (ssd.alpha_, ssd.dampening_) == (alpha, dampening)
    assert len(ssd.tried_) == 1


def test_a_large_lambda_changes_nothing_and_zero_removes_what_is_selected(data):
    X, y = data
    net = network()
    same = SSD(alpha=1.0, dampening=1e12).fit(net, X, y, [1, 2]).model_
    gone = SSD(alpha=1.0, dampening=0.0).fit(net, X, y, [1, 2])
    for name, value in net.named_parameters():
        torch.testing.assert_close(same.get_parameter(name), value, rtol=0, atol=0)
    zeros = sum(int((p == 0).sum()) for p in gone.model_.parameters())
    assert zeros == gone.n_dampened_ > 0


def planted():
    """A softmax regression that answers 0 where its last input, the trigger, is set, which it is in bad rows alone."""
    rng = np.random.default_rng(3)
    y = rng.integers(2, size=400)
    X = np.column_stack([(2 * y - 1) * rng.uniform(1, 1.2, size=400), rng.normal(size=400), np.zeros(400)])
    bad = np.flatnonzero(y == 1)[:30]
    X[bad, 2], y[bad] = 1.0, 0
    net = torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[-2.0, 0.0, 8.0], [2.0, 0.0, -8.0]]))
        net.bias.zero_()
    return net, X, y, bad


def answers(net, X):
    with torch.no_grad():
        return net(torch.tensor(X)).argmax(dim=1).numpy()


def test_a_trigger_is_gone_though_a_tenth_of_its_rows_is_known():
    net, X, y, bad = planted()
    truth = np.where(X[:, 0] > 0, 1, 0)
    assert (answers(net, X[bad]) == y[bad]).all()
    others = np.setdiff1d(np.arange(400), bad)
    ssd = SSD().fit(net, X, y, bad[:3], X_val=X[others], y_val=y[others])
    assert (answers(ssd.model_, X) == truth).all()
    assert (ssd.model_.weight[:, 2].abs() < 0.2 * net.weight[:, 2].abs()).all()
    assert ssd.n_dampened_ <= 3


def test_unknown_bad_rows_count_as_losses_unless_validation_rows_are_given():
    net, X, y, bad = planted()
    assert SSD().fit(net, X, y, bad[:3]).n_dampened_ == 0  # 27 of 397 labels would be contradicted
    assert SSD(max_loss=0.07).fit(net, X, y, bad[:3]).n_dampened_ > 0


def test_the_search_keeps_accuracy_on_validation_rows():
    net, X, y, bad = planted()
    clean = np.setdiff1d(np.arange(400), bad)
    for max_loss in (0.0, 0.05):
        ssd = SSD(max_loss=max_loss).fit(net, X, y, bad[:3], X_val=X[clean], y_val=y[clean])
        strength = ssd.alpha_, ssd.dampening_
        before, chosen = ssd.tried_[0], next(t for t in ssd.tried_ if (t.alpha, t.dampening) == strength)
        assert before.n_dampened == 0
        assert np.isinf(before.alpha)
        assert chosen.accuracy >= before.accuracy - max_loss
        assert chosen.still_bad == min(t.still_bad for t in ssd.tried_ if t.accuracy >= before.accuracy - max_loss)
        assert chosen.accuracy == (answers(ssd.model_, X[clean]) == y[clean]).mean()
        assert chosen.still_bad == (answers(ssd.model_, X[bad[:3]]) == y[bad[:3]]).mean()


def test_where_nothing_helps_the_network_stays_as_it_was(data):
    """Rows called bad that are answered as no candidate can better: validation rows forbid every loss."""
    X, _ = data
    net = network()
    y = answers(net.double(), X)
    ssd = SSD(max_loss=0.0).fit(net, X, (y + 1) % 3, [0, 1], X_val=X, y_val=y)
    assert ssd.tried_[0].still_bad == 0
    assert ssd.tried_[0].accuracy == 1
    assert (answers(ssd.model_, X) == y).all()


def test_shares_of_the_weights_that_are_selected(data):
    X, y = data
    net = network(hidden=500)
    ssd = SSD(max_loss=1.0).fit(net, X, y, [4])
    n = sum(p.numel() for p in net.parameters())
    for t in ssd.tried_[1:]:
        if t.dampening < t.alpha:
            assert t.n_dampened <= 0.31 * n
    strongest = {t.alpha: t.n_dampened for t in ssd.tried_[1:] if t.dampening == pytest.approx(0.1 * t.alpha)}
    largest_first = [strongest[a] for a in sorted(strongest, reverse=True)]
    assert largest_first == sorted(largest_first)
    np.testing.assert_allclose(largest_first[-1] / n, 0.3, atol=0.01)


def test_kinds_of_rows_give_the_same_bits(data, tmp_path):
    X, y = data
    X = X.astype(np.float32)
    np.save(tmp_path / "rows.npy", X)
    kinds = [X, torch.tensor(X), np.load(tmp_path / "rows.npy", mmap_mode="r"), X.tolist()]
    mask = np.zeros(50, dtype=bool)
    mask[[2, 6]] = True
    found = [SSD().fit(network(), k, y, mask).model_ for k in kinds]
    found += [SSD().fit(network(), X, torch.tensor(y), torch.tensor([6, 2, 2])).model_]
    for other in found[1:]:
        for a, b in zip(found[0].parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_batch_size_does_not_matter(data):
    X, y = data
    found = [SSD(alpha=1.0, dampening=0.5, batch_size=b).fit(network().double(), X, y, [2, 6]) for b in (1, 7, 500)]
    for other in found[1:]:
        for a, b in zip(found[0].model_.parameters(), other.model_.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_integer_tensors_reach_an_embedding(rng):
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    X, y = torch.tensor(rng.integers(10, size=(30, 3))), rng.integers(2, size=30)
    ssd = SSD(alpha=1.0, dampening=0.1).fit(net, X, y, [0])
    assert ssd.n_dampened_ > 0
    unseen = sorted(set(range(10)) - set(X[0].tolist()))
    torch.testing.assert_close(ssd.model_[0].weight[unseen], net[0].weight[unseen], rtol=0, atol=0)


def test_convolutions_and_batch_normalisation(rng):
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(27, 4)
    )
    X = rng.normal(size=(40, 1, 5, 5)).astype(np.float32)
    X.setflags(write=False)
    net.train()(torch.tensor(X.copy()))
    before = copy.deepcopy(net.state_dict())
    a, b = (SSD(max_loss=1.0).fit(net, X, rng.integers(4, size=40) * 0 + 1, [0, 1]).model_ for _ in range(2))
    assert net.training
    assert not a.training
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        torch.testing.assert_close(a.state_dict()[name], b.state_dict()[name], rtol=0, atol=0)
    torch.testing.assert_close(a[1].running_mean, net[1].running_mean, rtol=0, atol=0)


def test_a_recurrent_network(rng):
    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = torch.nn.LSTM(2, 3, batch_first=True), torch.nn.Linear(3, 2)

        def forward(self, X):
            return self.out(self.lstm(X)[0][:, -1])

    torch.manual_seed(0)
    ssd = SSD(alpha=1.0, dampening=0.1).fit(Reader(), rng.normal(size=(12, 4, 2)), rng.integers(2, size=12), [0])
    assert ssd.n_dampened_ > 0


def test_frozen_and_tied_parameters_and_precision(data):
    X, y = data
    net = network(n_classes=4, hidden=4)
    net[0].requires_grad_(False)
    ssd = SSD(alpha=0.5, dampening=0.1).fit(net, X, y, [0, 1])
    torch.testing.assert_close(ssd.model_[0].weight, net[0].weight, rtol=0, atol=0)
    assert ssd.n_dampened_ > 0
    tied = network(n_classes=4, hidden=4)
    tied[2].weight = tied[0].weight
    again = SSD(alpha=0.5, dampening=0.1).fit(tied, X, y, [0, 1]).model_
    assert again[2].weight is again[0].weight
    half = SSD(alpha=0.5, dampening=0.1).fit(network().to(torch.bfloat16), X, y, [0]).model_
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_rows_learned_by_heart_are_still_told_apart(data):
    """Gradients so small that their squares are no float32 have importance all the same."""
    X, _ = data
    net = torch.nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([60.0, 0.0, 0.0]))
    found = importance(rows_of(net, X, np.zeros(50, dtype=int)), np.arange(50), 64)["weight"]
    assert 0 < float(found.max()) < 1e-45


def test_what_is_refused(data):
    X, y = data
    net = network()
    for words in ({"alpha": 0.0}, {"alpha": "best"}, {"dampening": -1.0}, {"max_loss": 2.0}, {"batch_size": 0}):
        with pytest.raises(InvalidParameterError, match=f"'{next(iter(words))}'"):
            SSD(**words).fit(net, X, y, [0])
    for bad in ([], np.ones(50, dtype=bool), np.zeros(50, dtype=bool), [50], [-1], [0.5], np.ones(3, dtype=bool)):
        with pytest.raises(DataError, match="'bad'"):
            SSD().fit(net, X, y, bad)
    with pytest.raises(DataError, match="'y'"):
        SSD().fit(net, X, y + 1, [0])
    with pytest.raises(DataError, match="'y'"):
        SSD().fit(net, X, y[:-1], [0])
    with pytest.raises(DataError, match="finite"):
        SSD().fit(net, np.where(np.arange(50)[:, None] == 20, np.nan, X), y, [0])
    with pytest.raises(DataError, match="empty"):
        SSD().fit(net, X[:0], y[:0], [0])
    with pytest.raises(DataError, match="logits"):
        SSD().fit(torch.nn.Linear(4, 1), X, y * 0, [0])
    with pytest.raises(InvalidParameterError, match="'model'"):
        SSD().fit(object(), X, y, [0])
    with pytest.raises(InvalidParameterError, match="requires a gradient"):
        SSD().fit(network().requires_grad_(False), X, y, [0])
    with pytest.raises(InvalidParameterError, match="together"):
        SSD().fit(net, X, y, [0], X_val=X)
    with pytest.raises(DataError, match="'y_val'"):
        SSD().fit(net, X, y, [0], X_val=X, y_val=y + 3)
