"""Soups: averages, greedy choice against trying by hand, learnt mixtures against a solved least-squares problem."""

import numpy as np
import pytest

from corrigible._core.tensor_files import write_tensors
from corrigible.errors import DataError
from corrigible.merging import GreedySoup, LearnedSoup, UniformSoup


@pytest.fixture
def models(rng):
    return [{"a": rng.normal(size=(3, 2)), "b": rng.normal(size=2)} for _ in range(5)]


def near(target):
    return lambda m: -float(sum(((m[k] - target[k]) ** 2).sum() for k in target))


def test_uniform_is_the_mean(models):
    soup = UniformSoup().fit(models).weights_
    for k in ("a", "b"):
        np.testing.assert_allclose(soup[k], np.mean([m[k] for m in models], axis=0), atol=1e-15)


def test_greedy_by_hand(models, rng):
    target = {k: np.mean([m[k] for m in models[:3]], axis=0) for k in models[0]}
    score = near(target)
    found = GreedySoup(score).fit(models)
    order = sorted(range(5), key=lambda i: -score(models[i]))
    kept, best = [order[0]], score(models[order[0]])
    for i in order[1:]:
        mean = {k: np.mean([models[j][k] for j in [*kept, i]], axis=0) for k in target}
        if score(mean) >= best:
            kept, best = [*kept, i], score(mean)
    assert found.ingredients_ == kept
    assert found.score_ == pytest.approx(best)
    assert found.score_ >= found.scores_.max()


def test_learned_mixture_is_the_least_squares_one(models):
    mixture = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    target = {k: sum(w * m[k] for w, m in zip(mixture, models, strict=True)) for k in models[0]}
    found = LearnedSoup(near(target), max_iter=2000).fit(models)
    np.testing.assert_allclose(found.mixture_, mixture, atol=0.01)
    assert found.score_ >= near(target)(UniformSoup().fit(models).weights_)


@pytest.mark.parametrize(
    "method", [lambda: UniformSoup(), lambda: GreedySoup(lambda m: 0.0), lambda: LearnedSoup(lambda m: 0.0)]
)
def test_equal_models_give_the_model(models, method):
    soup = method().fit([models[0]] * 4).weights_
    for k, v in models[0].items():
        np.testing.assert_array_equal(soup[k], v)


def test_files_and_one_model(models, tmp_path):
    for i, m in enumerate(models):
        write_tensors(tmp_path / f"{i}.safetensors", m)
    paths = [tmp_path / f"{i}.safetensors" for i in range(5)]
    np.testing.assert_array_equal(UniformSoup().fit(paths).weights_["a"], UniformSoup().fit(models).weights_["a"])
    np.testing.assert_array_equal(GreedySoup(lambda m: 1.0).fit(paths[:1]).weights_["a"], models[0]["a"])
    assert LearnedSoup(lambda m: 1.0).fit(paths[:1]).mixture_ == [1.0]


def test_estimators_come_back_as_estimators():
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True)
    fits = [LogisticRegression(max_iter=2000).fit(X[i::3], y[i::3]) for i in range(3)]
    found = GreedySoup(lambda m: m.score(X, y)).fit(fits)
    assert found.model_.score(X, y) == found.score_


def test_refuses(models):
    with pytest.raises(DataError, match="at least one"):
        UniformSoup().fit([])
    with pytest.raises(DataError, match="architecture"):
        UniformSoup().fit([models[0], {"a": models[0]["a"]}])
    with pytest.raises(DataError, match="NaN"):
        GreedySoup(lambda m: float("nan")).fit(models)
