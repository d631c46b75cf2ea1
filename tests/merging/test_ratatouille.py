"""Ratatouille: starts, averages and choices by hand."""

import copy
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import Ratatouille, UniformSoup


@pytest.fixture
def models(rng):
    """Return a base and three auxiliary models with heads of other shapes."""
    base = {"body.w": rng.normal(size=(3, 2)), "body.b": rng.normal(size=3), "head.w": rng.normal(size=(4, 3))}
    others = [
        {"body.w": rng.normal(size=(3, 2)), "body.b": rng.normal(size=3), "head.w": rng.normal(size=(n, 3))}
        for n in (4, 2, 7)
    ]
    return base, others


def test_starts_have_foreign_bodies_and_the_probed_head(models):
    base, others = models

    def probe(model):
        return model | {"head.w": np.full((4, 3), 9.0)}

    found = Ratatouille(lambda m, run: m, probe=probe).fit(base, others)
    assert len(found.starts_) == 4
    for start, body in zip(found.starts_, [base, *others], strict=True):
        np.testing.assert_array_equal(start["body.w"], body["body.w"])
        np.testing.assert_array_equal(start["body.b"], body["body.b"])
        np.testing.assert_array_equal(start["head.w"], np.full((4, 3), 9.0))
    assert len(Ratatouille(lambda m, run: m, include_base=False).fit(base, others).starts_) == 3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_the_average_is_of_what_fine_tuning_gave(seed, n_runs):
    rng = np.random.default_rng(seed)
    base = {"a.w": rng.normal(size=4), "b.w": rng.normal(size=2)}
    others = [{"a.w": rng.normal(size=4), "b.w": np.zeros(5)} for _ in range(2)]
    moves = [{"a.w": rng.normal(size=4), "b.w": rng.normal(size=2)} for _ in range(n_runs)]
    found = Ratatouille(lambda m, run: {k: m[k] + moves[run][k] for k in m}, n_runs=n_runs).fit(base, others)
    step = {k: np.mean([m[k] for m in moves], axis=0) for k in base}
    body = np.mean([m["a.w"] for m in (base, *others)], axis=0)
    np.testing.assert_allclose(found.weights_["a.w"], body + step["a.w"], atol=1e-12)
    np.testing.assert_allclose(found.weights_["b.w"], base["b.w"] + step["b.w"], atol=1e-12)
    assert len(found.models_) == 3 * n_runs


def test_without_fine_tuning_apart_it_is_the_soup(models):
    base, _ = models
    found = Ratatouille(lambda m, run: {k: v + run for k, v in m.items()}, n_runs=3).fit(base, [base])
    soup = UniformSoup().fit([{k: v + run for k, v in base.items()} for run in range(3)]).weights_
    for k, v in soup.items():
        np.testing.assert_allclose(found.weights_[k], v, atol=1e-12)


def test_starts_stay_as_they_were(models):
    base, others = models
    kept = copy.deepcopy((base, others))

    def greedy_trainer(model, run):
        for value in model.values():
            value += 1
        return model

    found = Ratatouille(greedy_trainer, n_runs=2).fit(base, others)
    np.testing.assert_array_equal(found.starts_[1]["body.w"], others[0]["body.w"])
    np.testing.assert_array_equal(found.models_[1]["body.w"], base["body.w"] + 1)
    for now, before in zip([base, *others], [kept[0], *kept[1]], strict=True):
        for k in before:
            np.testing.assert_array_equal(now[k], before[k])


def test_a_score_leaves_bad_ones_out(models):
    base, others = models
    far = {k: v + 100 for k, v in others[0].items()}
    score = lambda m: -float(np.abs(m["body.w"] - base["body.w"]).sum())  # noqa: E731
    found = Ratatouille(lambda m, run: m, score=score).fit(base, [far, others[1]])
    assert 0 in found.ingredients_
    assert 1 not in found.ingredients_


def test_perceptrons_and_torch(rng):
    from sklearn.neural_network import MLPClassifier

    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y)
        other = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, (y > 0).astype(int))
    found = Ratatouille(lambda m, run: m.partial_fit(X, y)).fit(base, [other])
    np.testing.assert_array_equal(found.starts_[1].coefs_[0], other.coefs_[0])
    np.testing.assert_array_equal(found.starts_[1].coefs_[1], base.coefs_[1])
    mean = np.mean([m.coefs_[1] for m in found.models_], axis=0)
    np.testing.assert_allclose(found.model_.coefs_[1], mean)

    torch = pytest.importorskip("torch")
    net, aux = (torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, n)) for n in (3, 2))
    made = Ratatouille(lambda m, run: m).fit(net, [aux])
    assert torch.equal(made.starts_[1][0].weight, aux[0].weight)
    assert torch.equal(made.starts_[1][2].weight, net[2].weight)
    assert made.model_(torch.as_tensor(X, dtype=torch.float32)).shape == (60, 3)


def test_refuses(models):
    from sklearn.linear_model import LogisticRegression

    base, others = models
    cut = others[0] | {"body.b": np.zeros(2)}
    linear = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    for words, fit, error, said in (
        ({}, (base, []), DataError, "at least one"),
        ({}, (base, [cut]), DataError, r"body.b \(3 in the base, 2 in auxiliary model 0\)"),
        ({"head": ["neck.w"]}, (base, others), DataError, "neck.w"),
        ({"n_runs": 0}, (base, others), InvalidParameterError, "n_runs"),
        ({}, (linear, [linear]), DataError, "body beneath"),
    ):
        with pytest.raises(error, match=said):
            Ratatouille(lambda m, run: m, **words).fit(*fit)
    with pytest.raises(DataError, match="must return"):
        Ratatouille(lambda m, run: None).fit(base, others)
