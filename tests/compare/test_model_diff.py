import numpy as np
import pytest
from joblib import parallel_config
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from corrigible._core.datamodels import datamodels
from corrigible._core.shared_lasso import lasso_columns
from corrigible.compare import ModelDiff, transformation_effect
from corrigible.compare._model_diff import _margin, _principal, _subsets
from corrigible.errors import DataError, InvalidParameterError


def planted(rng, n=80):
    """A column that tells the label of a fifth of the rows, whose other columns are no use."""
    X = rng.normal(size=(n, 3))
    flag = rng.uniform(size=n) < 0.2
    y = np.where(flag, 1, (X[:, 0] > 0).astype(int))
    return np.column_stack([X, flag]), y, flag


def blind():
    return make_pipeline(make_column_transformer(("passthrough", [0, 1, 2])), LogisticRegression())


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(3)
    X, y, flag = planted(rng, 160)
    diff = ModelDiff(LogisticRegression(), blind(), n_models=300, random_state=0)
    return diff.fit(X[:80], y[:80], X[80:], y[80:]), flag


@pytest.mark.parametrize("shape", [(60, 25), (30, 70)])
def test_lasso_is_scikit_learns(rng, shape):
    X, Y = rng.normal(size=shape), rng.normal(size=(shape[0], 4)) * [1.0, 5.0, 1e-3, 1e6]
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    largest = np.abs(X.T @ Y).max(axis=0) / len(X)
    for ratio in (1.01, 0.5, 0.1):
        b = lasso_columns(X, Y, ratio * largest, tol=1e-10, max_iter=20_000)
        for t in range(4):
            model = Lasso(alpha=ratio * largest[t], fit_intercept=False, tol=1e-10, max_iter=100_000).fit(
                X, Y[:, t]
            )
            np.testing.assert_allclose(b[:, t], model.coef_, atol=2e-4 * np.abs(Y[:, t]).max())
    assert not lasso_columns(X, Y, 1.01 * largest).any()


def test_lasso_of_nothing_is_nothing(rng):
    X = rng.normal(size=(20, 5))
    assert not lasso_columns(X, np.zeros((20, 2)), np.zeros(2)).any()
    assert not lasso_columns(np.zeros((20, 5)), rng.normal(size=(20, 2)), np.ones(2)).any()


@pytest.mark.parametrize("penalty", ["l1", "ridge"])
def test_datamodels_find_a_linear_truth(rng, penalty):
    masks = rng.uniform(size=(400, 30)) < 0.5
    truth = np.zeros((3, 30))
    truth[[0, 1, 1], [4, 7, 9]] = 2.0, 1.0, -1.0
    outputs = masks @ truth.T + 0.05 * rng.normal(size=(400, 3)) + 7.0
    outputs[:, 2] = 3.0
    coefficients, correlation = datamodels(masks, outputs, penalty)
    np.testing.assert_allclose(coefficients, truth, atol=0.1)
    assert (correlation[:2] > 0.95).all()
    assert np.isnan(correlation[2])


def test_linear_regression_has_the_datamodel_of_its_refits(rng):
    """With all but one row in each subset, coefficients are what leaving the row out changes."""
    X, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    diff = ModelDiff(LinearRegression(), Ridge(5.0), share=0.9, n_models=600, penalty="ridge", random_state=0)
    diff.fit(X, y, X[:10], y[:10])
    full = LinearRegression().fit(X, y).predict(X[:10])
    kept = [np.delete(np.arange(40), i) for i in range(40)]
    effect = np.stack([full - LinearRegression().fit(X[k], y[k]).predict(X[:10]) for k in kept], axis=1)
    assert np.corrcoef(diff.datamodels_a_.ravel(), effect.ravel())[0, 1] > 0.9


def test_planted_difference_leads(found):
    diff, flag = found
    flagged = flag[80:]
    assert flagged[diff.subpopulation(n_rows=5)].mean() == 1.0
    assert flag[:80][diff.training_rows(n_rows=5)].mean() >= 0.8
    own, other = diff.explained_variance_a_[:, 0]
    assert own > other
    assert np.nanmean(diff.correlation_a_) > 0.5


def test_directions_are_those_of_an_independent_pca(found):
    diff, _ = found
    a = diff.datamodels_a_ / np.linalg.norm(diff.datamodels_a_, axis=1, keepdims=True)
    b = diff.datamodels_b_
    residual = np.stack([r - np.linalg.lstsq(o[:, None], r, rcond=None)[0] * o for r, o in zip(a, b, strict=True)])
    pca = PCA(5, svd_solver="full").fit(residual)
    agreement = np.abs((pca.components_ * diff.directions_a_).sum(axis=1))
    np.testing.assert_allclose(agreement, 1.0, atol=1e-6)
    own = [np.var(a @ v) for v in pca.components_]
    np.testing.assert_allclose(diff.explained_variance_a_[0], own, rtol=1e-6)
    assert (diff.projections_a_**3).sum(axis=0).min() >= 0


def test_equal_algorithms_have_no_direction(rng):
    X, y, _ = planted(rng)
    diff = ModelDiff(LogisticRegression(), LogisticRegression(), n_models=40, random_state=0).fit(X, y)
    assert diff.datamodels_a_.any()
    assert not diff.directions_a_.any()
    assert not diff.projections_b_.any()
    used = diff.datamodels_a_.any(axis=1)
    np.testing.assert_allclose(diff.similarity_[used], 1.0)


def test_swapping_the_algorithms_swaps_the_answer(rng):
    X, y, _ = planted(rng)
    one = ModelDiff(GaussianNB(), LogisticRegression(), n_models=30, random_state=1).fit(X, y)
    two = ModelDiff(LogisticRegression(), GaussianNB(), n_models=30, random_state=1).fit(X, y)
    np.testing.assert_array_equal(one.directions_a_, two.directions_b_)
    np.testing.assert_array_equal(one.explained_variance_b_, two.explained_variance_a_[::-1])


def test_jobs_and_seeds(rng):
    X, y, _ = planted(rng, 40)
    with parallel_config("threading"):
        fits = [ModelDiff(n_models=12, random_state=5, n_jobs=j).fit(X, y).datamodels_b_ for j in (None, 2)]
    np.testing.assert_array_equal(*fits)
    factory = ModelDiff(lambda seed: ExtraTreesClassifier(5, random_state=seed), GaussianNB(), n_models=12,
                        random_state=0).fit(X, y)  # fmt: skip
    assert factory.directions_a_.shape[1] == 40


def test_margin_of_probabilities_and_of_scores_agree(rng):
    X = rng.normal(size=(90, 3))
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    model = LogisticRegression().fit(X, y)
    p = model.predict_proba(X)
    best = np.where(np.arange(3) == y[:, None], -np.inf, np.log(p)).max(axis=1)
    np.testing.assert_allclose(_margin(model, X, y), np.log(p[np.arange(90), y]) - best, atol=1e-9)


def test_subsets(rng):
    codes = np.array([0] * 30 + [1] * 3)
    masks = _subsets(codes, np.arange(2), 0.4, 50, rng)
    assert (masks.sum(axis=1) == 13).all()
    assert masks[:, 30:].any(axis=1).all()
    with pytest.raises(DataError, match="rare classes"):
        _subsets(np.arange(12), np.arange(12), 0.5, 1, rng)


def test_zero_residual_gives_zero_directions():
    directions, projections = _principal(np.zeros((6, 4)), 3)
    assert not directions.any()
    assert not projections.any()


def test_effect_of_a_known_shift(rng):
    X, y, _ = planted(rng)
    a, b = LogisticRegression().fit(X, y), blind().fit(X, y)

    def flagged(rows):
        rows[:, 3] += 2.0
        return rows

    effect = transformation_effect([a], [b], X, np.ones(len(X), dtype=int), flagged)
    assert effect.a == pytest.approx(2 * a.coef_[0, 3])
    assert effect.b == pytest.approx(0)
    assert effect.interval_a == pytest.approx((effect.a, effect.a))
    assert effect.distinguishes(1.0, 0.1)
    assert not effect.distinguishes(100.0, 0.1)
    assert X[:, 3].max() == 1.0  # the caller's rows stay as they were
    bent = make_pipeline(PolynomialFeatures(2), LogisticRegression()).fit(X, y)
    wide = transformation_effect([bent, a], [b], X, y, flagged)
    assert wide.interval_difference[0] < wide.difference < wide.interval_difference[1]


def test_what_is_refused(rng):
    X, y, _ = planted(rng, 30)
    with pytest.raises(InvalidParameterError, match="'share'"):
        ModelDiff(share=1.0).fit(X, y)
    with pytest.raises(InvalidParameterError, match="'penalty'"):
        ModelDiff(penalty="l2").fit(X, y)
    with pytest.raises(DataError, match="one class"):
        ModelDiff(n_models=10).fit(X, np.ones(30))
    with pytest.raises(DataError, match="among the training labels"):
        ModelDiff(n_models=10).fit(X, y, X, y + 5)
    with pytest.raises(DataError, match="'y_test'"):
        ModelDiff(n_models=10).fit(X, y, X)
    with pytest.raises(DataError, match="one label a row"):
        transformation_effect([], [], X, y, lambda x: x)
    fitted = ModelDiff(GaussianNB(), LogisticRegression(), n_models=10).fit(X, y)
    with pytest.raises(InvalidParameterError, match="'component'"):
        fitted.subpopulation(9)
