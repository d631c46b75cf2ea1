"""
Thresholds by group: what parity costs
======================================

A model tells good from bad less well in one group than in another. Thresholds by group, mixed
at random where needed, buy parity of the error rates at the least possible loss.
"""

# %%
# Scores that say less in one group
# ---------------------------------

import matplotlib.pyplot as plt
import numpy as np

from corrigible.fairness import GroupThresholds, achievable_frontier, group_metrics

rng = np.random.default_rng(0)
n = 6000
group = rng.choice(["a", "b"], size=n, p=[0.6, 0.4])
y = (rng.uniform(size=n) < np.where(group == "a", 0.5, 0.35)).astype(int)
scores = 1.5 * y + rng.normal(size=n) * np.where(group == "a", 0.8, 1.6)
fit, test = np.arange(n) < n // 2, np.arange(n) >= n // 2

# %%
# One threshold for all has other error rates in each group.
found = group_metrics(y[test], (scores[test] > 0.75).astype(int), group[test])
print(found)

# %%
# The curves, the rules, and the frontier
# ---------------------------------------
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
for name, colour in (("a", "tab:blue"), ("b", "tab:orange")):
    rows = fit & (group == name)
    cuts = np.sort(scores[rows])[::-1]
    fpr, tpr = (
        [(scores[rows][y[rows] == c] >= cut).mean() for cut in cuts] for c in (0, 1)
    )
    left.plot(fpr, tpr, color=colour, lw=1, label=f"group {name}")
for tolerance, marker in ((0.0, "*"), (0.1, "s"), (np.inf, "o")):
    rule = GroupThresholds(tolerance=tolerance).fit(scores[fit], y[fit], group[fit])
    points = rule.operating_points_
    label = "no constraint" if np.isinf(tolerance) else f"tolerance {tolerance:g}"
    size = 220 if tolerance == 0 else 70
    style = {"c": ["tab:blue", "tab:orange"], "marker": marker, "edgecolors": "black"}
    left.scatter(points["fpr"], points["tpr"], s=size, zorder=3, **style)
    left.scatter([], [], c="gray", marker=marker, label=label)
left.set(
    xlabel="false positive rate",
    ylabel="true positive rate",
    title="Points chosen on the fitting rows",
)
left.legend(loc="lower right")

tolerances = [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]
front = achievable_frontier(
    scores[fit],
    y[fit],
    group[fit],
    tolerances,
    held_out=(scores[test], y[test], group[test]),
    rng=0,
)
right.plot(front.violation, front.loss, "k.-")
right.hlines(
    front.loss, front.violation_low, front.violation_high, color="gray", lw=0.8
)
right.vlines(front.violation, front.loss_low, front.loss_high, color="gray", lw=0.8)
right.set(
    xlabel="largest difference of error rates",
    ylabel="error",
    title="Held-out rows, 95 % intervals",
)
fig.tight_layout()
