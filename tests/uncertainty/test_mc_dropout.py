import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from corrigible.errors import InvalidParameterError
from corrigible.uncertainty import MCDropout, MCDropoutRegressor

torch = pytest.importorskip("torch")
X, Y = load_iris(return_X_y=True)


def test_passes_by_hand_and_a_row_alone():
    fitted = MCDropout(n_samples=3, max_iter=10, random_state=0).fit(X, Y)
    members = fitted.member_proba(X)
    np.testing.assert_allclose(fitted.predict_proba(X), members.mean(axis=0))
    np.testing.assert_allclose(members[:, 5:6], fitted.member_proba(X[5:6]), rtol=1e-9)
    first, last = fitted.module_[0], fitted.module_[3]
    kept = np.random.default_rng([fitted.seed_ + 1, 0]).uniform(size=(1, 64)) >= 0.2
    with torch.no_grad():
        hidden = torch.relu(first(torch.tensor(X))) * torch.tensor(kept / 0.8)
        np.testing.assert_allclose(last(hidden).softmax(1).numpy(), members[1], rtol=1e-9)
    assert np.abs(members[0] - members[1]).max() > 0.01


def test_without_dropping_all_passes_agree():
    def network(n_in, n_out):
        return torch.nn.Sequential(torch.nn.Dropout(0.0), torch.nn.Linear(n_in, n_out))

    members = MCDropout(network, n_samples=2, max_iter=2, random_state=0).fit(X, Y).member_proba(X)
    np.testing.assert_array_equal(members[0], members[1])


def test_same_seed_same_bits():
    a, b = (MCDropout(n_samples=2, max_iter=3, random_state=1).fit(X, Y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_regression_covers_held_out_rows():
    data, y = load_diabetes(return_X_y=True)
    fitted = MCDropoutRegressor(n_samples=20, random_state=0).fit(20 * data[:300], y[:300])
    mean, std = fitted.predict(20 * data[300:], return_std=True)
    assert 0.75 < np.mean(np.abs(y[300:] - mean) < 1.96 * std) <= 1.0
    assert (std >= fitted.noise_).all()


def test_a_network_without_dropout_is_refused():
    with pytest.raises(InvalidParameterError, match="Dropout"):
        MCDropout(lambda a, b: torch.nn.Linear(a, b)).fit(X, Y)
    with pytest.raises(InvalidParameterError, match="n_samples"):
        MCDropout(n_samples=0).fit(X, Y)
