import itertools
import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from corrigible._core.group_penalties import largest_gap, penalty_slope
from corrigible.errors import DataError, InvalidParameterError
from corrigible.fairness import FairAdaptiveMixture


def rows(seed=0, n=600):
    rng = np.random.default_rng(seed)
    groups = rng.integers(2, size=n)
    X = rng.normal(size=(n, 3)) + groups[:, None] * [1.0, 0.0, 0.0]
    y = (X[:, 0] + X[:, 1] + 0.5 * rng.normal(size=n) > 0.5).astype(int)
    return X, y, groups


def gap(said, groups):
    return abs(said[groups == 1].mean() - said[groups == 0].mean())


def test_one_expert_without_penalty_is_logistic_regression():
    X, y, _ = rows()
    mixture = FairAdaptiveMixture(n_experts=1, penalty=0, max_iter=1500, batch_size=600, alpha=1e-3, learning_rate=0.05,
                                  random_state=0)  # fmt: skip
    mixture.fit(X, y)
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    known = LogisticRegression(C=1 / (1e-3 * len(X)), tol=1e-10).fit(scaled, y)
    np.testing.assert_allclose(mixture.experts_[0, :-1], known.coef_[0], atol=2e-2)
    np.testing.assert_allclose(mixture.predict_proba(X), known.predict_proba(scaled), atol=1e-2)


@pytest.mark.parametrize("fairness", ["demographic_parity", "equalized_odds", "recourse"])
@pytest.mark.parametrize("seed", range(3))
def test_slope_of_the_penalty_is_that_of_finite_differences(fairness, seed):
    rng = np.random.default_rng(seed)
    odds, t, codes = rng.normal(size=30), rng.integers(2, size=30).astype(float), rng.integers(3, size=30)

    def penalty(f):
        total = 0.0
        value = np.maximum(-f, 0) if fairness == "recourse" else expit(f)
        sets = {"recourse": [f < 0], "equalized_odds": [t == 0, t == 1]}.get(fairness, [t >= 0])
        for part in sets:
            means = [value[part & (codes == g)].mean() for g in range(3) if (part & (codes == g)).any()]
            total += ((np.array(means) - np.mean(means)) ** 2).sum()
        return total

    small = 1e-6
    slope = [(penalty(odds + small * e) - penalty(odds - small * e)) / (2 * small) for e in np.eye(30)]
    np.testing.assert_allclose(penalty_slope(odds, t, codes, fairness), slope, atol=1e-7)


def test_step_goes_down_the_whole_loss():
    """The gradient of gate and experts, against finite differences through Adam's first step (its sign)."""
    X, y, groups = rows(1, 200)
    mixture = FairAdaptiveMixture(n_experts=2, max_iter=1, batch_size=200, alpha=0.0, learning_rate=1e-4,
                                  penalty=2.0, random_state=0)  # fmt: skip
    mixture.fit(X, y, groups)
    Z = (X - mixture.center_) / mixture.scale_

    def loss(experts, gates):
        inputs = np.column_stack([Z, np.ones(len(Z))])
        share = np.exp(inputs @ gates.T)
        f = (share / share.sum(axis=1, keepdims=True) * (inputs @ experts.T)).sum(axis=1)
        m = np.array([expit(f)[groups == g].mean() for g in (0, 1)])
        return np.mean(np.logaddexp(0, f) - y * f) + 2.0 * ((m - m.mean()) ** 2).sum()

    before = [mixture.experts_.copy(), mixture.gates_.copy()]
    mixture._forget()
    mixture._step(Z, y.astype(float), groups)
    for k, after in enumerate((mixture.experts_, mixture.gates_)):
        for i in np.ndindex(after.shape):
            moved = [[w.copy() for w in before] for _ in range(2)]
            moved[0][k][i] += 1e-5
            moved[1][k][i] -= 1e-5
            slope = (loss(*moved[0]) - loss(*moved[1])) / 2e-5
            assert np.sign(after[i] - before[k][i]) == -np.sign(slope)


@pytest.mark.parametrize("fairness", ["demographic_parity", "equalized_odds", "recourse"])
def test_penalty_makes_it_fairer(fairness):
    X, y, groups = rows(2)
    found = []
    for penalty in (0.0, 20.0):
        model = FairAdaptiveMixture(fairness=fairness, penalty=penalty, random_state=0).fit(X, y, groups)
        found.append(largest_gap(model.decision_function(X), y.astype(float), groups, fairness))
    assert found[1] < 0.6 * found[0]


def test_several_experts_fit_what_one_cannot():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    scores = [FairAdaptiveMixture(n_experts=k, max_iter=120, random_state=0).fit(X, y).score(X, y) for k in (1, 4)]
    assert scores[0] < 0.65
    assert scores[1] > 0.85


def shapley(f, x, at):
    """By all orders of the features."""
    d, out = len(x), np.zeros(len(x))
    for order in itertools.permutations(range(d)):
        point = at.copy()
        for j in order:
            before = f(point)
            point[j] = x[j]
            out[j] += f(point) - before
    return out / math.factorial(d)


def test_shapley_values_are_those_of_all_orders():
    X, y, groups = rows(3)
    model = FairAdaptiveMixture(random_state=0).fit(X, y, groups)
    at = np.array([0.3, -0.2, 0.1])
    still, moving = (model.shapley_values(X[:5], at, moving_gate=m) for m in (False, True))
    for i in range(5):
        share = model.gate(X[i : i + 1])[0]

        def local(v, s=share):
            return float(s @ (model.experts_ @ np.append((v - model.center_) / model.scale_, 1)))

        def whole(v):
            return float(model.decision_function(v[None])[0])

        np.testing.assert_allclose(still.values[i], shapley(local, X[i], at), atol=1e-10)
        np.testing.assert_allclose(moving.values[i], shapley(whole, X[i], at), atol=1e-10)
    for found in (still, moving):
        np.testing.assert_allclose(found.values.sum(axis=1) + found.base, model.decision_function(X[:5]))


def test_one_expert_makes_both_explanations_one():
    X, y, _ = rows(3)
    model = FairAdaptiveMixture(n_experts=1, random_state=0).fit(X, y)
    still, moving = (model.shapley_values(X[:20], moving_gate=m) for m in (False, True))
    np.testing.assert_allclose(still.values, moving.values, atol=1e-10)
    np.testing.assert_allclose(still.base, moving.base, atol=1e-10)


def stream(model, turn, n_batches=30, seed=0):
    rng = np.random.default_rng(seed)
    for b in range(n_batches):
        X = rng.normal(size=(300, 2))
        sign = -1 if turn is not None and b >= turn else 1
        y = (sign * X[:, 0] + 0.3 * rng.normal(size=300) > 0).astype(int)
        model.partial_fit(X, y, rng.integers(2, size=300))
    return model


def test_planted_drift_is_called_when_it_comes_and_followed():
    model = stream(FairAdaptiveMixture(n_experts=1, random_state=0), turn=20)
    drifts = [i for i, b in enumerate(model.history_) if b["drift"]]
    assert drifts[0] == 20
    assert len(model.experts_) > 1
    assert model.history_[-1]["loss"] < 0.5 < model.history_[20]["loss"]
    frozen = stream(FairAdaptiveMixture(n_experts=1, drift=np.inf, random_state=0), turn=20)
    assert len(frozen.experts_) == 1
    assert np.mean([b["loss"] for b in model.history_[21:26]]) < np.mean(
        [b["loss"] for b in frozen.history_[21:26]]
    )


def test_steady_stream_calls_hardly_any_drift():
    called = [sum(b["drift"] for b in stream(FairAdaptiveMixture(random_state=s), None, seed=s).history_[10:])
              for s in range(3)]  # fmt: skip
    assert np.mean(called) <= 2


def test_experts_stay_within_their_number():
    model = FairAdaptiveMixture(n_experts=2, max_experts=2, random_state=0)
    rng = np.random.default_rng(0)
    for b in range(40):
        X = rng.normal(size=(200, 2))
        model.partial_fit(X, ((-1) ** (b // 8) * X[:, 0] > 0).astype(int))
    assert any(b["drift"] for b in model.history_)
    assert len(model.experts_) == 2


def test_new_expert_opens_with_the_share_that_serves_the_batch():
    X, y, _ = rows(4)
    model = FairAdaptiveMixture(random_state=0).fit(X, y)
    Z, t = (X - model.center_) / model.scale_, y.astype(float)
    model._grow(Z, 1 - t, None)
    assert model.gate(X)[:, -1].mean() > 0.7
    assert (model.predict(X) == 1 - y).mean() > 0.7
    again = FairAdaptiveMixture(random_state=0).fit(X, y)
    before = again.predict_proba(X)
    again._grow(Z, t, None)
    assert np.abs(again.predict_proba(X) - before).mean() < 0.2


def test_batch_may_lack_a_class_and_labels_may_be_text():
    X, y, groups = rows(5, 60)
    names = np.array(["no", "yes"])
    model = FairAdaptiveMixture(random_state=0)
    model.partial_fit(X[y == 0], names[y[y == 0]], groups[y == 0], classes=["no", "yes"])
    model.partial_fit(X, names[y], groups)
    assert set(model.predict(X)) <= set(names)
    with pytest.raises(DataError, match="must hold the classes"):
        model.partial_fit(X, np.full(len(X), "maybe"))


def test_large_values_and_constant_columns():
    X, y, groups = rows(6, 200)
    wide = np.column_stack([1e30 * X, np.full(len(X), 1e30)])
    model = FairAdaptiveMixture(random_state=0).fit(wide, y, groups)
    assert np.isfinite(model.predict_proba(wide)).all()
    assert model.score(wide, y) > 0.7


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"fairness": "parity"}, "fairness"),
        ({"n_experts": 0}, "n_experts"),
        ({"n_experts": 9}, "max_experts"),
        ({"penalty": -1.0}, "penalty"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_parameters_are_told(words, match):
    X, y, groups = rows(7, 40)
    with pytest.raises(InvalidParameterError, match=match):
        FairAdaptiveMixture(**words).fit(X, y, groups)


def test_bad_rows_are_told():
    X, y, groups = rows(8, 40)
    with pytest.raises(DataError, match="binary"):
        FairAdaptiveMixture().fit(X, np.arange(40) % 3)
    with pytest.raises(DataError, match="missing"):
        FairAdaptiveMixture().fit(X, y, [None, *groups[1:]])
    with pytest.raises(NotFittedError):
        FairAdaptiveMixture().predict(X)
    model = FairAdaptiveMixture(max_iter=2).fit(X, y)
    with pytest.raises(DataError, match="background"):
        model.shapley_values(X, [1.0, np.nan, 0.0])
    wide = np.random.default_rng(0).normal(size=(20, 17))
    with pytest.raises(InvalidParameterError, match="subsets"):
        FairAdaptiveMixture(max_iter=1).fit(wide, np.arange(20) % 2).shapley_values(wide, moving_gate=True)
