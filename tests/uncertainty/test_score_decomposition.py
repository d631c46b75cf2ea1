import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import ScoreDecompositionSum, score_decomposition


def draw(rng, n, k):
    z = 1.5 * rng.normal(size=(n, k))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    q = np.exp(2 * z)
    return y, q / q.sum(1, keepdims=True)


@pytest.mark.parametrize("score", ["brier", "log"])
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_sum_to_the_score(rng, score, k, weighted):
    y, p = draw(rng, 500, k)
    w = rng.uniform(size=500) if weighted else None
    parts = score_decomposition(y, p, score=score, sample_weight=w)
    if score == "log":
        expected = log_loss(y, p, sample_weight=w)
    else:
        rows = ((p - np.eye(k)[y]) ** 2).sum(1) / (2 if k == 2 else 1)
        expected = np.average(rows, weights=w)
    assert parts.score == pytest.approx(expected)
    assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(parts.score, abs=1e-14)


@pytest.mark.parametrize("metric", [("brier", brier_score_loss), ("log", log_loss)])
def test_corp_by_sklearn(rng, metric):
    y, p = draw(rng, 800, 2)
    p = np.round(p[:, 1], 2)
    recalibrated = IsotonicRegression(y_min=0, y_max=1).fit(p, y).predict(p)
    parts = score_decomposition(y, p, score=metric[0])
    low = metric[1](y, recalibrated)
    assert parts.miscalibration == pytest.approx(metric[1](y, p) - low, abs=1e-10)
    assert parts.discrimination == pytest.approx(metric[1](y, np.full(800, y.mean())) - low, abs=1e-10)
    assert parts.miscalibration >= 0
    assert parts.discrimination >= 0


@pytest.mark.parametrize("score", ["brier", "log"])
def test_binned_parts_are_unbiased(rng, score):
    """Three stated vectors, twenty rows each: means over draws against the exact parts."""
    stated = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])
    true = np.array([[0.5, 0.3, 0.2], [0.25, 0.5, 0.25], [0.2, 0.3, 0.5]])
    if score == "brier":
        value = lambda q, f: 1 - 2 * (q * f).sum(-1) + (q * q).sum(-1)  # noqa: E731
    else:
        value = lambda q, f: -(f * np.log(q)).sum(-1)  # noqa: E731
    expected = np.mean(value(stated, true) - value(true, true))
    found = []
    for _ in range(400):
        y = np.concatenate([rng.choice(3, p=t, size=20) for t in true])
        found.append(
            score_decomposition(
                y, np.repeat(stated, 20, axis=0), score=score, n_bins=3 if score == "brier" else 1
            ).miscalibration
        )
    se = np.std(found) / 20
    assert abs(np.mean(found) - expected) < 3 * se + (0.002 if score == "log" else 0)
    assert np.mean(found) < expected + 0.01  # uncorrected it would be higher by some 0.03 or 0.05


def test_calibrated_and_useless_forecasts(rng):
    y, p = draw(rng, 20_000, 3)
    p = p**0.5 / (p**0.5).sum(1, keepdims=True)
    assert abs(score_decomposition(y, p).miscalibration) < 0.001
    assert abs(score_decomposition(y, p, score="log").miscalibration) < 0.002
    constant = score_decomposition([0, 1, 1, 1], np.full((4, 2), [0.25, 0.75]))
    assert constant.miscalibration == pytest.approx(0)
    assert constant.discrimination == pytest.approx(0)
    alone = score_decomposition([2], [[0.1, 0.2, 0.7]])
    assert np.isfinite([alone.score, alone.miscalibration, alone.discrimination]).all()


def test_refuses_isotonic_for_many_classes(rng):
    y, p = draw(rng, 50, 3)
    with pytest.raises(InvalidParameterError, match="3 classes"):
        score_decomposition(y, p, method="corp")


@pytest.mark.parametrize("score", ["brier", "log"])
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_parts_are_those_of_isotonic_regression(rng, score, weighted):
    """Of probabilities that are cells of their own the parts are the same; in any split and order."""
    y, p = draw(rng, 3000, 2)
    p = np.round(p[:, 1] * 64) / 64
    w = rng.integers(1, 4, size=3000).astype(float) if weighted else np.ones(3000)
    whole = score_decomposition(y, p, score=score, method="corp", sample_weight=w)
    parts = [
        ScoreDecompositionSum(score=score, n_cells=65 * 64).update(y[i], p[i], sample_weight=w[i])
        for i in np.array_split(rng.permutation(3000), 5)
    ]
    found = parts[2].merge(parts[0]).merge(parts[4]).merge(parts[1]).merge(parts[3]).compute()
    for name in ("score", "miscalibration", "discrimination", "uncertainty"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-9, abs=1e-12)


def test_accumulated_parts_of_many_classes_are_sums_of_one_against_the_rest(rng):
    y, p = draw(rng, 2000, 4)
    p = np.round(p, 3)
    p /= p.sum(axis=1, keepdims=True)
    found = ScoreDecompositionSum(n_cells=1 << 16).update(y, p).compute()
    each = [score_decomposition(y == c, p[:, c], method="corp") for c in range(4)]
    assert found.score == pytest.approx(sum(e.score for e in each))
    assert found.uncertainty == pytest.approx(sum(e.uncertainty for e in each))
    assert found.miscalibration == pytest.approx(sum(e.miscalibration for e in each), abs=2e-3)


def test_accumulator_refuses_what_does_not_fit(rng):
    y, p = draw(rng, 50, 3)
    with pytest.raises(DataError, match="no rows"):
        ScoreDecompositionSum().compute()
    with pytest.raises(DataError, match="two classes only"):
        ScoreDecompositionSum(score="log").update(y, p)
    with pytest.raises(DataError, match="number of classes"):
        ScoreDecompositionSum().update(y, p).update(y == 1, p[:, 1])
    with pytest.raises(InvalidParameterError, match="same parameters"):
        ScoreDecompositionSum().merge(ScoreDecompositionSum(n_cells=5))
    empty = ScoreDecompositionSum().merge(ScoreDecompositionSum())
    assert empty.sums_ is None
