import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal, norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from corrigible.errors import DataError, InvalidParameterError
from corrigible.uncertainty import gp_dimension_curve, gp_dimension_limit


def drawn(rng, n=60, m=40, d=30, signal=0.0):
    X, Z = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    y, t = (signal * W[:, 0] + rng.normal(size=len(W)) for W in (X, Z))
    return X, y, Z, t


@pytest.mark.parametrize("temperature", [0.2, None])
def test_of_one_dimension_agrees_with_scikit_learn(rng, temperature):
    """The squared exponential kernel of unit length in one dimension, noise fixed or learnt."""
    X, y, Z, t = drawn(rng, signal=1.5, d=1)
    row = gp_dimension_curve(X, y, Z, t, kernel="rbf", temperature=(temperature,)).table.iloc[0]
    noise = np.mean(y**2) * row["temperature"]
    white = WhiteKernel(noise, "fixed" if temperature else (1e-6, 1e6))
    kernel = ConstantKernel(1.0, (1e-6, 1e6)) * RBF(1.0, "fixed") + white
    process = GaussianProcessRegressor(kernel, n_restarts_optimizer=8, random_state=0).fit(X, y)
    assert row["free_energy"] == pytest.approx(-process.log_marginal_likelihood_value_ / len(y), abs=1e-6)
    assert row["scale"] == pytest.approx(process.kernel_.k1.k1.constant_value, rel=1e-3)
    mean, spread = process.predict(Z, return_std=True)
    assert row["nlpd"] == pytest.approx(-norm(mean, spread).logpdf(t).mean(), abs=1e-4)
    assert row["squared_error"] == pytest.approx(np.mean((mean - t) ** 2), rel=1e-3)


def test_losses_are_those_of_draws_from_the_posterior(rng):
    X, y, Z, t = drawn(rng, n=25, m=6, d=8)
    row = gp_dimension_curve(X, y, Z, t, dimensions=[8], temperature=(0.1,)).table.iloc[0]
    noise, tau = 0.1 * np.mean(y**2), row["scale"]
    inverse = np.linalg.inv(tau * X @ X.T / 8 + noise * np.eye(25))
    cross = tau * Z @ X.T / 8
    posterior = multivariate_normal(
        cross @ inverse @ y, tau * Z @ Z.T / 8 - cross @ inverse @ cross.T, allow_singular=True
    )
    draws = posterior.rvs(100_000, random_state=0)
    squared = ((draws - t) ** 2).mean()
    assert row["ppl2"] == pytest.approx(squared, rel=0.01)
    assert row["ppnll"] == pytest.approx(-norm(draws, np.sqrt(noise)).logpdf(t).mean(), rel=0.01)
    prior = multivariate_normal(np.zeros(25), tau * X @ X.T / 8 + noise * np.eye(25))
    assert row["free_energy"] == pytest.approx(-prior.logpdf(y) / 25, rel=1e-9)


@pytest.mark.parametrize("ratio", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [0.01, 0.4])
def test_the_limit_is_that_of_integrals_over_the_law(ratio, temperature):
    """The law of Marchenko and Pastur by quadrature, the scale by search."""
    c = 1 / ratio
    low, high = (1 - np.sqrt(c)) ** 2, (1 + np.sqrt(c)) ** 2

    def mean(f):
        def turned(a):  # s runs over the bulk, whose density has roots at both ends
            s = low + (high - low) * np.sin(a) ** 2
            density = np.sqrt((high - s) * (s - low)) / (2 * np.pi * c * s)
            return f(s) * density * (high - low) * 2 * np.sin(a) * np.cos(a)

        return quad(turned, 1e-12, np.pi / 2, limit=200)[0] + max(0.0, 1 - ratio) * f(0.0)

    def energy(log_scale):
        tau = np.exp(log_scale)
        inside = mean(lambda s: 1 / (tau * s + temperature) + np.log(tau * s + temperature))
        return (inside + np.log(2 * np.pi)) / 2

    best = minimize_scalar(energy, bounds=(-4, 6), method="bounded", options={"xatol": 1e-7})
    found = gp_dimension_limit([ratio], temperature=temperature).iloc[0]
    tau = float(np.exp(best.x))
    assert found["scale"] == pytest.approx(tau, rel=1e-3)
    assert found["free_energy"] == pytest.approx(best.fun, rel=1e-5)
    assert found["squared_error"] == pytest.approx(
        1 + c * mean(lambda s: s / (s + temperature / tau) ** 2), rel=1e-3
    )
    assert found["variance"] == pytest.approx(tau * (1 - c * mean(lambda s: s / (s + temperature / tau))), rel=1e-3)


def test_curves_of_many_rows_lie_near_their_limit(rng):
    n, dimensions, curves = 300, [150, 270, 300, 330, 900], []
    for _ in range(12):
        X, y, Z, t = drawn(rng, n=n, m=500, d=900)
        y, t = y / y.std(), t / t.std()
        curves.append(gp_dimension_curve(X, y, Z, t, dimensions=dimensions, temperature=(0.05,)).table)
    limit = gp_dimension_limit(np.array(dimensions) / n, temperature=0.05)
    for name in ("free_energy", "ppl2", "variance"):
        drawn_ones = np.array([c[name] for c in curves])
        error = drawn_ones.std(axis=0, ddof=1) / np.sqrt(len(curves))
        assert (error < 0.1 * limit[name]).all()
        assert (np.abs(drawn_ones.mean(axis=0) - limit[name]) < 3.5 * error).all()


def test_free_energy_falls_and_the_posterior_loss_peaks_in_the_limit():
    ratio = np.geomspace(0.05, 20, 61)
    for temperature in (0.001, 0.1, 0.9):
        assert (np.diff(gp_dimension_limit(ratio, temperature=temperature)["free_energy"]) < 0).all()
    cold = gp_dimension_limit(ratio, temperature=0.001)
    assert ratio[cold["ppl2"].argmax()] == pytest.approx(1.0, rel=0.1)
    # Warm, the loss has no peak at all.
    assert (np.diff(gp_dimension_limit(ratio, temperature=0.9)["ppl2"]) > 0).all()


def test_dimensions_of_default_units_and_the_order_of_rows(rng):
    X, y, Z, t = drawn(rng)
    found = gp_dimension_curve(X, y, Z, t)
    assert found.table["dimension"].iloc[-1] == 30
    assert found.n == 60
    for size in (
        1.0,
        3.0,
        1e-7,
    ):  # whatever the responses' unit, a curve is found by the temperature that was asked for
        curve = gp_dimension_curve(X, size * y, Z, size * t, temperature=(0.01, 0.1, None))
        for temperature in (0.01, 0.1, None):
            assert len(curve.column("ppl2", temperature=temperature)) == curve.table["dimension"].nunique()
    # Responses in other units: the same temperature, a scale by their square, and a shift of the free energy.
    order = rng.permutation(60)
    other = gp_dimension_curve(X[order], 100 * y[order], Z, 100 * t)
    np.testing.assert_allclose(other.table["scale"], 1e4 * found.table["scale"], rtol=1e-4)
    np.testing.assert_allclose(other.table["free_energy"], found.table["free_energy"] + np.log(100), rtol=1e-6)
    callable_one = gp_dimension_curve(X, y, Z, t, kernel=lambda A, B: A @ B.T / A.shape[1])
    np.testing.assert_allclose(callable_one.table["ppl2"], found.table["ppl2"])


def test_extremes(rng):
    X, y, Z, t = drawn(rng)
    for scale in (1e-30, 1e30):
        table = gp_dimension_curve(X, y * scale, Z, t * scale, dimensions=[5]).table
        assert np.isfinite(table.drop(columns="tuned").to_numpy(float)).all()
    one = gp_dimension_curve(X[:1], y[:1], Z[:1], t[:1], dimensions=[3]).table
    assert np.isfinite(one["free_energy"]).all()
    constant = gp_dimension_curve(np.ones_like(X, dtype=np.float32), y, np.ones_like(Z), t, dimensions=[2]).table
    assert np.isfinite(constant["ppl2"]).all()


def test_bad_input_is_told(rng):
    X, y, Z, t = drawn(rng)
    with pytest.raises(DataError, match="30 columns"):
        gp_dimension_curve(X, y, Z[:, :2], t)
    with pytest.raises(DataError, match="finite numbers"):
        gp_dimension_curve(np.where(X > 1, np.nan, X), y, Z, t)
    with pytest.raises(DataError, match="0 throughout"):
        gp_dimension_curve(X, 0 * y, Z, t)
    with pytest.raises(DataError, match="at most the 30"):
        gp_dimension_curve(X, y, Z, t, dimensions=[31])
    for words in ({"kernel": "linea"}, {"temperature": (0.0,)}, {"dimensions": [0]}):
        with pytest.raises(InvalidParameterError):
            gp_dimension_curve(X, y, Z, t, **words)
    with pytest.raises(InvalidParameterError):
        gp_dimension_limit([1.0], temperature=1.0)
    with pytest.raises(DataError, match="positive"):
        gp_dimension_limit([0.0])
