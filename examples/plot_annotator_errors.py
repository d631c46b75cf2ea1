"""
Who measured it, and how far off they are
=========================================

Numbers that people give hold two things that a model does not predict: what is special about
the item, which is no error, and what is special about the person, which is. `AnnotatorErrors`
tells them apart when it is known who gave each number.
"""

# %%
# Six readers of one scale
# ------------------------
# The progress of diabetes of 442 patients, each read by one of six readers. One reads 60 too
# high, one 40 too low, one is careless, and three are good.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from corrigible.data import AnnotatorErrors

X, truth = load_diabetes(return_X_y=True)
rng = np.random.default_rng(0)
reader = rng.integers(6, size=len(truth))
bias = np.array([60, -40, 0, 0, 0, 0])
noise = np.array([5, 5, 120, 5, 5, 5])
error = bias[reader] + noise[reader] * rng.normal(size=len(truth))
y = truth + error

# %%
# What is learned of each reader
# ------------------------------
# A bias, and a variance about it; the least variance is taken for what differs between patients.

found = AnnotatorErrors(RidgeCV(), random_state=0).fit(X, y, annotators=reader)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
# Only differences of biases can be told: a model takes up what all readers share.
left.bar(np.arange(6) - 0.2, bias - bias.mean(), 0.4, label="planted")
left.bar(np.arange(6) + 0.2, found.bias_ - found.bias_.mean(), 0.4, label="estimated")
left.set(xlabel="reader", title="bias, less the mean")
left.legend()
right.bar(np.arange(6), np.sqrt(found.variance_))
right.axhline(
    np.sqrt(found.item_variance_),
    color="black",
    linestyle="--",
    label="of the patients",
)
right.set(xlabel="reader", title="standard deviation about the bias")
right.legend()
fig.tight_layout()

# %%
# Which readings are wrong
# ------------------------
# Among the readings ranked most suspect, the share that is off by more than 50: by the reader's
# part, and by the plain residual of the same model, which takes unusual patients for errors.

residual = np.abs(y - cross_val_predict(RidgeCV(), X, y, cv=5))
wrong = np.abs(error) > 50
checked = np.arange(10, 151, 5)
fig, ax = plt.subplots(figsize=(6, 3.6))
for name, score in (
    ("the reader's part", found.issue_scores),
    ("the residual", residual),
):
    order = np.argsort(-score)
    ax.plot(checked, [wrong[order[:k]].mean() for k in checked], label=name)
ax.axhline(wrong.mean(), color="grey", linestyle=":", label="at random")
ax.set(xlabel="readings checked", ylabel="share off by more than 50", ylim=(0, 1))
ax.legend()
fig.tight_layout()
