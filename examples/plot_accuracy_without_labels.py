"""
Accuracy without labels, four ways
==================================

Confidence says how well a model does, if it is calibrated where the rows come from now.
Thresholded confidence (ATC), the difference of confidences (DoC), the agreement of two
trainings (GDE) and calibrated confidence (CBPE) beside the truth, on noisier and noisier
digits.
"""

# %%
# A model, two trainings of it, and rows that get worse
# -----------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.utils import resample

from corrigible.shift import (
    CBPE,
    AverageThresholdedConfidence,
    DifferenceOfConfidences,
    generalization_disagreement,
)

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
X, y = X[order] / 16, y[order]
train, reference, new = slice(0, 500), slice(500, 1100), slice(1100, None)
model, other = (
    LogisticRegression(C=100, max_iter=300).fit(
        *resample(X[train], y[train], random_state=seed)
    )
    for seed in (0, 1)
)

# %%
# Each learns from labelled reference rows without noise
# ------------------------------------------------------
# What is learnt of confidence holds for rows like the reference's. On noise that the model
# never saw it is too sure, and all that rests on its confidence is too hopeful; two
# trainings begin to disagree there.

known = model.predict_proba(X[reference])
methods = {
    "CBPE": CBPE(metric="accuracy").fit(y[reference], known),
    "ATC": AverageThresholdedConfidence().fit(y[reference], known),
    "DoC": DifferenceOfConfidences().fit(y[reference], known),
}
levels = np.linspace(0, 0.5, 8)
curves = {name: [] for name in ["truth", *methods, "GDE"]}
rng = np.random.default_rng(1)
for level in levels:
    rows = X[new] + level * rng.normal(size=X[new].shape)
    p = model.predict_proba(rows)
    curves["truth"].append(np.mean(p.argmax(axis=1) == y[new]))
    for name, method in methods.items():
        curves[name].append(method.estimate(p).value)
    both = np.stack([p, other.predict_proba(rows)])
    curves["GDE"].append(generalization_disagreement(both))

fig, ax = plt.subplots(figsize=(6.4, 4))
for name, values in curves.items():
    style = {"color": "black", "linewidth": 2.5} if name == "truth" else {"marker": "o"}
    values = np.array([getattr(v, "value", v) for v in values])
    error = np.abs(values - curves["truth"]).mean()
    ax.plot(
        levels,
        values,
        label=name if name == "truth" else f"{name}: off by {error:.3f}",
        **style,
    )
ax.set(xlabel="standard deviation of the noise", ylabel="accuracy", ylim=(0, 1))
ax.legend(frameon=False)
fig.tight_layout()
