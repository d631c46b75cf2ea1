"""Digits in common and uncommon settings: accuracy by the number of uncommon attributes."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import rotate
from scipy.stats import t as student
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from corrigible.papers import Measurement
from corrigible.shift import commonness_report

CLAIM = """Classifiers trained on objects mostly in common settings lose accuracy where an attribute of the setting is
uncommon for the class, and more the more attributes are."""
PROTOCOL = """MNIST digits (5,000, 14 x 14) with two attributes a digit: turned by -40, 0 or 40 degrees, and a bright bar
behind it at the top, in the middle or at the bottom. Each class has a common turn and a common bar, which 92 % of its rows
have, the others spread evenly. 3,000 rows to train, 2,000 to test, five seeds; logistic regression, a random forest, a
network. Photos (FOCUS's 21,000) could not be had. t intervals over seeds and models; bars: a drop at one uncommon
attribute, a larger one at two."""
METHODS = ("commonness_report",)
DATA = ("mnist_5k",)
MODELS = {
    "logistic": lambda s: LogisticRegression(max_iter=200, C=0.1),
    "forest": lambda s: RandomForestClassifier(150, random_state=s),
    "network": lambda s: MLPClassifier((100,), max_iter=60, early_stopping=True, random_state=s),
}


def run(data):
    found = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = found["images"].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    y, drops = found["labels"].astype(int), {1: [], 2: []}
    for seed in range(5):
        X, attributes, order = _planted(images, y, seed)
        train, test = order[:3000], order[3000:]
        for model in MODELS.values():
            right = model(seed).fit(X[train], y[train]).predict(X[test]) == y[test]
            table = commonness_report(right, y[test], attributes[test]).table.set_index("uncommon")
            for k, values in drops.items():
                values.append(table.loc[k, "drop"])
    one, two = np.array(drops[1]), np.array(drops[2])
    yield _mean("fall of accuracy, one uncommon attribute", one, at_least=0.0)
    yield _mean("fall of accuracy, two uncommon attributes", two, at_least=0.0)
    yield _mean("fall at two less that at one", two - one, at_least=0.0)
    for j, name in enumerate(MODELS):
        yield _mean(f"{name}: fall of accuracy, one uncommon attribute", one[j :: len(MODELS)], kind="note")


def _mean(name, values, **bar):
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return Measurement(name, float(values.mean()), float(values.mean() - half), float(values.mean() + half), **bar)


def _planted(images, y, seed):
    rng = np.random.default_rng(seed)
    common = np.column_stack([y % 3, y // 3 % 3])
    other = (common + rng.integers(1, 3, size=common.shape)) % 3
    attributes = np.where(rng.uniform(size=common.shape) < 0.92, common, other)
    X = np.empty_like(images)
    for turn, degrees in enumerate((-40, 0, 40)):
        rows = attributes[:, 0] == turn
        X[rows] = rotate(images[rows], degrees, axes=(1, 2), reshape=False, order=1)
    for bar, start in enumerate((0, 6, 12)):
        rows = attributes[:, 1] == bar
        X[rows, start : start + 2] = np.maximum(X[rows, start : start + 2], 0.7)
    return X.reshape(len(y), -1), attributes, rng.permutation(len(y))
