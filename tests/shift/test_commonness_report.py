import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import GroupShiftSplit, commonness_report, uncommon_attributes


def rows(seed=0, n=300):
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    usual = rng.uniform(size=(n, 2)) < 0.9
    attributes = np.where(usual, y[:, None], (y[:, None] + 1 + rng.integers(2, size=(n, 2))) % 3)
    return y, attributes, rng


def test_an_attribute_is_uncommon_within_its_class_alone():
    y = np.repeat(["ship", "car"], 10)
    place = ["sea"] * 9 + ["street", "sea"] + ["street"] * 9
    found = uncommon_attributes(y, place)[:, 0]
    assert found.nonzero()[0].tolist() == [9, 10]
    assert not uncommon_attributes(y, place, share=0.0).any()
    assert uncommon_attributes(y, place, share=1.0).all()


def test_accuracies_and_intervals_are_scipys():
    y, attributes, rng = rows()
    right = rng.uniform(size=300) < 0.8
    report = commonness_report(right, y, attributes)
    number = uncommon_attributes(y, attributes).sum(axis=1)
    assert report.table["rows"].sum() == 300
    for row in report.table.itertuples():
        inside = right[number == row.uncommon]
        exact = binomtest(int(inside.sum()), len(inside)).proportion_ci()
        assert row.accuracy == pytest.approx(inside.mean())
        assert (row.low, row.high) == pytest.approx((exact.low, exact.high))
        assert row.drop_low <= row.drop <= row.drop_high
    assert report.table["drop"][0] == 0
    assert report.cells["rows"].sum() == uncommon_attributes(y, attributes).sum()
    assert report.cells["accuracy"].is_monotonic_increasing


def test_the_interval_of_the_drop_covers():
    hits = 0
    for seed in range(200):
        y, attributes, rng = rows(seed)
        number = uncommon_attributes(y, attributes).sum(axis=1)
        right = rng.uniform(size=300) < np.where(number > 0, 0.6, 0.9)
        row = commonness_report(right, y, attributes).table.set_index("uncommon").loc[1]
        hits += row["drop_low"] <= 0.3 <= row["drop_high"]
    assert hits >= 185


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_training_sets_are_common_and_tests_are_what_is_asked(seed):
    y, attributes, _ = rows(seed)
    uncommon = uncommon_attributes(y, attributes).any(axis=1)
    pairs = [
        list(GroupShiftSplit(test=kind, n_splits=3, random_state=seed).split(y, y, attributes))
        for kind in ("uncommon", "common")
    ]
    for (train, test), (other_train, common) in zip(*pairs, strict=True):
        np.testing.assert_array_equal(train, other_train)
        assert not uncommon[train].any()
        assert uncommon[test].all()
        assert not uncommon[common].any()
        assert not set(train) & (set(test) | set(common))
    assert sorted(np.concatenate([t for _, t in pairs[0]])) == uncommon.nonzero()[0].tolist()


def test_it_serves_cross_validation():
    y, attributes, _ = rows()
    split = GroupShiftSplit(random_state=0)
    scores = cross_val_score(DummyClassifier(), y[:, None], y, groups=attributes, cv=split)
    assert len(scores) == split.get_n_splits() == 5


def test_frames_missing_values_and_one_class():
    y = np.zeros(20)
    frame = pd.DataFrame({"place": ["a"] * 18 + [None, "b"]}, index=range(5, 25))
    assert uncommon_attributes(y, frame).sum() == 2
    assert len(commonness_report(np.ones(20), y, frame).cells) == 2


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: uncommon_attributes([0, 1], [0]), DataError, "shapes"),
        (lambda: uncommon_attributes([], []), DataError, "one row"),
        (lambda: uncommon_attributes([0, 1], [0, 1], share=2), InvalidParameterError, "share"),
        (lambda: commonness_report([True], [0, 1], [0, 1]), DataError, "correct"),
        (lambda: next(GroupShiftSplit().split(None, [0] * 9, [1] * 9)), DataError, "no uncommon row"),
        (lambda: next(GroupShiftSplit(test="some").split(None, [0] * 9, [1] * 9)), InvalidParameterError, "test"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
