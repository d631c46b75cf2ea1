"""
A fair mixture that follows a stream
====================================

A stream of decisions drifts: after a while positives of one group become rare. A mixture of
linear experts with a penalty on the difference between groups notices, adds an expert and
explains each decision exactly.
"""

# %%
# The stream
# ----------

import matplotlib.pyplot as plt
import numpy as np

from corrigible.fairness import FairAdaptiveMixture

rng = np.random.default_rng(0)
names = ["income", "debt", "years", "noise"]


def batch(turned):
    group = rng.integers(2, size=300)
    X = rng.normal(size=(300, 4)) + group[:, None] * [0.6, 0, 0, 0]
    odds = 1.5 * X[:, 0] - X[:, 1] + 0.5 * X[:, 2]
    if turned:
        odds = np.where(group == 1, odds - 3.0 * X[:, 2] - 1.5, odds)
    return X, (odds + rng.logistic(size=300) > 0.3).astype(int), group


models = {
    "mixture": FairAdaptiveMixture(penalty=10, drift=4, random_state=0),
    "one expert, no penalty": FairAdaptiveMixture(
        n_experts=1, penalty=0, drift=np.inf, random_state=0
    ),
}
for b in range(60):
    X, y, group = batch(b >= 35)
    for model in models.values():
        model.partial_fit(X, y, group)

calls = [i for i, b in enumerate(models["mixture"].history_) if b["drift"]]
print(f"drift called at batches {calls}; {len(models['mixture'].experts_)} experts")

# %%
# Loss, fairness and an explanation
# ---------------------------------
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for name, model in models.items():
    for axis, what in zip(axes, ("loss", "unfairness"), strict=False):
        values = np.array([b[what] for b in model.history_])
        axis.plot(np.convolve(values, np.ones(3) / 3, mode="valid"), label=name)
for axis, title in zip(axes, ("log loss", "difference of groups"), strict=False):
    for call in calls:
        axis.axvline(call, color="gray", lw=0.8, ls=":")
    axis.set(title=title, xlabel="batch", ylim=(0, None))
axes[0].legend()

row = X[:1]
told = models["mixture"].shapley_values(row)
assert np.isclose(
    told.values.sum() + told.base[0], models["mixture"].decision_function(row)[0]
)
axes[2].barh(names, told.values[0], color=np.where(told.values[0] > 0, "C0", "C3"))
axes[2].axvline(0, color="black", lw=0.8)
axes[2].set(title="why: one row's log-odds", xlabel="Shapley value")
fig.tight_layout()
