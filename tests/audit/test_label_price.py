"""What right training labels are estimated to bring: the exchange of rows, the law, and the truth of planted flips."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from corrigible.audit import audit
from corrigible.audit._inputs import problem_from_tables
from corrigible.audit._label_price import LabelNoise, _curve_of_right_labels, contraction
from corrigible.audit._start import start
from corrigible.datasets import plant

P, C, N = 0.8, 0.6, 2000
Q = 0.5 + C * (P - 0.5)
INFORMATION = C**2 * P * (1 - P) / (Q * (1 - Q))
SHARES = np.array([0.05, 0.1, 0.18, 0.32, 0.56, 1.0])


def law(n):
    return 0.2 + 3.0 / np.asarray(n, dtype=float)


def noise(*, q=Q, information=INFORMATION, n_right=400, n_test=1000, p=P):
    """Losses that lie on the law without scatter, labels as they came at `information` times their number."""
    agrees = (np.arange(n_test) < p * n_test).astype(float)
    given_sizes, right_sizes = N * SHARES, n_right * SHARES
    given = np.tile(law(information * given_sizes), (n_test, 1))
    right = np.tile(law(right_sizes), (n_test, 1))
    return LabelNoise(q, 0.0, 2, agrees, np.full(n_test, 0.5), given_sizes, given, right_sizes, right)


def gain_of(found, n=4000):
    means = found.columns().mean(axis=0)
    return found.gain(np.tile(means, (n, 1)), means, np.random.default_rng(0))


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.35])
def test_the_contraction_inverts_symmetric_flips(k, share):
    """Agreement p with right labels becomes p (1 - e) + (1 - p) e / (k - 1): brute force over the definition."""
    q = P * (1 - share) + (1 - P) * share / (k - 1)
    np.testing.assert_allclose(contraction(q, P, k), 1 - share * k / (k - 1))


def test_what_cannot_be_told_is_no_contraction():
    np.testing.assert_array_equal(contraction(np.array([0.5, 0.9, 0.2]), np.array([0.505, 0.8, 0.8]), 2), [1, 1, 0])


def test_the_gain_reads_the_law_at_as_many_right_labels():
    """A law known exactly: both kinds of rows lie on it, and the gain is the loss now less the law at n."""
    gain = gain_of(noise())
    assert np.median(gain) == pytest.approx(0.5 - law(N), abs=0.002)
    assert np.std(gain) < 0.01


def test_without_right_rows_the_law_of_the_given_ones_is_read():
    found = noise(n_right=400)
    alone = LabelNoise(
        found.train, 0.0, 2, found.test, found.now, found.given_sizes, found.given, np.empty(0), np.empty((1000, 0))
    )
    assert np.median(gain_of(alone)) == pytest.approx(0.5 - law(N), abs=0.004)


def test_as_many_right_rows_are_measured_and_not_extrapolated():
    np.testing.assert_allclose(gain_of(noise(n_right=N)), 0.5 - law(N), atol=1e-12)


def test_labels_that_lost_nothing_leave_the_recalibration():
    """No contraction: all training labels are worth one each, and only what recalibration takes off is counted."""
    np.testing.assert_allclose(gain_of(noise(q=P, information=1.0)), 0.5 - law(N), atol=1e-12)


def test_harder_rows_by_chance_lift_all_of_the_curve():
    found = noise()
    means = found.columns().mean(axis=0)
    drawn = np.tile(means, (500, 1))
    drawn[:, 1:] += 0.05
    there = found.gain(drawn, means, np.random.default_rng(0))
    np.testing.assert_allclose(there, gain_of(found, 500), atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 0.999])
def test_classes_without_overlap_have_a_finite_price(p):
    assert np.isfinite(gain_of(noise(q=0.7, p=p))).all()


def chain_of(model, X, y, X_test, y_test, loss):
    train, test = X.assign(y=y), X_test.assign(y=y_test)
    problem = problem_from_tables(
        model, train.drop(columns="y"), train["y"], test.drop(columns="y"), test["y"], loss=loss
    )
    return start(problem, seeds=1, seed=0, n_jobs=None)


def test_no_test_row_is_scored_by_a_model_of_itself():
    """One nearest neighbour and labels by lot: a model that had seen its row would make no errors."""
    rng = np.random.default_rng(0)
    X, y = pd.DataFrame(rng.normal(size=(1200, 3)), columns=list("abc")), rng.integers(2, size=1200)
    chain = chain_of(KNeighborsClassifier(1), X[:600], y[:600], X[600:], y[600:], "zero_one")
    sizes, losses = _curve_of_right_labels(chain)
    assert sizes[-1] == 480
    assert (losses.mean(axis=0) > 0.4).all()


def test_few_test_rows_give_no_curve():
    rng = np.random.default_rng(0)
    X, y = pd.DataFrame(rng.normal(size=(430, 3)), columns=list("abc")), rng.integers(2, size=430)
    sizes, losses = _curve_of_right_labels(
        chain_of(LogisticRegression(), X[:400], y[:400], X[400:], y[400:], "log")
    )
    assert (len(sizes), losses.shape) == (0, (30, 0))


def priced(loss, seed):
    """Audit with 30 % of the training labels flipped; return the line, and what right labels bring on 4000 rows."""
    rng = np.random.default_rng([3, seed])
    X = pd.DataFrame(rng.normal(size=(6000, 5)), columns=list("abcde"))
    y = pd.Series((4.0 * X["a"] + 3.0 * X["b"] * (X["c"] > 0) + rng.logistic(size=6000) > 0).astype(int))
    planted = plant(
        X,
        y,
        cause="label_flips_uniform",
        strength=0.3,
        test_size=0.1,
        production_size=0.03,
        holdout_size=0.62,
        rng=seed,
    )
    model = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=6, early_stopping=False, random_state=0)
    report = audit(
        model,
        planted.train.X,
        planted.train.y,
        planted.test.X,
        planted.test.y,
        loss=loss,
        lines=["label_errors"],
        seed=seed,
    )
    return report.budget["label_errors"], planted.recoverable(model, loss).population.value


def test_under_log_loss_the_interval_holds_what_right_labels_bring():
    """Known truth, six tables: the share of the interval's 95 % that six runs can show, and no bias to one side."""
    found = [priced("log", seed) for seed in range(6)]
    held = [line.low <= truth <= line.high for line, truth in found]
    assert sum(held) >= 5
    points, truths = (np.array(v) for v in zip(*((line.points, truth) for line, truth in found), strict=True))
    assert 0.75 < points.mean() / truths.mean() < 1.25


def test_the_same_seed_gives_the_same_bits():
    (first, _), (second, _) = priced("log", 0), priced("log", 0)
    assert first == second
