"""Model kinship: whether it foretells what a merge gains, on a family of fine-tuned networks."""

from __future__ import annotations

import copy
import warnings
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr
from sklearn.neural_network import MLPClassifier

from corrigible.merging import KinshipMerging, UniformSoup, model_kinship
from corrigible.papers import Measurement

CLAIM = """Kinship of two models, the likeness of their changes from the base, goes with what their merge gains: kin gain
little. Greedy merging that also merges the best model with the one least kin to it leaves the local optimum where plain
top-k merging stops."""
PROTOCOL = """A network of 784-64-10 is trained on 800 MNIST digits, then fine-tuned twelve times, each on 500 digits of
which nine in ten are of three random classes. Gain: accuracy of a pair's average over the mean of its parents, on 1500
digits of all classes, for all 66 pairs; Spearman's correlation with kinship (Pearson's, PCC), five seeds, interval from
the seeds (t, 95 %). Search: k = 3 of the twelve, scored on 700 validation digits, with and without exploration, tested on
the 1500. Bars, set beforehand: a correlation below 0, and a test accuracy not below plain top-k merging's."""
METHODS = ("kinship",)
DATA = ("mnist_5k",)


def run(data):
    warnings.simplefilter("ignore")
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    X = next(held[k] for k in held.files if held[k].ndim > 1).reshape(5000, -1) / 255.0
    y = next(held[k] for k in held.files if held[k].ndim == 1).astype(int)
    rows = np.array([_one_seed(X, y, seed) for seed in range(5)])
    for i, metric in enumerate(("pcc", "cs", "ed")):
        value, low, high = _interval(rows[:, i])
        words = {"at_most": 0.0} if metric == "pcc" else {"kind": "note"}
        yield Measurement(f"rank correlation of kinship ({metric}) and merge gain", value, low, high,
                          detail="66 pairs a seed; a distance (ed) should rise with the gain", **words)  # fmt: skip
    value, low, high = _interval(rows[:, 3] - rows[:, 4])
    detail = f"{rows[:, 3].mean():.4f} and {rows[:, 4].mean():.4f}; best single model {rows[:, 5].mean():.4f}"
    yield Measurement(
        "test accuracy with exploration less that without", value, low, high, at_least=0.0, detail=detail
    )
    value, low, high = _interval(rows[:, 3] - rows[:, 5])
    detail = f"{rows[:, 6].mean():.1f} merges with exploration, {rows[:, 7].mean():.1f} without"
    name = "test accuracy of the search less the best single model's"
    yield Measurement(name, value, low, high, kind="note", detail=detail)


def _one_seed(X, y, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    first, tune, valid, test = order[:800], order[800:2800], order[2800:3500], order[3500:]
    base = MLPClassifier((64,), max_iter=15, random_state=seed).fit(X[first], y[first])
    models = []
    for _ in range(12):
        classes = rng.choice(10, 3, replace=False)
        share = np.where(np.isin(y[tune], classes), 0.9 / np.isin(y[tune], classes).sum(), 0.1 / len(tune))
        rows = rng.choice(tune, 500, p=share / share.sum())
        model = copy.deepcopy(base)
        for _ in range(8):
            mixed = rng.permutation(rows)
            model.partial_fit(X[mixed], y[mixed])
        models.append(model)
    score = [m.score(X[test], y[test]) for m in models]
    gains, kin = [], []
    for i, j in combinations(range(12), 2):
        merged = UniformSoup().fit([models[i], models[j]]).model_.score(X[test], y[test])
        gains.append(merged - (score[i] + score[j]) / 2)
        kin.append([model_kinship(models[i], models[j], base, metric=m) for m in ("pcc", "cs", "ed")])
    related = [spearmanr(column, gains).statistic for column in np.array(kin).T]
    searches = [
        KinshipMerging(lambda m: m.score(X[valid], y[valid]), k=3, explore=e).fit(models, base)
        for e in (True, False)
    ]
    tested = [s.model_.score(X[test], y[test]) for s in searches]
    best = score[int(np.argmax([m.score(X[valid], y[valid]) for m in models]))]
    return [*related, *tested, best, *(len(s.merges_) for s in searches)]


def _interval(values):
    half = 2.776 * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
