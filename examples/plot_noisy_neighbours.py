"""
Rows that were left in the catch-all class
==========================================

Annotators who find no name for a row put it in "other", and some of these rows have one.
`NoisyNeighbours` finds them: a row with a name that a model takes for "other" likely has
twins that were left there; or, where a clean subset exists, its rows vote.
"""

# %%
# Digits, of which only three have names
# --------------------------------------
# A quarter of the named rows were left in the catch-all class by mistake.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from corrigible.data import NoisyNeighbours

X, digit = load_digits(return_X_y=True)
X = X / 16
truth = np.where(np.isin(digit, [3, 5, 8]), digit.astype("U5"), "other")
rng = np.random.default_rng(0)
missed = (truth != "other") & (rng.uniform(size=len(truth)) < 0.25)
given = np.where(missed, "other", truth)
train, test = train_test_split(np.arange(len(X)), test_size=0.4, random_state=0)
clean = rng.permutation(train)[:150]  # reviewed rows, for the second strategy

# %%
# Two strategies
# --------------

intrinsic = NoisyNeighbours(negative="other", n_neighbors=3).fit(X[train], given[train])
extrinsic = NoisyNeighbours(negative="other", strategy="extrinsic", n_neighbors=3).fit(
    X[train], given[train], X_clean=X[clean], y_clean=truth[clean]
)
rows = []
for name, found in (("intrinsic", intrinsic), ("extrinsic", extrinsic)):
    hit = missed[train][found.issue_mask]
    kept = ~found.issue_mask
    for remedy, use, labels in (
        ("as given", np.ones(len(train), dtype=bool), given[train]),
        ("eliminated", kept, given[train]),
        ("reannotated", np.ones(len(train), dtype=bool), found.suggested_),
    ):
        model = LogisticRegression(max_iter=500).fit(X[train[use]], labels[use])
        score = f1_score(truth[test], model.predict(X[test]), average="macro")
        rows.append({"strategy": name, "remedy": remedy, "macro F1": score})
    print(
        f"{name}: {len(hit)} rows flagged, {hit.mean():.0%} of them rightly, "
        f"{hit.sum()} of {missed[train].sum()} found"
    )

# %%
# What a model makes of it
# ------------------------
# The test rows have their true names.

wide = pd.DataFrame(rows).pivot(index="strategy", columns="remedy", values="macro F1")
ax = wide[["as given", "eliminated", "reannotated"]].plot.bar(rot=0, figsize=(6, 3.6))
ax.set(ylim=(0.5, 1.1), ylabel="macro F1 on test rows", xlabel="")
ax.legend(loc="upper center", ncols=3)
plt.tight_layout()

# %%
# Some of the rows found
# ----------------------

worst = np.argsort(-intrinsic.issue_scores)[:8]
fig, axes = plt.subplots(1, 8, figsize=(8, 1.5))
for ax, row in zip(axes, worst, strict=True):
    ax.imshow(X[train[row]].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"other?\n{intrinsic.suggested_[row]}", fontsize=8)
    ax.axis("off")
fig.tight_layout()
