"""DEUP: a learned error less the noise ranks excess risk better than the variance of models does."""

from __future__ import annotations

import numpy as np

from corrigible.papers import Measurement
from corrigible.uncertainty import DEUP, SeedEnsemble

CLAIM = "Predicted excess risk ranks the true one better than model variance, and serves optimisation no worse."
PROTOCOL = """Spearman correlation with the excess risk, DEUP less baseline, mean and range of 5 seeds; bar: mean above
0. (1) The authors' 1-D function sin x cos 5x cos 22x, noise 0.1, 80 rows, a Gaussian process of fixed length 0.5, too
long; baseline its variance; true excess risk on a grid. (2) Friedman's 5-D function, noise 1, 300 rows, ridge;
baseline variance of 10 bootstrapped ridges. (3) Wine: 800 white train, 400 other white and 400 red test, ridge. (4)
Bikeshare: 800 hours of seasons 1 and 2 train, 400 others of them and 400 of 3 and 4 test, ridge. In (3) and (4) the
squared error stands for the risk, the baseline is as in (2). (5) Maximising the 1-D function without noise from 6 rows
in 15 steps by expected improvement, a Gaussian process as main predictor; DEUP's uncertainty against its variance:
difference in the best value found, bar at least 0."""
METHODS = ("deup",)
DATA = ("wine_quality", "bikeshare")
NOT_REPRODUCED = {
    "best value, DEUP-EI less GP-EI": "0.779 and 0.821, the difference from -0.109 to 0.007 over five seeds: with six to "
    "twenty rows the model of the errors has next to nothing to learn from. Why the paper's gain is absent was not traced."
}
SEEDS = range(5)


def run(data):
    for name, study in (("1-D function", _line), ("Friedman", _friedman)):
        yield _gain(name, [study(seed) for seed in SEEDS])
    for name, table in (("wine, white to red", _wine(data)), ("bikeshare by season", _bikes(data))):
        yield _gain(name, [_shifted(*table, seed) for seed in SEEDS])
    found = np.array([[_optimised(seed, deup) for deup in (True, False)] for seed in SEEDS])
    gain = found[:, 0] - found[:, 1]
    yield Measurement("best value, DEUP-EI less GP-EI", gain.mean(), gain.min(), gain.max(), at_least=0.0)
    for name, values in zip(("DEUP-EI", "GP-EI"), found.T, strict=True):
        yield Measurement(f"best value, {name}", values.mean(), values.min(), values.max(), kind="note")


def _gain(name, pairs):
    deup, base = np.array(pairs).T
    gain = deup - base
    return Measurement(f"Spearman, DEUP less variance, {name}", gain.mean(), gain.min(), gain.max(), at_least=0.0)


def _pair(risk, uncertainty, variance):
    from scipy.stats import spearmanr

    return spearmanr(risk, uncertainty)[0], spearmanr(risk, variance)[0]


def _f(x):
    return np.sin(x) * np.cos(5 * x) * np.cos(22 * x)


def _gp(length, alpha, fixed):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    kernel = RBF(length, "fixed" if fixed else (0.02, 2))
    return GaussianProcessRegressor(kernel, alpha=alpha, normalize_y=not fixed)


def _line(seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 2, size=(80, 1))
    y = _f(X[:, 0]) + rng.normal(scale=0.1, size=80)
    grid = np.linspace(-1, 2, 400)[:, None]
    gp = _gp(0.5, 0.01, True)
    method = DEUP(gp, features=("x", "density", "variance"), variance=gp, aleatoric=0.01, random_state=seed).fit(
        X, y
    )
    mean, std = method.estimator_.predict(grid, return_std=True)
    return _pair((mean - _f(grid[:, 0])) ** 2, method.predict_uncertainty(grid), std)


def _friedman(seed):
    from sklearn.datasets import make_friedman1

    X, y = make_friedman1(1300, n_features=5, noise=1.0, random_state=seed)
    _, true = make_friedman1(1300, n_features=5, noise=0.0, random_state=seed)
    return _ridge(X[:300], y[:300], X[300:], true[300:], seed, aleatoric=1.0)


def _ridge(X, y, X_test, y_test, seed, aleatoric=None):
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), Ridge())
    features = ("x", "density", "variance")
    method = DEUP(model, features=features, aleatoric=aleatoric, random_state=seed).fit(X, y)
    members = SeedEnsemble(model, 10, resample=True, random_state=seed).fit(X, y).member_predict(X_test)
    risk = (method.predict(X_test) - y_test) ** 2
    return _pair(risk, method.predict_uncertainty(X_test), members.var(axis=0))


def _wine(data):
    import pandas as pd

    frame = pd.read_csv(data / "wine_quality" / "wine_quality.csv.gz")
    X = frame.drop(columns=["colour", "quality"]).to_numpy(float)
    return X, frame["quality"].to_numpy(float), (frame["colour"] == "red").to_numpy()


def _bikes(data):
    import pandas as pd

    frame = pd.read_csv(data / "bikeshare" / "bikeshare_hourly_islp.csv.gz")
    columns = ["hr", "holiday", "weekday", "workingday", "temp", "atemp", "hum", "windspeed"]
    return frame[columns].to_numpy(float), frame["bikers"].to_numpy(float), (frame["season"] > 2).to_numpy()


def _shifted(X, y, other, seed):
    rng = np.random.default_rng(seed)
    own, far = rng.permutation(np.flatnonzero(~other)), rng.permutation(np.flatnonzero(other))
    train, test = own[:800], np.concatenate([own[800:1200], far[:400]])
    return _ridge(X[train], y[train], X[test], y[test], seed)


def _optimised(seed, deup):
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    X, grid = rng.uniform(-1, 2, size=(6, 1)), np.linspace(-1, 2, 601)[:, None]
    gp = _gp(0.2, 1e-6, False)
    features = ("density", "variance", "seen")
    learner = _gp(1.0, 1.0, False)
    method = DEUP(gp, learner, features=features, variance=gp, log=True, cv=2, random_state=seed).fit(
        X, _f(X[:, 0])
    )
    for _ in range(15):
        mean, std = method.estimator_.predict(grid, return_std=True)
        spread = np.sqrt(method.predict_uncertainty(grid)) if deup else std
        spread = np.maximum(spread, 1e-9)
        z = (mean - _f(X[:, 0]).max()) / spread
        chosen = grid[[np.argmax(spread * (z * norm.cdf(z) + norm.pdf(z)))]]
        X = np.concatenate([X, chosen])
        method.update(chosen, _f(chosen[:, 0]))
    return _f(X[:, 0]).max()
