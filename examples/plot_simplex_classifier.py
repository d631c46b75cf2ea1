"""
Features that stay comparable over updates
==========================================

When a model of images is replaced, features stored under the old one no longer match those of the new one.
:class:`~corrigible.compare.SimplexClassifier` gives each class, and those to come, a fixed corner to train towards.
"""

# %%
# The first model knows five digits, its successor all ten.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from corrigible.compare import SimplexClassifier, compatibility_matrix

X, y = load_digits(return_X_y=True)
X = X / 16
order = np.random.default_rng(0).permutation(len(y))
train, gallery, query = np.split(order, [600, 1000])
first = train[y[train] < 5]
words = {"n_slots": 16, "max_iter": 20}
old = SimplexClassifier(**words, random_state=0).fit(X[first], y[first])
new = SimplexClassifier(**words, old=old, random_state=1).fit(X[train], y[train])
models = (old, new)
found = compatibility_matrix(
    [m.transform(X[query]) for m in models],
    [m.transform(X[gallery]) for m in models],
    y[query],
    y[gallery],
)
print(np.round(found.matrix, 3))

# %%
# Share of queries whose nearest neighbour in the gallery is of their class. Below the diagonal, queries of the new model
# search what the old one stored.

fig, ax = plt.subplots(figsize=(4, 3), layout="constrained")
shown = ax.imshow(found.matrix, cmap="Blues", vmin=0, vmax=1)
for (i, j), value in np.ndenumerate(found.matrix):
    if np.isfinite(value):
        ax.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            color="white" if value > 0.6 else "k",
        )
ax.set_xticks([0, 1], ["old", "new"])
ax.set_yticks([0, 1], ["old", "new"])
ax.set(xlabel="gallery", ylabel="queries")
fig.colorbar(shown, label="share found")
