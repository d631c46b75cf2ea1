"""
A sampler and a classifier for a rare class
===========================================

Repeating, dropping, weighting or inventing rows are the usual remedies for a rare class. Which
helps depends on the classifier and on the table: held-out rows that keep their imbalance tell.
"""

# %%
# Three percent of the rows
# -------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from corrigible.compare import ImbalanceSelector

X, y = make_classification(
    4000, 10, n_informative=5, weights=[0.97], class_sep=0.8, random_state=0
)
fit, test = np.arange(len(y)) < 2000, np.arange(len(y)) >= 2000
classifiers = {
    "logistic": LogisticRegression(),
    "boosting": HistGradientBoostingClassifier(max_iter=20),
}
found = ImbalanceSelector(classifiers, cv=4, random_state=0).fit(X[fit], y[fit])
print(found.results_.round(3).to_string(index=False))

# %%
# What was chosen, and its threshold
# ----------------------------------
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
table = found.results_[::-1]
labels = table["sampler"] + ", " + table["classifier"]
colours = np.where(table["classifier"] == "boosting", "C0", "C1")
left.barh(labels, table["score"], xerr=table["error"], color=colours)
left.set(xlabel="average precision on held-out folds", xlim=(0, None))

said = found.predict_proba(X[test])[:, 1]
precision, recall, _ = precision_recall_curve(y[test], said)
chosen = found.predict(X[test]) == 1
right.plot(recall, precision, drawstyle="steps-post")
right.plot(
    chosen[y[test] == 1].mean(),
    y[test][chosen].mean(),
    "o",
    color="black",
    label=f"threshold {found.threshold_:.2f}",
)
right.set(
    xlabel="recall",
    ylabel="precision",
    title=f"{found.sampler_}, {found.classifier_}, on new rows",
)
right.legend()
fig.tight_layout()
