import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from corrigible.errors import InvalidParameterError
from corrigible.shift import CBPE, MCBPE


def rows(rng, n, *, mean=0.0):
    """Labels depend on both columns, the model knows only the first."""
    X = rng.normal([0.0, mean], 1.0, size=(n, 2))
    y = (rng.uniform(size=n) < 1 / (1 + np.exp(-1.5 * X.sum(axis=1)))).astype(int)
    return X, y, 1 / (1 + np.exp(-X[:, 0]))


@pytest.mark.parametrize("calibrator", ["boosting", "isotonic"])
def test_recalibrates_where_the_score_is_blind(rng, calibrator):
    (X, y, p), (Z, z, q) = rows(rng, 8_000), rows(rng, 6_000, mean=1.2)
    truth = ((q > 0.5) == z).mean()
    method = MCBPE(metric="accuracy", calibrator=calibrator, estimator=LogisticRegression(), random_state=0)
    found = method.fit(X, y, p).estimate(Z, q)
    blind = CBPE(metric="accuracy").fit(y, p).estimate(q)
    assert abs(blind.value - truth) > 0.03
    assert abs(found.value - truth) < 0.025
    assert found.low <= truth <= found.high


def test_equal_weights_are_cbpe(rng):
    (X, y, p), (_, _, q) = rows(rng, 3_000), rows(rng, 2_000)
    ours = MCBPE(calibrator="isotonic").fit(X, y, p).estimate(None, q, reference_weight=np.full(3_000, 0.7))
    theirs = CBPE(calibration="isotonic").fit(y, p).estimate(q)
    for name, estimate in ours.items():
        assert estimate.value == pytest.approx(theirs[name].value)
        assert estimate.standard_error == pytest.approx(theirs[name].standard_error, rel=0.03)


def test_weights_are_repetitions(rng):
    (X, y, p), (_, _, q) = rows(rng, 2_000), rows(rng, 1_000)
    w = rng.integers(1, 4, size=2_000)
    ours = MCBPE(calibrator="isotonic").fit(X, y, p).estimate(None, q, reference_weight=w)
    theirs = CBPE(calibration="isotonic").fit(np.repeat(y, w), np.repeat(p, w)).estimate(q)
    for name, estimate in ours.items():
        assert estimate.value == pytest.approx(theirs[name].value, abs=1e-9)
        assert estimate.standard_error > theirs[name].standard_error  # repeated rows are no new rows


def test_chunks_and_expected_loss(rng):
    (X, y, p), (Z, _, q) = rows(rng, 2_000), rows(rng, 900, mean=0.5)
    settings = {"calibrator": LinearRegression(), "estimator": LogisticRegression()}
    method = MCBPE(metric=("accuracy", "brier"), **settings, random_state=3).fit(X, y, p)
    found = method.estimate(Z, q, chunks=np.arange(900) % 2)
    assert len(found["accuracy"]) == 2
    whole = method.estimate(Z, q)
    assert method.expected_loss(Z, q).mean() == pytest.approx(1 - whole["accuracy"].value)
    assert method.expected_loss(Z, q, "brier").mean() == pytest.approx(whole["brier"].value)


def test_three_classes(rng):
    X = rng.normal(size=(3_000, 2))
    p = np.exp(X @ rng.normal(size=(2, 3)))
    p /= p.sum(axis=1, keepdims=True)
    y = (rng.uniform(size=(3_000, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
    method = MCBPE(calibrator="isotonic", estimator=LogisticRegression(), random_state=0).fit(
        X[:2000], y[:2000], p[:2000]
    )
    found = method.estimate(X[2000:], p[2000:])["accuracy"]
    assert found.low <= (p[2000:].argmax(axis=1) == y[2000:]).mean() <= found.high


def test_unknown_calibrator(rng):
    with pytest.raises(InvalidParameterError, match="'calibrator'"):
        MCBPE(calibrator="platt").fit(*rows(rng, 50))
