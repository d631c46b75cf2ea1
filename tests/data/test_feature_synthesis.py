import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.tree import DecisionTreeRegressor

from corrigible.data import FEATURES, engineered_features, feature_synthesis
from corrigible.data._feature_synthesis import _p_values
from corrigible.errors import DataError, InvalidParameterError


def test_a_model_that_holds_the_feature_makes_it():
    models = {"line": LinearRegression(), "square": make_pipeline(PolynomialFeatures(2), LinearRegression())}
    table = feature_synthesis(models, n_train=200, n_test=100, n_repeats=1, rng=0)
    assert list(table.index) == list(FEATURES)
    assert (table.loc[["count", "difference"], "line"] < 1e-9).all()
    assert (table.loc[["polynomial", "power"], "square"] < 1e-9).all()
    assert (table.loc[["polynomial", "power", "ratio"], "line"] > 0.05).all()
    assert (table.loc["root distance"] > 0.2).all()


@pytest.mark.parametrize("name", list(FEATURES))
def test_targets_are_the_features(rng, name):
    X, y = FEATURES[name](rng, 400)
    row, value = X[7], y[7]
    a, b, c, d = (*row, *np.ones(4))[:4]
    expected = {
        "count": lambda: row.sum(),
        "difference": lambda: a - b,
        "logarithm": lambda: np.log(a),
        "polynomial": lambda: 1 + 5 * a + 8 * a * a,
        "polynomial of a product": lambda: 2 + 4 * a * b + 5 * a * b * a * b,
        "power": lambda: a * a,
        "ratio": lambda: a / b,
        "rational difference": lambda: (a - b) / (c - d),
        "rational polynomial": lambda: 1 / (5 * a + 8 * a * a),
        "rational polynomial of a product": lambda: 1 / (2 + 4 * a * b + 5 * a * b * a * b),
        "root": lambda: a**0.5,
    }
    if name == "root distance":  # by numpy's root finder
        for coefficients, distance in zip(X, y, strict=True):
            roots = np.roots(coefficients) if coefficients[0] != 0 else np.zeros(2)
            real = np.isreal(roots).all()
            assert distance == pytest.approx(abs(roots[0] - roots[1]) if real else 0, abs=1e-6)
    else:
        assert value == pytest.approx(expected[name]())


def test_counts_are_uniform(rng):
    _, y = FEATURES["count"](rng, 20_000)
    assert set(y) == set(range(51))
    assert y.mean() == pytest.approx(25, abs=0.5)


def test_one_seed_one_table_and_all_models_see_the_same_rows():
    models = {"a": DecisionTreeRegressor(), "b": DecisionTreeRegressor()}
    words = {"features": ["ratio", "root"], "n_train": 100, "n_test": 50, "n_repeats": 2, "rng": 3}
    first = feature_synthesis(models, **words)
    pd.testing.assert_frame_equal(first, feature_synthesis(models, **words))
    np.testing.assert_array_equal(first["a"], first["b"])


def test_the_planted_feature_is_advised(rng):
    X = pd.DataFrame(rng.uniform(1, 2, size=(300, 4)), columns=list("abcd"))
    y = X["a"] / X["b"] ** 1 + 0.02 * rng.normal(size=300)
    table = engineered_features(LinearRegression(), X, y)
    assert table["feature"][0] == "ratio(a, b)"
    assert table["helps"][0]
    assert not table["helps"][table["feature"].str.contains(r"\((?:c|d)(?:, [cd])?\)")].any()


def test_gain_is_that_of_cross_validation(rng):
    X = rng.normal(size=(80, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    folds = KFold(4)
    table = engineered_features(LogisticRegression(), X, y, cv=folds).set_index("feature")
    wide = np.column_stack([X, X[:, 0] * X[:, 1]])
    gain = cross_val_score(LogisticRegression(), wide, y, cv=folds) - cross_val_score(
        LogisticRegression(), X, y, cv=folds
    )
    assert table.loc["product(0, 1)", "gain"] == pytest.approx(gain.mean())


def test_nothing_helps_noise(rng):
    X, y = rng.normal(size=(200, 3)), rng.normal(size=200)
    assert not engineered_features(LinearRegression(), X, y)["helps"].any()


def test_p_values_are_a_t_test_of_enlarged_variance(rng):
    gains = rng.normal(0.1, 1, size=(5, 8))
    plain = ttest_1samp(gains, 0, axis=1, alternative="greater")
    corrected = plain.statistic / np.sqrt(1 + 8 * (1 / 8) / (7 / 8))
    from scipy.stats import t

    np.testing.assert_allclose(_p_values(gains, test_share=1 / 8), t.sf(corrected, 7))
    np.testing.assert_array_equal(_p_values(np.zeros((1, 4)), test_share=0.25), [0.5])


def test_wrong_arguments_are_told(rng):
    with pytest.raises(InvalidParameterError, match="Did you mean 'ratio'"):
        feature_synthesis({"line": LinearRegression()}, features=["rato"])
    with pytest.raises(DataError, match="constant"):
        engineered_features(LinearRegression(), np.ones((20, 1)), rng.normal(size=20))
