"""
An update that breaks less
==========================

A classifier is trained again on more data. The new model is better, but some answers that
users count on turn wrong. BCWI walks from the new weights towards the old ones as far as
accuracy on held-out rows allows, and stops where the fewest right answers are lost.
"""

# %%
# An old model and a new one
# --------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from corrigible.merging import BCWI

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
X, y = X[order] / 16, y[order]
old = LogisticRegression(max_iter=2000, C=10).fit(X[:150], y[:150])
new = LogisticRegression(max_iter=2000, C=10).fit(X[:600], y[:600])

# %%
# The share of the old model is chosen on 600 rows
# ------------------------------------------------

update = BCWI().fit(old, new, X[600:1200], y[600:1200])
test, labels = X[1200:], y[1200:]
right = {
    name: model.predict(test) == labels
    for name, model in (("old", old), ("new", new), ("update", update.model_))
}
print(f"share of the old model: {update.alpha_:.2f}")
for name in ("new", "update"):
    broken = (right["old"] & ~right[name]).sum()
    print(f"{name:>6}: accuracy {right[name].mean():.3f}, turned wrong: {broken}")

# %%
# The whole path
# --------------

path = update.path_
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.plot(path.alpha, path.negative_flips, color="tab:red", label="turned wrong")
ax.set_xlabel("share of the old model")
ax.set_ylabel("share of rows turned wrong", color="tab:red")
other = ax.twinx()
other.plot(path.alpha, path.accuracy, color="tab:blue")
other.set_ylabel("accuracy", color="tab:blue")
ax.axvline(update.alpha_, color="gray", linestyle=":")
fig.tight_layout()
