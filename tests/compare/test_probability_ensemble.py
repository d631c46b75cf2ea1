import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from corrigible.compare import ProbabilityEnsemble, complementarity, read_probabilities, write_probabilities
from corrigible.errors import DataError, InvalidParameterError


def sample(seed, n=200, m=4):
    rng = np.random.default_rng(seed)
    return rng.beta(*rng.uniform(0.5, 3, size=(2, m)), size=(n, m)).clip(1e-6, 1)


def loss(p, w):
    return -np.log(p @ w).mean()


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_a_general_solver(seed):
    p = sample(seed)
    other = minimize(
        lambda w: loss(p, w), np.full(4, 0.25), jac=lambda w: -(p / (p @ w)[:, None]).mean(axis=0), method="SLSQP",
        bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14},
    )  # fmt: skip
    found = ProbabilityEnsemble().fit(p)
    assert found.loss_ <= other.fun + 1e-9
    np.testing.assert_allclose(found.weights_, other.x, atol=1e-4)
    assert found.gap_ <= 1e-9
    np.testing.assert_allclose(found.losses_, -np.log(p).mean(axis=0))


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_the_certificate_holds_and_no_model_beats_the_mixture(seed, n, m):
    p = sample(seed, n, m)
    found = ProbabilityEnsemble().fit(p)
    assert found.weights_.sum() == pytest.approx(1)
    assert (found.weights_ >= 0).all()
    assert found.gap_ <= 1e-9
    assert found.loss_ <= found.losses_.min() + 1e-9
    rng = np.random.default_rng(seed)
    for w in rng.dirichlet(np.ones(m), size=20):
        assert found.loss_ <= loss(p, w) + found.gap_ + 1e-12


def test_known_answers():
    # Two experts of a coin that shows heads in 3 of 4: weights follow the shares of what came.
    sure = np.r_[np.tile([[1.0, 0.0]], (3, 1)), [[0.0, 1.0]]]
    found = ProbabilityEnsemble().fit(sure)
    np.testing.assert_allclose(found.weights_, [0.75, 0.25], atol=1e-6)
    assert found.losses_[0] == np.inf
    better = np.c_[np.full(5, 0.9), np.full(5, 0.1)]
    np.testing.assert_allclose(ProbabilityEnsemble().fit(better).weights_, [1, 0], atol=1e-8)
    assert ProbabilityEnsemble().fit([[0.5]]).weights_.tolist() == [1.0]


def test_scale_of_items_and_order_of_models_do_not_matter():
    p = sample(0)
    w = ProbabilityEnsemble().fit(p).weights_
    scaled = ProbabilityEnsemble().fit(p * np.random.default_rng(1).uniform(1e-30, 1, size=(200, 1))).weights_
    np.testing.assert_allclose(scaled, w, atol=1e-5)
    np.testing.assert_allclose(ProbabilityEnsemble().fit(p[:, ::-1]).weights_, w[::-1], atol=1e-5)
    np.testing.assert_allclose(ProbabilityEnsemble().fit(p.astype(np.float32)).weights_, w, atol=1e-4)


def test_transform_mixes_what_came_and_whole_distributions():
    p = sample(0)
    found = ProbabilityEnsemble().fit(p)
    np.testing.assert_allclose(found.transform(p), p @ found.weights_)
    whole = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 4)).transpose(0, 2, 1)
    np.testing.assert_allclose(found.transform(whole).sum(axis=1), 1)
    with pytest.raises(DataError, match="last axis"):
        found.transform(p[:, :2])


def test_a_weak_model_that_errs_elsewhere_adds_more_than_a_copy():
    rng = np.random.default_rng(0)
    good = rng.uniform(0.05, 0.9, size=600)
    proba = np.column_stack([good, good, np.where(good < 0.4, 0.7, 0.1)])
    found = complementarity(proba, models=["good", "copy", "other"], rng=0)
    assert found.alone[2] > found.alone[0]
    assert found.low[2] > 0
    assert found.gain[1] == pytest.approx(0, abs=1e-6)
    assert found.to_frame().index[0] == "other"
    assert found.gain_over_best[1] > 0


def test_noise_adds_nothing_on_items_not_fitted():
    rng = np.random.default_rng(0)
    proba = np.column_stack([rng.uniform(0.4, 0.9, 400), rng.uniform(0.001, 0.02, 400)])
    found = complementarity(proba, rng=0)
    assert found.gain[1] <= 1e-6
    same = complementarity(proba, rng=0)
    np.testing.assert_array_equal(found.low, same.low)


def test_files_come_back_matched_by_item(tmp_path):
    p, ids = sample(0, 30, 2), [f"w{i}" for i in range(30)]
    write_probabilities(tmp_path / "a.parquet", p[:, 0], ids=ids, model="a", task="words")
    order = np.random.default_rng(0).permutation(30)
    write_probabilities(tmp_path / "b.parquet", p[order, 1], ids=np.array(ids)[order], model="b", task="words")
    table = read_probabilities([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    np.testing.assert_allclose(table.to_numpy(), p)
    assert table.columns.tolist() == ["a", "b"]


def test_files_that_do_not_fit_are_refused(tmp_path):
    ids = ["x", "y"]
    write_probabilities(tmp_path / "a.parquet", [0.5, 0.5], ids=ids, model="a", task="t")
    write_probabilities(tmp_path / "b.parquet", [0.5, 0.5], ids=["x", "z"], model="b", task="t")
    write_probabilities(tmp_path / "c.parquet", [0.5, 0.5], ids=ids, model="c", task="u")
    with pytest.raises(DataError, match="items of the first"):
        read_probabilities([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(InvalidParameterError, match="task"):
        read_probabilities([tmp_path / "a.parquet", tmp_path / "c.parquet"])
    with pytest.raises(DataError, match="again"):
        read_probabilities([tmp_path / "a.parquet"] * 2)
    with pytest.raises(DataError, match="cannot read"):
        read_probabilities([tmp_path / "none.parquet"])
    with pytest.raises(DataError, match="not all 0"):
        write_probabilities(tmp_path / "d.parquet", [0.0, 0.5], ids=ids, model="a", task="t")
    with pytest.raises(DataError, match="different values"):
        write_probabilities(tmp_path / "d.parquet", [0.1, 0.5], ids=["x", "x"], model="a", task="t")
    assert not (tmp_path / "d.parquet").exists()


@pytest.mark.parametrize(
    "bad", [[[1.2, 0.1]], [[0.0, 0.0]], [[np.nan, 0.5]], [0.5, 0.5], np.empty((0, 2)), [[-0.1, 0.5]]]
)
def test_bad_probabilities(bad):
    with pytest.raises(DataError, match="proba"):
        ProbabilityEnsemble().fit(bad)
