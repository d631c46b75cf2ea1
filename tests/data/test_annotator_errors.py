import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict

from corrigible.data import AnnotatorErrors
from corrigible.errors import DataError, InvalidParameterError


def answers(rng, n=3000, n_annotators=30):
    """Answers with item effects, biases and noise of known size; returns the annotators' part too."""
    X, who = rng.normal(size=(n, 2)), rng.integers(n_annotators, size=n)
    bias, noise = 2 * rng.normal(size=n_annotators), rng.uniform(0.0, 2.0, size=n_annotators)
    noise[0] = 0.0
    part = bias[who] + noise[who] * rng.normal(size=n)
    return X, X @ [1.0, -1.0] + rng.normal(size=n) + part, who, part, bias, noise


def test_it_recovers_biases_and_variances(rng):
    X, y, who, part, bias, noise = answers(rng)
    found = AnnotatorErrors(LinearRegression(), random_state=0).fit(X, y, annotators=who)
    shift = (found.bias_ - bias).mean()
    np.testing.assert_allclose(found.bias_ - shift, bias, atol=0.5)
    assert np.corrcoef(found.variance_, 1 + noise**2)[0, 1] > 0.95
    assert found.item_variance_ == pytest.approx(1.0, rel=0.35)
    assert found.issue_scores.shape == (len(y),)
    np.testing.assert_allclose(found.suggested_values_, y - found.errors_)
    # The best linear estimate with all quantities known is hardly nearer to the truth.
    residual = y - X @ [1.0, -1.0]
    best = bias[who] + (noise**2 / (1 + noise**2))[who] * (residual - bias[who])
    assert np.mean((found.errors_ - shift - part) ** 2) < 1.2 * np.mean((best - part) ** 2)


def test_it_finds_what_residuals_miss(rng):
    X, y, who, part, *_ = answers(rng)
    wrong = np.abs(part) > 3
    found = AnnotatorErrors(LinearRegression(), random_state=0).fit(X, y, annotators=who)
    plain = np.abs(y - cross_val_predict(LinearRegression(), X, y, cv=5))
    assert roc_auc_score(wrong, found.issue_scores) > roc_auc_score(wrong, plain) + 0.005


def test_without_names_it_is_the_residual(rng):
    X = rng.normal(size=(100, 2))
    y = X[:, 0] + rng.normal(size=100)
    found = AnnotatorErrors(LinearRegression(), random_state=4).fit(X, y)
    stream = np.random.default_rng(4)
    stream.integers(2**31 - 1)  # the estimator's seed comes first
    folds = KFold(5, shuffle=True, random_state=int(stream.integers(2**31 - 1)))
    np.testing.assert_allclose(
        found.issue_scores, np.abs(y - cross_val_predict(LinearRegression(), X, y, cv=folds))
    )
    np.testing.assert_array_equal(found.issue_mask, found.issue_scores > y.std())


def test_units_and_names_do_not_matter(rng):
    X, y, who, *_ = answers(rng, n=300, n_annotators=5)
    fit = AnnotatorErrors(LinearRegression(), random_state=0).fit
    plain = fit(X, y, annotators=who).issue_scores
    for factor in (1e-30, 1e30):
        np.testing.assert_allclose(fit(X, factor * y, annotators=who).issue_scores / factor, plain, rtol=1e-6)
    named = np.array(list("edcba"))[who]
    np.testing.assert_allclose(fit(X, y, annotators=named).issue_scores, plain)


@pytest.mark.parametrize("who", [np.arange(40), np.zeros(40), np.r_[0, np.ones(39)]], ids=["each", "one", "lone"])
def test_few_answers_an_annotator(rng, who):
    X = rng.normal(size=(40, 1))
    found = AnnotatorErrors(LinearRegression(), random_state=0).fit(X, rng.normal(size=40), annotators=who)
    assert np.isfinite(found.issue_scores).all()
    constant = AnnotatorErrors(LinearRegression(), random_state=0).fit(X, np.ones(40), annotators=who)
    assert constant.issue_scores.max() < 1e-12


def test_bad_input(rng):
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    with pytest.raises(DataError, match="row an answer"):
        AnnotatorErrors().fit(X[:5], y)
    with pytest.raises(DataError, match="name one of each"):
        AnnotatorErrors().fit(X, y, annotators=[1, 2])
    with pytest.raises(DataError, match="must not be missing"):
        AnnotatorErrors().fit(X, y, annotators=np.r_[np.nan, np.ones(19)])
    with pytest.raises(DataError, match="must not be missing"):
        AnnotatorErrors().fit(X, y, annotators=np.array([None, *"a" * 19], dtype=object))
    with pytest.raises(DataError, match="y"):
        AnnotatorErrors().fit(X, np.r_[np.nan, y[1:]])
    with pytest.raises(InvalidParameterError, match="threshold"):
        AnnotatorErrors(threshold=-1).fit(X, y)
    with pytest.raises(InvalidParameterError, match="n_rounds"):
        AnnotatorErrors(n_rounds=0).fit(X, y)
