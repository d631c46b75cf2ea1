"""
Which features a model makes by itself
======================================

A ratio of two columns is worth adding for one model and a waste for another.
`feature_synthesis` measures what each model can build from raw inputs;
`engineered_features` tests candidates on a table of one's own.
"""

# %%
# Four models against twelve features
# -----------------------------------
# The target is the feature itself, without noise: an error of 0 means that the model made
# it, an error of 1 that it learned nothing.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from corrigible.data import engineered_features, feature_synthesis

models = {
    "linear": LinearRegression(),
    "tree": DecisionTreeRegressor(min_samples_leaf=5),
    "boosting": HistGradientBoostingRegressor(max_iter=40),
    "network": make_pipeline(
        StandardScaler(),
        MLPRegressor(
            hidden_layer_sizes=(32,), learning_rate_init=0.01, max_iter=500, tol=1e-3
        ),
    ),
}
table = feature_synthesis(models, n_train=500, n_test=500, n_repeats=1, rng=0)
fig, ax = plt.subplots(figsize=(6, 5))
image = ax.imshow(table.clip(upper=1), cmap="viridis_r", vmin=0, vmax=1, aspect="auto")
for (i, j), error in np.ndenumerate(table.to_numpy()):
    shade = "white" if error > 0.5 else "black"
    ax.text(j, i, f"{error:.2f}", ha="center", va="center", color=shade)
ax.set_xticks(range(table.shape[1]), table.columns)
ax.set_yticks(range(len(table)), [name.replace("_", " ") for name in table.index])
ax.set_title("relative error")
fig.tight_layout()

# %%
# On a table
# ----------
# The price of a flat is by the square metre; the candidates are tried one by one, and the
# tests corrected for their number.

rng = np.random.default_rng(0)
flats = pd.DataFrame(
    {
        "area": rng.uniform(20, 150, 600),
        "rent": rng.uniform(300, 2500, 600),
        "floor": rng.integers(0, 8, 600).astype(float),
    }
)
demand = 50 - flats["rent"] / flats["area"] + 0.5 * flats["floor"]
demand += 2 * rng.normal(size=600)
for name in ("linear", "tree"):
    found = engineered_features(models[name], flats, demand)
    best = found.iloc[0]
    print(f"{name}: {best['feature']} gains {best['gain']:.2f} of R2")
    print(f"  {found['helps'].sum()} of {len(found)} candidates help")
