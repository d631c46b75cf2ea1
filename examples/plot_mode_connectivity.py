"""
Is there a path between two networks
====================================

Two networks of equal loss may work alike or not. :func:`~corrigible.compare.mode_connectivity` follows the loss on the
line between their parameters, after the hidden units of one are matched to those of the other.
"""

# %%
# Two networks of two moons, from different starts.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_moons

from corrigible.compare import mode_connectivity

X, y = make_moons(300, noise=0.15, random_state=0)
rows, labels = torch.tensor(X).float(), torch.tensor(y)


def trained(seed):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(rows), labels).backward()
        optimiser.step()
    return network


a, b = trained(0), trained(1)
paths = {
    "as they are": mode_connectivity(a, b, X, y, align=False),
    "units matched": mode_connectivity(a, b, X, y),
}
print({name: round(p.data.barrier, 3) for name, p in paths.items()})

# %%
# The loss along the line; above the straight line between its ends there is a barrier.

fig, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
for (name, path), color in zip(paths.items(), ("#ff725c", "#4269d0"), strict=True):
    ax.plot(path.t, path.data.loss, color=color, label=name)
ends = paths["as they are"].data.loss[[0, -1]]
ax.plot([0, 1], ends, "--", color="0.6", lw=1, label="straight line")
ax.set(xlabel="from one network to the other", ylabel="loss (nats)")
ax.set_ylim(0, None)
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
