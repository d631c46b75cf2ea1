"""
Two tasks, one model: average, sum, TIES
========================================

Two models are fine-tuned from one base on different halves of the classes. What they learnt
beyond the base are task vectors. Averaging the models halves each; adding task vectors up
keeps them whole; TIES first settles where they pull in opposite directions.
"""

# %%
# A base and two specialists
# --------------------------

import copy
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from corrigible._core.model_weights import weights_of, with_weights
from corrigible.merging import linear, task_arithmetic, ties

warnings.simplefilter("ignore")  # few epochs are meant
X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
X, y = X[order] / 16, y[order]
base = MLPClassifier((48,), max_iter=12, random_state=0).fit(X[:300], y[:300])


def specialist(classes):
    model = copy.deepcopy(base)
    rows = np.flatnonzero(np.isin(y[:900], classes))
    for _ in range(15):
        model.partial_fit(X[rows], y[rows])
    return model


low, high = specialist(range(5)), specialist(range(5, 10))
start, a, b = (weights_of(m, by="example") for m in (base, low, high))

# %%
# Merge tensor by tensor
# ----------------------

merged = {
    "average": {k: linear([a[k], b[k]]) for k in start},
    "sum": {k: task_arithmetic([a[k], b[k]], start[k], scale=0.8) for k in start},
    "TIES": {k: ties([a[k], b[k]], start[k], density=0.6) for k in start},
}
models = {"base": base, "digits 0-4": low, "digits 5-9": high}
models |= {name: with_weights(base, w) for name, w in merged.items()}
test, labels = X[900:], y[900:]
scores = {
    name: [
        model.score(test[(labels < 5) == first], labels[(labels < 5) == first])
        for first in (True, False)
    ]
    for name, model in models.items()
}
for name, (first, second) in scores.items():
    print(f"{name:>10}: {first:.3f} on 0-4, {second:.3f} on 5-9")

# %%
# Both tasks at once
# ------------------

fig, ax = plt.subplots(figsize=(5, 4))
for name, (first, second) in scores.items():
    ax.scatter(first, second)
    ax.annotate(name, (first, second), xytext=(4, 4), textcoords="offset points")
ax.set_xlabel("accuracy on digits 0-4")
ax.set_ylabel("accuracy on digits 5-9")
fig.tight_layout()
