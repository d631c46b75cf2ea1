"""
Bias that pretraining leaves behind
===================================

Two networks are pretrained, one where a colour tells the label and one where it does not, and
fine-tuned on few rows of another task. How much of the colour do they bring along, and which
fine-tuning rows overwrite it?
"""

# %%
# Digits in two colours
# ---------------------

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from corrigible.fairness import inherited_bias

images, digits = load_digits(return_X_y=True)
images = images / 16
rng = np.random.default_rng(0)
before, pool, test = np.split(rng.permutation(len(digits)), [800, 1350])


def coloured(rows, cue):
    half = images[rows]
    return np.hstack([half * (cue == 0)[:, None], half * (cue == 1)[:, None]])


def pretrained(share, seed):
    y = (digits[before] >= 5).astype(int)
    drawn = np.random.default_rng(seed).uniform(size=len(y)) < share
    X = torch.tensor(coloured(before, np.where(drawn, y, 1 - y))).float()
    torch.manual_seed(seed)
    nn = torch.nn
    network = nn.Sequential(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 2))
    steps = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        steps.zero_grad()
        nn.functional.cross_entropy(network(X), torch.tensor(y)).backward()
        steps.step()
    return network


starts = {
    name: [pretrained(share, seed) for seed in range(3)]
    for name, share in (("neutral", 0.5), ("biased", 0.95))
}

# %%
# Fine-tuning: odd or even
# ------------------------
cue, both = rng.integers(2, size=len(pool)), np.repeat([0, 1], len(test))
rows = np.tile(test, 2)
found = inherited_bias(
    starts,
    coloured(pool, cue),
    digits[pool] % 2,
    cue,
    coloured(rows, both),
    digits[rows] % 2,
    both,
    shares=(0.4, 0.55, 0.7),
    n_rows=120,
    n_seeds=3,
    max_iter=10,
    random_state=0,
)
print(found.matching.round(3).to_string(index=False))

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
for name, part in found.curves.groupby("start"):
    for axis, what in ((left, "bias"), (right, "accuracy")):
        axis.plot(part["share"], part[what], "o-", label=name)
        low, high = part[f"{what}_low"], part[f"{what}_high"]
        axis.fill_between(part["share"], low, high, alpha=0.15)
left.axhline(0, color="black", lw=0.8)
left.set(ylabel="difference of false positive rates")
right.set(ylabel="accuracy")
for axis in (left, right):
    axis.set(xlabel="share of fine-tuning rows that agree with the colour")
left.legend(title="pretraining")
fig.tight_layout()
