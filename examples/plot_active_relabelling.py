"""
Which label to look at next, and why
====================================

Somebody can check labels, one at a time. `ActiveRelabelling` asks for the label that its
model doubts most, shows the training row that speaks against it, and learns from the
answer.
"""

# %%
# Digits with wrong labels
# ------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from corrigible.data import ActiveRelabelling

digits = load_digits()
rows = np.random.default_rng(0).permutation(len(digits.target))[:600]
images, truth = digits.images[rows], digits.target[rows]
X = PCA(15, random_state=0).fit_transform(images.reshape(len(rows), -1))
rng = np.random.default_rng(1)
wrong = rng.uniform(size=len(truth)) < 0.15
labels = np.where(wrong, (truth + rng.integers(1, 10, size=len(truth))) % 10, truth)

# %%
# Four questions
# --------------
# Above the doubted row, below it the row labelled as the model predicts that raises the
# loss of the doubted label most. Whoever answers sees both, and corrects either.

cleaning = ActiveRelabelling(random_state=0).fit(X, labels)
fig, axes = plt.subplots(2, 4, figsize=(7, 4))
for top, below in axes.T:
    query = cleaning.query()
    top.imshow(images[query.row], cmap="gray_r")
    top.set_title(f"{query.label}? rather {query.suggested}", fontsize=9)
    below.imshow(images[query.counterexample], cmap="gray_r")
    below.set_title(f"because of this {query.suggested}", fontsize=9)
    cleaning.relabel([query.row], [truth[query.row]])
for ax in axes.ravel():
    ax.axis("off")
fig.tight_layout()

# %%
# What 80 answers find
# --------------------
# Against answers spent on rows drawn at random.

asked = ActiveRelabelling(random_state=0, refit_every=20).fit(X, labels)
found = [0]
while len(found) <= 80 and (query := asked.query()) is not None:
    found.append(found[-1] + int(wrong[query.row]))
    asked.relabel([query.row], [truth[query.row]])
fig, ax = plt.subplots(figsize=(6, 3.4))
ax.plot(found, label="asked for")
ax.plot([0, 80], [0, 80 * wrong.mean()], "--", c="gray", label="at random")
ax.axhline(wrong.sum(), c="black", lw=0.8)
ax.text(1, wrong.sum() - 6, "all there are")
ax.set(xlabel="answers", ylabel="wrong labels found")
ax.legend(loc="center right")
fig.tight_layout()
print(f"{found[-1]} wrong labels in {len(found) - 1} answers; {wrong.sum()} in all")
