"""
Probabilities that equally good models disagree on
==================================================

A logistic regression gives each patient one probability. Other regressions fit the data as well, within one per cent
of the loss, and give other probabilities. :class:`corrigible.compare.PredictiveMultiplicity` finds the least and the
greatest of them for each patient, exactly, and says how many patients' decisions hang on the choice of the model.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

from corrigible.compare import PredictiveMultiplicity

data = load_breast_cancer()
X, y = (
    data.data[:, :10],
    (data.target == 0).astype(int),
)  # the ten mean features; 1 is malignant
found = PredictiveMultiplicity(epsilon=0.01, l2=1e-3).fit(X, y)

# %%
# Ranges are narrow where the data decide and wide in between. The coloured patients are on both sides of one half,
# depending on the model.
order = np.argsort(found.proba_)
low, high = found.ranges_[order].T
both = found.ambiguous()[order]
place = np.arange(len(order))

fig, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4), width_ratios=(3, 2), layout="constrained"
)
for mask, colour, name in (
    (~both, "0.75", "same decision by all"),
    (both, "tab:red", "decision differs"),
):
    left.vlines(
        place[mask],
        low[mask],
        high[mask],
        color=colour,
        lw=1.2,
        label=f"{name} ({mask.sum()})",
    )
left.plot(place, found.proba_[order], color="black", lw=1.2, label="best model")
left.axhline(0.5, color="black", lw=0.5, ls=":")
left.set(xlabel="patients, by the best model's probability", ylabel="probability of malignancy",
         title="within 1 % of the least loss")  # fmt: skip
left.legend(frameon=False, fontsize=8)

# %%
# How many patients move by ten points or more, as more loss is allowed: by some model (ambiguity), and by one model
# at once (discrepancy, whose exact value lies in the band).
tolerances = np.array([0.001, 0.003, 0.01, 0.03, 0.1])
ambiguity, bounds = [], []
for epsilon in tolerances:
    model = PredictiveMultiplicity(epsilon=epsilon, l2=1e-3).fit(X, y)
    ambiguity.append(model.ambiguity(0.1))
    between = model.discrepancy(0.1)
    bounds.append((between.low, between.high))
right.plot(100 * tolerances, ambiguity, "o-", color="tab:red", label="ambiguity")
right.fill_between(
    100 * tolerances,
    *np.transpose(bounds),
    color="tab:blue",
    alpha=0.4,
    label="discrepancy, bounds",
)
right.set(
    xscale="log",
    xlabel="loss allowed above the least (%)",
    ylabel="share of patients moved by 0.1",
    ylim=(0, None),
)
right.legend(frameon=False, fontsize=8)
plt.show()
