"""
Recycling models of other tasks
===============================

A soup of fine-tunes that all start from one base varies little. Ratatouille starts each
fine-tuning from a model that somebody trained on another task, gives all the same head, and
averages what comes out. On networks as small as these the two averages are close, with and
without noise; the paper finds the gain on large ones.
"""

# %%
# A base and models of other tasks
# --------------------------------

import copy
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from corrigible.merging import Ratatouille, UniformSoup

warnings.simplefilter("ignore")  # few epochs are meant
X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8) / 16
flat = {
    "plain": images,
    "mirrored": images[:, :, ::-1],
    "inverted": 1 - images,
    "upside down": images[:, ::-1],
    "turned": images.transpose(0, 2, 1),
}
flat = {k: v.reshape(len(v), -1) for k, v in flat.items()}
base = MLPClassifier((48,), max_iter=60, random_state=0).fit(
    flat["plain"][:600], y[:600]
)


def trained(model, rows, labels, epochs, seed=0):
    made, rng = copy.deepcopy(model), np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(labels))
        made.partial_fit(rows[order], labels[order])
    return made


names = ("mirrored", "inverted", "upside down")
auxiliaries = [trained(base, flat[name][:600], y[:600], 3) for name in names]

# %%
# Fine-tuned on the target, and averaged
# --------------------------------------

target, labels = flat["turned"][600:900], y[600:900]
rata = Ratatouille(lambda m, run: trained(m, target, labels, 50, run))
rata.fit(base, auxiliaries)
soup = UniformSoup().fit([trained(base, target, labels, 50, i) for i in range(4)])

# %%
# Under growing noise
# -------------------

rng = np.random.default_rng(1)
noise = rng.normal(size=(len(y) - 900, 64))
levels = np.linspace(0, 0.6, 7)
fig, ax = plt.subplots(figsize=(6, 3.5))
for label, model in (("ratatouille", rata.model_), ("uniform soup", soup.model_)):
    scores = [
        model.score(flat["turned"][900:] + level * noise, y[900:]) for level in levels
    ]
    print(f"{label}:", np.round(scores, 3))
    ax.plot(levels, scores, marker="o", label=label)
ax.set_xlabel("noise")
ax.set_ylabel("accuracy on the target")
ax.legend()
fig.tight_layout()
