"""Twin-Merging: low-rank parts against numpy's, mixtures by hand, experts recovered at full rank."""

import copy
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier

from corrigible._core.model_weights import weights_of
from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import LowRankUpdate, TwinMerging


@pytest.fixture(scope="module")
def made():
    """Return two experts, their base, rows of each task and labels; the tasks lie apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=240)
    centres = rng.normal(size=(2, 3, 5))
    tasks = [c[y] + 6 * i + 0.3 * rng.normal(size=(240, 5)) for i, c in enumerate(centres)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = MLPClassifier((8,), max_iter=5, learning_rate_init=0.01, random_state=0).fit(
            np.concatenate(tasks), np.tile(y, 2)
        )
        experts = [copy.deepcopy(base) for _ in tasks]
        for expert, rows in zip(experts, tasks, strict=True):
            for _ in range(150):
                expert.partial_fit(rows, y)
    return experts, base, tasks, y


def test_shared_and_exclusive_parts_by_hand(made):
    experts, base, tasks, _ = made
    twin = TwinMerging(scale=0.4, rank=0.5, random_state=0).fit(experts, base, tasks)
    start, tuned = weights_of(base, by="test"), [weights_of(e, by="test") for e in experts]
    for name, value in start.items():
        shared = value + 0.4 * sum(t[name] - value for t in tuned)
        np.testing.assert_allclose(twin.shared_[name], shared, atol=1e-12)
        for one, t in zip(twin.exclusive_, tuned, strict=True):
            change = t[name] - shared
            if change.ndim == 2:
                u, s, v = np.linalg.svd(change, full_matrices=False)
                rank = max(1, len(s) // 2)
                change = (u[:, :rank] * s[:rank]) @ v[:rank]
            np.testing.assert_allclose(one.tensor(name), change, atol=1e-12)


def test_a_sure_router_gives_back_the_experts(made):
    experts, base, tasks, _ = made
    twin = TwinMerging(rank=1.0, max_iter=300, random_state=0).fit(experts, base, tasks)
    for i, (expert, rows) in enumerate(zip(experts, tasks, strict=True)):
        mixture = twin.mixtures(rows)
        np.testing.assert_allclose(mixture.sum(axis=1), 1)
        assert (mixture[:, i] > 0.95).all()
        mine = twin.model_for(np.eye(2)[i])
        np.testing.assert_allclose(mine.predict_proba(rows), expert.predict_proba(rows), atol=1e-9)


def test_each_row_is_answered_by_its_mixture(made):
    experts, base, tasks, _ = made
    twin = TwinMerging(random_state=0, decimals=None).fit(experts, base, tasks)
    rows = np.concatenate([t[:6] for t in tasks])
    by_hand = [twin.model_for(m).predict_proba(r[None])[0] for m, r in zip(twin.mixtures(rows), rows, strict=True)]
    np.testing.assert_allclose(twin.outputs(rows), by_hand, atol=1e-12)
    rounded = TwinMerging(random_state=0, decimals=3).fit(experts, base, tasks)
    np.testing.assert_allclose(rounded.outputs(rows), by_hand, atol=0.02)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_array_equal(rounded.outputs(rows[order]), rounded.outputs(rows)[order])


def test_labels_and_seeds(made):
    experts, base, tasks, y = made
    twin = TwinMerging(rank=0.5, random_state=3).fit(experts, base, tasks)
    again = TwinMerging(rank=0.5, random_state=3).fit(experts, base, tasks)
    np.testing.assert_array_equal(twin.outputs(tasks[0]), again.outputs(tasks[0]))
    assert all((twin.predict_class(rows) == y).mean() > 0.9 for rows in tasks)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 1), st.sampled_from([(4, 6), (6, 4), (3, 2, 2, 2)]))
def test_no_matrix_of_that_rank_is_nearer(seed, share, shape):
    value = np.random.default_rng(seed).normal(size=shape)
    update = LowRankUpdate.of({"w": value, "b": value[0]} if len(shape) == 2 else {"w": value}, share)
    flat = value.reshape(shape[0], -1)
    s = np.linalg.svd(flat, compute_uv=False)
    rank = max(1, int(share * len(s)))
    found = update.tensor("w").reshape(flat.shape)
    assert np.linalg.matrix_rank(found) == rank
    assert np.linalg.norm(found - flat) == pytest.approx(np.sqrt((s[rank:] ** 2).sum()), abs=1e-9)
    if len(shape) == 2:
        np.testing.assert_array_equal(update.tensor("b"), value[0])
        assert update.n_values == rank * sum(flat.shape) + shape[1]


def test_own_functions(made):
    experts, base, tasks, _ = made
    twin = TwinMerging(embed=lambda m, X: np.asarray(X)[:, :2], predict=lambda m, X: m.predict(X), random_state=0)
    assert twin.fit(experts, base, tasks).outputs(tasks[1]).shape == (240,)
    assert twin.router_.n_features_in_ == 2


def test_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    base = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    experts = [copy.deepcopy(base) for _ in range(2)]
    with torch.no_grad():
        for e in experts:
            for p in e.parameters():
                p.add_(torch.randn_like(p))
        tasks = [torch.randn(40, 1, 3, 3) + 5 * i for i in range(2)]
        twin = TwinMerging(rank=1.0, random_state=0).fit(experts, base, tasks)
        for i in range(2):
            assert twin.outputs(tasks[i]).shape == (40, 2)
            found = twin.model_for(np.eye(2)[i])(tasks[i])
            np.testing.assert_allclose(found.numpy(), experts[i](tasks[i]).numpy(), atol=1e-4)


def test_refuses(made):
    experts, base, tasks, _ = made
    for words, fit, error, said in (
        ({}, (experts[:1], base, tasks[:1]), DataError, "two experts"),
        ({}, (experts, base, tasks[:1]), DataError, "each task"),
        ({}, (experts, base, [tasks[0], tasks[1][:0]]), DataError, "has none"),
        ({"rank": 1.5}, (experts, base, tasks), InvalidParameterError, "rank"),
        ({"decimals": -1}, (experts, base, tasks), InvalidParameterError, "decimals"),
    ):
        with pytest.raises(error, match=said):
            TwinMerging(**words).fit(*fit)
