"""
When gaps filled with zeros do no harm
======================================

Filling missing cells with the mean is called naive, and with few columns it is. With
many columns that say similar things it amounts to a ridge penalty of known size, whose
cost vanishes.
"""

# %%
# The same signal in ever more columns
# ------------------------------------
# Five factors are behind all columns; half of the cells are missing, in training and test.
# Above the dashed line is what 2,000 rows have yet to teach: one pass of averaged SGD needs
# no penalty and sees each row once, and pays for it while columns are few.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import Ridge

from corrigible.data import ZeroImputedSGD, equivalent_ridge, imputation_bias

rng = np.random.default_rng(0)
n, observed = 2000, 0.5


def table(d):
    """Return complete columns, and a target that the factors explain."""
    factors = rng.normal(size=(2 * n, 5))
    X = factors @ rng.normal(size=(5, d)) / np.sqrt(5) + 0.3 * rng.normal(
        size=(2 * n, d)
    )
    return X, factors.sum(axis=1) / np.sqrt(5)


sizes, rows = (5, 10, 20, 50, 100, 200, 400), []
for d in sizes:
    X, y = table(d)
    gaps = np.where(rng.uniform(size=X.shape) < observed, X, np.nan)
    model = ZeroImputedSGD(random_state=0).fit(gaps[:n], y[:n])
    zeros = np.nan_to_num(gaps)
    weights = np.linalg.lstsq(zeros[:n], y[:n], rcond=None)[0]
    second = X.T @ X / len(X)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    rows.append(
        {
            "cost of zeros, in theory": imputation_bias(second, best, observed),
            "zeros, least squares": np.mean((y[n:] - zeros[n:] @ weights) ** 2),
            "zeros, one pass of SGD": np.mean((y[n:] - model.predict(gaps[n:])) ** 2),
        }
    )
fig, ax = plt.subplots(figsize=(6.5, 3.8))
for name, style in zip(rows[0], ("k--", "s-", "o-"), strict=True):
    ax.loglog(sizes, [row[name] for row in rows], style, label=name)
ax.set(xlabel="columns", ylabel="squared error (variance of y is 1)")
ax.legend()
fig.tight_layout()

# %%
# Zeros are a ridge penalty
# -------------------------
# Weights fitted to cells with gaps, stretched by the share observed, are those of a ridge
# regression on complete cells.

X, y = table(40)
X, y = (X - X.mean(axis=0)) / X.std(axis=0), y - y.mean()
filled = np.where(rng.uniform(size=X.shape) < observed, X, 0.0)
naive = np.linalg.lstsq(filled, y, rcond=None)[0]
ridge = Ridge(equivalent_ridge(observed) * len(X), fit_intercept=False).fit(X, y)
fig, ax = plt.subplots(figsize=(3.8, 3.8))
ax.scatter(ridge.coef_, observed * naive, s=12)
ax.axline((0, 0), slope=1, color="gray", lw=1)
ax.set(xlabel="ridge on complete cells", ylabel="zeros, times the share observed")
fig.tight_layout()
