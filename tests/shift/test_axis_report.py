import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import AxisSplit, axis_report


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(1, 6), st.floats(0.05, 0.6))
@settings(max_examples=60, deadline=None)
def test_no_value_is_on_both_sides(seed, n_values, n_splits, test_size):
    axis = np.random.default_rng(seed).integers(n_values, size=100)
    axis[:2] = [0, 1]
    for kind in ("values", "ordered"):
        parts = list(
            AxisSplit(kind, n_splits=n_splits, test_size=test_size, random_state=seed).split(axis, groups=axis)
        )
        assert 1 <= len(parts) <= n_splits
        seen = np.zeros(100, dtype=int)
        for train, test in parts:
            assert len(train) > 0
            assert len(test) > 0
            assert not set(axis[train]) & set(axis[test])
            if kind == "ordered":
                assert axis[train].max() < axis[test].min()
            else:
                assert len(train) + len(test) == 100
            seen[test] += 1
        assert seen.max() == 1


def test_every_value_is_held_out_once_if_there_are_splits_enough():
    axis = np.repeat(list("abcd"), [5, 10, 20, 5])
    parts = list(AxisSplit(n_splits=4, test_size=0.01, random_state=0).split(axis, groups=axis))
    assert sorted("".join(sorted(set(axis[t]))) for _, t in parts) == list("abcd")
    assert AxisSplit(n_splits=9).get_n_splits(groups=axis) == 4


def test_dates_are_cut_in_order():
    dates = pd.date_range("2020-01-01", periods=60).to_numpy()
    parts = list(AxisSplit("ordered", n_splits=5).split(dates, groups=dates))
    assert [len(test) for _, test in parts] == [10] * 5
    assert [len(train) for train, _ in parts] == [10, 20, 30, 40, 50]


def test_it_serves_cross_validation():
    rng = np.random.default_rng(0)
    axis, y = rng.integers(6, size=90), rng.integers(2, size=90)
    split = AxisSplit(n_splits=3, random_state=0)
    assert len(cross_val_score(DummyClassifier(), axis[:, None], y, groups=axis, cv=split)) == 3


def test_an_axis_that_matters_is_told_from_one_that_does_not():
    rng = np.random.default_rng(0)
    source, other = rng.integers(12, size=600), rng.integers(12, size=600)
    X = np.column_stack([source, rng.normal(size=600)])
    y = source % 2  # the source beside one that is held out has the other label
    report = axis_report(KNeighborsClassifier(1), X, y, {"source": source, "other": other}, rng=0)
    assert report.table.loc["source", "low"] > 0
    assert report.table.loc["other", "low"] < 0.02
    assert report.table.loc["other", "drop"] < 0.05
    assert report.scores.groupby("axis").size().to_dict() == report.table["splits"].to_dict()


def test_a_trend_shows_in_time_and_any_score_serves():
    rng = np.random.default_rng(0)
    t = np.arange(400.0)
    X, y = rng.normal(size=(400, 2)), t / 100 + rng.normal(size=400)
    report = axis_report(LinearRegression(), X, y, {"time": t}, ordered=("time",), rng=0,
                         scoring="neg_mean_squared_error")  # fmt: skip
    assert report.table.loc["time", "drop"] > 1
    frame = axis_report(LinearRegression(), pd.DataFrame(X, columns=["a", "b"]), y, {"time": t}, ordered=("time",),
                        rng=0, scoring="neg_mean_squared_error")  # fmt: skip
    pd.testing.assert_frame_equal(frame.table, report.table)


def test_the_same_seed_gives_the_same_bits():
    rng = np.random.default_rng(0)
    X, y, axis = rng.normal(size=(80, 2)), rng.integers(2, size=80), rng.integers(5, size=80)
    a, b = (axis_report(LogisticRegression(), X, y, {"a": axis}, rng=1).scores for _ in range(2))
    pd.testing.assert_frame_equal(a, b)


def test_errors():
    X, y = np.zeros((6, 1)), np.arange(6) % 2
    with pytest.raises(DataError, match="at least two values"):
        list(AxisSplit().split(X, groups=np.zeros(6)))
    with pytest.raises(DataError, match="must have values"):
        list(AxisSplit().split(X, groups=[1.0, np.nan]))
    with pytest.raises(DataError, match="groups"):
        list(AxisSplit().split(X))
    with pytest.raises(InvalidParameterError, match="kind"):
        list(AxisSplit("time").split(X, groups=y))
    with pytest.raises(DataError, match="6 entries"):
        axis_report(DummyClassifier(), X, y, {"a": [0, 1]})
    with pytest.raises(DataError, match="none of"):
        axis_report(DummyClassifier(), X, y, {"a": y}, ordered=("b",))
