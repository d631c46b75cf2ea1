"""
A new version that keeps what the old one got right
===================================================

A more accurate model can still break rows that worked. :class:`~corrigible.compare.CompatibleUpdate` fits the new
version by masked distillation: where only its predecessor is right, that one teaches.
"""

# %%
# The old model saw few rows, the new ones see more.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier

from corrigible.compare import CompatibleUpdate, negative_flips

X, y = make_classification(
    6000, 20, n_informative=6, n_clusters_per_class=3, flip_y=0.1, random_state=0
)
X_old, y_old, X_new, y_new, X_test, y_test = (
    X[:300],
    y[:300],
    X[300:1500],
    y[300:1500],
    X[1500:],
    y[1500:],
)
learner = ExtraTreesClassifier(60, random_state=0)
old = clone(learner).fit(X_old, y_old)
plain = clone(learner).fit(X_new, y_new)
kept = CompatibleUpdate(learner, old=old, random_state=0).fit(X_new, y_new)

before = old.predict(X_test)
flips = {
    name: negative_flips(y_test, before, m.predict(X_test))
    for name, m in (("usual", plain), ("compatible", kept))
}
for name, f in flips.items():
    print(
        f"{name}: accuracy {f.new_accuracy:.3f}, {f.n_negative} turned wrong, {f.n_positive} turned right"
    )

# %%
# The compatible update breaks less. It has its price: it also mends less.

fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
for i, f in enumerate(flips.values()):
    for rate, interval, colour, side in (
        (f.negative_rate, f.negative_interval, "#c0392b", -1),
        (f.positive_rate, f.positive_interval, "#2e7d32", 1),
    ):
        ax.barh(i, side * rate, color=colour, height=0.5)
        ax.plot(side * np.array(interval), [i, i], color="black", lw=1)
        ax.text(
            side * (interval[1] + 0.006),
            i,
            f"{rate:.1%}",
            va="center",
            ha="left" if side > 0 else "right",
        )
ax.set_yticks(range(2), flips)
ax.axvline(0, color="black", lw=0.8)
ax.set_xticks([])
ax.set_xlabel("turned wrong  |  turned right (share of test rows, 95 % intervals)")
ax.margins(x=0.15)
ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
