import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigible.compare import CapaAccumulator, capa, capa_matrix
from corrigible.errors import DataError, InvalidParameterError


def by_the_equations(a, b, y):
    """kappa_p a row at a time, rows of their own lengths, as the paper writes it."""
    n = len(y)
    observed = sum(sum(p * q for p, q in zip(r, s, strict=True)) for r, s in zip(a, b, strict=True)) / n
    mean_a, mean_b = (sum(r[t] for r, t in zip(m, y, strict=True)) / n for m in (a, b))
    inverse = sum(1 / (len(r) - 1) for r in a) / n
    expected = mean_a * mean_b + inverse * (1 - mean_a) * (1 - mean_b)
    return (observed - expected) / (1 - expected)


def padded(rows, k):
    return np.array([[*r, *[np.nan] * (k - len(r))] for r in rows])


def ragged(rng, n, largest=7):
    sizes = rng.integers(2, largest + 1, size=n)
    a, b = ([rng.dirichlet(np.ones(k)).tolist() for k in sizes] for _ in range(2))
    return a, b, [int(rng.integers(k)) for k in sizes]


def answering(rng, y, accuracy, k):
    """Right at the given rate, otherwise any wrong option."""
    right = rng.uniform(size=len(y)) < accuracy
    return np.where(right, y, (y + rng.integers(1, k, size=len(y))) % k)


def test_equations_with_rows_of_any_length(rng):
    for _ in range(30):
        a, b, y = ragged(rng, 20)
        found = capa(padded(a, 7), padded(b, 7), y)
        assert found.value == pytest.approx(by_the_equations(a, b, y), abs=1e-12)


def test_known_answers():
    y = np.zeros(4, dtype=int)
    right = np.eye(2)[[0, 0, 1, 1]]
    assert capa(right, right, y).value == 1.0
    assert capa(right, right[::-1], y).value == -1.0  # of two options, always the other
    even = np.full((4, 2), 0.5)
    assert capa(even, even, y).value == 0.0
    certain = np.eye(2)[y]
    assert np.isnan(capa(certain, certain, y).value)
    assert np.isnan(capa(certain, certain, y).interval).all()
    assert capa(certain, 1 - certain, y).value == 0.0
    assert np.isnan(capa(1 - certain, 1 - certain, y).value)  # of two options, always wrong leaves one answer


def test_different_wrong_answers_count_as_different():
    y = np.zeros(6, dtype=int)
    wrong = np.eye(3)[[0, 0, 0, 1, 1, 1]], np.eye(3)[[0, 0, 0, 2, 2, 2]]
    found = capa(*wrong, y)
    # Observed 1/2; by chance 1/4 + 1/2 * 1/4.
    assert (found.observed, found.expected, found.value) == (0.5, 0.375, pytest.approx(0.2))


def test_independent_models_have_zero_whatever_their_accuracy(rng):
    k, n = 4, 40_000
    y = rng.integers(k, size=n)
    for accuracy in ((0.9, 0.9), (0.9, 0.4), (0.25, 0.25)):
        a, b = (np.eye(k)[answering(rng, y, r, k)] for r in accuracy)
        found = capa(a, b, y)
        standard_error = (found.interval[1] - found.interval[0]) / 3.92
        assert abs(found.value) < 4 * standard_error < 0.08


def test_interval_against_bootstrap(rng):
    k, n = 3, 400
    y = rng.integers(k, size=n)
    shared = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y]
    a, b = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (shared + rng.normal(size=(2, n, k))))
    low, high = capa(a, b, y).interval
    drawn = rng.integers(n, size=(1000, n))
    values = [capa(a[i], b[i], y[i]).value for i in drawn]
    assert (high - low) / 3.92 == pytest.approx(np.std(values), rel=0.1)
    assert low < np.mean(values) < high


def test_matrix_is_the_pairs(rng):
    a, b, y = ragged(rng, 30)
    c = padded(ragged(rng, 30)[0], 7)
    c = np.where(np.isnan(padded(a, 7)), np.nan, 0) + 1 / np.array([[len(r)] for r in a])
    models = [padded(a, 7), padded(b, 7), c]
    for discrete in (False, True):
        found = capa_matrix(models, y, discrete=discrete)
        for i in range(3):
            for j in range(3):
                pair = capa(models[i], models[j], y, discrete=discrete)
                assert found.value[i, j] == pytest.approx(pair.value, abs=1e-12)
            assert (found.accuracy[i], found.mean_true[i]) == pytest.approx((pair.accuracy_a, pair.mean_true_a))


def test_discrete_is_one_hot_of_the_first_largest(rng):
    a, b = rng.dirichlet(np.ones(4), size=(2, 50))
    y = rng.integers(4, size=50)
    a[0] = 0.25  # a tie goes to option 0
    hard = [np.eye(4)[p.argmax(1)] for p in (a, b)]
    assert capa(a, b, y, discrete=True) == capa(*hard, y) == capa(*hard, y, discrete=True)


@given(st.integers(0, 10_000))
def test_bounded_symmetric_and_blind_to_the_order_of_options_and_rows(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 20)), int(rng.integers(2, 6))
    a, b = rng.dirichlet(np.full(k, 0.3), size=(2, n))
    y = rng.integers(k, size=n)
    value = capa(a, b, y).value
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    assert value == pytest.approx(capa(b, a, y).value, abs=1e-9)
    options, rows = rng.permutation(k), rng.permutation(n)
    moved = capa(a[rows][:, options], b[rows][:, options], np.argsort(options)[y[rows]])
    assert value == pytest.approx(moved.value, abs=1e-9)


def test_accumulator_without_rows_and_float32(rng):
    with pytest.raises(DataError, match="no rows"):
        CapaAccumulator().compute()
    a, b = rng.dirichlet(np.ones(3), size=(2, 40))
    y = rng.integers(3, size=40)
    assert capa(a.astype(np.float32), b, y).value == pytest.approx(capa(a, b, y).value, abs=1e-6)


def test_errors(rng):
    a = rng.dirichlet(np.ones(3), size=4)
    y = [0, 1, 2, 0]
    gap = a.copy()
    gap[1] = [0.5, 0.5, np.nan]
    with pytest.raises(DataError, match="same places"):
        capa(a, gap, y)
    with pytest.raises(DataError, match="lacks it"):
        capa(gap, gap, [0, 2, 2, 0])
    with pytest.raises(DataError, match="Row 1"):
        capa(np.where([[False], [True], [False], [False]], 0.1, a), a, y)
    with pytest.raises(DataError, match="two options"):
        capa(2 * a, a, y)
    with pytest.raises(DataError, match="shape"):
        capa(a[:, :1], a[:, :1], y)
    with pytest.raises(DataError, match="'y_true' of capa_matrix"):
        capa_matrix([a, a], y[:3])
    with pytest.raises(DataError, match="at least one model"):
        capa_matrix([], y)
    with pytest.raises(InvalidParameterError, match="confidence"):
        capa(a, a, y, confidence=1)
