"""
Which model is cheaper depends on what is counted
=================================================

:func:`~corrigible.compare.cost_report` measures parameters, operations, latency, throughput and memory of models side
by side, and lists the pairs of which each is the cheaper one by another indicator.
"""

# %%
# Four models of digits.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from corrigible.compare import cost_report

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
train, test = order[:1200], order[1200:]
models = {
    "logistic": LogisticRegression(max_iter=200),
    "tree": DecisionTreeClassifier(random_state=0),
    "forest": RandomForestClassifier(60, random_state=0),
    "neighbours": KNeighborsClassifier(algorithm="brute"),
}
models = {name: m.fit(X[train] / 16, y[train]) for name, m in models.items()}
quality = {name: m.predict(X[test] / 16) == y[test] for name, m in models.items()}
report = cost_report(
    models, X[test] / 16, quality=quality, n_rounds=10, rng=np.random.default_rng(0)
)
report.table[["parameters", "flops", "latency", "seconds a row"]]

# %%
# Where they contradict each other: each row names the model that is cheaper by one indicator, and the indicator by
# which it is the dearer one.

report.contradictions[
    ["cheaper", "dearer", "indicator", "but", "ratio", "other ratio"]
].head(8)

# %%
# By operations the forest stands among the cheapest; by latency it is the dearest. Filled points are on the front: no
# other model is as accurate at a lower cost.

fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained", sharey=True)
labels = {"flops": "operations a row", "latency": "seconds a call"}
for ax, indicator in zip(axes, labels, strict=True):
    for name in models:
        x, q = report.table.loc[name, indicator], report.front.loc[name, "quality"]
        on = bool(report.front.loc[name, indicator])
        ax.plot(x, q, "o", ms=9, color="#4269d0", mfc="#4269d0" if on else "white")
        ax.annotate(
            name,
            (x, q),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    ax.set(xscale="log", xlabel=labels[indicator])
    ax.margins(0.25)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("accuracy")
