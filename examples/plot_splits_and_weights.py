"""
Test where the model will be used
=================================

A split by chance tests a model on rows like those it was trained on. Splits along an axis
(later months, other airports) and by uncommon settings ask what it will face. If inputs
moved and the model is wrong in form, weights pull its fit to where it will be used.
"""

# %%
# Along an axis, and in settings that are uncommon for a class
# ------------------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from corrigible.datasets import load_demo
from corrigible.models import default_model
from corrigible.shift import AxisSplit, GroupShiftSplit, MaximumWeightedLikelihood

demo = load_demo()
flights, target = demo.train.sample(1200, random_state=0), demo.target
X = flights.drop(columns=[target, "scheduled_departure", "departure_delay"])
y = flights[target].to_numpy()
splits = {
    "by chance": KFold(3, shuffle=True, random_state=0).split(X),
    "later months": AxisSplit("ordered", n_splits=3).split(
        X, groups=flights["scheduled_departure"]
    ),
    "other airports": AxisSplit("values", n_splits=3, random_state=0).split(
        X, groups=flights["origin"]
    ),
    "uncommon carriers": GroupShiftSplit(share=0.1, n_splits=3, random_state=0).split(
        X, y, flights[["carrier"]]
    ),
}
scores = {}
for name, parts in splits.items():
    scores[name] = []
    for train, test in parts:
        model = default_model(classification=True).fit(X.iloc[train], y[train])
        p = model.predict_proba(X.iloc[test])[:, 1]
        scores[name].append(roc_auc_score(y[test], p))
    print(f"{name}: AUC {np.mean(scores[name]):.3f}")

# %%
# A line for a bent relation
# --------------------------
# Production has larger inputs. A straight line is wrong in form: fitted to all training
# rows alike it is best where they lie; weighted by the estimated density ratio, where it
# will be used.

rng = np.random.default_rng(0)
source, later = rng.normal(0, 1, size=(800, 1)), rng.normal(1.5, 0.5, size=(800, 1))


def truth(v):
    """Return what the responses lie around."""
    return np.sin(1.5 * v[:, 0])


response = truth(source) + 0.2 * rng.normal(size=800)
plain = LinearRegression().fit(source, response)
weighted = MaximumWeightedLikelihood(random_state=0).fit(
    source, response, X_target=later
)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for i, found in enumerate(scores.values()):
    axes[0].plot([i] * len(found), found, "o", color="tab:blue", alpha=0.5)
    axes[0].plot(i, np.mean(found), "_", color="black", markersize=24)
axes[0].set_xticks(range(len(scores)), [n.replace(" ", "\n") for n in scores])
axes[0].set(ylabel="AUC", title="the same model, other splits")
grid = np.linspace(-2.5, 3, 100)[:, None]
axes[1].plot(source, response, ".", color="0.75", markersize=3)
axes[1].plot(grid, truth(grid), color="black", linewidth=1, label="truth")
for name, model in (("plain", plain), ("weighted", weighted)):
    error = np.mean((model.predict(later) - truth(later)) ** 2)
    axes[1].plot(
        grid, model.predict(grid), label=f"{name}: error in production {error:.2f}"
    )
axes[1].axvspan(0.5, 2.5, alpha=0.1, label="most of production")
axes[1].set(xlabel="input", ylabel="response", ylim=(-3.2, 2.2))
axes[1].legend(frameon=False, fontsize=8, loc="lower left")
fig.tight_layout()
