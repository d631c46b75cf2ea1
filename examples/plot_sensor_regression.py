"""
Learning from sensors that sometimes read too low
=================================================

A sensor under the mattress is out of place on some nights, and reads less than there is;
nothing marks those nights. Averages learn a compromise. `SensorRegression` learns from
the readings above its own line, which must be complete, and from all inputs.
"""

# %%
# Readings of which a third are incomplete
# ----------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import HuberRegressor, LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from corrigible.data import SensorRegression

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(0, 24, size=1500))
motion = 5 + 2 * np.sin(x * np.pi / 12)
complete = motion + 0.4 * rng.normal(size=x.size)
incomplete = rng.uniform(size=x.size) < 0.35
reading = np.where(incomplete, complete * rng.uniform(0, 0.8, size=x.size), complete)
X = x[:, None]

# %%
# The same splines under three rules
# ----------------------------------
# Least squares and a robust loss both take what lies below the line for noise.


def splines(head):
    return make_pipeline(SplineTransformer(6), head)


models = {
    "least squares": splines(LinearRegression()),
    "Huber": splines(HuberRegressor()),
    "sensor regression": SensorRegression(splines(LinearRegression())),
}
fig, ax = plt.subplots(figsize=(7, 4))
ax.scatter(x[~incomplete], reading[~incomplete], s=3, c="0.75", label="complete")
ax.scatter(x[incomplete], reading[incomplete], s=3, c="tab:red", label="incomplete")
ax.plot(x, motion, "k--", lw=1, label="what there is")
for name, model in models.items():
    line = model.fit(X, reading).predict(X)
    error = np.sqrt(np.mean((line - complete) ** 2))
    ax.plot(x, line, lw=2, label=f"{name}: error {error:.2f}")
ax.set(xlabel="hour", ylabel="reading")
ax.legend(ncols=2, fontsize=8)
fig.tight_layout()

# %%
# How many readings are incomplete
# --------------------------------
# Half of the complete readings lie above the line, so the share above tells how many there
# are in all.

found = models["sensor regression"]
print(f"estimated share of incomplete readings: {found.incomplete_share_:.2f}")
print(f"true share: {incomplete.mean():.2f}")
