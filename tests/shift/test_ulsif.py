import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import ULSIF, ImportanceWeighting
from corrigible.shift._ulsif import _left_out


def _gaussians(rng, n=2000, shift=0.5):
    X, Z = rng.normal(size=(n, 1)), rng.normal(shift, 1, size=(n, 1))
    return X, Z, np.exp(shift * X[:, 0] - shift**2 / 2)


def _by_hand(X, Z, centres, sigma, penalty):
    """The fit written with loops, in the columns' standard deviations."""
    unit = np.vstack([X, Z]).std(axis=0)

    def kernel(rows):
        return np.array([[np.exp(-(((a - c) / unit) ** 2).sum() / 2 / sigma**2) for c in centres] for a in rows])

    K, L = kernel(X), kernel(Z)
    alpha = np.linalg.inv(K.T @ K / len(X) + penalty * np.eye(len(centres))) @ L.mean(axis=0)
    return K @ np.maximum(alpha, 0)


def test_recovers_the_ratio_of_gaussians(rng):
    X, Z, truth = _gaussians(rng)
    ratio = ULSIF(random_state=0).fit(X, Z)
    assert np.corrcoef(ratio.weights_, truth)[0, 1] > 0.97
    assert np.abs(ratio.weights_ - truth).mean() < 0.12
    assert ratio.weights_.mean() == pytest.approx(1)
    assert ratio.divergence_ == pytest.approx(
        (np.exp(0.25) - 1) / 2, abs=0.05
    )  # Pearson's of N(0.5, 1) from N(0, 1)
    assert ratio.effective_sample_size_ == pytest.approx(2000 / np.exp(0.25), rel=0.1)


def test_against_the_formula_by_hand(rng):
    X, Z = rng.normal(size=(60, 3)) * [1, 10, 0.1], rng.normal(0.3, 1, size=(40, 3)) * [1, 10, 0.1]
    ratio = ULSIF(n_kernels=40, sigma=1.3, penalty=0.2, random_state=0).fit(X, Z)
    expected = _by_hand(X, Z, Z, 1.3, 0.2)
    np.testing.assert_allclose(ratio.weights_, expected / expected.mean(), rtol=1e-8)


@pytest.mark.parametrize(("n_source", "n_target"), [(30, 30), (30, 20), (20, 35)])
def test_leave_one_out_against_refitting(rng, n_source, n_target):
    K, L, penalty = rng.uniform(size=(n_source, 7)), rng.uniform(size=(n_target, 7)), 0.3
    n = min(n_source, n_target)
    found = _left_out(K.T @ K / n_source, L.mean(axis=0), K[:n], L[:n], penalty, n_source, n_target)
    errors = []
    for i in range(n):
        A, B = np.delete(K, i, 0), np.delete(L, i, 0)
        alpha = np.linalg.solve(A.T @ A / len(A) + penalty * np.eye(7), B.mean(axis=0)).clip(0)
        errors.append((K[i] @ alpha) ** 2 / 2 - L[i] @ alpha)
    assert found == pytest.approx(np.mean(errors), rel=1e-10)


def test_chooses_the_least_error(rng):
    X, Z, _ = _gaussians(rng, 300)
    chosen = ULSIF(sigma=[0.01, 1.0], penalty=[0.1, 100.0], random_state=0).fit(X, Z)
    others = [
        ULSIF(sigma=s, penalty=p, random_state=0).fit(X, Z).cv_error_ for s in (0.01, 1.0) for p in (0.1, 100.0)
    ]
    assert chosen.cv_error_ == pytest.approx(min(others), abs=1e-3)
    assert (chosen.sigma_, chosen.penalty_) == (1.0, 0.1)


def test_silent_without_shift(rng):
    for seed in range(10):
        draw = np.random.default_rng(seed)
        ratio = ULSIF(random_state=0).fit(draw.normal(size=(300, 3)), draw.normal(size=(300, 3)))
        assert ratio.effective_sample_size_ > 240


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-150, 1e150), seed=st.integers(0, 50))
def test_units_do_not_matter(scale, seed):
    rng = np.random.default_rng(seed)
    X, Z, _ = _gaussians(rng, 40)
    one, other = (ULSIF(random_state=0).fit(c * X, c * Z) for c in (1.0, scale))
    np.testing.assert_allclose(one.weights_, other.weights_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.predict(scale * X), other.weights_, rtol=1e-6, atol=1e-9)


def test_serves_importance_weighting(rng):
    X, Z, _ = _gaussians(rng, 3000, 1.0)
    chance = lambda v: 1 / (1 + np.exp(-2 * v[:, 0]))  # noqa: E731
    y = (rng.uniform(size=3000) < chance(X)).astype(int)
    method = ImportanceWeighting(metric="accuracy").fit(X, y, np.full(3000, 0.6))
    weight = ULSIF(random_state=0).fit(X, Z).weights_
    found = method.estimate(None, np.full(3000, 0.6), reference_weight=weight)
    assert found.value == pytest.approx(chance(Z).mean(), abs=0.04)


def test_constant_columns_few_rows_and_float32(rng):
    X, Z, _ = _gaussians(rng, 50)
    wide = ULSIF(random_state=0).fit(np.c_[X, np.full(50, 7.0)], np.c_[Z, np.full(50, 7.0)])
    np.testing.assert_allclose(wide.weights_, ULSIF(random_state=0).fit(X, Z).weights_)
    assert np.isfinite(ULSIF(random_state=0).fit(X[:2], Z[:2]).weights_).all()
    assert np.isfinite(ULSIF(random_state=0).fit(np.ones((5, 1)), np.ones((4, 1))).weights_).all()
    single = ULSIF(random_state=0).fit(X.astype(np.float32), Z.astype(np.float32))
    np.testing.assert_allclose(single.weights_, ULSIF(random_state=0).fit(X, Z).weights_, rtol=1e-3, atol=1e-4)


def test_errors(rng):
    X, Z, _ = _gaussians(rng, 20)
    with pytest.raises(DataError, match="two rows"):
        ULSIF().fit(X[:1], Z)
    with pytest.raises(DataError, match="no weights exist"):
        ULSIF(sigma=0.001).fit(X, Z + 1e6)
    with pytest.raises(InvalidParameterError, match="sigma"):
        ULSIF(sigma=-1.0).fit(X, Z)
    with pytest.raises(InvalidParameterError, match="penalty"):
        ULSIF(penalty=0.0).fit(X, Z)
    with pytest.raises(ValueError, match="NaN"):
        ULSIF().fit(np.where(X > 1, np.nan, X), Z)
    with pytest.raises(ValueError, match="features"):
        ULSIF().fit(X, np.c_[Z, Z])
