"""The audit of tables and models: sums, schema, which lines apply, same seed same bits, no label used twice."""

import json

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner

from corrigible.audit import LINE_IDS, AuditSettings, audit, run_audit
from corrigible.cli import app
from corrigible.datasets import make_classification_table
from corrigible.errors import DataError, InvalidParameterError, UnknownNameError

N = 120


def numeric(seed, n=N, noise=0.7):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    score = X["a"] + 0.5 * X["b"] + noise * rng.normal(size=n)
    return X, score


def classes(seed, labels=("no", "yes"), **options):
    X, score = numeric(seed, **options)
    cut = np.quantile(score, np.linspace(0, 1, len(labels) + 1)[1:-1])
    return X, pd.Series(np.asarray(labels)[np.searchsorted(cut, score)], name="target")


def logistic():
    return LogisticRegression(C=10.0)


def check_sum(budget):
    """Lines and rest are the total; every interval holds its value."""
    points = sum(line.points or 0.0 for line in budget.lines)
    assert points + budget.rest["value"] == pytest.approx(budget.total["value"], abs=1e-9)
    for part in (budget.total, budget.rest, *budget.forecast.values()):
        if isinstance(part, dict) and "value" in part:
            assert part["low"] <= part["value"] <= part["high"]
    for line in budget.lines:
        assert (line.points is None) == (line.basis == "not_applicable")
        if line.points is not None:
            assert line.low <= line.points <= line.high


def bits(report):
    return json.dumps(report.budget.to_dict())


@pytest.fixture(scope="module")
def binary():
    return audit(logistic(), *classes(0), *classes(1), seeds=2)


# --- schema ---------------------------------------------------------------------------------------------------


def test_schema_of_the_budget(binary):
    budget = json.loads(bits(binary))
    first = ["schema", "task", "loss", "n_test", "total", "lines", "rest", "forecast", "previous"]
    assert list(budget) == [*first, "annotators", "grouped_leaks"]
    assert budget["schema"] == 1
    assert (budget["task"], budget["loss"], budget["n_test"]) == ("classification", "zero_one", N)
    assert list(budget["total"]) == ["value", "low", "high"]
    assert list(budget["rest"]) == ["value", "low", "high", "aleatoric", "epistemic"]
    assert tuple(line["id"] for line in budget["lines"]) == LINE_IDS
    wanted = {"id", "title", "points", "low", "high", "basis", "why", "rows", "remedy", "papers", "kept"}
    for line in budget["lines"]:
        assert set(line) >= wanted
        assert line["why"]
        assert line["basis"] in ("measured", "estimated", "not_applicable")
    assert budget["forecast"] == budget["previous"] == {}


def test_the_lines_are_these_eight():
    assert LINE_IDS == (
        "label_errors", "missing_values", "decision_rule", "calibration", "groups", "model_variance", "shift",
        "data_size",
    )  # fmt: skip


def test_total_is_the_models_own_loss(binary):
    (X, y), (X_test, y_test) = classes(0), classes(1)
    predicted = logistic().fit(X, y).predict(X_test)
    assert binary.budget.total["value"] == pytest.approx((predicted != y_test).mean(), abs=1e-12)
    np.testing.assert_array_equal(binary.total_losses, predicted != y_test)
    check_sum(binary.budget)


def test_rest_is_split_into_what_models_agree_on_and_what_not(binary):
    rest = binary.budget.rest
    assert rest["aleatoric"] + rest["epistemic"] == pytest.approx(rest["value"], abs=1e-12)
    assert rest["epistemic"] >= 0


def test_unknown_line_of_a_budget(binary):
    assert binary.budget["shift"].id == "shift"
    with pytest.raises(UnknownNameError, match="no line 'shft'. Did you mean 'shift'"):
        binary.budget["shft"]


def test_one_row_an_input_row(binary):
    rows = binary.rows
    assert len(rows) == 2 * N
    assert rows["split"].value_counts().to_dict() == {"train": N, "test": N}
    for split in ("train", "test"):
        assert rows.loc[rows["split"] == split, "index"].tolist() == list(range(N))
    np.testing.assert_array_equal(rows.loc[rows["split"] == "test", "loss"], binary.total_losses)
    for line in LINE_IDS:
        assert rows[f"{line}_score"].dtype == float
        assert rows[f"{line}_flag"].dtype == "boolean"
    flagged = rows.loc[rows["split"] == "train", "label_errors_flag"]
    assert int(flagged.sum()) == binary.lines["label_errors"].rows


def test_the_report_speaks(binary):
    assert repr(binary).startswith("zero_one loss")
    assert "Calibration" in binary.to_markdown()
    assert "<" in binary._repr_html_()


# --- tasks and losses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["log", "brier"])
def test_losses_of_probabilities(loss):
    report = audit(logistic(), *classes(0), *classes(1), loss=loss, seeds=2)
    check_sum(report.budget)
    assert report.budget["decision_rule"].basis == "not_applicable"
    assert "probabilities" in report.budget["decision_rule"].why
    p = logistic().fit(*classes(0)).predict_proba(classes(1)[0])
    y = (classes(1)[1] == "yes").to_numpy().astype(int)
    expected = -np.log(p[np.arange(N), y]).mean() if loss == "log" else ((p[:, 1] - y) ** 2).mean()
    assert report.budget.total["value"] == pytest.approx(expected, rel=1e-9)


def test_three_classes_that_are_numbers():
    report = audit(DecisionTreeClassifier(max_depth=4), *classes(0, (3, 7, 9)), *classes(1, (3, 7, 9)), seeds=2)
    check_sum(report.budget)
    assert report.chain.problem.classes.tolist() == [3, 7, 9]
    assert report.budget.task == "classification"


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_regression(loss):
    model = HistGradientBoostingRegressor(max_iter=10, early_stopping=True)
    (X, y), (X_test, y_test) = numeric(0), numeric(1)
    report = audit(model, X, y.to_numpy(), X_test, y_test.to_numpy(), loss=loss, seeds=2)
    check_sum(report.budget)
    assert (report.budget.task, report.budget.loss) == ("regression", loss)
    error = np.abs(clone(model).fit(X, y).predict(X_test) - y_test)
    if report.chain.problem.template is not None:  # the random held-out tenth has no seed of its own here
        assert report.budget["decision_rule"].basis == "measured"
    assert report.budget.total["value"] == pytest.approx((error**2 if loss == "squared" else error).mean(), rel=0.5)


def test_a_regressor_of_few_whole_numbers_is_audited_as_one():
    """Ratings 1 to 5 look like classes, but the model says what it is."""
    X, y = classes(0, (1, 2, 3, 4, 5))
    X_test, y_test = classes(1, (1, 2, 3, 4, 5))
    model = RandomForestRegressor(n_estimators=5, random_state=0).fit(X, y)
    report = audit(model, X, y, X_test, y_test, seeds=2)
    assert (report.budget.task, report.budget.loss) == ("regression", "squared")
    expected = np.mean((model.predict(X_test) - y_test) ** 2)
    assert report.budget.total["value"] == pytest.approx(expected, rel=1e-9)
    check_sum(report.budget)


def test_a_classifier_without_probabilities():
    report = audit(LinearSVC(random_state=0), *classes(0), *classes(1), seeds=2)
    check_sum(report.budget)
    for line in ("decision_rule", "calibration", "groups"):
        assert report.budget[line].basis == "not_applicable"
    with pytest.raises(DataError, match="'log' needs probabilities"):
        audit(LinearSVC(random_state=0), *classes(0), *classes(1), loss="log")


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed():
    """Dates, categories, text, booleans and missing cells through the model that is built when none is brought."""
    tables = [make_classification_table(n, rng=seed, missing=0.1) for n, seed in ((240, 0), (150, 1), (90, 2))]
    frames = [t.X.assign(flag=t.X["age"].isna()) for t in tables]
    labels = [t.y.map({0: "stays", 1: "leaves"}).rename("state") for t in tables[:2]]
    return audit(None, frames[0], labels[0], frames[1], labels[1], frames[2], seeds=2)


def test_mixed_columns_without_a_model(mixed):
    check_sum(mixed.budget)
    assert mixed.budget["missing_values"].basis == "estimated"
    assert mixed.budget["missing_values"].rows > 0
    assert mixed.budget["data_size"].basis == "estimated"
    assert mixed.budget["data_size"].points >= 0
    assert type(mixed.chain.problem.model.steps[0][1]).__name__ == "TableVectorizer"


def test_groups_are_found_where_none_are_named(mixed):
    names = list(mixed.chain.problem.groups_test.columns)
    assert names
    assert set(names) <= {"region", "product", "flag"}
    assert mixed.budget["groups"].basis == "measured"


def test_the_forecast_of_production_rows(mixed):
    forecast = mixed.budget.forecast
    assert forecast["n_production"] == 90
    assert 0 <= forecast["loss"]["low"] <= forecast["loss"]["value"] <= forecast["loss"]["high"] <= 1
    assert 0 <= forecast["defer_share"] <= 1
    assert forecast["change"] == pytest.approx(forecast["loss"]["value"] - mixed.budget.total["value"])
    assert forecast["method"] in ("cbpe", "mcbpe")


def grouped(seed):
    X, y = classes(seed)
    return X.assign(team=np.where(X["c"] > 0, "red", "blue"), unit=np.arange(N) % 2), y


def test_given_groups_that_are_no_features():
    (X, y), (X_test, y_test) = grouped(0), grouped(1)
    report = audit(logistic(), X, y, X_test, y_test, groups=["team", "unit"], drop=["team", "unit"], seeds=2)
    assert list(report.chain.problem.X_train.columns) == ["a", "b", "c"]
    assert list(report.chain.problem.groups_test.columns) == ["team", "unit"]
    assert report.budget["groups"].basis == "measured"
    table = report.sections["groups"][0]
    assert {row[0] for row in table["rows"]} == {"team = red", "team = blue", "unit = 0", "unit = 1"}
    check_sum(report.budget)


def test_a_group_of_whole_numbers_is_the_same_group_where_a_cell_is_missing():
    """One missing cell turns a column of integers to floats: 1 and 1.0 stay one group."""
    (X, y), (X_test, y_test) = grouped(0), grouped(1)
    X_test["unit"] = X_test["unit"].astype(float)
    X_test.loc[0, "unit"] = np.nan
    options = {"groups": ["unit"], "drop": ["team", "unit"], "seeds": 1, "lines": ["groups"]}
    report = audit(logistic(), X, y, X_test, y_test, **options)
    assert set(report.chain.problem.groups_test["unit"]) == {"0", "1", "missing"}
    assert set(report.chain.problem.groups_train["unit"]) == {"0", "1"}


def test_column_order_does_not_matter(binary):
    X_test, y_test = classes(1)
    report = audit(logistic(), *classes(0), X_test[["c", "a", "b"]], y_test, seeds=2)
    assert bits(report) == bits(binary)


def test_a_model_of_fewer_columns_takes_its_own():
    """The columns that a fitted model does not know are left alone, in production rows too."""
    (X, y), (X_test, y_test) = classes(0), classes(1)
    model = logistic().fit(X[["b", "a"]], y)
    extra = {"note": "text"}
    report = audit(
        model, X.assign(**extra), y, X_test.assign(**extra), y_test, classes(2)[0].assign(**extra), seeds=2
    )
    assert list(report.chain.problem.X_train.columns) == ["b", "a"]
    assert report.budget.forecast["n_production"] == N
    check_sum(report.budget)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X.to_numpy(), y), "must be a dataframe"),
        (lambda X, y: (X, y[:-1]), "must have a row a label. Got 120 rows, 119 labels"),
        (lambda X, y: (X.assign(a=np.inf), y), "'a' of the training table must be finite"),
        (lambda X, y: (X.iloc[:0], y.iloc[:0]), "at least 10 rows"),
        (lambda X, y: (X.drop(columns="a"), y), "only in test: a"),
        (lambda X, y: (X.assign(a=np.nan), y), "cannot be fitted to the training table"),
    ],
)
def test_tables_that_do_not_fit(change, message):
    with pytest.raises(DataError, match=message):
        audit(logistic(), *change(*classes(0)), *classes(1))


def test_parameters_out_of_range():
    with pytest.raises(InvalidParameterError, match="'seeds'"):
        audit(logistic(), *classes(0), *classes(1), seeds=0)
    with pytest.raises(InvalidParameterError, match="'lines'.*Did you mean 'shift'"):
        audit(logistic(), *classes(0), *classes(1), lines=["shft"])


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_fitted_model_gives_what_the_unfitted_one_gives(binary):
    report = audit(logistic().fit(*classes(0)), *classes(0), *classes(1), seeds=2)
    assert bits(report) == bits(binary)


def test_a_model_of_other_data_is_not_refitted():
    X, y = classes(5, noise=0.1)
    model = logistic().fit(-X, y)
    report = audit(model, *classes(0), *classes(1), seeds=2)
    for line in ("label_errors", "missing_values", "model_variance", "shift", "data_size"):
        assert report.budget[line].basis == "not_applicable"
        assert "not what these training rows give" in report.budget[line].why
    assert any("not what these training rows give" in w for w in report.summary()["warnings"])
    assert report.budget["calibration"].basis == "measured"
    check_sum(report.budget)


class Rule(ClassifierMixin, BaseEstimator):
    """A classifier that was written by hand: it has nothing to fit."""

    def __init__(self, broken=False):
        self.broken = broken
        self.classes_ = np.array(["no", "yes"])

    def fit(self, X, y):
        raise ValueError("a rule is not fitted")

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-3 * X["a"].to_numpy()))
        return np.column_stack([1 - p, p])

    def __sklearn_is_fitted__(self):
        return True


def test_a_model_that_cannot_be_refitted():
    report = audit(Rule(), *classes(0), *classes(1), seeds=2)
    assert "a rule is not fitted" in report.budget["shift"].why
    assert report.budget["calibration"].basis == "measured"
    check_sum(report.budget)


def test_previous_versions():
    (X, y), (X_test, y_test) = classes(0), classes(1)
    old = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, y)
    by_model = audit(logistic(), X, y, X_test, y_test, previous=old, lines=[], seeds=2).budget.previous
    by_labels = audit(
        logistic(), X, y, X_test, y_test, previous=old.predict(X_test), lines=[], seeds=2
    ).budget.previous
    new = logistic().fit(X, y).predict(X_test)
    was, now = old.predict(X_test) == y_test, new == y_test
    assert by_model == by_labels
    assert by_model["negative_flips"] == int((was & ~now).sum())
    assert by_model["positive_flips"] == int((~was & now).sum())
    assert by_model["rate"] == pytest.approx((was & ~now).mean())


def test_previous_version_of_a_regressor():
    (X, y), (X_test, y_test) = numeric(0), numeric(1)
    old = LinearRegression().fit(X[["a"]], y)
    found = audit(LinearRegression(), X, y, X_test, y_test, previous=old, lines=[]).budget.previous
    assert found["old_loss"] == pytest.approx(np.mean((old.predict(X_test[["a"]]) - y_test) ** 2))
    assert found["new_loss"] < found["old_loss"]


def test_lines_that_were_not_asked_for():
    report = audit(logistic(), *classes(0), *classes(1), lines=["calibration"])
    assert report.budget["calibration"].basis == "measured"
    others = [line for line in report.budget.lines if line.id != "calibration"]
    assert {line.why for line in others} == {"It was not asked for."}


# --- the same bits -------------------------------------------------------------------------------------------------


def boosted():
    columns = make_column_transformer((StandardScaler(), ["a", "b"]), remainder="passthrough")
    booster = HistGradientBoostingClassifier(max_iter=5, early_stopping=True, max_leaf_nodes=5, random_state=0)
    return make_pipeline(columns, booster)


def gaps(seed):
    X, y = classes(seed, n=100)
    return X.mask(np.random.default_rng(seed).uniform(size=X.shape) < 0.1), y


@pytest.fixture(scope="module")
def serial():
    return audit(boosted(), *gaps(0), *gaps(1), gaps(2)[0], seeds=2)


def test_same_seed_same_bits(serial):
    np.random.seed(3)  # noqa: NPY002 - the global state must not matter
    again = audit(boosted(), *gaps(0), *gaps(1), gaps(2)[0], seeds=2)
    assert bits(again) == bits(serial)
    pd.testing.assert_frame_equal(again.rows, serial.rows)


def test_another_seed_other_bits(serial):
    assert bits(audit(boosted(), *gaps(0), *gaps(1), gaps(2)[0], seeds=2, seed=1)) != bits(serial)


def test_two_workers_give_the_same_bits(serial):
    with joblib.parallel_config("threading"):
        parallel = audit(boosted(), *gaps(0), *gaps(1), gaps(2)[0], seeds=2, n_jobs=2)
    assert bits(parallel) == bits(serial)


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_gives_the_same_bits(serial):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        report = audit(boosted(), *gaps(0), *gaps(1), gaps(2)[0], seeds=2)
    assert bits(report) == bits(serial)


def test_the_input_is_left_alone():
    (X, y), (X_test, y_test) = gaps(0), gaps(1)
    before = [t.copy() for t in (X, y, X_test, y_test)]
    audit(boosted(), X, y, X_test, y_test, seeds=2)
    for a, b in zip(before, (X, y, X_test, y_test), strict=True):
        (pd.testing.assert_frame_equal if a.ndim == 2 else pd.testing.assert_series_equal)(a, b)


def write(folder, seed, name):
    X, y = classes(seed)
    X.assign(target=y).to_csv(folder / name, index=False)


def test_config_repeats_the_budget_byte_for_byte(tmp_path, monkeypatch):
    for seed, name in enumerate(("train.csv", "test.csv")):
        write(tmp_path, seed, name)
    classes(2)[0].to_csv(tmp_path / "new é.csv", index=False)
    skops.io.dump(logistic().fit(*classes(0)), tmp_path / "model.skops")
    classes(1)[1].to_frame("prediction").to_csv(tmp_path / "old.csv", index=False)
    monkeypatch.chdir(tmp_path)
    words = (
        "audit --train train.csv --test test.csv --target target --model model.skops --previous old.csv --seeds 2"
    )
    first = CliRunner().invoke(
        app, [*words.split(), "--production", "new é.csv", "--seed", "3", "--out", "one", "--quiet"]
    )
    assert first.exit_code == 0, (first.output, first.exception)
    monkeypatch.chdir("/")
    config = str(tmp_path / "one" / "audit.toml")
    second = CliRunner().invoke(app, ["audit", "--config", config, "--out", str(tmp_path / "two"), "--quiet"])
    assert second.exit_code == 0, (second.output, second.exception)
    one, two = (tmp_path / name / "budget.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert {p.name for p in (tmp_path / "one").iterdir()} == {
        "index.html",
        "budget.json",
        "rows.parquet",
        "audit.toml",
    }
    assert len(pd.read_parquet(tmp_path / "one" / "rows.parquet")) == 2 * N
    assert json.loads(one.read_text())["previous"]["negative_flips"] > 0


def test_settings_return_from_toml(tmp_path):
    from corrigible.audit._settings import settings_toml

    write(tmp_path, 1, 'a "b" \\ 😀.csv')
    path = str(tmp_path / 'a "b" \\ 😀.csv')
    settings = AuditSettings(
        test=path, target="target", proba_columns=("p\n1", "p\x7f2"), seeds=3, trust_pickle=True
    )
    from dataclasses import asdict

    from corrigible._utils.files import sha256

    (tmp_path / "audit.toml").write_text(
        settings_toml({"settings": asdict(settings), "data": {path: sha256(path)}}), encoding="utf-8"
    )
    assert AuditSettings.from_toml(tmp_path / "audit.toml") == settings


def test_files_give_what_tables_give(tmp_path, binary):
    for seed, name in enumerate(("train.csv", "test.csv")):
        write(tmp_path, seed, name)
    skops.io.dump(logistic().fit(*classes(0)), tmp_path / "model.skops")
    settings = AuditSettings(
        test=str(tmp_path / "te*.csv"), target="target", train=str(tmp_path / "train.csv"),
        model=str(tmp_path / "model.skops"), seeds=2,
    )  # fmt: skip
    assert bits(run_audit(settings, quiet=True)) == bits(binary)


# --- models that fail on a part of the rows ---------------------------------------------------------------------------


class Fussy(LogisticRegression):
    """A model that refuses to be fitted to fewer rows than it likes."""

    def __init__(self, least=0):
        super().__init__()
        self.least = least

    def fit(self, X, y, sample_weight=None):
        if len(X) < self.least:
            raise ValueError(f"I need {self.least} rows.\nAnd more besides.")
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("least", [290, 150])
def test_a_model_that_fails_on_fewer_rows_costs_lines_not_the_audit(least):
    """Too few rows in a fold: no line can refit. Too few in a subsample: the learning curve alone is left out."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(600, 3)), columns=list("abc"))
    y = (X["a"] + rng.normal(size=600) > 0).astype(int)
    report = audit(Fussy(least), X[:300], y[:300], X[300:], y[300:], loss="log", seeds=2)
    refits = ["label_errors", "missing_values", "model_variance", "shift", "data_size"]
    failed = [i for i in refits if "I need" in report.budget[i].why]
    assert failed == (refits if least == 290 else ["data_size"])
    assert all(report.budget[i].basis == "not_applicable" for i in failed)
    assert any(f"I need {least} rows." in w and "besides" not in w for w in report.summary()["warnings"])
    left = report.budget.total["value"] - sum(line.points or 0 for line in report.budget.lines)
    assert abs(left - report.budget.rest["value"]) < 1e-9


# --- no label is used on the rows that it scores ------------------------------------------------------------------------


def planted(seed, n=150):
    """Wrong labels, a group that is off, a shifted column: so that remedies are kept."""
    rng = np.random.default_rng(seed)
    X, y = classes(seed, n=n, noise=0.3)
    X["c"] += 0.8 * (seed == 1)
    flip = (rng.uniform(size=n) < 0.15) & (seed == 0)
    y = y.where(~flip, y.map({"no": "yes", "yes": "no"}))
    return X.assign(team=np.where(rng.uniform(size=n) < 0.5, "red", "blue")), y


@pytest.mark.parametrize("loss", ["zero_one", "log"])
def test_test_labels_enter_no_choice_and_no_correction(loss):
    """With the test labels shuffled, what is kept and what is predicted stays bit for bit."""
    (X, y), (X_test, y_test) = planted(0), planted(1)
    columns = make_column_transformer(("passthrough", ["a", "b", "c"]))
    model = make_pipeline(columns, DecisionTreeClassifier(random_state=0))  # so sure of itself that remedies help
    shuffled = y_test.sample(frac=1, random_state=0).reset_index(drop=True)
    assert (shuffled != y_test).mean() > 0.3
    a, b = (audit(model, X, y, X_test, labels, loss=loss, seeds=2).chain for labels in (y_test, shuffled))
    assert [r.kept for r in a.records] == [r.kept for r in b.records]
    assert [r.basis for r in a.records] == [r.basis for r in b.records]
    assert any(r.kept for r in a.records)
    np.testing.assert_array_equal(a.corrected(), b.corrected())
    np.testing.assert_array_equal(a.predicted(), b.predicted())
    for one, other in zip(a.sides, b.sides, strict=True):
        assert (one.class_weights is None) == (other.class_weights is None)
        if one.class_weights is not None:
            np.testing.assert_array_equal(one.class_weights, other.class_weights)
    assert not np.array_equal(a.losses(), b.losses())
