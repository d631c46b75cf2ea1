import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

from corrigible._core.treatment_effects import (
    Nuisance,
    cross_fitted,
    doubly_robust,
    fit_learner,
    regression_adjusted,
)
from corrigible.compare import TreatmentEffectSelection
from corrigible.compare._treatment_effect_selection import _all_scores
from corrigible.errors import DataError, InvalidParameterError

WORDS = {"n_folds": 3, "clip": 0.02, "seed": 0}


def trial(rng, n=600, confounded=1.0):
    X = rng.normal(size=(n, 3))
    e = 1 / (1 + np.exp(-confounded * X[:, 0]))
    w = (rng.uniform(size=n) < e).astype(int)
    effect = 1 + X[:, 1]
    return X, 2 * X[:, 0] + w * effect + 0.5 * rng.normal(size=n), w, effect, e


class Fixed(BaseEstimator):
    """An effect model that is what it is told."""

    def __init__(self, untreated, treated):
        self.untreated, self.treated = untreated, treated

    def outcomes(self, X):
        return self.untreated, self.treated

    def effect(self, X):
        return self.treated - self.untreated


def test_criteria_a_row_at_a_time(rng):
    n = 40
    X, y, w, _, e = trial(rng, n)
    untreated, treated, mean, single = rng.normal(size=(4, n))
    nuisance = Nuisance(untreated, treated, mean, e, single)
    model = Fixed(rng.normal(size=n), rng.normal(size=n))
    found = {k: v[0] for k, v in _all_scores([model], X, y, w, nuisance).items()}
    sums = dict.fromkeys(found, 0.0)
    weights = 0.0
    for i in range(n):
        t, plug = model.treated[i] - model.untreated[i], treated[i] - untreated[i]
        own = (y[i] - (model.treated[i] if w[i] else model.untreated[i])) ** 2
        weight = 1 / e[i] if w[i] else 1 / (1 - e[i])
        weights += weight
        sums["factual"] += own / n
        sums["weighted_factual"] += own * weight
        sums["plug_in_s"] += (single[i] - t) ** 2 / n
        sums["plug_in_t"] += (plug - t) ** 2 / n
        robust = (w[i] / e[i] - (1 - w[i]) / (1 - e[i])) * y[i]
        robust += (1 - w[i] / e[i]) * treated[i] - (1 - (1 - w[i]) / (1 - e[i])) * untreated[i]
        sums["dr"] += (robust - t) ** 2 / n
        adjusted = y[i] - untreated[i] if w[i] else treated[i] - y[i]
        sums["ra"] += (adjusted - t) ** 2 / n
        sums["r"] += ((y[i] - mean[i]) - t * (w[i] - e[i])) ** 2 / n
        near = min((j for j in range(n) if w[j] != w[i]), key=lambda j: np.sum((X[i] - X[j]) ** 2))
        sums["matching"] += ((y[i] - y[near] if w[i] else y[near] - y[i]) - t) ** 2 / n
        b = 2 * w[i] * (w[i] - e[i]) / (e[i] * (1 - e[i]))
        sums["influence"] += (
            (1 - b) * plug**2 + b * y[i] * (plug - t) - (w[i] - e[i]) * (plug - t) ** 2 + t**2
        ) / n
    sums["weighted_factual"] /= weights
    assert found == pytest.approx(sums, abs=1e-10)


def test_pseudo_outcomes_are_unbiased_if_one_part_is_right(rng):
    X, y, w, effect, e = trial(rng, 60_000)
    right, wrong = (2 * X[:, 0], 2 * X[:, 0] + effect), (np.zeros(60_000), np.zeros(60_000))
    half = np.full(60_000, 0.5)
    for outcomes, propensity in ((right, e), (right, half), (wrong, e)):
        robust = doubly_robust(y, w, Nuisance(*outcomes, wrong[0], propensity, wrong[0]))
        slope = LinearRegression().fit(X, robust)
        np.testing.assert_allclose([slope.intercept_, *slope.coef_], [1, 0, 1, 0], atol=0.1)
    both_wrong = doubly_robust(y, w, Nuisance(*wrong, wrong[0], half, wrong[0]))
    assert abs(LinearRegression().fit(X, both_wrong).intercept_ - 1) > 0.2
    adjusted = regression_adjusted(y, w, Nuisance(*right, wrong[0], half, wrong[0]))
    np.testing.assert_allclose(LinearRegression().fit(X, adjusted).coef_, [0, 1, 0], atol=0.1)


@pytest.mark.parametrize("kind", ["T", "DR", "R"])
def test_learners_find_a_linear_effect(rng, kind):
    X, y, w, effect, _ = trial(rng, 4000)
    from sklearn.linear_model import LogisticRegression

    model = fit_learner(kind, LinearRegression(), LogisticRegression(), X, y, w, **WORDS)
    assert np.sqrt(np.mean((model.effect(X) - effect) ** 2)) < 0.12
    assert (model.outcomes(X) is None) == (kind != "T")


def test_single_model_sees_the_treatment_as_a_feature(rng):
    X, y, w, _, _ = trial(rng, 500)
    model = fit_learner("S", LinearRegression(), DummyClassifier(), X, y, w, **WORDS)
    coefficient = LinearRegression().fit(np.column_stack([X, w]), y).coef_[-1]
    np.testing.assert_allclose(model.effect(X), coefficient)


def test_cross_fitting_never_sees_the_row(rng):
    """One nearest neighbour would return the row's own outcome if it had been fitted to it."""
    X, y, w, _, _ = trial(rng, 200)
    found = cross_fitted(KNeighborsRegressor(1), DummyClassifier(strategy="prior"), X, y, w, **WORDS)
    own = np.where(w == 1, found.treated, found.untreated)
    assert not np.isclose(own, y).any()
    assert not np.isclose(found.mean, y).any()
    assert ((found.propensity > 0.3) & (found.propensity < 0.7)).all()


def test_chooses_the_model_that_fits_the_effect(rng):
    X, y, w, effect, _ = trial(rng, 1500)
    candidates = {"linear": LinearRegression(), "stump": DecisionTreeRegressor(max_depth=1, random_state=0)}
    found = TreatmentEffectSelection(candidates, nuisance=LinearRegression(), random_state=0).fit(X, y, w)
    assert found.names_ == [f"{k} {n}" for n in candidates for k in ("S", "T", "DR", "R")]
    error = found.oracle(X, effect)
    for criterion in ("plug_in_t", "ra", "dr", "r"):
        assert found.chosen_[criterion] in {"T linear", "DR linear", "R linear"}
        assert spearmanr(found.scores_[criterion], error).statistic > 0.7
    assert np.isnan(found.scores_["factual"][[2, 3, 6, 7]]).all()
    assert found.chosen_["factual"] == "T linear"
    assert np.sqrt(np.mean((found.predict(X) - effect) ** 2)) < 0.3


def test_outcomes_scaled_scale_the_effects(rng):
    X, y, w, _, _ = trial(rng, 300)
    first = TreatmentEffectSelection(Ridge(), nuisance=Ridge(), random_state=0).fit(X, y, w)
    scaled = TreatmentEffectSelection(Ridge(), nuisance=Ridge(), random_state=0).fit(X, 1000 * y, w)
    assert first.chosen_ == scaled.chosen_
    np.testing.assert_allclose(scaled.predict(X), 1000 * first.predict(X), rtol=1e-6)
    # Exchanging the arms turns the effects around.
    turned = TreatmentEffectSelection(Ridge(), learners=("T",), nuisance=Ridge(), random_state=0).fit(X, y, 1 - w)
    plain = TreatmentEffectSelection(Ridge(), learners=("T",), nuisance=Ridge(), random_state=0).fit(X, y, w)
    np.testing.assert_allclose(turned.predict(X), -plain.predict(X), atol=1e-9)


def test_errors(rng):
    X, y, w, _, _ = trial(rng, 100)
    for treatment in (np.ones(100), 2 * w, np.arange(100) == 0):
        with pytest.raises(DataError, match="must be 0 and 1"):
            TreatmentEffectSelection(Ridge()).fit(X, y, treatment)
    with pytest.raises(DataError, match="Lower n_folds"):
        TreatmentEffectSelection(Ridge()).fit(X, y, (np.arange(100) < 8).astype(int))
    with pytest.raises(InvalidParameterError, match="which only S and T"):
        TreatmentEffectSelection(Ridge(), learners=("DR",), criterion="factual", nuisance=Ridge()).fit(X, y, w)
    with pytest.raises(InvalidParameterError, match="criterion"):
        TreatmentEffectSelection(criterion="best").fit(X, y, w)
    with pytest.raises(InvalidParameterError, match="learners"):
        TreatmentEffectSelection(learners=("Q",)).fit(X, y, w)
