"""
Wrong numbers where the noise varies
====================================

A value far from what the other columns predict may be wrong, or the column may vary
there, or the model may know little there. `VeracityScores` sets the residual against
both, estimates how many values are wrong, and fits again without them.
"""

# %%
# A column that is quiet on one side
# ----------------------------------
# One value in twenty is wrong by 1.5. On the right, honest values are as far off.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from corrigible.data import VeracityScores

rng = np.random.default_rng(0)
x = rng.uniform(0, 1, size=1000)
noise = np.where(x < 0.7, 0.15, 1.0) * rng.normal(size=x.size)
planted = rng.uniform(size=x.size) < 0.05
y = np.sin(6 * x) + noise + 1.5 * planted * rng.choice([-1, 1], size=x.size)
X = x[:, None]

# %%
# Scores, and the residual that they must beat
# --------------------------------------------
# The spread of honest values is a regression too: ``aleatoric="regression"``.

model = make_pipeline(SplineTransformer(8), RidgeCV(np.logspace(-4, 2, 7)))
found = VeracityScores(
    model, aleatoric="regression", shares=(0.02, 0.05, 0.1), random_state=0
).fit(X, y)
residual = np.abs(y - cross_val_predict(model, X, y, cv=5))
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6))
for ax, (name, score) in zip(
    axes, (("residual", residual), ("veracity", found.issue_scores)), strict=False
):
    top = np.argsort(-score)[: planted.sum()]
    ax.scatter(x, y, s=3, c="0.8")
    ax.scatter(x[planted], y[planted], s=14, c="tab:red", label="wrong")
    ax.scatter(x[top], y[top], s=40, fc="none", ec="k", lw=0.7, label=f"top by {name}")
    ax.set(xlabel="x", ylabel="y")
    ax.legend(loc="lower left")
    precision, recall, _ = precision_recall_curve(planted, score)
    area = average_precision_score(planted, score)
    axes[2].plot(recall, precision, label=f"{name}, area {area:.2f}")
axes[2].set(
    xlabel="share of the errors found", ylabel="share of the flagged that is wrong"
)
axes[2].legend()
fig.tight_layout()

# %%
# Where the noise is even, and on most real tables of the evidence, plain residuals rank as
# well.
#
# How many are wrong
# ------------------
# The share left out whose models predict all rows best, chosen from the data alone.

flags = found.issue_mask
print(
    f"share of wrong values: {found.share_:.1%} estimated, {planted.mean():.1%} planted"
)
print(f"{flags.sum()} flagged, {planted[flags].sum()} of them planted")
