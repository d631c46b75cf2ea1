"""
Three ways to say no
====================

A classifier may refuse a row because classes overlap there (ambiguity) or because it has
never seen anything like it (novelty). A threshold on its confidence sees the first; only
distances to the training rows see the second.
"""

# %%
# Two classes that overlap, and rows from elsewhere
# -------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

from corrigible.uncertainty import (
    ConfidenceRejector,
    NoveltyRejector,
    RejectClassClassifier,
    reject_curve,
)

rng = np.random.default_rng(0)


def drawn(n):
    """Two classes, one above the other."""
    y = rng.integers(2, size=n)
    return rng.normal(size=(n, 2)) + np.column_stack([0 * y, 2.2 * y - 1.1]), y


X, y = drawn(2000)
Z, t = drawn(2000)
elsewhere = rng.normal([6, 3], 0.6, size=(200, 2))
model = LogisticRegression().fit(X, y)

# %%
# A threshold on confidence, a class for rejection, a distance
# ------------------------------------------------------------
# The first keeps the error rate of what it accepts below 0.05, with probability 0.95. The
# second learns to reject together with the classes, at a cost of 0.2 an answer refused. The
# third refuses one known row in twenty, and what lies outside.

by_confidence = ConfidenceRejector("risk", risk=0.05).fit(model.predict_proba(X), y)
by_class = RejectClassClassifier(LogisticRegression(), cost=0.2).fit(X, y)
by_distance = NoveltyRejector(alpha=0.05, random_state=0).fit(X)
rejects = {
    "confidence": lambda A: by_confidence.predict(model.predict_proba(A)) == -1,
    "a class for rejection": by_class.rejected,
    "distance": by_distance.rejected,
}
wrong = model.predict(Z) != t
for name, rejected in rejects.items():
    kept = ~rejected(Z)
    print(
        f"{name}: keeps {kept.mean():.2f} with {wrong[kept].mean():.3f} wrong, "
        f"refuses {rejected(elsewhere).mean():.2f} from elsewhere"
    )

fig, axes = plt.subplots(1, 4, figsize=(12, 3.3))
for ax, (name, rejected) in zip(axes, rejects.items(), strict=False):
    for A, marker in ((Z[:500], "."), (elsewhere[:60], "x")):
        no = rejected(A)
        ax.plot(*A[~no].T, marker, color="tab:blue", markersize=4)
        ax.plot(*A[no].T, marker, color="tab:red", markersize=4)
    ax.set(title=f"red: refused by\n{name}")

# %%
# Risk and coverage
# -----------------
# Where all rows are of the known kind, confidence orders them well. Distance is worse than
# chance: what lies far out, beyond one class or the other, is easy to tell.

suspicion = {
    "confidence": 1 - model.predict_proba(Z).max(axis=1),
    "distance": -by_distance.score_samples(Z),
}
for name, score in suspicion.items():
    curve = reject_curve(wrong, score)
    axes[3].plot(
        curve.coverage, curve.risk, label=f"{name}\nexcess area {curve.excess_aurc:.3f}"
    )
axes[3].axhline(wrong.mean(), color="gray", linewidth=1)
axes[3].set(xlabel="share kept", title="error rate of what is kept", ylim=(0, None))
axes[3].legend(frameon=False, fontsize=8, loc="center right")
fig.tight_layout()
