"""BCWI: the path between two models, the choice on it, and Fisher information against finite differences."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier

from corrigible._core.fisher import diagonal_fisher
from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import BCWI, FisherBCWI


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order] / 16, y[order]


@pytest.fixture(scope="module")
def pair(digits):
    X, y = digits
    return [LogisticRegression(max_iter=2000).fit(X[:n], y[:n]) for n in (150, 900)]


@pytest.mark.parametrize("method", [BCWI, FisherBCWI])
def test_the_choice_and_the_path(digits, pair, method):
    X, y = digits[0][900:], digits[1][900:]
    old, new = pair
    found = method(n_alphas=11).fit(old, new, X, y)
    path = found.path_
    right_old, right_new = old.predict(X) == y, new.predict(X) == y
    assert path.accuracy[0] == right_new.mean()
    assert path.accuracy[-1] == right_old.mean()
    assert path.negative_flips[0] == (right_old & ~right_new).mean()
    assert path.negative_flips[-1] == 0
    allowed = path.accuracy >= path.accuracy[0]
    assert found.alpha_ in path.alpha[allowed]
    assert path.negative_flips[path.alpha == found.alpha_] == path.negative_flips[allowed].min()
    assert found.model_.score(X, y) == path.accuracy[path.alpha == found.alpha_]


def test_weights_lie_between(digits, pair):
    X, y = digits
    found = BCWI(tolerance=1.0).fit(*pair, X[900:], y[900:])
    at = int(np.flatnonzero(found.path_.alpha == found.alpha_)[0])
    assert found.path_.negative_flips[at] == 0  # any loss is allowed, and the old model has no flips
    expected = found.alpha_ * pair[0].coef_ + (1 - found.alpha_) * pair[1].coef_
    np.testing.assert_allclose(found.model_.coef_, expected, rtol=1e-9)
    half = BCWI(n_alphas=3, tolerance=0.0).fit(pair[0], pair[0], X[900:], y[900:])
    np.testing.assert_array_equal(half.model_.coef_, pair[0].coef_)


def test_several_new_models_are_averaged(digits, pair):
    X, y = digits
    old, new = pair
    other = LogisticRegression(max_iter=2000).fit(X[100:900], y[100:900])
    found = BCWI(n_alphas=2).fit(old, [new, other], X[900:], y[900:])
    if found.alpha_ == 0:
        np.testing.assert_allclose(found.model_.coef_, (new.coef_ + other.coef_) / 2)


def test_multilayer_perceptrons_and_modules(digits):
    torch = pytest.importorskip("torch")
    X, y = digits
    old = MLPClassifier((16,), max_iter=15, random_state=0)
    with pytest.warns(Warning, match="converged"):
        old.fit(X[:200], y[:200])
    import copy

    new = copy.deepcopy(old)
    for _ in range(10):
        new.partial_fit(X[:900], y[:900])
    found = BCWI().fit(old, new, X[900:], y[900:])
    assert found.model_.score(X[900:], y[900:]) >= new.score(X[900:], y[900:])

    def module(m):
        net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)).double()
        for layer, w, b in zip((net[0], net[2]), m.coefs_, m.intercepts_, strict=True):
            layer.weight.data, layer.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
        return net

    same = BCWI().fit(module(old), module(new), X[900:], y[900:])
    assert same.alpha_ == found.alpha_
    np.testing.assert_allclose(same.path_.accuracy, found.path_.accuracy)
    np.testing.assert_allclose(same.model_[0].weight.detach().numpy().T, found.model_.coefs_[0], rtol=1e-9)
    assert FisherBCWI(n_rows=20).fit(module(old), module(new), X[900:], y[900:]).path_.negative_flips[-1] == 0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fisher_information_is_that_of_finite_differences(digits, n_classes):
    X, y = digits
    rows = y < n_classes
    X, y = X[rows][:60], y[rows][:60]
    model = LogisticRegression(max_iter=2000).fit(X, y)
    found, step = diagonal_fisher(model, X, by="test"), 1e-5
    for c, d in ((0, 20), (model.coef_.shape[0] - 1, 30)):
        keep = model.coef_[c, d]
        logs = []
        for sign in (1, -1):
            model.coef_[c, d] = keep + sign * step
            logs.append(model.predict_log_proba(X))
        model.coef_[c, d] = keep
        slope = (logs[0] - logs[1]) / (2 * step)
        expected = (model.predict_proba(X) * slope**2).sum(axis=1).mean()
        assert found["coef_"][c, d] == pytest.approx(expected, rel=1e-4)


def test_fisher_of_a_module_is_that_of_the_linear_model(digits):
    torch = pytest.importorskip("torch")
    X, y = digits[0][:50], digits[1][:50]
    model = LogisticRegression(max_iter=2000).fit(X, y)
    layer = torch.nn.Linear(64, 10).double()
    layer.weight.data, layer.bias.data = torch.tensor(model.coef_), torch.tensor(model.intercept_)
    ours, theirs = diagonal_fisher(model, X, by="test"), diagonal_fisher(layer, X, by="test")
    np.testing.assert_allclose(theirs["weight"], ours["coef_"], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(theirs["bias"], ours["intercept_"], rtol=1e-9, atol=1e-15)


def test_refuses(digits, pair):
    X, y = digits
    old, new = pair
    few = LogisticRegression(max_iter=2000).fit(X[y < 5], y[y < 5])
    with pytest.raises(DataError, match="classes"):
        BCWI().fit(few, new, X, y)
    with pytest.raises(DataError, match="of one kind"):
        BCWI().fit(SGDClassifier().fit(X, y), new, X, y)
    narrow = LogisticRegression(max_iter=2000).fit(X[:, :60], y)
    with pytest.raises(DataError, match="architecture"):
        BCWI().fit(narrow, new, X, y)
    with pytest.raises(InvalidParameterError, match="n_alphas"):
        BCWI(n_alphas=1).fit(old, new, X, y)
    with pytest.raises(DataError, match="new model"):
        BCWI().fit(old, [], X, y)
    with pytest.raises(InvalidParameterError, match="predict"):
        BCWI().fit({"w": np.ones(2)}, {"w": np.ones(2)}, X, y)
