import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from corrigible.errors import InvalidParameterError
from corrigible.uncertainty import NonparametricTransfer
from corrigible.uncertainty._nonparametric_transfer import block_weights, probe

torch = pytest.importorskip("torch")
X, Y = load_iris(return_X_y=True)


def pretrained():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())


@pytest.mark.parametrize("c", [0.2, 1.0, 3.0])
def test_weights_have_the_moments_of_the_dirichlet(c):
    n, rng = 20, np.random.default_rng(0)
    draws = np.array([block_weights(n, c, None, rng) for _ in range(6000)]) / (2 * n)
    total = n * (1 + c)
    share = np.r_[np.ones(n), np.full(n, c)] / total
    np.testing.assert_allclose(draws.sum(axis=1), 1.0)
    np.testing.assert_allclose(draws.mean(axis=0), share, rtol=0.15)
    np.testing.assert_allclose(draws.var(axis=0), share * (1 - share) / (total + 1), rtol=0.3)


@given(st.integers(1, 50), st.integers(1, 60), st.floats(0.1, 5), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_blocks_share_their_weights_and_are_of_nearly_one_size(n, n_blocks, c, seed):
    weight = block_weights(n, c, n_blocks, np.random.default_rng(seed))
    assert weight.shape == (2 * n,)
    assert weight.mean() == pytest.approx(1.0)
    for half in (weight[:n], weight[n:]):
        counts = np.unique(half, return_counts=True)[1]
        assert len(counts) == min(n, n_blocks)
        assert counts.max() - counts.min() <= 1
    pairs = {tuple(p) for p in weight.reshape(2, n).T}
    assert len(pairs) == min(n, n_blocks)


@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_probe_is_scikit_learns_penalised_regression(l2):
    z = StandardScaler().fit_transform(X)
    other = LogisticRegression(C=1 / (l2 * len(Y)), tol=1e-10, max_iter=5000).fit(z, Y).predict_proba(z)
    np.testing.assert_allclose(probe(7.0 * X - 2.0, Y, 3, l2), other, atol=2e-3)


def test_probe_of_constant_features_is_the_frequency_of_the_classes():
    codes = np.r_[np.ones(7, int), np.zeros(3, int)]
    np.testing.assert_allclose(probe(np.ones((10, 2)), codes, 2, 1e-3)[0], [0.3, 0.7], atol=1e-4)


@pytest.mark.parametrize("c", [0.5, 4.0])
def test_draws_of_a_constant_model_have_the_moments_of_the_posterior(c):
    """A member says the weighted share of a class: mean 0.7, variance p (1 - p) / ((1 + c) (n (1 + c) + 1))."""
    x, y = np.ones((10, 1)), np.r_[np.ones(7, int), np.zeros(3, int)]
    fitted = NonparametricTransfer(
        n_members=60, concentration=c, max_iter=100, batch_size=20, learning_rate=0.1, weight_decay=0.0,
        random_state=0,
    ).fit(x, y)  # fmt: skip
    draws = fitted.member_proba(x)[:, 0, 1]
    deviation = np.sqrt(0.21 / ((1 + c) * (10 * (1 + c) + 1)))
    assert draws.mean() == pytest.approx(0.7, abs=4 * deviation / np.sqrt(60))
    assert draws.std() == pytest.approx(deviation, rel=0.35)


def test_a_strong_prior_repeats_the_probe_and_a_weak_one_the_labels():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.integers(2, size=60)  # labels that only a network can learn by heart
    deep = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU())
    words = {"n_members": 2, "max_iter": 300, "learning_rate": 0.03, "probe_l2": 1.0, "random_state": 0}
    strong, weak = (NonparametricTransfer(deep, concentration=c, **words).fit(x, y) for c in (1e3, 0.0))
    assert np.abs(strong.predict_proba(x) - strong.probe_proba_).max() < 0.1
    assert np.abs(weak.predict_proba(x) - weak.probe_proba_).max() > 0.3
    assert weak.score(x, y) > strong.score(x, y)


def test_the_pretrained_network_is_where_members_start_and_stays_as_it_was():
    backbone = pretrained()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    fitted = NonparametricTransfer(backbone, n_members=2, max_iter=1, learning_rate=1e-9, random_state=0).fit(X, Y)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name])
    for member in fitted.members_:
        torch.testing.assert_close(member[0][0].weight, before["0.weight"].double())
    first, second = (m[1].weight for m in fitted.members_)
    assert (first - second).abs().max() > 0.01


def test_pretraining_helps_with_few_rows():
    digits, y = load_digits(return_X_y=True)
    digits = digits / 16
    source = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    x, target = torch.tensor(digits[500:]).float(), torch.tensor(y[500:])
    optimiser = torch.optim.Adam(source.parameters(), 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(source(x), target).backward()
        optimiser.step()
    words = {"n_members": 2, "max_iter": 30, "random_state": 0, "learning_rate": 3e-3}
    fresh = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU())
    known, new = (NonparametricTransfer(b, **words).fit(digits[:60], y[:60]) for b in (source[:2], fresh))
    assert known.score(digits[60:500], y[60:500]) > new.score(digits[60:500], y[60:500]) + 0.02


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_extremes_and_seeds(labels):
    words = {"n_members": 2, "max_iter": 2, "pseudo_labels": labels, "random_state": 0}
    one = NonparametricTransfer(**words).fit(X[:1], Y[:1])
    np.testing.assert_allclose(one.predict_proba(X[:2]), 1.0)
    a, b = (NonparametricTransfer(pretrained(), **words).fit(X.astype(np.float32), Y) for _ in range(2))
    np.testing.assert_array_equal(a.member_proba(X), b.member_proba(X))
    assert np.isfinite(NonparametricTransfer(**words).fit(1e30 * X, Y).predict_proba(1e30 * X)).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concentration", -1.0),
        ("n_blocks", 0),
        ("pseudo_labels", "some"),
        ("probe_l2", 0.0),
        ("backbone", "resnet"),
    ],
)
def test_errors(name, value):
    with pytest.raises(InvalidParameterError, match=name):
        NonparametricTransfer(**{name: value}).fit(X, Y)


def test_a_backbone_that_returns_images_is_refused():
    with pytest.raises(InvalidParameterError, match="Flatten"):
        NonparametricTransfer(torch.nn.Unflatten(1, (2, 2))).fit(X, Y)
