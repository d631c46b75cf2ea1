"""TIES against a loop over single weights, and the threshold against a sort."""

import numpy as np
import pytest

from corrigible._core import tensor_blocks
from corrigible._core.tensor_blocks import kth_largest
from corrigible.errors import InvalidParameterError
from corrigible.merging import ties


def by_loop(tensors, base, density, weights, normalize):
    deltas = [(t - base).ravel() for t in tensors]
    for d, share in zip(deltas, density, strict=True):
        kept = int(share * d.size)
        order = np.argsort(-np.abs(d), kind="stable")
        d[order[kept:]] = 0
    merged = np.zeros(base.size)
    for i in range(base.size):
        parts = [(w * d[i], w) for w, d in zip(weights, deltas, strict=True)]
        up = sum(p for p, _ in parts) >= 0
        agreeing = [(p, w) for p, w in parts if p != 0 and (p > 0) == up]
        total, share = sum(p for p, _ in agreeing), sum(w for _, w in agreeing)
        merged[i] = total / share if normalize and share else total
    return base + merged.reshape(base.shape)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("block", [7, 1 << 17])
def test_agrees_with_a_loop(rng, monkeypatch, normalize, block):
    monkeypatch.setattr(tensor_blocks, "BLOCK", block)
    base = rng.normal(size=(9, 11))
    tensors = [base + rng.normal(size=base.shape) for _ in range(3)]
    density, weights = [0.2, 0.5, 1.0], [1.0, 0.3, 2.0]
    found = ties(tensors, base, density=density, weights=weights, normalize=normalize)
    np.testing.assert_allclose(found, by_loop(tensors, base, density, weights, normalize), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 50, 999, 1000])
def test_threshold_is_the_kth_largest(rng, dtype, k):
    values = np.abs(rng.normal(size=1000) * 10.0 ** rng.integers(-30, 30, size=1000)).astype(dtype)
    values[::7] = values[3]  # ties
    values[::11] = 0
    found = kth_largest(lambda: iter(np.array_split(values, 6)), k)
    assert found == np.sort(values)[-k]


def test_density_none_and_all(rng):
    base, a = rng.normal(size=20), rng.normal(size=20)
    np.testing.assert_array_equal(ties([a], base, density=0.0), base)
    np.testing.assert_allclose(ties([a], base, density=1.0), a)


def test_one_task_vector_is_its_trimmed_self(rng):
    base = np.zeros(10)
    a = np.array([5.0, -4, 3, -2, 1, 0.5, 0.4, 0.3, 0.2, 0.1])
    np.testing.assert_array_equal(ties([a], base, density=0.3), [5, -4, 3, 0, 0, 0, 0, 0, 0, 0])


def test_refuses_a_density_outside(rng):
    base = rng.normal(size=3)
    for density in (1.5, [0.1, 0.2], np.nan):
        with pytest.raises(InvalidParameterError, match="density"):
            ties([base], base, density=density)
