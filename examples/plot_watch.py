"""
Watch a model through a year
============================

A model of late flights was trained, tested, and put to use. Month by month ``watch``
estimates how well it does before anybody knows which flights were late, measures it where
that is known, and says where it left what chance allows.
"""

# %%
# A reference, and a year of flights
# ----------------------------------
# The reference is labelled rows that the model was not trained on. Production has its
# predictions too; for the last month labels have not arrived yet.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from corrigible.datasets import load_demo
from corrigible.models import default_model
from corrigible.watch import watch

demo = load_demo()
time, target = "scheduled_departure", demo.target
features = demo.train.columns.drop([target, time])
model = default_model(classification=True).fit(demo.train[features], demo.train[target])


def predicted(table):
    """Return rows with their probabilities."""
    p = model.predict_proba(table[features])
    return table.assign(p_punctual=p[:, 0], p_late=p[:, 1])


day = demo.test[time].dt.day_of_year
reference = predicted(demo.test[day % 2 == 0])
year = pd.concat([demo.test[day % 2 == 1], demo.production]).sort_values(time)
production = predicted(year)
unknown = production[time] >= "2013-12-01"
production[target] = production[target].astype(float).mask(unknown)

# %%
# Estimates, realised values and alerts
# -------------------------------------

report = watch(
    reference,
    production,
    target=target,
    proba_columns=["p_punctual", "p_late"],
    metrics=["accuracy", "roc_auc"],
    time=time,
    chunk="1M",
)
for alert in report.alerts:
    print(alert["chunk"], alert["metric"], alert["kind"], round(alert["value"], 3))

# %%
# December is told before its labels are there. Later they arrive, and one may look whether
# the estimate was right.

frame = report.to_frame()
december = predicted(demo.production)
right = (december["p_late"] > 0.5) == (december[target] == 1)
fig, axes = plt.subplots(2, 1, figsize=(7, 5), sharex=True)
for ax, metric in zip(axes, ("accuracy", "roc_auc"), strict=True):
    part = frame[frame["metric"] == metric].reset_index(drop=True)
    low, high = part["estimated_band_low"], part["estimated_band_high"]
    ax.fill_between(part.index, low, high, step="mid", alpha=0.15)
    middle = part["estimated"]
    error = [middle - part["estimated_low"], part["estimated_high"] - middle]
    ax.errorbar(part.index, middle, yerr=error, fmt="o-", label="estimated")
    ax.plot(part.index, part["realised"], "D", mfc="none", label="realised")
    ax.set(ylabel=metric)
axes[0].plot(11, right.mean(), "kx", label="realised later")
axes[0].set_ylim(0.8, None)
axes[0].legend(frameon=False, ncols=3, loc="lower left")
axes[1].set_xticks(np.arange(12), [label[-2:] for label in part["label"]])
axes[1].set_xlabel("month of 2013")
fig.tight_layout()
