from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import cohen_kappa_score

from corrigible.compare import AgreementAccumulator, agreement
from corrigible.errors import DataError


def answers(rng, n=300, k=4):
    y = rng.integers(k, size=n)
    hard = rng.uniform(size=n) < 0.4
    drawn = [np.where(hard & (rng.uniform(size=n) < 0.7), rng.integers(k, size=n), y) for _ in range(2)]
    return *drawn, y


def test_example_by_hand():
    """Agreement 0.70 where 0.41 is chance; standard error by the equation of Fleiss, Cohen and Everitt (1969)."""
    table = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    a, b = (np.repeat(side, table.ravel()) for side in np.divmod(np.arange(9), 3))
    found = agreement(a, b, np.zeros(200))
    p = table / 200
    row, column, agree = p.sum(1), p.sum(0), np.trace(p)
    chance = row @ column
    first = sum(p[i, i] * (1 - chance - (row[i] + column[i]) * (1 - agree)) ** 2 for i in range(3))
    second = sum(p[i, j] * (row[j] + column[i]) ** 2 for i in range(3) for j in range(3) if i != j)
    variance = first + (1 - agree) ** 2 * second - (agree * chance - 2 * chance + agree) ** 2
    error = np.sqrt(variance / 200) / (1 - chance) ** 2
    assert found.cohen_kappa == pytest.approx(0.29 / 0.59)
    low, high = found.cohen_interval
    assert (high - low) / 2 / 1.959964 == pytest.approx(error, rel=1e-6)


def test_against_sklearn_and_closed_forms(rng):
    a, b, y = answers(rng)
    found = agreement(a, b, y)
    assert found.raw == (a == b).mean()
    assert found.cohen_kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert found.error_consistency == pytest.approx(cohen_kappa_score(a == y, b == y), abs=1e-12)
    share = (np.bincount(a, minlength=4) + np.bincount(b, minlength=4)) / (2 * len(y))
    assert found.scott_pi == pytest.approx((found.raw - share @ share) / (1 - share @ share), abs=1e-12)
    wrong_a, wrong_b = set(np.flatnonzero(a != y)), set(np.flatnonzero(b != y))
    assert found.error_overlap == len(wrong_a & wrong_b) / len(wrong_a | wrong_b)
    assert found.same_error == np.mean([a[i] == b[i] for i in wrong_a & wrong_b])
    table = [[np.sum((a != y) & (b != y)), np.sum((a != y) & (b == y))],
             [np.sum((a == y) & (b != y)), np.sum((a == y) & (b == y))]]  # fmt: skip
    assert found.p_value == pytest.approx(fisher_exact(table)[1])


def test_intervals_against_bootstrap(rng):
    a, b, y = answers(rng, n=400)
    found = agreement(a, b, y)
    again = [agreement(a[i], b[i], y[i]) for i in rng.integers(400, size=(400, 400))]
    for name, value in (("cohen", "cohen_kappa"), ("scott", "scott_pi"), ("consistency", "error_consistency")):
        low, high = getattr(found, f"{name}_interval")
        assert (high - low) / 3.92 == pytest.approx(np.std([getattr(x, value) for x in again]), rel=0.15)


def test_words_and_numbers_say_the_same(rng):
    a, b, y = answers(rng)
    names = np.array(["north", "east", "south", "west"])
    assert agreement(names[a], names[b], names[y]) == agreement(a, b, y) == agreement(a / 1, b / 1, y)
    batches = AgreementAccumulator().update(names[a], names[b], names[y]).compute()
    assert batches.scott_interval == pytest.approx(agreement(a, b, y).scott_interval, abs=1e-12)


def test_extremes(rng):
    a, _, y = answers(rng)
    same = agreement(a, a, y)
    assert (same.raw, same.cohen_kappa, same.scott_pi, same.error_consistency, same.error_overlap) == (1,) * 5
    perfect = agreement(y, y, y)
    assert np.isnan([perfect.error_consistency, perfect.error_overlap, perfect.same_error]).all()
    assert np.isnan(perfect.same_error_interval).all()
    constant = agreement(np.ones(5), np.ones(5), np.arange(5))
    assert np.isnan(constant.cohen_kappa)
    assert constant.raw == 1
    assert agreement([1], [1], [0]).same_error == 1
    assert agreement(1 - (y == 0), 1 * (y == 0), (y == 0)).cohen_kappa < -0.5


def test_errors():
    with pytest.raises(DataError, match="as long as"):
        agreement([1, 2], [1, 2], [1])
    with pytest.raises(DataError, match="missing"):
        agreement([1.0, np.nan], [1, 2], [1, 2])
    with pytest.raises(DataError, match="all words"):
        agreement(["1", "2"], [1, 2], [1, 2])
    with pytest.raises(DataError, match="no rows"):
        AgreementAccumulator().compute()


def test_rows_seen_several_times_are_counted(rng):
    a, b, y = rng.integers(4, size=(3, 50))
    counts = rng.integers(5, size=50)
    expected = agreement(np.repeat(a, counts), np.repeat(b, counts), np.repeat(y, counts))
    found = AgreementAccumulator().update(a, b, y, counts).compute()
    for name, value in asdict(expected).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-12), name
    for wrong in (np.full(50, 0.5), np.full(50, -1), counts[1:]):
        with pytest.raises(DataError, match="counts"):
            AgreementAccumulator().update(a, b, y, wrong)
