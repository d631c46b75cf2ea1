"""
What does one way of training see that another does not?
========================================================

Two learners score almost alike. Training both on the same random subsets shows on which
rows each of their predictions depends, and the rows on which they differ.
"""

# %%
# A flag that one learner sees
# ----------------------------
# An eighth of the rows carries a flag that makes their label positive. The second learner
# is not given the flag.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from corrigible.compare import ModelDiff, transformation_effect

rng = np.random.default_rng(0)
X = rng.normal(size=(240, 4))
flag = rng.uniform(size=240) < 1 / 8
y = np.where(flag, 1, (X[:, 0] + X[:, 1] > 0)).astype(int)
X[:, 3] = flag
train, test = slice(120), slice(120, None)

sees = LogisticRegression()
blind = make_pipeline(
    make_column_transformer(("passthrough", [0, 1, 2])), LogisticRegression()
)
diff = ModelDiff(sees, blind, n_models=300, random_state=0)
diff.fit(X[train], y[train], X[test], y[test])

# %%
# The leading direction
# ---------------------
# The test rows furthest along it are the flagged ones.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
first, second = diff.projections_a_[:, :2].T
for chosen, colour, name in (
    (~flag[test], "0.7", "others"),
    (flag[test], "C3", "flag"),
):
    left.plot(first[chosen], second[chosen], ".", color=colour, label=name)
left.set(xlabel="leading direction", ylabel="second direction", title="test rows")
left.legend()
place = np.arange(diff.explained_variance_a_.shape[1])
for shift, variance, name in zip(
    (-0.2, 0.2), diff.explained_variance_a_, "AB", strict=True
):
    right.bar(place + shift, variance, 0.4, label=f"datamodels of {name}")
right.set(xlabel="direction", ylabel="explained variance", xticks=place)
right.legend()
fig.tight_layout()

# %%
# Test by intervention
# --------------------
# Raising the flag moves the margin of the first learner, in nats, and not of the second.


def raise_flag(rows):
    rows[:, 3] = 1
    return rows


models = [[m.fit(X[train], y[train])] for m in (sees, blind)]
plain = X[test][~flag[test]]
transformation_effect(*models, plain, np.ones(len(plain), int), raise_flag)
