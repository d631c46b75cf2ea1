"""Breadcrumbs against a sort of each task vector."""

import numpy as np
import pytest

from corrigible.errors import InvalidParameterError
from corrigible.merging import breadcrumbs, ties


@pytest.mark.parametrize(("density", "outliers"), [(0.5, 0.1), (0.9, 0.05), (0.9, 0.3), (1.0, 0.2), (0.3, 0.0)])
def test_keeps_the_middle(rng, density, outliers):
    base, a = rng.normal(size=200), rng.normal(size=200)
    found = breadcrumbs([a], base, density=density, outliers=outliers)
    kept = int(density * 200)
    top = min(int(outliers * 200), 200 - kept)
    order = np.argsort(-np.abs(a - base))
    expected = base.copy()
    expected[order[top : top + kept]] = a[order[top : top + kept]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_outliers_it_is_trimming(rng):
    base = rng.normal(size=60)
    tensors = [base + rng.normal(size=60) for _ in range(3)]
    found = breadcrumbs(tensors, base, density=0.4, outliers=0.0, elect_signs=True, normalize=True)
    np.testing.assert_allclose(found, ties(tensors, base, density=0.4), rtol=1e-12)


def test_refuses_shares_outside(rng):
    with pytest.raises(InvalidParameterError, match="outliers"):
        breadcrumbs([np.ones(2)], np.ones(2), outliers=2)
