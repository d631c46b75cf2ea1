import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import DeepEnsemble, LastLayerLaplace, LastLayerLaplaceRegressor

X, Y = load_iris(return_X_y=True)


def _by_hand(model, delta, x):
    """Kronecker sums row by row and one inverse."""
    phi, p = np.column_stack([X, np.ones(len(X))]), model.predict_proba(X)
    hessian = sum(np.kron(np.diag(q) - np.outer(q, q), np.outer(f, f)) for q, f in zip(p, phi, strict=True))
    inverse = np.linalg.inv(hessian + delta * np.eye(len(hessian)))
    jacobian = np.kron(np.eye(3), np.append(x, 1.0))
    return hessian, jacobian @ inverse @ jacobian.T


def test_covariance_and_evidence_by_hand():
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    fitted = LastLayerLaplace(model, prefit=True, prior_precision=0.3).fit(X, Y)
    hessian, covariance = _by_hand(model, 0.3, X[7])
    np.testing.assert_allclose(fitted.logit_distribution(X[7:8])[1][0], covariance, rtol=1e-8)
    np.testing.assert_allclose(fitted.logit_distribution(X)[0], model.decision_function(X), rtol=1e-9)
    ratio = np.linalg.slogdet(hessian / 0.3 + np.eye(15))[1]
    fit = np.log(model.predict_proba(X)[np.arange(150), Y]).sum()
    square = (model.coef_**2).sum() + (model.intercept_**2).sum()
    assert fitted.marginal_likelihood_ == pytest.approx(fit - 0.5 * ratio - 0.15 * square, rel=1e-9)


def test_evidence_is_largest_where_it_was_chosen():
    fitted = LastLayerLaplace().fit(X, Y)
    around = [fitted.log_marginal_likelihood(fitted.prior_precision_ * f) for f in (0.5, 0.9, 1.1, 2.0)]
    assert max(around) < fitted.marginal_likelihood_


@pytest.mark.parametrize("link", ["probit", "mc"])
def test_binary_agrees_with_an_integral(link):
    keep = Y > 0
    fitted = LastLayerLaplace(link=link, n_samples=20_000, random_state=0).fit(X[keep], Y[keep])
    mean, covariance = fitted.logit_distribution(X[60:61])
    m, s = mean[0, 0], np.sqrt(covariance[0, 0, 0])
    exact = quad(lambda f: expit(f) * norm.pdf(f, m, s), m - 10 * s, m + 10 * s)[0]
    assert fitted.predict_proba(X[60:61])[0, 1] == pytest.approx(exact, abs=0.02)


def test_kronecker_is_exact_where_curvature_is_constant():
    """Under zero weights all rows have the same curvature of the outputs."""
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    model.coef_, model.intercept_ = 0 * model.coef_, 0 * model.intercept_
    full, kron = (
        LastLayerLaplace(model, prefit=True, structure=s, prior_precision=1.0).fit(X, Y) for s in ("full", "kron")
    )
    np.testing.assert_allclose(full.logit_distribution(X)[1], kron.logit_distribution(X)[1], rtol=1e-8)
    assert full.marginal_likelihood_ == pytest.approx(kron.marginal_likelihood_)


@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
@pytest.mark.parametrize("link", ["probit", "mc", "bridge"])
def test_a_sure_prior_gives_the_model_back_and_a_vague_one_doubts(structure, link):
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    words = {"prefit": True, "structure": structure, "link": link, "random_state": 0}
    vague = LastLayerLaplace(model, prior_precision=1e-3, **words).fit(X, Y).predict_proba(20 * X)
    np.testing.assert_allclose(vague.sum(axis=1), 1.0)
    if link != "bridge":
        sure = LastLayerLaplace(model, prior_precision=1e12, **words).fit(X, Y)
        np.testing.assert_allclose(sure.predict_proba(X), model.predict_proba(X), atol=1e-4)
        assert vague.max(axis=1).mean() < model.predict_proba(20 * X).max(axis=1).mean()


def test_covariance_of_the_weights_of_a_regression_in_closed_form():
    """Marginal variance of y given the posterior, by the weights' covariance."""
    data, y = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(data, y)
    fitted = LastLayerLaplaceRegressor(model, prefit=True, prior_precision=1e-4, noise=50.0).fit(data, y)
    phi = np.column_stack([data, np.ones(len(data))])
    inverse = np.linalg.inv(phi.T @ phi / 2500 + 1e-4 * np.eye(11))
    mean, std = fitted.predict(data, return_std=True)
    np.testing.assert_allclose(mean, model.predict(data))
    np.testing.assert_allclose(std, np.sqrt(2500 + np.einsum("ni,ij,nj->n", phi, inverse, phi)))
    free = LastLayerLaplaceRegressor().fit(data, y)
    assert 50 < free.noise_ < 60
    moved = LastLayerLaplaceRegressor().fit(data, 1e6 * y)
    np.testing.assert_allclose(
        moved.predict(data, return_std=True)[1], 1e6 * free.predict(data, return_std=True)[1]
    )


def test_networks_are_those_of_the_ensemble():
    torch = pytest.importorskip("torch")

    def network(n_in, n_out):
        return torch.nn.Sequential(torch.nn.Linear(n_in, 64), torch.nn.ReLU(), torch.nn.Linear(64, n_out))

    one = DeepEnsemble(network, n_members=1, max_iter=5, random_state=0).fit(X, Y)
    fitted = LastLayerLaplace(network, max_iter=5, random_state=0, prior_precision=1e15).fit(X, Y)
    np.testing.assert_allclose(fitted.predict_proba(X), one.predict_proba(X), atol=1e-5)
    again = LastLayerLaplace(one.members_[0], prefit=True, prior_precision=1e15).fit(X, Y)
    np.testing.assert_array_equal(again.coef_, fitted.coef_)
    values = LastLayerLaplaceRegressor(network, max_iter=5, random_state=0).fit(X[:, :3], X[:, 3])
    assert values.score(X[:, :3], X[:, 3]) > 0.5

    def wrong(n_in, n_out):
        return torch.nn.Sequential(network(n_in, n_out), torch.nn.Softmax(1))

    with pytest.raises(InvalidParameterError, match="last"):
        LastLayerLaplace(wrong, max_iter=1).fit(X, Y)


def test_extremes():
    piped = LastLayerLaplace(make_pipeline(StandardScaler(), LogisticRegression()), prior_precision="validation")
    assert (
        piped.set_params(random_state=0).fit(X, np.array(["a", "b", "c"])[Y]).score(X, np.array(list("abc"))[Y])
        > 0.9
    )
    with pytest.raises(DataError, match="two classes"):
        LastLayerLaplace().fit(X[:5], Y[:5])
    with pytest.raises(InvalidParameterError, match="structure"):
        LastLayerLaplace(structure="low rank").fit(X, Y)
    with pytest.raises(InvalidParameterError, match="model"):
        LastLayerLaplace(LinearRegression()).fit(X, Y)
