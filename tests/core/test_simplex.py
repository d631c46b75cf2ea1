"""Largest values and values of labels by row, against numpy's own."""

import numpy as np
import pytest

from corrigible._core.simplex import of_label, row_maxima


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("k", [2, 3, 32, 33, 200])
def test_rows_of_any_length_and_layout(k, order):
    rng = np.random.default_rng(k)
    p = np.asarray(rng.integers(5, size=(300, k)) / 4, order=order)  # many ties
    best, top = row_maxima(p)
    np.testing.assert_array_equal(best, p.argmax(axis=1))
    np.testing.assert_array_equal(top, p.max(axis=1))
    labels = rng.integers(k, size=300)
    np.testing.assert_array_equal(of_label(p, labels), p[np.arange(300), labels])


def test_rows_that_are_every_other_row():
    p = np.random.default_rng(0).normal(size=(20, 4))[::2]
    labels = np.arange(10) % 4
    np.testing.assert_array_equal(of_label(p, labels), p[np.arange(10), labels])
    np.testing.assert_array_equal(row_maxima(-p)[0], (-p).argmax(axis=1))
