"""ExPO: the straight line beyond a trained model, and the search along it."""

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import expo, search_expo


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.3, 2.0])
def test_lies_on_the_line(rng, alpha):
    base, a = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(expo([a], base, alpha=alpha), (1 + alpha) * a - alpha * base, atol=1e-12)


def test_search_finds_the_best_point(rng):
    base, step = rng.normal(size=10), rng.normal(size=10)
    trained, best = base + step, base + 1.4 * step
    found = search_expo({"w": trained}, {"w": base}, lambda m: -float(((m["w"] - best) ** 2).sum()))
    assert found.alpha == 0.4
    np.testing.assert_allclose(found.weights["w"], best)
    assert found.scores[0.0] < found.score


def test_search_keeps_the_trained_model_where_going_on_is_no_better():
    trained, base = {"w": np.ones(2)}, {"w": np.zeros(2)}
    found = search_expo(trained, base, lambda m: 1.0)
    assert found.alpha == 0
    np.testing.assert_array_equal(found.weights["w"], trained["w"])


def test_refuses(rng):
    a = rng.normal(size=2)
    with pytest.raises(DataError, match="one trained model"):
        expo([a, a], a)
    with pytest.raises(DataError, match=r"w \(2 in model 0, absent in model 1\)"):
        search_expo({"w": a}, {"v": a}, lambda m: 0.0)
    with pytest.raises(InvalidParameterError, match="alphas"):
        search_expo({"w": a}, {"w": a}, lambda m: 0.0, alphas=())
