"""
How accurate is a model where nobody has labels?
================================================

Production rows drift away from the reference. From the model's calibrated probabilities
alone, CBPE estimates the accuracy of each batch; here the labels are known and show
whether it was right.
"""

# %%
# A model, a reference, and batches that drift
# --------------------------------------------
# Later batches hold more rows near the decision boundary: features and label relate as
# before, the mix changes.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from corrigible.shift import CBPE

rng = np.random.default_rng(0)


def draw(n, scale):
    """Draw rows whose distance from the boundary is spread by `scale`."""
    X = scale * rng.normal(size=(n, 3))
    return X, (rng.uniform(size=n) < 1 / (1 + np.exp(-2 * X.sum(axis=1)))).astype(int)


X_train, y_train = draw(5000, 1.0)
X_reference, y_reference = draw(10_000, 1.0)
model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(
    X_train, y_train
)

# %%
# Learn on the reference, estimate on each batch
# ----------------------------------------------

estimator = CBPE(metric="accuracy").fit(y_reference, model.predict_proba(X_reference))
scales = np.linspace(1.0, 0.2, 9)
estimates, realised = [], []
for scale in scales:
    X, y = draw(2000, scale)
    estimates.append(estimator.estimate(model.predict_proba(X)))
    realised.append((model.predict(X) == y).mean())

gaps = np.abs([e.value - r for e, r in zip(estimates, realised, strict=True)])
inside = np.mean(
    [e.low <= r <= e.high for e, r in zip(estimates, realised, strict=True)]
)
print(f"largest gap {gaps.max():.3f}; {inside:.0%} of batches in their 95 % interval")

# %%
fig, ax = plt.subplots(figsize=(6, 3.4))
batch = np.arange(1, len(scales) + 1)
low, value, high = np.array([(e.low, e.value, e.high) for e in estimates]).T
ax.fill_between(batch, low, high, alpha=0.2)
ax.plot(batch, value, label="estimated without labels")
ax.plot(batch, realised, "o", color="tab:red", label="realised")
ax.axhline(
    (model.predict(X_reference) == y_reference).mean(),
    color="gray",
    lw=1,
    label="reference",
)
ax.set(xlabel="batch", ylabel="accuracy")
ax.legend()
fig.tight_layout()
