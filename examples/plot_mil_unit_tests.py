"""
Does a model of bags use what it must not
=========================================

A bag is positive because of what is in it. A model that takes the absence of something, or how often it comes, for a
sign breaks that assumption. :func:`~corrigible.compare.mil_unit_tests` trains where such a sign is at hand and tests
where it points the other way.
"""

# %%
# A logistic regression on the mean of a bag can use anything; one on the largest value of each feature sees only what
# is present.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

from corrigible.compare import mil_unit_tests


class Pooled:
    def __init__(self, pool):
        self.pool = pool

    def fit(self, bags, y):
        self.model = LogisticRegression(max_iter=1000).fit(self._rows(bags), y)
        return self

    def decision_function(self, bags):
        return self.model.decision_function(self._rows(bags))

    def _rows(self, bags):
        return np.array([self.pool(bag, axis=0) for bag in bags])


found = {
    name: mil_unit_tests(Pooled(pool), rng=0)
    for name, pool in (("mean", np.mean), ("maximum", np.max))
}
for name, outcome in found.items():
    print(name, {t.name: t.verdict for t in outcome.tests})

# %%
# AUROC on training bags and on bags in which the misleading sign is turned; below one half the sign was used.

fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained", sharey=True)
for ax, (name, outcome) in zip(axes, found.items(), strict=True):
    at = np.arange(len(outcome.tests))
    ax.plot(
        [t.train_auroc for t in outcome.tests],
        at,
        "o",
        color="0.4",
        ms=10,
        mfc="none",
        label="training",
    )
    ax.plot(
        [t.test_auroc for t in outcome.tests], at, "o", color="#ff725c", label="turned"
    )
    ax.axvline(0.5, color="0.8", lw=1)
    ax.set_yticks(at, [t.name.replace("_", " ") for t in outcome.tests])
    ax.set(title=name, xlabel="AUROC", xlim=(-0.05, 1.05))
    ax.margins(y=0.3)
    ax.spines[["top", "right"]].set_visible(False)
axes[1].legend(frameon=False, loc="center left")
