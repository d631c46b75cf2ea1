"""Answers in free text, normalised or graded; what models cost."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from corrigible.compare import score_flips
from corrigible.errors import InvalidParameterError
from corrigible.report._versions_page import render_versions
from corrigible.versions import compare_versions


@pytest.fixture
def texts():
    y = ["The Eiffel Tower", "1,000", "red and green", "B"] * 10
    v1 = ["eiffel tower", "1000", "red", "A"] * 10
    v2 = ["Paris", "1000.0", "green and red", "b."] * 10
    return pd.DataFrame({"y": y, "v1": v1, "v2": v2})


def test_normalised_answers_are_right_where_they_say_the_same(texts):
    report = compare_versions("v1", "v2", texts, target="y", match="normalised")
    assert (report.flips.n_negative, report.flips.n_positive, report.flips.n_both_right) == (10, 10, 10)
    assert report.task == "classification"
    own = texts.assign(**{c: texts[c].replace({"1,000": "1000", "1000.0": "1000", "The Eiffel Tower": "eiffel tower",
                                               "b.": "B"}) for c in texts})  # fmt: skip
    exact = compare_versions("v1", "v2", own, target="y")
    assert (exact.flips.n_negative, exact.flips.n_positive) == (10, 10)


def test_a_graded_match_turns_where_the_score_falls(texts):
    report = compare_versions("v1", "v2", texts, target="y", match="token_f1", limits={"score_fall": 0.2})
    scores = np.array([1, 1, 2 / 4, 0] * 10), np.array([0, 1, 1, 1] * 10)
    expected = score_flips(*scores)
    assert report.task == "generation"
    assert report.flips.negative_rate == expected.negative_rate
    assert report.flips.positive_rate == expected.positive_rate
    assert report.score_change["fall"] == pytest.approx(expected.regression)
    assert report.score_change["rise"] == pytest.approx(expected.gain)
    assert report.changes["token_f1"]["old"] == pytest.approx(1 - scores[0].mean())
    assert report.measures["score_fall"] == pytest.approx(0.25)
    assert not report.accepted
    page = render_versions(report.page())
    assert "Answers whose score fell" in page
    assert "Mean fall of the score" in page


def test_match_is_of_texts(texts):
    rows = texts.assign(p=0.5)
    with pytest.raises(InvalidParameterError, match="answers in text"):
        compare_versions("p", "p", rows, target="y", proba=True, match="normalised")
    with pytest.raises(InvalidParameterError, match="match"):
        compare_versions("v1", "v2", rows, target="y", match="fuzzy")


def test_costs_of_models_and_where_they_contradict():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 40)), columns=[f"x{i}" for i in range(40)])
    y = np.where(frame["x0"] > 0, "yes", "no")
    old = LogisticRegression().fit(frame, y)
    new = RandomForestClassifier(20, max_depth=1, random_state=0).fit(
        frame[["x0"]], y
    )  # other columns than the old
    rows = frame.assign(y=y)
    report = compare_versions(old, new, rows, target="y")
    assert report.costs["parameters"]["old"] == 41
    assert report.costs["operations a row"] == {"old": 80.0, "new": 20.0}
    batches = report.costs["seconds a row in batches"]
    assert report.measures["slowdown"] == pytest.approx(batches["new"] / batches["old"])
    pairs = {(c["falls"], c["rises"]) for c in report.contradictions}
    assert ("operations a row", "seconds of a single answer") in pairs
    assert all(c["fall"] < 1 < c["rise"] for c in report.contradictions)
    assert "contradict each other" in render_versions(report.page())
    assert set(compare_versions(old, new, rows, target="y", costs=False).costs) == {"seconds a thousand rows"}


def test_predictions_have_no_costs(texts):
    report = compare_versions("v1", "v2", texts, target="y", match="normalised")
    assert report.costs == {}
    assert report.contradictions == []
    assert "Costs" not in render_versions(report.page())
