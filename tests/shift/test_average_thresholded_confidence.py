import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import AverageThresholdedConfidence


def rows(seed, n=2000, k=4, sharpness=1.0):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    y = (rng.uniform(size=(n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(max=k - 1)
    return softmax(sharpness * logits, axis=1), y


@pytest.mark.parametrize("score", ["max_proba", "entropy"])
def test_by_hand_with_numpy(score):
    (p, y), (q, _) = rows(0), rows(1, sharpness=2.0)
    s = p.max(axis=1) if score == "max_proba" else (p * np.log(p)).sum(axis=1)
    t = q.max(axis=1) if score == "max_proba" else (q * np.log(q)).sum(axis=1)
    threshold = np.sort(s)[(p.argmax(axis=1) != y).sum()]
    method = AverageThresholdedConfidence(score=score).fit(y, p)
    assert method.threshold_ == pytest.approx(threshold)
    assert method.estimate(q).value == pytest.approx((t >= threshold).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 3))
def test_the_reference_gets_its_own_accuracy_also_with_ties(seed, n, digits):
    rng = np.random.default_rng(seed)
    p, y = rng.uniform(size=n).round(digits), rng.integers(2, size=n)
    method = AverageThresholdedConfidence().fit(y, p)
    found = method.estimate(p)
    assert found.value == pytest.approx(np.mean((p > 0.5) == y), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_any_growing_change_of_two_class_confidence_changes_nothing():
    rng = np.random.default_rng(0)
    p, q = rng.uniform(size=500), rng.beta(0.5, 0.5, size=300)
    y = (rng.uniform(size=500) < p).astype(int)
    sharper = lambda v: 0.5 + np.sign(v - 0.5) * np.abs(v - 0.5) ** 1.7 * 2**0.7  # noqa: E731
    first = AverageThresholdedConfidence().fit(y, p).estimate(q).value
    assert AverageThresholdedConfidence().fit(y, sharper(p)).estimate(sharper(q)).value == first


def test_intervals_hold_the_realised_accuracy():
    held = []
    for seed in range(200):
        (p, y), (q, z) = rows(2 * seed, n=400), rows(2 * seed + 1, n=300)
        found = AverageThresholdedConfidence().fit(y, p).estimate(q)
        held.append(found.low <= (q.argmax(axis=1) == z).mean() <= found.high)
    assert 0.9 <= np.mean(held)


def test_chunks():
    p, y = rows(0)
    method = AverageThresholdedConfidence().fit(y, p)
    values = [e.value for e in method.estimate(p, chunks=500)]
    assert len(values) == 4
    assert np.mean(values) == pytest.approx(method.accuracy_)


@pytest.mark.parametrize("y", [np.zeros(20, int), np.ones(20, int)])
def test_all_right_or_all_wrong(y):
    p = np.linspace(0.6, 0.9, 20).astype(np.float32)
    assert AverageThresholdedConfidence().fit(y, p).estimate(p).value == pytest.approx(y[0])


def test_bad_input():
    with pytest.raises(InvalidParameterError, match="'score'"):
        AverageThresholdedConfidence(score="margin").fit([0, 1], [0.2, 0.8])
    with pytest.raises(DataError, match="AverageThresholdedConfidence"):
        AverageThresholdedConfidence().fit([0, 2], [0.2, 0.8])
    with pytest.raises(DataError, match="must have 4 columns"):
        AverageThresholdedConfidence().fit(*rows(0)[::-1]).estimate([0.5])
