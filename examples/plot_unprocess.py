"""
Comparing models that were trained under different constraints
==============================================================

A model that was made fair looks less accurate than one that was not. To compare them, undo the
constraint: give both the thresholds by group that cost least, and then the same tolerance.
"""

# %%
# Two models, one of them fair
# ----------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from corrigible.fairness import achievable_frontier, unprocess

rng = np.random.default_rng(0)
n = 9000
group = rng.choice(["a", "b"], size=n, p=[0.65, 0.35])
X = rng.normal(size=(n, 4)) + (group == "b")[:, None] * [-0.8, 0, 0, 0]
odds = 1.6 * X[:, 0] + X[:, 1] * X[:, 2] + 0.4
y = (rng.logistic(size=n) * 0.7 < odds).astype(int)
train, fit, test = np.split(np.arange(n), 3)

trees = HistGradientBoostingClassifier(max_iter=50, random_state=0)
trees = trees.fit(X[train], y[train])
# Rows weighed so that labels and groups are independent, as by reweighing.
weight = np.empty(len(train))
for c in (0, 1):
    for g in ("a", "b"):
        rows = (y[train] == c) & (group[train] == g)
        share = (y[train] == c).mean() * (group[train] == g).mean()
        weight[rows] = share / rows.mean()
fair = LogisticRegression().fit(X[train], y[train], sample_weight=weight)

# %%
# As they are, and unprocessed
# ----------------------------
tolerances = [0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, np.inf]
fig, axis = plt.subplots(figsize=(6.5, 4.4))
for name, model, colour in (("trees", trees, "C0"), ("fair linear", fair, "C1")):
    score = model.predict_proba(X)[:, 1]
    freed = unprocess(
        score[test], y[test], group[test], decisions=(score[test] >= 0.5).astype(int)
    )
    axis.plot(freed.given_violation, freed.given_loss, "s", color=colour, ms=9)
    axis.plot(freed.violation, freed.loss, "o", color=colour, ms=9, mfc="white")
    print(f"{name}: error {freed.given_loss:.3f}, unprocessed {freed.loss:.3f}")
    front = achievable_frontier(
        score[fit],
        y[fit],
        group[fit],
        tolerances,
        held_out=(score[test], y[test], group[test]),
        rng=0,
    )
    axis.plot(front.violation, front.loss, ".-", color=colour, label=name)
    axis.fill_between(
        front.violation, front.loss_low, front.loss_high, color=colour, alpha=0.12
    )
axis.plot([], [], "s", color="gray", label="as given")
axis.plot([], [], "o", color="gray", mfc="white", label="unprocessed")
axis.set(xlabel="largest difference of error rates", ylabel="error")
axis.legend()
fig.tight_layout()
