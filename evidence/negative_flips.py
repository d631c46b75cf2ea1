"""Compatibility of model updates: negative flips where accuracy rises, and what they are not."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from corrigible.compare import negative_flip_rate, negative_flips
from corrigible.papers import Measurement

CLAIM = """A model update that raises accuracy still turns right answers wrong: negative flips appear in every
update, and where both versions are wrong they often answer differently. Fewer flips at equal accuracy is what
compatible training is for (not part of this measurement)."""
PROTOCOL = """Real updates on adult, wine quality (7 classes), digits and banking77 (77 intents): the earlier model
is trained on a quarter of the rows, the later one on all of them, mostly with a stronger learner; held-out rows.
Ensembles of 7 seeds, on digits, against single networks."""
METHODS = ("negative_flips", "negative_flip_rate")
PAPERS = ()  # MUSCLE claims that its training lowers these rates: not built, so not measured
DATA = ("adult", "wine_quality", "text_small")


def run(data):
    warnings.simplefilter("ignore")
    rows, apart = [], []
    for name, X, y, old, new in _updates(data):
        test = np.random.default_rng(0).permutation(len(y)) < len(y) // 3
        train = np.flatnonzero(~test)
        before = old.fit(X[train[: len(train) // 4]], y[train[: len(train) // 4]]).predict(X[test])
        after = new.fit(X[train], y[train]).predict(X[test])
        flips = negative_flips(y[test], before, after)
        right = before == y[test], after == y[test]
        apart.append(abs(negative_flip_rate(y[test], before, after) - float(np.mean(right[0] & ~right[1]))))
        wrong = flips.n_inconsistent / max(flips.n_both_wrong, 1)
        rows.append((name, flips, wrong, len(np.unique(y))))
    yield Measurement(
        "rate alone against its definition, largest difference", max(apart), at_most=1e-15, kind="reference"
    )
    for name, flips, wrong, k in rows:
        low, high = flips.negative_interval
        detail = f"accuracy {flips.old_accuracy:.3f} to {flips.new_accuracy:.3f}; {flips.n} rows, {k} classes; "
        detail += f"wrong both times with another answer: {wrong:.2f} of such rows"
        yield Measurement(f"{name}: negative flip rate of an update", flips.negative_rate, low, high,
                          at_least=0.001, detail=detail)  # fmt: skip
    yield Measurement(
        "updates that raise accuracy", float(np.mean([f.new_accuracy > f.old_accuracy for _, f, _, _ in rows])),
        at_least=1.0,
    )  # fmt: skip
    many = [w for _, _, w, k in rows if k > 2]
    yield Measurement("share of doubly wrong rows that change answers, several classes", float(np.mean(many)),
                      at_least=0.1)  # fmt: skip
    yield Measurement("largest relative negative flip rate", max(f.relative_negative_rate for _, f, _, _ in rows),
                      at_most=1.0, detail="1 would be two models that err independently")  # fmt: skip
    single, joint = _ensembles()
    yield Measurement("negative flips between ensembles of 7 seeds / between single networks", joint / single,
                      at_most=0.8, detail=f"digits: {joint:.4f} against {single:.4f}; Yan et al. 2021 find the "
                      "same of ensembles")  # fmt: skip
    yield Measurement("largest gap of the exact interval to scipy's", _gap(), at_most=1e-9, kind="reference")


def _updates(data):
    from sklearn.datasets import load_digits
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.preprocessing import OrdinalEncoder
    from sklearn.svm import LinearSVC

    adult = pd.read_parquet(data / "adult" / "adult_train.parquet").sample(12_000, random_state=0)
    X = OrdinalEncoder().fit_transform(adult.drop(columns="income").astype(str))
    boosted = HistGradientBoostingClassifier(max_iter=40, random_state=0)
    yield "adult", X, (adult["income"] == ">50K").to_numpy(int), ExtraTreesClassifier(20, random_state=0), boosted
    wine = pd.read_csv(data / "wine_quality" / "wine_quality.csv.gz").drop_duplicates().drop(columns="colour")
    forest = ExtraTreesClassifier(60, random_state=0)
    yield "wine", wine.drop(columns="quality").to_numpy(), wine["quality"].to_numpy(int), forest, forest
    X, y = load_digits(return_X_y=True)
    yield "digits", X, y, LogisticRegression(max_iter=100), ExtraTreesClassifier(60, random_state=0)
    bank = pd.read_parquet(data / "text_small" / "banking77.parquet").sample(frac=1, random_state=0)
    words = TfidfVectorizer(min_df=2).fit_transform(bank["text"])
    label = "category"
    yield "banking77", words, pd.factorize(bank[label])[0], MultinomialNB(alpha=0.1), LinearSVC()


def _ensembles():
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    X, y = load_digits(return_X_y=True)
    test = np.random.default_rng(0).permutation(len(y)) < len(y) // 2
    p = [
        MLPClassifier((32,), max_iter=25, learning_rate_init=0.01, random_state=s)
        .fit(X[~test], y[~test])
        .predict_proba(X[test])
        for s in range(28)
    ]
    top = [q.argmax(axis=1) for q in p]
    single = [negative_flips(y[test], a, b).negative_rate for a, b in pairwise(top)]
    parts = [np.mean(p[i : i + 7], axis=0).argmax(1) for i in range(0, 28, 7)]
    joint = [negative_flips(y[test], a, b).negative_rate for a in parts for b in parts if a is not b]
    return float(np.mean(single)), float(np.mean(joint))


def _gap():
    rng, gaps = np.random.default_rng(0), []
    for _ in range(50):
        y, old, new = rng.integers(2, size=(3, int(rng.integers(5, 200))))
        flips = negative_flips(y, old, new)
        exact = binomtest(flips.n_negative, flips.n).proportion_ci(0.95, "exact")
        gaps.append(np.abs(np.subtract(flips.negative_interval, exact)).max())
    return float(max(gaps))
