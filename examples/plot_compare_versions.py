"""
Two versions of a model: may the new one go live?
=================================================

A model is trained again on more rows. The comparison puts both versions on the same test
rows, says what turned wrong and where, and gives a verdict from the interval of the
change of the loss. ``corrigible compare`` does the same on files.
"""

# %%
# The same pipeline, on a third of the rows and on all
# ----------------------------------------------------

import matplotlib.pyplot as plt

from corrigible.datasets import load_demo
from corrigible.models import default_model
from corrigible.versions import compare_versions

demo = load_demo()
features = demo.train.columns.drop(demo.target)
some, target = demo.train[: len(demo.train) // 3], demo.target
old = default_model(classification=True).fit(some[features], some[target])
new = default_model(classification=True).fit(demo.train[features], demo.train[target])

# %%
# Compare
# -------
# At most two in a hundred rows may turn wrong.

report = compare_versions(
    old,
    new,
    demo.test,
    target=target,
    groups=demo.groups,
    loss="log",
    tolerance=0.002,
    limits={"negative_flips": 0.02},
)
print(report)
print("accepted:", report.accepted)

# %%
# Where rows turned wrong
# -----------------------
# Shares with exact intervals: a group of few rows says little.

table = report.group_table().query("rows >= 60").sort_values("negative_rate")
labels = table["column"] + ": " + table["group"]
error = [
    table["negative_rate"] - table["low"],
    table["high"] - table["negative_rate"],
]
fig, ax = plt.subplots(figsize=(6.4, 4))
ax.errorbar(table["negative_rate"], labels, xerr=error, fmt="o", capsize=2)
ax.axvline(report.flips.negative_rate, color="gray", linewidth=1, linestyle="--")
ax.set(xlabel="share of rows that turned wrong (dashed: all rows)")
fig.tight_layout()

# %%
# How sure the old version was
# ----------------------------
# A row that the old version was sure of, and that is now wrong, is the one that users
# notice.

bins = [f"from {c['low']:.2f}" for c in report.confidence]
shares = [c["flips"].negative_rate for c in report.confidence]
fig, ax = plt.subplots(figsize=(6.4, 2.6))
ax.bar(bins, shares)
ax.set(xlabel="confidence of the old version", ylabel="share turned wrong")
fig.tight_layout()
