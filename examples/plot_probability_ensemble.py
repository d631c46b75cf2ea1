"""
What a weak model adds to a mixture
===================================

Several models gave probabilities to the same answers.
:class:`~corrigible.compare.ProbabilityEnsemble` finds the mixture under which the answers are most probable, and
:func:`~corrigible.compare.complementarity` says what each model adds to the others.
"""

# %%
# Three classifiers of digits, and the probability that each gave to the true class of held-out rows.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from corrigible.compare import ProbabilityEnsemble, complementarity

X, y = load_digits(return_X_y=True)
train, test, y_train, y_test = train_test_split(
    X / 16, y, train_size=400, random_state=0
)
models = {
    "logistic": LogisticRegression(C=0.1, max_iter=500),
    "neighbours": KNeighborsClassifier(10),
    "Bayes": GaussianNB(var_smoothing=0.05),
}
given = [
    m.fit(train, y_train).predict_proba(test)[np.arange(len(test)), y_test]
    for m in models.values()
]
given = np.clip(np.column_stack(given), 1e-4, 1)
mixture = ProbabilityEnsemble().fit(given)
print(dict(zip(models, mixture.weights_.round(2).tolist(), strict=True)))

# %%
# Alone and together: losses on items that the weights were not found on.

found = complementarity(given, models=list(models), rng=0)
table = found.to_frame()
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained")
left.barh([*table.index, "mixture"], [*table["alone"], found.loss], color="#4269d0")
left.set_xlabel("loss (nats an item)")
error = [table["gain"] - table["low"], table["high"] - table["gain"]]
right.errorbar(table["gain"], table.index, xerr=error, fmt="o", color="#4269d0")
right.axvline(0, color="0.7", lw=1)
right.set_xlabel("loss more without it (95 % interval)")
right.margins(y=0.3)
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
