"""
One model put together for each input
=====================================

An average of experts forgets part of every task. Twin-Merging keeps what they share in one set
of weights, what each has beyond it in factors of low rank, and lets a router weigh these by
looking at the input. Nobody says which task a row belongs to.
"""

# %%
# A base and three experts
# ------------------------

import copy
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from corrigible.merging import TwinMerging

warnings.simplefilter("ignore")  # few epochs are meant
X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8) / 16
tasks = [images, images[:, ::-1], images.transpose(0, 2, 1)]
tasks = [t.reshape(len(t), -1) for t in tasks]
train, test = slice(0, 1000), slice(1000, 1250)
base = MLPClassifier((48,), max_iter=10, random_state=0).fit(tasks[0][train], y[train])
experts = [copy.deepcopy(base) for _ in tasks]
for expert, rows in zip(experts, tasks, strict=True):
    for _ in range(30):
        expert.partial_fit(rows[train], y[train])

# %%
# Mixed test rows, no task named
# ------------------------------

mixed, answers = np.concatenate([t[test] for t in tasks]), np.tile(y[test], 3)
ranks, found = (0.1, 0.25, 1.0), []
for rank in ranks:
    twin = TwinMerging(rank=rank, decimals=1, random_state=0)
    twin.fit(experts, base, [t[:300] for t in tasks])
    found.append(np.mean(twin.predict_class(mixed) == answers))
    print(f"rank {rank:4}: {found[-1]:.3f}")
shared = np.mean([twin.model_for(np.zeros(3)).score(t[test], y[test]) for t in tasks])
own = np.mean([e.score(t[test], y[test]) for e, t in zip(experts, tasks, strict=True)])
print(f"shared expert alone: {shared:.3f}; experts told the task: {own:.3f}")

# %%
# Between the shared expert and the experts
# -----------------------------------------

fig, ax = plt.subplots(figsize=(6, 3.5))
ax.plot(ranks, found, marker="o", label="Twin-Merging")
ax.axhline(own, color="tab:green", linestyle="--", label="experts, task known")
ax.axhline(shared, color="gray", linestyle="--", label="shared expert alone")
ax.set_xlabel("share of singular values kept")
ax.set_ylabel("accuracy on mixed rows")
ax.legend()
fig.tight_layout()
