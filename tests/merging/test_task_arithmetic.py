"""Task arithmetic: addition, forgetting and analogy, each by its equation."""

import numpy as np
import pytest

from corrigible.errors import DataError
from corrigible.merging import task_arithmetic


def test_adds_task_vectors(rng):
    base, a, b = (rng.normal(size=(4, 3)) for _ in range(3))
    expected = base + 0.4 * (0.5 * (a - base) + 2 * (b - base))
    np.testing.assert_allclose(task_arithmetic([a, b], base, weights=[0.5, 2], scale=0.4), expected, rtol=1e-13)


def test_negation_forgets_what_addition_learnt(rng):
    base, a = rng.normal(size=6), rng.normal(size=6)
    learnt = task_arithmetic([a], base)
    np.testing.assert_allclose(learnt, a)
    forgotten = learnt + (task_arithmetic([a], base, weights=[-1]) - base)
    np.testing.assert_allclose(forgotten, base, atol=1e-14)


def test_normalized_weights_are_shares(rng):
    base, a, b = (rng.normal(size=5) for _ in range(3))
    found = task_arithmetic([a, b], base, weights=[3, 1], normalize=True)
    np.testing.assert_allclose(found, 0.75 * a + 0.25 * b, rtol=1e-12)
    # Weights that cancel cannot be made shares: they are taken as they are.
    found = task_arithmetic([a, b], base, weights=[1, -1], normalize=True)
    np.testing.assert_allclose(found, base + a - b, rtol=1e-12)


def test_refuses_to_do_without_a_base(rng):
    with pytest.raises(DataError, match="base"):
        task_arithmetic([rng.normal(size=3)], None)
