"""
Where a model could still get better
====================================

A straight line is certain of itself where it is wrong: the variance of bootstrapped lines is small wherever there are
rows. :class:`~corrigible.uncertainty.DEUP` learns the error itself, takes the noise off, and shows the bias.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from corrigible.uncertainty import DEUP, SeedEnsemble


def f(x):
    """The truth: flat on the left, a wave on the right."""
    return np.where(x > 0, np.sin(6 * x), 0)


rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(600, 1))
y = f(X[:, 0]) + rng.normal(scale=0.2, size=len(X))
forest = RandomForestRegressor(min_samples_leaf=30)
method = DEUP(LinearRegression(), forest, aleatoric=0.04, random_state=0).fit(X, y)
lines = SeedEnsemble(LinearRegression(), 20, resample=True, random_state=0).fit(X, y)

# %%
# The excess risk is the squared distance of the line to the truth.
grid = np.linspace(-1, 1, 300)[:, None]
fig, (top, bottom) = plt.subplots(2, sharex=True, layout="constrained")
top.plot(X[:, 0], y, ".", color="0.8")
top.plot(grid, f(grid[:, 0]), label="truth")
top.plot(grid, method.predict(grid), label="line")
top.set_ylabel("y")
top.legend()
bottom.plot(grid, (method.predict(grid) - f(grid[:, 0])) ** 2, label="true excess risk")
bottom.plot(grid, method.predict_uncertainty(grid), label="DEUP")
bottom.plot(grid, lines.member_predict(grid).var(axis=0), label="variance of 20 lines")
bottom.set(xlabel="x", ylabel="squared error")
bottom.legend()
plt.show()
