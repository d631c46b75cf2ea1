"""
Two networks of different seeds in one
======================================

Networks from different seeds have their hidden units in different orders, so that an average
of their weights knows nothing. PLeaS matches the units, averages pairs that are alike, keeps
the others side by side as far as the width allows, and refits each layer by least squares,
from rows without labels.
"""

# %%
# Two tasks, two seeds
# --------------------
# One network has learnt digits as they are, one digits turned by a quarter.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from corrigible.merging import PLeaS, UniformSoup

warnings.simplefilter("ignore")  # few epochs are meant
X, y = load_digits(return_X_y=True)
X = X / 16
turned = np.rot90(X.reshape(-1, 8, 8), axes=(1, 2)).reshape(len(X), -1)
train, test = slice(0, 1000), slice(1000, None)
networks = [
    MLPClassifier((48, 48), max_iter=40, random_state=i).fit(task[train], y[train])
    for i, task in enumerate((X, turned))
]


def accuracy(network):
    return np.mean([network.score(task[test], y[test]) for task in (X, turned)])


# %%
# Merged at growing widths
# ------------------------

rows = np.concatenate([X[train][:300], turned[train][:300]])
widths = np.linspace(1, 2, 6)
ways = {
    "weight matching": {"matching": "weights", "least_squares": False},
    "PLeaS": {},
}
found = {
    name: [accuracy(PLeaS(width=w, **way).fit(networks, rows).model_) for w in widths]
    for name, way in ways.items()
}
plain = accuracy(UniformSoup().fit(networks).model_)
print(f"plain average: {plain:.3f}")
for name, values in found.items():
    print(f"{name}:", np.round(values, 3))

# %%
# Beside the plain average
# ------------------------

fig, ax = plt.subplots(figsize=(6, 3.5))
for name, values in found.items():
    ax.plot(widths, values, marker="o", label=name)
ax.axhline(plain, color="gray", linestyle="--", label="plain average")
ax.set_xlabel("width, in networks")
ax.set_ylabel("accuracy over both tasks")
ax.legend()
fig.tight_layout()
