"""Production rows against known ones: the share that is unlike, drift of all columns together, and their losses."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest
from sklearn.linear_model import LinearRegression, LogisticRegression

from corrigible.audit import audit
from corrigible.audit._inputs import problem_from_tables
from corrigible.audit._production import _p_values, joint_drift, unlike_known
from corrigible.shift import DensityRatio


def rows(rng, n, *, far=0):
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    X["kind"] = rng.choice(["u", "v"], n)
    X.loc[: far - 1, ["a", "b", "c"]] += 8.0 if far else 0.0
    return X


def problem(seed=0, *, far=0, n=400, ahead=None):
    rng = np.random.default_rng(seed)
    train, test, production = rows(rng, n), rows(rng, n), rows(rng, n, far=far)
    y, z = ((X["a"] + rng.normal(size=n) > 0).astype(int) for X in (train, test))
    return problem_from_tables(
        LogisticRegression(), train.drop(columns="kind"), y, test.drop(columns="kind"), z,
        X_production=(production if ahead is None else ahead(production)).drop(columns="kind"),
    )  # fmt: skip


def test_p_values_of_known_rows_are_uniform():
    drawn = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        drawn.append(_p_values(rows(rng, 100), rows(rng, 20), seed)[0])
    assert kstest(np.concatenate(drawn), "uniform").pvalue > 0.001
    assert np.mean(np.concatenate(drawn) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_nothing_is_unlike_where_nothing_is():
    zero = []
    for seed in range(20):
        found, _ = unlike_known(problem(seed, n=200), np.full(200, 0.1), seed=0)
        zero.append(found["share"]["low"] <= 0)
    assert np.mean(zero) >= 0.85


def test_planted_rows_are_counted_and_named():
    p = problem(far=80)
    expected = np.r_[np.full(80, 0.4), np.full(320, 0.1)]
    found, blocks = unlike_known(p, expected, seed=0)
    assert found["of"] == "training"
    assert found["share"]["low"] < 0.2 < found["share"]["high"]
    assert found["named"] == pytest.approx(80, abs=12)
    far = found["loss_of_small_p_values"]["value"]
    assert found["loss_of_others"]["value"] == pytest.approx(0.1)
    assert 0.3 < far < 0.4
    named = [row[0] for row in blocks[1]["rows"]]
    assert set(named) <= set(range(80))


def test_without_training_rows_the_test_rows_are_known():
    p = problem(far=80)
    p.X_train = None
    assert unlike_known(p, np.full(400, 0.1), seed=0)[0]["of"] == "test"
    p.X_test = None
    assert unlike_known(p, np.full(400, 0.1), seed=0) == ({}, [])


def test_columns_that_move_together_are_seen():
    """Each column keeps its law, and rows where two agree, which are lost more, become frequent."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(1500, 2)), columns=["a", "b"])
    y = ((X["a"] * X["b"] > 0) & (rng.uniform(size=1500) < 0.5)).astype(int)
    same = X["a"] * X["b"] > 0
    production = pd.concat([X[same], X[~same][:100]], ignore_index=True)
    p = problem_from_tables(LogisticRegression(), X[:700], y[:700], X[700:], y[700:], X_production=production)
    ratio = DensityRatio(random_state=0).fit(p.X_test, p.X_production)
    found, _ = joint_drift(p, ratio, seed=0)
    assert found["p_value"] < 0.01
    assert found["auc"]["low"] > 0.5
    lost = p.row_loss(p.test_output, p.y_test)
    agree = (p.X_test["a"] * p.X_test["b"] > 0).to_numpy()
    share = float((production["a"] * production["b"] > 0).mean())
    truth = share * lost[agree].mean() + (1 - share) * lost[~agree].mean() - lost.mean()
    # The classifier's density ratio is drawn towards 1, and the change with it.
    assert truth / 2 < found["loss_change"]["value"] < truth + 0.03


def test_without_drift_nothing_is_said():
    p = problem()
    ratio = DensityRatio(random_state=0).fit(p.X_test, p.X_production)
    assert joint_drift(p, ratio, seed=0)[0]["p_value"] > 0.01
    assert joint_drift(p, None, seed=0) == ({}, [])


@pytest.mark.parametrize("regression", [False, True])
def test_the_report_tells_of_it(tmp_path, regression):
    rng = np.random.default_rng(0)
    train, test, production = (rows(rng, 300, far=f).drop(columns="kind") for f in (0, 0, 60))
    y, z = (X["a"] + rng.normal(size=300) for X in (train, test))
    if not regression:
        y, z = (y > 0).astype(int), (z > 0).astype(int)
    model = LinearRegression() if regression else LogisticRegression()
    report = audit(model, train, y, test, z, production, lines=["decision_rule"])
    page = report.save(tmp_path / "report").read_text(encoding="utf-8")
    forecast = json.loads((tmp_path / "report" / "budget.json").read_text())["forecast"]
    assert forecast["unlike"]["share"]["low"] > 0.1
    assert forecast["drift"]["p_value"] < 0.05
    assert "are unlike the training rows" in page
    assert "All columns together have moved" in page
    assert "Production rows that are least like known ones" in page
