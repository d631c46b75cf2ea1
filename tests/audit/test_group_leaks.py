"""Grouped leaks: a column by whose values the rows should have been split is found, others are left alone."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from corrigible.audit import audit
from corrigible.audit._group_leaks import (
    _alike,
    _column,
    _error_of_mean,
    _units,
    group_leaks,
)
from corrigible.audit._inputs import problem_from_tables
from corrigible.audit._start import start


def visits(seed=0, patients=120, noise=0.1):
    """Return visits of patients, whose labels are the patients' and follow no column; and the patients."""
    rng = np.random.default_rng(seed)
    of = rng.permutation(np.repeat(np.arange(patients), 4))
    X = pd.DataFrame(
        rng.normal(size=(patients, 3))[of] + noise * rng.normal(size=(len(of), 3)), columns=list("abc")
    )
    X["patient"] = [f"P{i}" for i in of]
    return X, rng.integers(2, size=patients)[of], of


def leaks_of(X, y, train, test, *, drop=("patient",), model=None, loss=None):
    problem = problem_from_tables(
        model or KNeighborsClassifier(1), X[train].reset_index(drop=True), pd.Series(y[train], name="y"),
        X[test].reset_index(drop=True), pd.Series(y[test], name="y"), drop=drop, loss=loss,
    )  # fmt: skip
    return group_leaks(start(problem, seeds=1, seed=0, n_jobs=None))


def at_random(n, seed=1):
    train = np.random.default_rng(seed).uniform(size=n) < 0.6
    return train, ~train


def test_patients_in_both_splits_are_found():
    X, y, of = visits()
    train, test = at_random(len(y))
    (leak,) = leaks_of(X, y, train, test)
    known = np.isin(of[test], of[train])
    assert leak.column == "patient"
    assert leak.rows == known.sum()
    assert leak.share == pytest.approx(known.mean())
    assert leak.values == len(np.intersect1d(of[test], of[train]))
    # Nearest neighbours know a patient's label from another visit, and guess without one.
    assert leak.cross_validated.first < 0.25
    assert leak.cross_validated.second == pytest.approx(0.5, abs=0.12)
    assert leak.cross_validated.low > 0.1


def test_values_leak_too():
    X, y, _ = visits()
    score = y + 0.1 * np.random.default_rng(5).normal(size=len(y))
    (leak,) = leaks_of(X, score, *at_random(len(y)), model=KNeighborsRegressor(1))
    assert leak.cross_validated.low > 0


def test_a_split_by_patient_is_left_alone():
    X, y, of = visits()
    assert leaks_of(X, y, of < 80, of >= 80) == []


def test_ids_without_meaning_are_left_alone():
    X, y, _ = visits()
    X["patient"] = np.random.default_rng(3).permutation(X["patient"].to_numpy())
    assert leaks_of(X, y, *at_random(len(y))) == []


def test_an_ordinary_column_of_many_values_is_left_alone():
    """An age tells of the label, and rows of one age are alike, but no more than rows of the next age."""
    rng = np.random.default_rng(0)
    age = rng.integers(20, 80, size=1500)
    X = pd.DataFrame({"age": age, "pay": age + rng.normal(0, 5, size=1500)})
    y = (age + rng.normal(0, 20, size=1500) > 50).astype(int)
    assert leaks_of(X, y, *at_random(1500), drop=()) == []


@pytest.mark.parametrize(
    "column",
    [
        np.arange(200) % 3,  # few values
        np.where(np.arange(200) < 60, 0, np.arange(200)),  # one value holds many rows
        np.arange(200),  # no value twice
        np.linspace(0, 1, 200).round(2),  # a measurement
        [None] * 200,
    ],
)
def test_columns_that_name_no_groups(column):
    values = pd.Series(column)
    assert _column("g", values[:100], values[100:].reset_index(drop=True)) is None


def test_chance_alone_is_level():
    """With ids without meaning the p-value is below 5 % in about 5 % of tables."""
    X, y, _ = visits(patients=60)
    problem = problem_from_tables(
        KNeighborsClassifier(1), X[:140].drop(columns="patient"), pd.Series(y[:140]),
        X[140:].drop(columns="patient").reset_index(drop=True), pd.Series(y[140:]),
    )  # fmt: skip
    low = []
    for seed in range(200):
        ids = pd.Series(np.random.default_rng(seed).permutation(np.repeat(np.arange(60), 4)).astype(str))
        column = _column("id", ids[:140], ids[140:].reset_index(drop=True))
        low.append(_alike(problem, column, seed) < 0.05)
    assert np.mean(low) <= 0.09


def test_errors_take_groups_as_units():
    rng = np.random.default_rng(0)
    unit = rng.integers(30, size=200)
    values = rng.normal(size=30)[unit] + 0.1 * rng.normal(size=200)
    away = pd.Series(values - values.mean()).groupby(unit).sum()
    assert _error_of_mean(values, unit) == pytest.approx(np.sqrt((away**2).sum()) / 200)
    assert _error_of_mean(values, unit) > 2 * values.std() / np.sqrt(200)
    assert _units(np.array([3, -1, 3, -1, 0])).tolist() == [1, 2, 1, 3, 0]


def test_the_report_tells_of_it(tmp_path):
    X, y, of = visits()
    train, test = at_random(len(y))
    report = audit(
        KNeighborsClassifier(1), X[train], y[train], X[test], y[test], drop=["patient"], lines=["decision_rule"]
    )
    report.save(tmp_path / "report")
    (leak,) = json.loads((tmp_path / "report" / "budget.json").read_text())["grouped_leaks"]
    assert (leak["column"], leak["rows"]) == ("patient", int(np.isin(of[test], of[train]).sum()))
    assert any("split by 'patient'" in w for w in report.chain.problem.warnings)
    titles = [b["title"] for b in report.sections["data"]]
    assert "Columns by which the rows should have been split" in titles
    told = report.rows.query("split == 'test'")["suspect"]
    known = np.isin(of[test], of[train])
    assert told.str.contains("is in training too", na=False).to_numpy().tolist() == known.tolist()
    assert "should have been split" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
