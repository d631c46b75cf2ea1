"""
A panel of cheap judges beside a dear one
=========================================

Judgements of several models are pooled by :class:`~corrigible.compare.JudgePanel` and compared with those of people.
Here judges and people are simulated, so that how often each judge errs is known.
"""

# %%
# Three judges that err independently on a quarter of the items, and one that errs on a fifth and costs ten times as much.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.compare import JudgePanel

rng = np.random.default_rng(0)
people = rng.integers(2, size=500)
error = np.array([0.25, 0.25, 0.25, 0.2])
votes = np.where(
    rng.uniform(size=(500, 4)) < error, 1 - people[:, None], people[:, None]
)
cheap = JudgePanel(random_state=0).fit(votes[:, :3], people)
cheap.agreement_.round(3)

# %%
# Agreement with people beyond chance, with 95 % intervals: each cheap judge, their panel, and the dear judge.

dear = JudgePanel(random_state=0).fit(votes[:, 3:], people).agreement_.iloc[[0]]
rows = [*cheap.agreement_.itertuples(), *dear.itertuples()]
names = ["cheap 1", "cheap 2", "cheap 3", "panel of 3", "dear"]
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
for i, row in enumerate(rows):
    color = "#ff725c" if names[i] == "panel of 3" else "#4269d0"
    ax.plot([row.low, row.high], [i, i], color=color)
    ax.plot(row.agreement, i, "o", color=color)
ax.set_yticks(range(len(names)), names)
ax.invert_yaxis()
ax.set_xlabel("Cohen's kappa with people")
ax.spines[["top", "right"]].set_visible(False)
