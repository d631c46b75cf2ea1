"""Who labelled the rows: planted annotators get their rates, few labels are drawn towards the others, all is told."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from sklearn.linear_model import LinearRegression, LogisticRegression
from typer.testing import CliRunner

from corrigible.audit import audit, clean
from corrigible.audit._annotators import by_annotations, by_annotator
from corrigible.cli import app
from corrigible.errors import DataError, InvalidParameterError, UnknownNameError

ERRORS = {"ann": 0.02, "bob": 0.05, "cleo": 0.35}
CLASSES = np.array(["no", "yes"])


def labelled(n=900, seed=0):
    """Return features, true class numbers, names, and given labels wrong at each annotator's own rate."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    true = (X["a"] + X["b"] > 0).astype(int).to_numpy()
    names = rng.choice(list(ERRORS), size=n)
    wrong = rng.uniform(size=n) < pd.Series(names).map(ERRORS).to_numpy()
    return X, true, names, CLASSES[np.where(wrong, 1 - true, true)]


def matrix(true, seed=1, share=0.7):
    """Return a column of labels an annotator, missing where none was given."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, error in ERRORS.items():
        label = np.where(rng.uniform(size=len(true)) < error, 1 - true, true)
        columns[f"by_{name}"] = np.where(rng.uniform(size=len(true)) < share, CLASSES[label], None)
    return pd.DataFrame(columns)


def of(table, name):
    return table.set_index("annotator").loc[name]


def test_planted_rates_are_told():
    X, _, names, y = labelled()
    X["who"] = names
    report = audit(
        LogisticRegression(), X[:600], y[:600], X[600:], y[600:], annotator="who", lines=["label_errors"]
    )
    assert "who" not in report.chain.problem.X_train
    found = report.budget.annotators
    assert (found["split"], found["method"]) == ("train", "confident_learning")
    assert found["annotators"][0]["annotator"] == "cleo"
    for row in found["annotators"]:
        assert row["labels"] == (names[:600] == row["annotator"]).sum()
        assert row["low"] < ERRORS[row["annotator"]] < row["high"]
    titles = [b["title"] for b in report.sections["label_errors"] if "title" in b]
    assert "Suspect labels by annotator" in titles


def test_several_labels_a_row_are_judged_by_each_other(tmp_path):
    X, true, _, y = labelled()
    labels = matrix(true)
    X = pd.concat([X, labels], axis=1)
    report = audit(
        LogisticRegression(), X[:600], y[:600], X[600:], y[600:], annotations=[c for c in X if c.startswith("by_")],
        lines=["decision_rule"],
    )  # fmt: skip
    report.save(tmp_path / "report")
    found = json.loads((tmp_path / "report" / "budget.json").read_text())["annotators"]
    assert found["method"] == "dawid_skene"
    for row in found["annotators"]:
        column = labels[row["annotator"]][:600]
        wrong = (column != CLASSES[true[:600]])[column.notna()].mean()
        assert row["labels"] == column.notna().sum()
        assert row["rate"] == pytest.approx(wrong, abs=0.05)
    told = report.rows.query("split == 'train'")["suspect"].str.contains("consensus is", na=False).to_numpy()
    assert told.sum() == found["contradicted"]
    wrong = y[:600] != CLASSES[true[:600]]
    assert (told & wrong).sum() / told.sum() > 0.8


def test_few_labels_are_drawn_towards_the_others(rng):
    names = pd.Series(["few"] * 4 + ["many"] * 400 + ["more"] * 400 + ["most"] * 400)
    suspect = np.r_[np.ones(4), rng.uniform(size=400) < 0.1, rng.uniform(size=400) < 0.05, np.zeros(400)]
    table = by_annotator(names, suspect).table
    assert of(table, "few").rate < 0.6 < of(table, "few").suspect / 4
    many = suspect[4:404].mean()
    assert of(table, "many").rate == pytest.approx(many, abs=0.02)
    assert of(table, "few").high - of(table, "few").low > 3 * (of(table, "many").high - of(table, "many").low)


def test_two_annotators_have_no_others_to_be_drawn_to():
    rates = by_annotator(pd.Series(["a"] * 10 + ["b"] * 30), np.r_[np.ones(5), np.zeros(35)])
    posterior = beta(0.5 + 5, 0.5 + 5)
    row = of(rates.table, "a")
    assert (row.rate, row.low, row.high) == pytest.approx((0.5, posterior.ppf(0.025), posterior.ppf(0.975)))
    assert rates.overall == 5 / 40


def test_labels_that_are_wrong_with_some_probability_count_as_fewer():
    names = pd.Series(["a"] * 100 + ["b"] * 100)
    sure, unsure = np.r_[np.ones(20), np.zeros(180)], np.full(200, 0.2)
    known, vague = (of(by_annotator(names, w).table, "a") for w in (sure, unsure))
    assert vague.suspect == pytest.approx(known.suspect)
    # As much variance again from not knowing which are wrong: as of 50 labels, all known.
    half = beta(0.5 + 10, 0.5 + 40)
    assert (vague.low, vague.high) == pytest.approx((half.ppf(0.025), half.ppf(0.975)))


def test_missing_names_are_one_annotator():
    table = by_annotator(pd.Series(["a", None, None]), np.array([0, 1, 0])).table
    assert of(table, "missing").labels == 2


def test_rows_labelled_once_are_judged_by_the_models():
    _, true, names, y = labelled()
    once = pd.DataFrame({name: np.where(names == name, y, None) for name in ERRORS})
    given = np.searchsorted(CLASSES, y)
    p = np.where(np.eye(2)[true] > 0, 0.9, 0.1)
    one = by_annotations(once, CLASSES, p, given, by="the table")
    other = by_annotator(pd.Series(names), given != true)
    assert one.method == "confident_learning"
    pd.testing.assert_frame_equal(one.table, other.table)


def test_values_too():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=400), "who": rng.choice(["ann", "bob"], 400)})
    y = 3 * X["a"].to_numpy() + 0.1 * rng.normal(size=400)
    y[(X["who"] == "bob") & (rng.uniform(size=400) < 0.05)] += 20
    report = audit(LinearRegression(), X[:300], y[:300], X[300:], y[300:], annotator="who", lines=["label_errors"])
    found = report.budget.annotators
    assert found["method"] == "veracity"
    assert found["annotators"][0]["annotator"] == "bob"


def test_predictions_alone_say_who_labelled_the_test_rows(tmp_path):
    _, true, names, y = labelled()
    p = np.where(true == 1, 0.9, 0.1)
    frame = pd.DataFrame({"y": y, "p_no": 1 - p, "p_yes": p, "who": names})
    frame.to_parquet(tmp_path / "test.parquet")
    words = ["audit", "--test", str(tmp_path / "test.parquet"), "--target", "y", "--proba-columns", "p_no,p_yes",
             "--annotator", "who", "--quiet", "--out", str(tmp_path / "report")]  # fmt: skip
    assert CliRunner().invoke(app, words).exit_code == 0
    found = json.loads((tmp_path / "report" / "budget.json").read_text())["annotators"]
    assert found["split"] == "test"
    cleo = next(r for r in found["annotators"] if r["annotator"] == "cleo")
    assert cleo["suspect"] == (y != CLASSES[true])[names == "cleo"].sum()
    assert "annotator = " in (tmp_path / "report" / "audit.toml").read_text()


def test_clean_tells_of_annotators(tmp_path):
    X, true, names, y = labelled(400)
    table = X.assign(who=names, y=y)
    report = clean(table, "y", annotator="who")
    found = report.summary["annotators"]
    assert found["annotators"][0]["annotator"] == "cleo"
    assert "Suspect labels by annotator" in report.save(tmp_path / "out").read_text(encoding="utf-8")
    several = pd.concat([table.drop(columns="who"), matrix(true)], axis=1)
    found = clean(several, "y", annotations=[c for c in several if c.startswith("by_")]).summary["annotators"]
    assert found["method"] == "dawid_skene"
    assert (
        of(pd.DataFrame(found["annotators"]), "by_cleo").low > of(pd.DataFrame(found["annotators"]), "by_ann").high
    )


def test_clean_judges_values_by_annotator():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "who": rng.choice(["ann", "bob"], 200)})
    table["y"] = 3 * table["a"] + 0.1 * rng.normal(size=200)
    table.loc[table["who"].eq("bob") & (np.arange(200) % 4 == 0), "y"] += 20
    assert clean(table, "y", annotator="who").summary["annotators"]["annotators"][0]["annotator"] == "bob"


def test_bad_input():
    X, true, _, y = labelled(100)
    X = pd.concat([X, matrix(true)], axis=1)
    given = [X[:60], y[:60], X[60:], y[60:]]
    with pytest.raises(UnknownNameError, match="no column 'wo'"):
        audit(None, *given, annotator="wo")
    with pytest.raises(DataError, match="at least two annotators"):
        audit(None, *given, annotations=["by_ann"])
    with pytest.raises(DataError, match="needs a target of classes"):
        audit(LinearRegression(), X[:60], true[:60] + 0.5, X[60:], true[60:], annotations=["by_ann", "by_bob"])
    odd = X.assign(by_ann="maybe")
    with pytest.raises(DataError, match="Row 0 has 'maybe'"):
        audit(LogisticRegression(), odd[:60], y[:60], odd[60:], y[60:], annotations=["by_ann", "by_bob"],
              lines=["decision_rule"], drop=["by_cleo"])  # fmt: skip
    with pytest.raises(DataError, match="All cells are missing"):
        by_annotations(pd.DataFrame({"a": [None], "b": [None]}), CLASSES, np.eye(2)[:1], np.array([0]), by="x")
    with pytest.raises((DataError, InvalidParameterError), match="name the target"):
        clean(X, annotator="by_ann")
