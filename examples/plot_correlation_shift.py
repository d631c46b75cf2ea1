"""
Fair training where groups and labels have moved
================================================

A model is trained to decide equally often in two groups. Where it goes, labels go with groups
less than they did in training: the equality is gone. New shares of labels and groups bring it
back.
"""

# %%
# Rows of training and of deployment
# ----------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

from corrigible.fairness import CorrelationShift

rng = np.random.default_rng(0)


def rows(n, rates):
    group = rng.integers(2, size=n)
    y = (rng.uniform(size=n) < np.array(rates)[group]).astype(int)
    X = (
        rng.normal(size=(n, 3))
        + y[:, None] * [1.5, 0.8, 0.0]
        + group[:, None] * [0, 0, 1]
    )
    return X, y, group


X, y, group = rows(6000, (0.25, 0.55))
there = rows(6000, (0.38, 0.42))

# %%
# The correlation of deployment is counted on 300 labelled rows.
found = CorrelationShift(random_state=0).fit(y, group, there[1][:300], there[2][:300])
print(f"correlation {found.correlation_:.3f}, in deployment {found.target_:.3f}")
print(found.new_shares_.round(3))

# %%
# Training under the constraint
# -----------------------------
# Any method will do. Here the cut of each group is moved to the same share of positive
# decisions on the training rows, weighted or not, and kept.


def trained(weight):
    model = LogisticRegression().fit(X, y, sample_weight=weight)
    score = model.decision_function(X)
    wanted = np.average(score > 0, weights=weight)
    cuts = []
    for g in (0, 1):
        order = np.argsort(-score[group == g])
        mass = np.cumsum(weight[group == g][order]) / weight[group == g].sum()
        cuts.append(score[group == g][order][np.searchsorted(mass, wanted)])
    return model, np.array(cuts)


gaps, errors = [], []
for weight in (np.ones(len(y)), found.sample_weight_):
    model, cuts = trained(weight)
    said = model.decision_function(there[0]) >= cuts[there[2]]
    gaps.append(abs(said[there[2] == 1].mean() - said[there[2] == 0].mean()))
    errors.append((said != there[1]).mean())

fig, axes = plt.subplots(1, 3, figsize=(10, 3.4))
for k, (shares, name) in enumerate(
    [(found.shares_, "training"), (found.new_shares_, "new shares")]
):
    image = axes[k].imshow(shares, cmap="Blues", vmin=0, vmax=0.45)
    for (i, j), v in np.ndenumerate(shares):
        axes[k].text(j, i, f"{v:.2f}", ha="center", va="center")
    axes[k].set(
        title=name, xlabel="group", ylabel="label", xticks=[0, 1], yticks=[0, 1]
    )
place = np.arange(2)
axes[2].bar(place - 0.18, gaps, 0.36, label="difference of groups")
axes[2].bar(place + 0.18, errors, 0.36, label="error")
axes[2].set_xticks(place, ["constraint\nalone", "new shares\nbefore"])
axes[2].set_ylim(0, 1.4 * max(errors + gaps))
axes[2].legend()
axes[2].set_title("on rows of deployment")
fig.tight_layout()
