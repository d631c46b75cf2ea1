"""
Do two models err alike?
========================

Accurate models agree because both are right. What counts, where one shall check the other, is
whether they err on the same rows and with the same answers.
"""

# %%
# Seven classifiers of digits
# ---------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from corrigible.compare import agreement, capa, capa_matrix

X, y = load_digits(return_X_y=True)
X = (X + np.random.default_rng(0).normal(size=X.shape) * 6) / 16  # hard enough to err
fit, test = np.arange(len(y)) % 2 == 0, np.arange(len(y)) % 2 == 1
models = {
    "forest": RandomForestClassifier(60, random_state=0),
    "forest again": RandomForestClassifier(60, random_state=1),
    "tree": DecisionTreeClassifier(max_depth=8, random_state=0),
    "neighbours": KNeighborsClassifier(15),
    "bayes": GaussianNB(),
    "linear": LogisticRegression(C=0.1, max_iter=2000),
    "linear, half": LogisticRegression(C=0.1, max_iter=2000),
}
proba = []
for name, model in models.items():
    rows = np.flatnonzero(fit)[:: 2 if "half" in name else 1]
    proba.append(model.fit(X[rows], y[rows]).predict_proba(X[test]))

# %%
# One pair in full
# ----------------
said = [p.argmax(axis=1) for p in proba]
pair = agreement(said[0], said[1], y[test])
print(f"raw {pair.raw:.3f}, error consistency {pair.error_consistency:.3f}")
both = capa(proba[0], proba[1], y[test], discrete=True)
print(f"CAPA {both.value:.3f}, interval {np.round(both.interval, 3)}")

# %%
# All pairs: raw agreement and CAPA
# ---------------------------------
raw = np.array([[(a == b).mean() for a in said] for b in said])
found = capa_matrix(proba, y[test], discrete=True)
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
for axis, table, title in (
    (axes[0], raw, "share of rows answered alike"),
    (axes[1], found.value, "CAPA: beyond what accuracy explains"),
):
    axis.imshow(table, cmap="viridis", vmin=0, vmax=1)
    for (i, j), v in np.ndenumerate(table):
        colour = "white" if v < 0.6 else "black"
        axis.text(j, i, f"{v:.2f}", ha="center", va="center", color=colour, size=8)
    axis.set_xticks(range(len(models)), models, rotation=40, ha="right")
    axis.set_yticks(range(len(models)), models)
    axis.set_title(title)
fig.tight_layout()
