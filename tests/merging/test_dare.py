"""DARE: what is dropped, what is kept, and that the task vector stays the same on average."""

import numpy as np
import pytest

from corrigible._core import tensor_blocks
from corrigible.errors import InvalidParameterError
from corrigible.merging import dare, ties


def test_kept_values_are_scaled_and_the_mean_stays(rng):
    base = rng.normal(size=40_000)
    delta = rng.normal(size=base.size)
    found = dare([base + delta], base, density=0.2, rng=0) - base
    kept = found != 0
    assert kept.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / base.size))
    np.testing.assert_allclose(found[kept], 5 * delta[kept], rtol=1e-9)
    plain = dare([base + delta], base, density=0.2, rescale=False, rng=0) - base
    np.testing.assert_allclose(plain[kept], delta[kept], rtol=1e-9)


def test_models_drop_independently(rng):
    base = np.zeros(40_000)
    found = dare([np.ones(base.size), np.full(base.size, 10.0)], base, density=0.5, rescale=False, rng=1)
    shares = [np.mean(found == v) for v in (0, 1, 10, 11)]
    np.testing.assert_allclose(shares, 0.25, atol=0.02)


def test_everything_kept_is_the_sum(rng):
    base, a, b = (rng.normal(size=8) for _ in range(3))
    np.testing.assert_allclose(dare([a, b], base, density=1.0), a + b - base, rtol=1e-12)
    np.testing.assert_allclose(
        dare([a, b], base, density=1.0, elect_signs=True, normalize=True),
        ties([a, b], base, density=1.0),
        rtol=1e-12,
    )


def test_the_seed_decides_not_the_blocks(rng, monkeypatch):
    base, a = rng.normal(size=100).astype(np.float32), rng.normal(size=100).astype(np.float32)
    whole = dare([a], base, rng=3)
    monkeypatch.setattr(tensor_blocks, "BLOCK", 9)
    np.testing.assert_array_equal(dare([a], base, rng=3), whole)
    assert not np.array_equal(dare([a], base, rng=4), whole)


def test_refuses_a_density_outside(rng):
    with pytest.raises(InvalidParameterError, match="density"):
        dare([np.ones(2)], np.ones(2), density=-0.1)
