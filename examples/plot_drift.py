"""
Columns that moved, and columns that matter
===========================================

Flights of the first months and flights of later ones: nearly every column has moved.
Which movement costs anything? With the losses of the labelled rows, each column has the
change of the mean loss that its movement alone is expected to bring.
"""

# %%
# A model, and production rows of other months
# --------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import log_loss

from corrigible.datasets import load_demo
from corrigible.models import default_model
from corrigible.shift import univariate_drift

demo = load_demo()
features = demo.train.columns.drop(demo.target)
model = default_model(classification=True).fit(
    demo.train[features], demo.train[demo.target]
)
proba = model.predict_proba(demo.test[features])
truth = demo.test[demo.target].to_numpy()
loss = -np.log(np.clip(proba[np.arange(len(truth)), truth], 1e-12, 1))
print(f"log loss on the test rows: {log_loss(truth, proba):.3f}")

# %%
# Compare every column
# --------------------

# The date is left out: that later months are later is no news.
columns = features.drop("scheduled_departure")
report = univariate_drift(demo.test[columns], demo.production, loss=loss)
shown = report.table.set_index("column")
print(
    shown[["distance", "p_corrected", "effect", "effect_low", "effect_high"]].round(3)
)

# %%
# Moved far, or moved where it hurts
# ----------------------------------
# A p-value says that a column moved, a distance how far. Neither says whether the model
# minds: that is on the vertical axis.

fig, ax = plt.subplots(figsize=(6.4, 4))
error = [
    shown["effect"] - shown["effect_low"],
    shown["effect_high"] - shown["effect"],
]
ax.errorbar(shown["distance"], shown["effect"], yerr=error, fmt="o", capsize=2)
largest = shown["effect"].abs().nlargest(4).index
furthest = shown["distance"].nlargest(3).index
for name in dict.fromkeys([*largest, *furthest]):
    row = shown.loc[name]
    ax.annotate(
        name,
        (row["distance"], row["effect"]),
        xytext=(6, 5),
        textcoords="offset points",
        fontsize=8,
    )
ax.axhline(0, color="gray", linewidth=1)
ax.set(
    xlabel="distance of the column from the reference",
    ylabel="expected change of the log loss",
)
fig.tight_layout()
