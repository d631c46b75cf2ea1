import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import DifferenceOfConfidences


def test_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.5, 0.1]])
    method = DifferenceOfConfidences().fit([0, 2, 0], p)
    found = method.estimate(p[:2])
    assert found.value == pytest.approx(2 / 3 + 0.75 - 2 / 3)
    right, sure = np.array([1, 1, 0]), np.array([0.7, 0.8, 0.5])
    assert found.standard_error == pytest.approx(
        np.sqrt((right - sure).var() / 3 + found.value * (1 - found.value) / 2)
    )


def test_calibrated_scores_give_the_accuracy_of_easier_rows(rng):
    p, q = rng.beta(2, 2, size=50_000), rng.beta(0.5, 0.5, size=50_000)
    y, z = (rng.uniform(size=50_000) < p).astype(int), (rng.uniform(size=50_000) < q).astype(int)
    found = DifferenceOfConfidences().fit(y, p).estimate(q)
    assert found.value == pytest.approx(((q > 0.5) == z).mean(), abs=0.01)


def test_intervals_hold_the_realised_accuracy(rng):
    held = []
    for _ in range(300):
        p, q = rng.beta(2, 2, size=300), rng.beta(1, 1, size=200)
        y, z = (rng.uniform(size=300) < p).astype(int), (rng.uniform(size=200) < q).astype(int)
        found = DifferenceOfConfidences().fit(y, p).estimate(q)
        held.append(found.low <= ((q > 0.5) == z).mean() <= found.high)
    assert 0.91 <= np.mean(held) <= 0.99


def test_never_outside_0_and_1():
    method = DifferenceOfConfidences().fit([1, 1], np.array([0.6, 0.6], dtype=np.float32))
    assert method.estimate([1.0, 1.0]).value == 1.0
    method = DifferenceOfConfidences().fit([0, 0], [1.0, 1.0])
    assert method.estimate([0.5]).value == 0.0


def test_chunks_and_bad_input():
    method = DifferenceOfConfidences().fit([0, 1], [0.2, 0.8])
    assert len(method.estimate([0.1, 0.2, 0.3], chunks=[0, 0, 1])) == 2
    with pytest.raises(InvalidParameterError, match="'confidence'"):
        DifferenceOfConfidences(confidence=1.0).fit([0, 1], [0.2, 0.8])
    with pytest.raises(DataError, match="DifferenceOfConfidences"):
        DifferenceOfConfidences().fit([0, 1], [0.2, np.nan])
