"""Kinship against scipy on flattened changes, and the search by its rules."""

import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import pearsonr

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import KinshipMerging, model_kinship


@pytest.fixture
def models(rng):
    return [{"a": rng.normal(size=(4, 3)), "b": rng.normal(1, 1, size=5)} for _ in range(7)]


def flat(m):
    return np.concatenate([m["a"].ravel(), m["b"]])


def test_agrees_with_scipy(models):
    base, a, b = models[:3]
    x, y = flat(a) - flat(base), flat(b) - flat(base)
    assert model_kinship(a, b, base) == pytest.approx(pearsonr(x, y).statistic)
    assert model_kinship(a, b, base, metric="cs") == pytest.approx(1 - distance.cosine(x, y))
    assert model_kinship(a, b, base, metric="ed") == pytest.approx(distance.euclidean(x, y))


def test_a_model_and_itself(models):
    base, a = models[:2]
    assert model_kinship(a, a, base) == pytest.approx(1)
    assert model_kinship(a, a, base, metric="ed") == 0
    assert np.isnan(model_kinship(a, base, base))


def test_search_merges_the_best_and_explores_the_least_kin(models):
    base, *pool = models

    def score(m):
        return -float((flat(m) ** 2).sum())

    found = KinshipMerging(score, k=2, max_generations=3).fit(pool, base)
    first = [m for m in found.merges_ if m.generation == 1]
    order = sorted(range(6), key=lambda i: -score(pool[i]))
    assert first[0].parents == tuple(sorted(order[:2]))
    others = [i for i in range(6) if i not in order[:2]]
    least = min(others, key=lambda i: model_kinship(pool[order[0]], pool[i], base))
    assert first[1].parents == tuple(sorted((order[0], least)))
    assert first[1].explored
    assert found.score_ == found.scores_.max() >= max(map(score, pool))
    for m in found.merges_[:2]:
        a, b = (pool[i] for i in m.parents)
        assert m.score == pytest.approx(score({k: (a[k] + b[k]) / 2 for k in a}))
        assert m.gain == pytest.approx(m.score - (score(a) + score(b)) / 2)
    plain = KinshipMerging(score, k=2, max_generations=3, explore=False).fit(pool, base)
    assert not any(m.explored for m in plain.merges_)


def test_no_pair_is_merged_twice(models):
    found = KinshipMerging(lambda m: float(flat(m).sum()), k=3, max_generations=9).fit(models[1:], models[0])
    pairs = [m.parents for m in found.merges_]
    assert len(pairs) == len(set(pairs))


def test_refuses(models):
    with pytest.raises(DataError, match="needs two"):
        KinshipMerging(lambda m: 0.0).fit(models[:1], models[1])
    with pytest.raises(InvalidParameterError, match="'pcc'"):
        model_kinship(*models[:3], metric="pc")
    with pytest.raises(DataError, match="architecture"):
        model_kinship(models[0], {"a": models[0]["a"]}, models[1])
