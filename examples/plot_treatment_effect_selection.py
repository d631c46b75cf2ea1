"""
Choosing a model of a treatment's effect
========================================

The effect of a treatment on one person is never seen, so models of it cannot be scored by their error.
:class:`~corrigible.compare.TreatmentEffectSelection` scores candidates by criteria that need no true effect. In
simulated data the effect is known, and the criteria can be judged themselves.
"""

# %%
# The effect depends on the second feature; who is treated depends on the first. Candidates are four learners of the
# effect, each over a linear model and over a tree.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from corrigible.compare import TreatmentEffectSelection

rng = np.random.default_rng(0)
X = rng.normal(size=(1000, 3))
treatment = rng.binomial(1, 1 / (1 + np.exp(-X[:, 0])))
effect = X[:, 1]
y = X[:, 0] + treatment * effect + 0.5 * rng.normal(size=1000)
estimators = {
    "linear": LinearRegression(),
    "tree": DecisionTreeRegressor(min_samples_leaf=20, random_state=0),
}
found = TreatmentEffectSelection(
    estimators, nuisance=LinearRegression(), random_state=0
).fit(X, y, treatment)
print(found.best_name_)

# %%
# Scores of the factual and of the doubly robust criterion beside the true error of each candidate. The factual one, the
# error of the outcomes, knows no score for learners that model the effect alone.

new = rng.normal(size=(1000, 3))
true = found.oracle(new, new[:, 1])
fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained", sharey=True)
colors = {"S": "#4269d0", "T": "#efb118", "DR": "#ff725c", "R": "#3ca951"}
for ax, criterion in zip(axes, ("factual", "dr"), strict=True):
    for name, x, error in zip(
        found.names_, found.scores_[criterion], true, strict=True
    ):
        learner, estimator = name.split()
        marker = "o" if estimator == "linear" else "^"
        ax.plot(x, error, marker, color=colors[learner], label=name)
    ax.set_xlabel(f"{'doubly robust' if criterion == 'dr' else criterion} criterion")
    ax.margins(0.15)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("true error of the effect")
fig.legend(
    *axes[1].get_legend_handles_labels(), loc="outside right center", frameon=False
)
