"""Two versions on the same rows: numbers against plain numpy, scikit-learn and scipy, and any form of input alike."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import brier_score_loss, cohen_kappa_score, log_loss, mean_absolute_error

from corrigible.compare import capa
from corrigible.errors import DataError, InvalidParameterError, UnknownNameError
from corrigible.models import save_model
from corrigible.versions import compare_versions


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    n = 400
    x = rng.normal(size=(n, 3)).round(6)
    y = np.where(x @ [1, -1, 0.5] + rng.normal(size=n) > 0, "yes", "no")
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(
        y=y, city=rng.choice(["u", "v", None], n), key=np.arange(n)
    )
    old = LogisticRegression().fit(frame[["a"]], y)
    new = LogisticRegression().fit(frame[["a", "b", "c"]], y)
    frame["p1"], frame["p2"] = (
        old.predict_proba(frame[["a"]])[:, 1],
        new.predict_proba(frame[["a", "b", "c"]])[:, 1],
    )
    frame["v1"], frame["v2"] = old.predict(frame[["a"]]), new.predict(frame[["a", "b", "c"]])
    return frame, old, new


def test_numbers_are_those_of_other_libraries(rows):
    frame, old, new = rows
    report = compare_versions(old, new, frame, target="y", groups=["city"])
    y, p1, p2 = frame["y"] == "yes", frame["p1"], frame["p2"]
    was, now = frame["v1"] == frame["y"], frame["v2"] == frame["y"]
    assert report.flips.n_negative == (was & ~now).sum()
    assert report.flips.n_positive == (~was & now).sum()
    assert report.flips.p_value == pytest.approx(binomtest(int((was & ~now).sum()), int((was != now).sum())).pvalue)
    for name, metric in (("log", log_loss), ("brier", brier_score_loss)):
        assert report.changes[name]["old"] == pytest.approx(metric(y, p1))
        assert report.changes[name]["new"] == pytest.approx(metric(y, p2))
    assert report.changes["zero_one"]["change"] == pytest.approx(was.mean() - now.mean())
    assert report.agreement["kappa"] == pytest.approx(cohen_kappa_score(frame["v1"], frame["v2"]))
    assert report.agreement["error_consistency"] == pytest.approx(cohen_kappa_score(was, now))
    assert report.agreement["error_overlap"] == pytest.approx((~was & ~now).sum() / (~was | ~now).sum())
    proba = [np.column_stack([1 - p, p]) for p in (p1, p2)]
    assert report.agreement["capa"] == pytest.approx(capa(*proba, y.astype(int).to_numpy()).value)
    assert report.verdict == "better"
    assert report.accepted


def test_the_interval_is_that_of_the_paired_difference(rows):
    frame, old, new = rows
    change = compare_versions(old, new, frame, target="y", loss="log").changes["log"]
    y = (frame["y"] == "yes").to_numpy()
    row = [-np.log(np.where(y, p, 1 - p)) for p in (frame["p1"], frame["p2"])]
    d = row[1] - row[0]
    half = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
    assert change["low"] == pytest.approx(d.mean() - half, abs=0.2 * half)
    assert change["high"] == pytest.approx(d.mean() + half, abs=0.2 * half)


def test_groups_and_confidence_part_the_rows(rows):
    frame, old, new = rows
    report = compare_versions(old, new, frame, target="y", groups=["city"])
    assert sum(f.n for f in report.groups["city"].values()) == len(frame)
    assert sum(f.n_negative for f in report.groups["city"].values()) == report.flips.n_negative
    assert sum(c["flips"].n for c in report.confidence) == len(frame)
    for bin_ in report.confidence:
        sure = np.maximum(frame["p1"], 1 - frame["p1"])
        assert bin_["flips"].n == ((sure >= bin_["low"]) & ((sure < bin_["high"]) | (bin_["high"] == 1))).sum()
    table = report.group_table()
    assert set(table["group"]) == set(report.groups["city"])
    assert table["negative_rate"].is_monotonic_decreasing


def test_every_form_of_input_says_the_same(rows, tmp_path):
    frame, old, new = rows
    save_model(old, tmp_path / "old.skops")
    save_model(new, tmp_path / "new.skops")
    frame.to_parquet(tmp_path / "test.parquet")
    proba = frame[["key"]].assign(p_no=1 - frame["p2"], p_yes=frame["p2"]).sample(frac=1, random_state=0)
    proba.to_csv(tmp_path / "new.csv", index=False)
    frame[["y", "p1"]].to_parquet(tmp_path / "old.parquet")
    test = str(tmp_path / "test.parquet")
    seen = [
        compare_versions(old, new, frame, target="y"),
        compare_versions(tmp_path / "old.skops", tmp_path / "new.skops", test, target="y"),
        compare_versions("p1", "p2", test, target="y", proba=True),
        compare_versions("p1", tmp_path / "new.csv", test, target="y", id="key", proba=True,
                         proba_columns=["p_no", "p_yes"]),
        compare_versions(tmp_path / "old.parquet", "p2", test, target="y", proba=True, prediction_column="p1"),
    ]  # fmt: skip
    for report in seen[1:]:
        for loss, change in report.changes.items():
            assert change["change"] == pytest.approx(seen[0].changes[loss]["change"], abs=1e-9)
        assert report.flips == seen[0].flips
    assert compare_versions("v1", "v2", frame, target="y").flips.n_negative == seen[0].flips.n_negative


def test_batches_do_not_matter(rows, tmp_path, monkeypatch):
    frame, _, _ = rows
    frame.to_csv(tmp_path / "test.csv", index=False)
    words = {"target": "y", "proba": True, "groups": ["city"], "id": "key"}
    whole = compare_versions("p1", "p2", frame, **words)
    monkeypatch.setattr("corrigible.versions._inputs.BATCH_ROWS", 37)
    parts = compare_versions("p1", "p2", str(tmp_path / "test.csv"), **words)
    assert parts.agreement == pytest.approx(whole.agreement)
    assert parts.calibration == pytest.approx(whole.calibration)
    assert parts.changes["log"]["change"] == pytest.approx(whole.changes["log"]["change"])
    assert parts.groups == whole.groups
    pd.testing.assert_frame_equal(parts.turned[["row", "id", "kind"]], whole.turned[["row", "id", "kind"]])
    assert set(whole.turned["row"]) == set(
        np.flatnonzero((frame["v1"] == frame["y"]) != (frame["v2"] == frame["y"]))
    )


def test_values_turn_by_their_absolute_error():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = x @ [1.0, 2.0] + 0.1 * rng.normal(size=200)
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=y)
    old, new = LinearRegression().fit(frame[["a"]], y), LinearRegression().fit(frame[["a", "b"]], y)
    report = compare_versions(old, new, frame, target="y")
    e1, e2 = (np.abs(y - m.predict(frame[c])) for m, c in ((old, ["a"]), (new, ["a", "b"])))
    assert report.task == "regression"
    assert report.flips.n_negative == (e2 > e1).sum()
    assert report.changes["absolute"]["new"] == pytest.approx(
        mean_absolute_error(y, new.predict(frame[["a", "b"]]))
    )
    assert report.verdict == "better"


def test_free_text_is_compared_by_equality():
    frame = pd.DataFrame(
        {"truth": [f"answer {i}" for i in range(30)], "v1": [f"answer {i % 20}" for i in range(30)]}
    )
    frame["v2"] = [f"answer {i}" if i < 25 else "none" for i in range(30)]
    report = compare_versions("v1", "v2", frame, target="truth")
    assert (report.flips.n_negative, report.flips.n_positive, report.flips.n_inconsistent) == (0, 5, 5)


@given(st.floats(-0.2, 0.2), st.floats(0, 0.2), st.floats(0, 0.1))
@settings(max_examples=60, deadline=None)
def test_a_verdict_follows_from_its_interval(change, half, tolerance):
    from corrigible.versions._verdict import verdict_of

    verdict = verdict_of({"change": change, "low": change - half, "high": change + half}, tolerance)
    assert (verdict == "better") == (change + half < 0)
    assert (verdict == "worse") == (change - half > tolerance)
    if verdict == "not worse":
        assert 0 <= change + half <= tolerance


def test_a_version_against_itself_is_open_or_not_worse_and_limits_hold(rows):
    frame, old, _ = rows
    same = compare_versions(old, old, frame, target="y", limits={"negative_flips": 0.0})
    assert (same.flips.n_negative, same.verdict, same.accepted) == (0, "not worse", True)
    assert same.agreement["kappa"] == 1
    back = compare_versions("v2", "v1", frame, target="y", groups=["city"],
                            limits={"negative_flips": 0.01, "group_negative_flips": 0.9})  # fmt: skip
    assert (back.verdict, back.accepted, list(back.exceeded)) == ("worse", False, ["negative_flips"])


def test_the_same_seed_gives_the_same_bits(rows):
    frame, old, new = rows
    a, b = (compare_versions(old, new, frame, target="y", seed=3) for _ in range(2))
    assert a.changes == b.changes


def test_a_saved_report_holds_all_and_escapes(rows, tmp_path):
    frame, _, _ = rows
    frame = frame.assign(city="<script>alert(1)</script>", y=frame["y"].replace("yes", "<b>yes</b>"))
    frame["v1"] = frame["v1"].replace("yes", "<b>yes</b>")
    frame["v2"] = frame["v2"].replace("yes", "<b>yes</b>")
    report = compare_versions("v1", "v2", frame, target="y", groups=["city"])
    page = report.save(tmp_path / "out").read_text(encoding="utf-8")
    shown = page.split('<script type="application/json"')[0]
    assert "<script>alert" not in page
    assert "<b>yes" not in shown
    assert "&lt;b&gt;yes" in shown
    saved = json.loads((tmp_path / "out/compare.json").read_text(encoding="utf-8"))
    assert saved["flips"]["n_negative"] == report.flips.n_negative
    assert len(pd.read_parquet(tmp_path / "out/turned.parquet")) == len(report.turned)
    with pytest.raises(DataError, match="--overwrite"):
        report.save(tmp_path / "out")


def test_rows_without_an_answer_are_told_and_left_out(rows, tmp_path):
    frame, _, _ = rows
    frame.loc[frame["key"] >= 100, ["key", "v2"]].to_csv(tmp_path / "new.csv", index=False)
    report = compare_versions("v1", tmp_path / "new.csv", frame, target="y", id="key")
    assert report.n == 300
    assert "100 of 400" in report.warnings[0]
    assert "key 0" in report.warnings[0]


@pytest.mark.parametrize(
    ("change", "words", "error", "match"),
    [
        ({}, {"old": "p1"}, DataError, "--proba"),
        ({}, {"new": "v3"}, DataError, "Did you mean 'v2'"),
        ({}, {"target": "z"}, UnknownNameError, "--target"),
        ({}, {"groups": ["town"]}, UnknownNameError, "--group"),
        ({}, {"loss": "log"}, DataError, "probabilities of both"),
        ({}, {"loss": "squared"}, InvalidParameterError, "zero_one"),
        ({}, {"tolerance": -1}, InvalidParameterError, "tolerance"),
        ({}, {"limits": {"slowdown": 2}}, InvalidParameterError, "do not give it"),
        ({}, {"limits": {"flips": 2}}, UnknownNameError, "negative_flips|Known"),
        ({"y": None}, {}, DataError, "must have values"),
        ({"v1": None}, {}, DataError, "answer to each row"),
        ({"key": 1}, {"id": "key"}, DataError, "each row once"),
        ({"p1": 1.5}, {"old": "p1", "new": "p2", "proba": True}, DataError, "in \\[0, 1\\]"),
    ],
)
def test_bad_input_is_one_sentence(rows, change, words, error, match):
    frame = rows[0].assign(**change)
    given = {"old": "v1", "new": "v2", "target": "y"} | words
    if words.get("old") == "p1" and not words.get("proba"):
        given["new"] = "p2"
    with pytest.raises(error, match=match):
        compare_versions(given.pop("old"), given.pop("new"), frame, **given)


def test_few_rows_and_files_in_another_order_are_refused(rows, tmp_path):
    frame, old, new = rows
    with pytest.raises(DataError, match="at least 20 rows"):
        compare_versions(old, new, frame.iloc[:5], target="y")
    turned = frame.iloc[::-1]
    turned[["y", "v2"]].to_csv(tmp_path / "turned.csv", index=False)
    with pytest.raises(DataError, match="same order"):
        compare_versions("v1", tmp_path / "turned.csv", frame, target="y")
    frame.iloc[:-1][["y", "v2"]].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DataError, match="--id"):
        compare_versions("v1", tmp_path / "short.csv", frame, target="y")
    with pytest.raises(DataError, match="expects the column 'b'"):
        compare_versions(old, new, frame.drop(columns="b"), target="y")


def test_versions_that_know_different_classes_are_compared_on_all(rows):
    frame, old, _ = rows
    labels = frame["y"].where(frame["c"] < 1.5, "perhaps")
    new = LogisticRegression().fit(frame[["a", "b", "c"]], labels)
    report = compare_versions(old, new, frame.assign(y=labels), target="y")
    assert report.changes["zero_one"]["old"] == pytest.approx((frame["v1"] != labels).mean())
    assert report.changes["zero_one"]["new"] == pytest.approx(
        (new.predict(frame[["a", "b", "c"]]) != labels).mean()
    )
    columns = frame.assign(old_yes=frame["p1"], old_no=1 - frame["p1"], new_no=1 - frame["p2"], new_yes=frame["p2"])
    with pytest.raises(DataError, match="same classes in the same order"):
        compare_versions("old_yes,old_no", "new_no,new_yes", columns, target="y")


def test_a_group_without_positives_has_its_flips(rows):
    frame, old, new = rows
    frame = frame.assign(site=np.where(frame["y"] == "no", "only no", "only yes"))
    found = compare_versions(old, new, frame, target="y", groups=["site"]).groups["site"]["only no"]
    here = frame["y"] == "no"
    assert found.n == here.sum()
    assert found.n_negative == (here & (frame["v1"] == "no") & (frame["v2"] == "yes")).sum()


def test_models_of_other_columns_say_which_is_missing(rows):
    frame, old, new = rows
    assert (
        compare_versions(old, new, frame[["a", "b", "c", "y"]], target="y").n == 400
    )  # old takes a, new a, b and c
    with pytest.raises(DataError, match="NEW expects the column 'b'"):
        compare_versions(old, new, frame[["a", "c", "y"]], target="y")


def test_a_tolerance_that_no_row_count_reaches_leaves_the_verdict_open(rows):
    """A tolerance far below what the rows can tell is no harm shown and no safety shown."""
    frame, _, _ = rows
    swapped = frame.assign(
        v3=np.where(np.arange(400) % 40 == 0, frame["v2"].map({"yes": "no", "no": "yes"}), frame["v2"])
    )
    report = compare_versions("v2", "v3", swapped, target="y", tolerance=1e-9)
    assert report.changes["zero_one"]["high"] > 1e-9
    assert report.verdict in ("open", "worse")
