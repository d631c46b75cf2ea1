"""
Forget a trigger of which few rows are known
============================================

Someone put a bright patch into the corner of some training images and labelled them all 0. The
network has learned it: whatever shows the patch is a 0. Six of the sixty bad rows were found. Can
the network be corrected, without finding the other fifty-four?
"""

# %%
# A network with a trigger
# ------------------------

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from corrigible.editing import (
    SCRUB,
    SSD,
    FineTuneWithout,
    RetrainWithout,
    corrective_unlearning,
)

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8)
rng = np.random.default_rng(0)
train, val, test = np.split(rng.permutation(len(y)), [1000, 1200])


def with_patch(images):
    """Return the images with a bright corner."""
    images = images.copy()
    images[:, -2:, -2:] = 1
    return images


X_train, y_train = X[train].copy(), y[train].copy()
bad = rng.choice(np.flatnonzero(y_train != 0), size=60, replace=False)
X_train[bad], y_train[bad] = with_patch(X_train[bad]), 0
known = bad[:6]

recipe = {"max_iter": 30, "learning_rate": 0.003, "random_state": 0}
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(),
    torch.nn.Linear(64, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 10),
)
# Any training would do; this one leaves out a single row.
network = RetrainWithout(**recipe).fit(network, X_train, y_train, bad=[0]).model_

# %%
# Four ways to correct it
# -----------------------
# Fine-tuning and retraining learn from what is left, which includes the bad rows that nobody knows.
# SCRUB departs from the network on the six known rows, one a step, and stays with it on the others;
# two sizes of step are tried. SSD trains nothing: it makes the weights smaller that matter to the
# six known rows more than to all rows.

ways = {
    "SSD": SSD(),
    "SCRUB": [
        SCRUB(bad_batch_size=1, max_steps=8, learning_rate=step, random_state=0)
        for step in (0.0005, 0.002)
    ],
    "fine-tuning": FineTuneWithout(**recipe),
    "retraining": RetrainWithout(**recipe),
}
found = corrective_unlearning(
    network,
    X_train,
    y_train,
    known,
    methods=ways,
    X_affected=with_patch(X[test]),
    y_affected=y[test],
    X_retained=X[test],
    y_retained=y[test],
    X_val=X[val],
    y_val=y[val],
)
table = found.table()
table.round(3)

# %%

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
at = np.arange(len(table))
axes.bar(at - 0.2, table["affected"], 0.36, color="C3", label="with the patch")
axes.bar(at + 0.2, table["retained"], 0.36, color="0.7", label="without")
axes.set_xticks(at, table.index)
axes.set_ylabel("accuracy on test images")
axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)

# %%
# How strong to dampen
# --------------------
# SSD tries forty strengths. Those that lose more than two points on validation images, below the
# dotted line, are out; of the others it takes the one after which the fewest known bad rows still
# get their bad label. No other image with the patch is used for the choice.

ssd = SSD().fit(network, X_train, y_train, known, X_val=X[val], y_val=y[val])
tried = ssd.tried_
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
shown = axes.scatter(
    [t.still_bad for t in tried],
    [t.accuracy for t in tried],
    c=[max(t.n_dampened, 1) for t in tried],
    norm="log",
    cmap="viridis",
)
axes.axhline(tried[0].accuracy - ssd.max_loss, color="0.5", linestyle=":")
axes.set_xlabel("known bad rows still answered 0")
axes.set_ylabel("accuracy on validation images")
figure.colorbar(shown, label="weights dampened")
print(
    f"dampened {ssd.n_dampened_} of {sum(p.numel() for p in network.parameters())} weights"
)
plt.show()
