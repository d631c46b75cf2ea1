"""
What missing cells will cost, and which remedy is cheapest
==========================================================

Before gaps arrive, make some: `missingness_study` removes cells by chance, by what other
columns hold, or by what the cell itself holds, and measures a model under each strategy
on the same rows.
"""

# %%
# A model and its strategies
# --------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible.data import missingness_study

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X[["mean radius", "mean texture", "mean smoothness", "mean concavity"]]
found = missingness_study(
    make_pipeline(StandardScaler(), LogisticRegression()),
    X,
    y,
    rates=(0.05, 0.2, 0.4),
    strategies=("drop_rows", "mean", "mean+indicator", "knn"),
    n_repeats=4,
    rng=np.random.default_rng(0),
)
print(f"log loss on complete cells: {found.complete_loss:.3f}")

# %%
# What is lost
# ------------
# Bars hold one standard error over splits. Dropping rows throws away most of the table
# long before most cells are gone; what a cell holds is the worst reason for its absence.

fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True)
for ax, (mechanism, part) in zip(
    axes, found.table.groupby("mechanism", sort=False), strict=True
):
    for strategy, rows in part.groupby("strategy", sort=False):
        ax.errorbar(
            rows["rate"], rows["increase"], rows["se"], marker="o", ms=3, label=strategy
        )
    ax.set(title=mechanism, xlabel="share of cells missing")
    ax.axhline(0, c="gray", lw=0.8)
axes[0].set_ylabel("rise of log loss")
axes[0].legend(fontsize=8)
fig.tight_layout()

# %%
# The cheapest strategy by mechanism
# ----------------------------------

mean = found.table.groupby(["mechanism", "strategy"])["increase"].mean()
for mechanism, part in mean.groupby(level=0):
    print(f"{mechanism}: {part.idxmin()[1]}, {part.min():+.3f}")
