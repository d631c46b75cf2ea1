"""
Rows that a network never saw
=============================

A network is trained on the digits 0 to 7. Three kinds of rows come in: digits of the
classes 8 and 9, digits lying on their side, and noise. Scores by the logits and scores by
the features see different ones, and none sees all.
"""

# %%
# A small network and its features
# --------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from corrigible.uncertainty import OutOfDistribution

X, y = load_digits(return_X_y=True)
X = X / 16
known = y < 8
X_train, X_test, y_train, y_test = train_test_split(
    X[known], y[known], train_size=0.6, random_state=0
)
network = MLPClassifier((64,), max_iter=300, random_state=0).fit(X_train, y_train)


def features(rows):
    """Return the activations before the last layer."""
    return np.maximum(rows @ network.coefs_[0] + network.intercepts_[0], 0)


# %%
# Three kinds of rows that should be told from the known ones
# -----------------------------------------------------------

rng = np.random.default_rng(0)
turned = X_test.reshape(-1, 8, 8).transpose(0, 2, 1)[:, ::-1].reshape(-1, 64)
strange = {
    "new classes": X[~known],
    "turned digits": turned,
    "noise": rng.uniform(size=(400, 64)),
}

# %%
# Score them all
# --------------

methods = ("msp", "energy", "react", "vim", "mahalanobis", "knn")
table = np.empty((len(methods), len(strange)))
for i, method in enumerate(methods):
    score = OutOfDistribution(
        method, weight=network.coefs_[1].T, bias=network.intercepts_[1]
    ).fit(features(X_train), y_train)
    usual = score.score_samples(features(X_test))
    for j, rows in enumerate(strange.values()):
        other = score.score_samples(features(rows))
        told = np.r_[np.ones(len(usual)), np.zeros(len(other))]
        table[i, j] = roc_auc_score(told, np.r_[usual, other])

fig, ax = plt.subplots(figsize=(6, 3.6))
width = 0.26
for j, name in enumerate(strange):
    ax.bar(np.arange(len(methods)) + (j - 1) * width, table[:, j], width, label=name)
ax.axhline(0.5, color="gray", linewidth=1, linestyle="--")
ax.set(
    xticks=range(len(methods)),
    xticklabels=methods,
    ylabel="AUROC, known against strange",
    ylim=(0, 1),
)
ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
fig.tight_layout()
