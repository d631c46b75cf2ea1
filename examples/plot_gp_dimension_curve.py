"""
More inputs, better evidence, worse predictions
===============================================

Add inputs to a Gaussian process, tune its prior by marginal likelihood, and the marginal
likelihood gets better with every input, even if none has to do with the response. The loss
on held-out rows does not follow: with little noise assumed it has a peak where there are as
many inputs as rows.
"""

# %%
# Responses that hang on no input
# -------------------------------

import matplotlib.pyplot as plt
import numpy as np

from corrigible.uncertainty import gp_dimension_curve, gp_dimension_limit

rng = np.random.default_rng(0)
n, dimensions = 150, [15, 30, 60, 90, 120, 135, 150, 165, 190, 240, 400, 700]
temperatures = (0.01, 0.1, 0.5)
curves = [
    gp_dimension_curve(
        rng.normal(size=(n, 700)),
        rng.normal(size=n),
        rng.normal(size=(200, 700)),
        rng.normal(size=200),
        dimensions=dimensions,
        temperature=temperatures,
    )
    for _ in range(5)
]

# %%
# Five draws, and the limit of many rows and inputs
# -------------------------------------------------
# Choosing the number of inputs by marginal likelihood takes all of them; choosing by
# held-out rows takes few, or very many.

names = {"free_energy": "free energy a row", "ppl2": "held-out squared error of a draw"}
ratio = np.geomspace(0.1, 5, 100)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for ax, (column, title) in zip(axes, names.items(), strict=True):
    for i, temperature in enumerate(temperatures):
        limit = gp_dimension_limit(ratio, temperature=temperature)
        ax.plot(ratio, limit[column], color=f"C{i}", label=f"noise {temperature}")
        mean = np.mean([c.column(column, temperature=temperature) for c in curves], 0)
        ax.plot(np.array(dimensions) / n, mean, "o", color=f"C{i}", markersize=4)
    ax.set(xscale="log", yscale="log", xlabel="inputs a row", title=title)
axes[0].legend(frameon=False)
fig.tight_layout()
