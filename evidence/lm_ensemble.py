"""Mixtures of language models on real text, and of classifiers on real tables: weights, gain, and who adds to them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible.compare import ProbabilityEnsemble, complementarity
from corrigible.papers import Measurement

CLAIM = """Mixing the probabilities that several language models give by optimal weights beats the best of them; a weaker
model that errs elsewhere can add more than a stronger one that errs alike, so newcomers should be judged by what they
add."""
PROTOCOL = """Words of SST-2's film reviews: 6,920 sentences to train, the validation and test sentences (2,693) to mix on.
Models: unigrams, bigrams and trigrams with absolute discounting (0.75), words of the sentence so far (a cache), and
classes of words by their last two characters. Vocabulary: words seen twice. Also five classifiers of digits. Weights are
found on four fifths of the items and judged on the last, in turn; bootstrap over items. Reference: SLSQP. The paper's
models are large networks. Bars from its claim; that of the weaker model was put in place of one that could not fail."""
METHODS = ("probability_ensemble",)
DATA = ("text_small",)


def run(data):
    for name, (names, p) in (("words", _words(data)), ("digits", _digits())):
        found = complementarity(p, models=names, rng=0)
        value, low, high = found.gain_over_best
        yield Measurement(f"{name}: nats an item gained over the best single model", value, low, high, at_least=0.0,
                          detail=_told(found))  # fmt: skip
        pairs = [(found.gain[i] - found.gain[j], names[i], names[j]) for i in range(len(names)) for j in range(len(names))
                 if found.alone[i] > found.alone[j]]  # fmt: skip
        value, weaker, stronger = max(pairs)
        bar = {"at_least": 0.001} if name == "words" else {"kind": "note"}
        yield Measurement(f"{name}: most that a model weaker alone adds beyond a stronger one, nats an item", float(value),
                          detail=f"{weaker} and {stronger}", **bar)  # fmt: skip
        yield Measurement(
            f"{name}: distance of the loss from SLSQP's", _against_solver(p), at_most=1e-8, kind="reference"
        )


def _told(found):
    rows = zip(found.models, found.alone, found.gain, found.weights, strict=True)
    return "; ".join(f"{n}: alone {a:.3f}, adds {g:.4f}, weight {w:.2f}" for n, a, g, w in rows)


def _against_solver(p):
    m = p.shape[1]
    other = minimize(
        lambda w: -np.log(p @ w).mean(), np.full(m, 1 / m), jac=lambda w: -(p / (p @ w)[:, None]).mean(axis=0),
        method="SLSQP", bounds=[(1e-12, 1)] * m, constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    return float(max(0.0, ProbabilityEnsemble().fit(p).loss_ - other.fun))


def _words(data):
    """Return the models' names, and the probability each gave to each word of the sentences held out."""
    table = pd.read_parquet(data / "text_small" / "sst2.parquet")
    train = [s.split() for s in table.loc[table["split"] == "train", "text"]]
    held = [s.split() for s in table.loc[table["split"] != "train", "text"]]
    counts = Counter(w for s in train for w in s)
    known = {w for w, c in counts.items() if c >= 2}
    train, held = ([[w if w in known else "<unk>" for w in s] for s in part] for part in (train, held))
    models = {
        "unigram": _NGram(train, 1), "bigram": _NGram(train, 2), "trigram": _NGram(train, 3),
        "cache": _Cache(train), "spelling": _Spelling(train),
    }  # fmt: skip
    rows = [[m(s, i) for m in models.values()] for s in held for i in range(len(s))]
    return tuple(models), np.array(rows)


class _NGram:
    """An n-gram model with absolute discounting, over the words seen in training."""

    def __init__(self, sentences, order, discount=0.75):
        self.order, self.discount = order, discount
        self.counts, self.totals, self.kinds = Counter(), Counter(), Counter()
        for s in sentences:
            padded = ["<s>"] * (order - 1) + s
            for i in range(order - 1, len(padded)):
                key = tuple(padded[i - order + 1 : i + 1])
                self.kinds[key[:-1]] += self.counts[key] == 0
                self.counts[key] += 1
                self.totals[key[:-1]] += 1
        self.size = len({w for s in sentences for w in s})
        self.lower = _NGram(sentences, order - 1, discount) if order > 1 else None

    def __call__(self, sentence, i):
        padded = ["<s>"] * (self.order - 1) + sentence[: i + 1]
        key = tuple(padded[len(padded) - self.order :])
        below = 1 / self.size if self.lower is None else self.lower(sentence, i)
        total = self.totals[key[:-1]]
        if not total:
            return below
        kept = max(self.counts[key] - self.discount, 0.0) / total
        return kept + self.discount * self.kinds[key[:-1]] / total * below


class _Cache:
    """Half unigrams, half the words of the sentence so far."""

    def __init__(self, sentences):
        self.base = _NGram(sentences, 1)

    def __call__(self, sentence, i):
        base = self.base(sentence, i)
        return base if i == 0 else (base + sentence[:i].count(sentence[i]) / i) / 2


class _Spelling:
    """The class of a word, its last two characters, after that of the word before; then the word in its class."""

    def __init__(self, sentences):
        self.classes = _NGram([[w[-2:] for w in s] for s in sentences], 2)
        self.words, self.totals = Counter(), Counter()
        for w in (w for s in sentences for w in s):
            self.words[w] += 1
            self.totals[w[-2:]] += 1

    def __call__(self, sentence, i):
        classes = [w[-2:] for w in sentence[: i + 1]]
        return self.classes(classes, i) * self.words[sentence[i]] / self.totals[classes[-1]]


def _digits():
    X, y = load_digits(return_X_y=True)
    X, Z, y, z = train_test_split(X, y, train_size=300, random_state=0, stratify=y)
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "trees": ExtraTreesClassifier(200, random_state=0),
        "neighbours": KNeighborsClassifier(10, weights="distance"),
        "naive Bayes": make_pipeline(StandardScaler(), GaussianNB(var_smoothing=0.1)),
        "strong ridge": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
    }
    p = [m.fit(X, y).predict_proba(Z)[np.arange(len(z)), z] for m in models.values()]
    return tuple(models), np.maximum(np.column_stack(p), 1e-4)
