import numpy as np
import pytest
from scipy.spatial.distance import cdist

from corrigible._core.nearest_rows import nearest_rows
from corrigible._core.row_neighbours import row_neighbours


def check(X, k):
    """Compare with all distances in float64."""
    X = np.asarray(X, dtype=np.float32)
    distances, indices = nearest_rows(X, k)
    full = cdist(X.astype(float), X.astype(float))
    np.fill_diagonal(full, np.inf)
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :k], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(full, indices, axis=1), distances, rtol=1e-6, atol=1e-9)
    assert all(len(set(row)) == k for row in indices)
    return distances, indices


@pytest.mark.parametrize(
    ("n", "d", "k"), [(2, 1, 1), (5, 3, 4), (300, 20, 10), (3000, 5, 10), (3000, 1, 3), (1500, 70, 7)]
)
def test_the_nearest_of_all_pairs(rng, n, d, k):
    check(rng.normal(size=(n, d)), k)


@pytest.mark.parametrize(
    "case", ["ties", "equal rows", "one far row", "far from the origin", "two far clusters", "tiny"]
)
def test_where_rounding_matters(rng, case):
    X = rng.normal(size=(2000, 6))
    if case == "ties":
        X = rng.integers(3, size=(2000, 3))
    elif case == "equal rows":
        X[:] = 3.0
    elif case == "one far row":
        X[0] = 1e12
    elif case == "far from the origin":
        X += 1e4
    elif case == "two far clusters":
        X[:1000] += 1e5
    else:
        X *= 1e-12
    check(X, 5)


def test_same_bits_whatever_the_threads(rng):
    X = rng.normal(size=(2500, 4)).astype(np.float32)
    one, two = (nearest_rows(X, 6, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_distances_go_with_the_scale(rng, scale):
    X = rng.normal(size=(400, 3))
    plain, scaled = (row_neighbours(x, 4, by="test") for x in (X, X * scale))
    np.testing.assert_array_equal(plain.indices, scaled.indices)
