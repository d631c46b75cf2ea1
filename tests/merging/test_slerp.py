"""SLERP against rotations in the plane that holds both tensors."""

import math

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import slerp


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("angle", [0.1, 1.0, 3.0])
def test_walks_the_circle_at_constant_speed(t, angle):
    a, b = np.array([1.0, 0.0]), np.array([math.cos(angle), math.sin(angle)])
    np.testing.assert_allclose(slerp([a, b], t=t), [math.cos(t * angle), math.sin(t * angle)], atol=1e-12)


def test_length_is_kept_in_any_dimension(rng):
    a, b = (rng.normal(size=(5, 6)) for _ in range(2))
    a, b = (v / np.linalg.norm(v) for v in (a, b))
    assert np.linalg.norm(slerp([a, b], t=0.3)) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(0.7 * a + 0.3 * b) < 0.95  # the average's is not


def test_ends_swap_with_t(rng):
    a, b = (rng.normal(size=7) for _ in range(2))
    np.testing.assert_allclose(slerp([a, b], t=0.2), slerp([b, a], t=0.8), rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_lengths_whose_squares_leave_float32(rng, factor):
    a, b = (rng.normal(size=50) for _ in range(2))
    small = [(v * factor).astype(np.float32) for v in (a, b)]
    np.testing.assert_allclose(slerp(small) / factor, slerp([a, b]), rtol=1e-5)


def test_parallel_and_opposite_tensors_are_averaged():
    a = np.array([1.0, 2.0])
    np.testing.assert_allclose(slerp([a, 3 * a]), 2 * a)
    np.testing.assert_allclose(slerp([a, -a], t=0.25), a / 2)


def test_zero_tensor():
    np.testing.assert_allclose(slerp([np.zeros(3), np.ones(3)], t=0.5), np.full(3, 0.5))


def test_refuses(rng):
    a = rng.normal(size=3)
    with pytest.raises(DataError, match="two tensors"):
        slerp([a, a, a])
    with pytest.raises(InvalidParameterError, match="'t'"):
        slerp([a, a], t=1.5)
