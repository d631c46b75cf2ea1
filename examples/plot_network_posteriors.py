"""
What a network does not know: mixtures, and missing neurons
===========================================================

Two cheap populations of networks. MixupMP trains each on the rows seen and on mixtures that
stand for rows to come; a dropout population is one trained network whose members each lack
some neurons, always the same, so that an effect can be tested over members as over people.
"""

# %%
# Digits, few rows
# ----------------

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from corrigible.uncertainty import (
    DeepEnsemble,
    MixupMP,
    Population,
    population_effects,
    reliability_curve,
)

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
X, y = X[order] / 16, y[order]
train, test = slice(0, 200), slice(200, None)
posteriors = {
    "deep ensemble": DeepEnsemble(n_members=3, max_iter=30, random_state=0),
    "MixupMP": MixupMP(n_members=3, max_iter=30, random_state=0),
}
probabilities = {}
for name, posterior in posteriors.items():
    p = posterior.fit(X[train], y[train]).predict_proba(X[test])
    one = posterior.member_proba(X[test])[0]
    probabilities[name] = p
    print(
        f"{name}: log loss {log_loss(y[test], p):.3f}, "
        f"one member {log_loss(y[test], one):.3f}"
    )

# %%
# Is an image that is turned less of a digit to the network?
# ----------------------------------------------------------
# Twenty members made of one network, ten images upright and the same ten turned by a right
# angle: the score is each member's largest probability.

net = torch.nn.Sequential(
    torch.nn.Linear(64, 64),
    torch.nn.ReLU(),
    torch.nn.Dropout(),
    torch.nn.Linear(64, 10),
)
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    for parameter in net.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
rows, labels = torch.tensor(X[train], dtype=torch.float32), torch.tensor(y[train])
net.eval()
for _ in range(120):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(net(rows), labels).backward()
    optimiser.step()

upright = X[test][:40].reshape(-1, 8, 8)
images = np.concatenate([upright, np.rot90(upright, axes=(1, 2))]).reshape(80, 64)
images = torch.tensor(images, dtype=torch.float32)
population = Population(n_members=20, dropout=0.3, random_state=0).fit(net)
scores = population.scores(
    lambda model: torch.softmax(model(images), dim=1).max(dim=1).values
)
turned = np.repeat([False, True], 40)
effect = population_effects(scores, turned, rng=0)
print(effect.to_frame().round(4).T)

# %%
# Every member is surer of the turned ones: confidence is no sign that an image is known.

fig, axes = plt.subplots(1, 2, figsize=(9, 3.8))
axes[0].plot([0, 1], [0, 1], color="gray", linewidth=1)
for name, p in probabilities.items():
    curve = reliability_curve(y[test], p, n_bins=8, binning="mass")
    axes[0].plot(curve.stated, curve.observed, "o-", label=name)
axes[0].set(xlabel="confidence", ylabel="accuracy", xlim=(0.3, 1), ylim=(0.3, 1.02))
axes[0].legend(frameon=False)
for member in scores:
    axes[1].plot([0, 1], [member[~turned].mean(), member[turned].mean()], "0.6")
axes[1].plot([0, 1], [scores[:, ~turned].mean(), scores[:, turned].mean()], "ko-")
axes[1].set_xticks([0, 1], ["upright", "turned"])
axes[1].set(xlim=(-0.2, 1.2), ylabel="largest probability, a line a member")
fig.tight_layout()
