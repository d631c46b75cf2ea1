"""
A soup of fine-tuned models
===========================

A search over step sizes leaves a dozen fine-tuned models of which one is used. An average
of them costs no more to run. The greedy soup adds a model only if held-out rows approve,
so that on these it is at worst the best single model.
"""

# %%
# Fine-tunes of one base
# ----------------------

import copy
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from corrigible.merging import GreedySoup, UniformSoup

warnings.simplefilter("ignore")  # few epochs are meant
X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
X, y = X[order] / 16, y[order]
base = MLPClassifier((32,), max_iter=150, random_state=0).fit(X[:300], y[:300])


def fine_tuned(seed, epochs):
    model, rng = copy.deepcopy(base), np.random.default_rng(seed)
    for _ in range(epochs):
        rows = rng.choice(np.arange(300, 700), 200)
        model.partial_fit(X[rows], y[rows])
    return model


models = [fine_tuned(seed, 5 + 5 * (seed % 4)) for seed in range(12)]

# %%
# All of them, and those that help
# --------------------------------

valid, test = slice(700, 1100), slice(1100, None)
greedy = GreedySoup(lambda m: m.score(X[valid], y[valid])).fit(models)
uniform = UniformSoup().fit(models)
single = [m.score(X[test], y[test]) for m in models]
print("ingredients:", greedy.ingredients_)
for name, soup in (("greedy", greedy), ("uniform", uniform)):
    print(f"{name:>8} soup: {soup.model_.score(X[test], y[test]):.4f}")
print(f"best on validation rows: {single[int(greedy.scores_.argmax())]:.4f}")

# %%
# Beside the single models
# ------------------------

fig, ax = plt.subplots(figsize=(6, 3))
ax.hist(single, bins=8, color="lightgray", label="single models")
ax.axvline(
    greedy.model_.score(X[test], y[test]), color="tab:green", label="greedy soup"
)
ax.axvline(
    uniform.model_.score(X[test], y[test]),
    color="tab:blue",
    linestyle="--",
    label="uniform soup",
)
ax.set_xlabel("accuracy on test rows")
ax.legend()
fig.tight_layout()
