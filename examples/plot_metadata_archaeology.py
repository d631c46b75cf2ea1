"""
Why is a row hard?
==================

A row that a network learns late may be rare, noisy, or labelled wrongly. Probes of each
kind are trained on with the data; a row then belongs to the kind whose curves of losses
look most like its own.
"""

# %%
# Probes among the data
# ---------------------
# Typical and atypical rows come from the data themselves, by how far the other rows speak
# for their labels; wrong labels, noise and blurred rows are made.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from corrigible.data import MetadataArchaeology, consistency_scores, probe_suites
from corrigible.models import TrainingDynamics

digits = load_digits()
X, truth = digits.data / 16, digits.target
rng = np.random.default_rng(0)
planted = rng.uniform(size=len(X)) < 0.1
labels = np.where(planted, (truth + rng.integers(1, 10, len(X))) % 10, truth)
scores = consistency_scores(
    LogisticRegression(max_iter=50, tol=1e-2), X, labels, n_repeats=2, rng=rng
)
suites = probe_suites(
    X, labels, consistency=scores, n_probes=40, n_held_out=40, rng=rng
)

# %%
# One training run, recorded
# --------------------------

dynamics = TrainingDynamics.from_partial_fit(
    MLPClassifier((64,), learning_rate_init=0.005),
    suites.X,
    suites.y,
    n_epochs=25,
    random_state=0,
)
curves = dynamics.losses.T

fig, ax = plt.subplots(figsize=(7, 3.8))
for name in dict.fromkeys(suites.suite[suites.suite != ""]):
    probes = curves[suites.voters & (suites.suite == name)]
    low, middle, high = np.quantile(probes, [0.25, 0.5, 0.75], axis=0)
    epochs = np.arange(1, len(middle) + 1)
    ax.plot(epochs, middle, label=name.replace("_", " "))
    ax.fill_between(epochs, low, high, alpha=0.15)
ax.set(xlabel="epoch", ylabel="loss (median, middle half)", ylim=(0, 8))
ax.legend(ncols=2)
fig.tight_layout()

# %%
# Are the kinds told apart?
# -------------------------
# Not all: as the data hold wrong labels, the rows for which the others speak least are
# mostly wrong ones, and the curves of atypical rows are theirs. These probes do not vote.
# Of the other kinds, held-out probes say how often the name is right.

voters = suites.voters & (suites.suite != "atypical")
found = MetadataArchaeology().fit(curves[voters], suites.suite[voters])
held_out = suites.held_out & (suites.suite != "atypical")
right = found.predict(curves[held_out]) == suites.suite[held_out]
for name in found.classes_:
    print(
        f"{name:15}: {right[suites.suite[held_out] == name].mean():.0%} named rightly"
    )

# %%
# The data
# --------
# Rows that get the name of the wrong labels hold most of the planted errors.

rest = suites.suite == ""
given = found.predict(curves[rest])
is_wrong = planted[suites.index[rest]]
fig, ax = plt.subplots(figsize=(6, 3.2))
counts = [(given == name).sum() for name in found.classes_]
hits = [is_wrong[given == name].sum() for name in found.classes_]
shares = np.divide(hits, np.maximum(counts, 1))
bars = ax.barh([name.replace("_", " ") for name in found.classes_], shares)
ax.bar_label(bars, [f" {c} rows" for c in counts])
ax.set(xlabel="share with a planted wrong label", xlim=(0, 1.15))
fig.tight_layout()
