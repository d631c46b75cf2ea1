"""Model stock: the closest point to the base's centre line, by geometry."""

import numpy as np
import pytest

from corrigible.errors import DataError
from corrigible.merging import model_stock


def test_two_models_by_projection():
    """With equal lengths, the point of the segment base-to-mean that sees the two models at a right angle."""
    base = np.zeros(2)
    angle = 0.6
    tensors = [np.array([np.cos(a), np.sin(a)]) for a in (0.0, angle)]
    found = model_stock(tensors, base)
    mean = (tensors[0] + tensors[1]) / 2
    ratio = np.linalg.norm(found) / np.linalg.norm(mean)
    assert ratio == pytest.approx(2 * np.cos(angle) / (1 + np.cos(angle)), rel=1e-12)


def test_identical_models_stay_and_orthogonal_ones_give_the_base(rng):
    base, a = rng.normal(size=6), rng.normal(size=6)
    np.testing.assert_allclose(model_stock([a, a, a], base), a, rtol=1e-12)
    found = model_stock([base + np.eye(6)[0], base + np.eye(6)[1]], base)
    np.testing.assert_array_equal(found, base)


def test_opposed_models_give_the_base(rng):
    base, step = rng.normal(size=6), rng.normal(size=6)
    np.testing.assert_array_equal(model_stock([base + step, base - step], base), base)


def test_recovers_the_centre_of_noisy_copies(rng):
    base, centre = np.zeros(5000), rng.normal(size=5000)
    tensors = [centre + rng.normal(size=5000) for _ in range(3)]
    stock, average = model_stock(tensors, base), np.mean(tensors, axis=0)
    assert np.linalg.norm(stock - centre) < np.linalg.norm(average - centre)


def test_needs_two():
    with pytest.raises(DataError, match="two"):
        model_stock([np.ones(2)], np.zeros(2))
