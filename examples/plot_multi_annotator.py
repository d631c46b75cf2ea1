"""
Whom to believe when annotators disagree
========================================

A majority counts every vote alike. `MultiAnnotator` learns from the agreements who is
right how often, and about which classes, and weighs the votes by it; with a model's
probabilities, the model votes too.
"""

# %%
# Wine experts of very different skill
# ------------------------------------
# Each wine is tasted by four of twelve annotators; four of them guess more often than not,
# and one takes class 1 for class 0.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible.data import MultiAnnotator

X, truth = load_wine(return_X_y=True)
rng = np.random.default_rng(0)
n, skill = len(truth), np.r_[np.full(8, 0.8), np.full(4, 0.35)]
labels = np.full((n, 12), np.nan)
for row in range(n):
    for who in rng.choice(12, size=4, replace=False):
        right = rng.uniform() < skill[who]
        labels[row, who] = truth[row] if right else rng.integers(3)
confused = ~np.isnan(labels[:, 0]) & (truth == 1)
labels[confused, 0] = 0

# %%
# Four ways to a consensus
# ------------------------
# The model of the fourth is trained on the majority's labels, out of fold.

majority = MultiAnnotator(method="majority").fit(labels)
model = make_pipeline(StandardScaler(), LogisticRegression())
p = cross_val_predict(model, X, majority.consensus_, cv=5, method="predict_proba")
found = {
    "majority": majority,
    "Dawid and Skene": MultiAnnotator().fit(labels),
    "GLAD": MultiAnnotator(method="glad").fit(labels),
    "CROWDLAB, with a model": MultiAnnotator(method="crowdlab").fit(labels, p),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
accuracy = [np.mean(way.consensus_ == truth) for way in found.values()]
bars = left.barh(list(found), accuracy)
left.bar_label(bars, [f"{a:.1%}" for a in accuracy])
left.set(xlabel="consensus labels that are right", xlim=(0.7, 1.06))

# %%
# Who is good
# -----------
# Estimated without the truth, against the share of each annotator's labels that is right.

skene = found["Dawid and Skene"]
seen = ~np.isnan(labels)
true_share = np.array(
    [np.mean(labels[seen[:, a], a] == truth[seen[:, a]]) for a in range(12)]
)
right.scatter(true_share, skene.annotator_quality_)
right.axline((0.5, 0.5), slope=1, color="gray", lw=1)
right.set(xlabel="labels that are right", ylabel="estimated quality")
fig.tight_layout()

# %%
# What they take for what
# -----------------------
# The first annotator's matrix: rows are true classes, columns what was written.

fig, axes = plt.subplots(1, 2, figsize=(6, 3))
for ax, who in zip(axes, (0, 1), strict=True):
    ax.imshow(skene.confusion_[who], cmap="Blues", vmin=0, vmax=1)
    for (i, j), chance in np.ndenumerate(skene.confusion_[who]):
        ax.text(j, i, f"{chance:.2f}", ha="center", va="center")
    ax.set(title=f"annotator {who}", xlabel="written", ylabel="true")
    ax.set(xticks=range(3), yticks=range(3))
fig.tight_layout()
