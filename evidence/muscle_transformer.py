"""A small language model's update: adapters of the old and the new base model, and one that keeps them compatible."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd

from corrigible._core.torch_training import Recipe, cross_entropy, seeded, train
from corrigible.compare import muscle, negative_flips
from corrigible.papers import Measurement

CLAIM = """When a base language model is updated and the task's adapter is trained again in the same way, rows that were
right turn wrong; a compatibility adapter, trained on the task's rows by masked distillation, lowers these negative
flips (the paper: by up to 40 %) at an accuracy that is no lower, and more than distillation from the old model does."""
PROTOCOL = """Transformers over words, pretrained here by masked words on questions and requests without labels: the old
base model has 1 block of width 48 and sees 6000 sentences once, the new one 2 blocks of width 64 and 24 000 sentences.
On each, the same low-rank adapter (rank 4) and head are trained in the same way: on TREC (6 classes, 3000 rows) and on
the 12 largest classes of Banking77, 60 % of the rows, the rest held out. The compatibility adapter (rank 8) is trained
on these rows again, as in the paper, on which the new model still errs. Beside it, at the same rows and steps: the mask
by likelihood, distillation from the old model on all rows, and training on the labels alone; and the mean of both
models' probabilities. 4 seeds, of pretraining, adapters and split; means over seeds of paired ratios, with bootstrap
intervals. Bars: negative flips at most 0.9 of the plain update's, accuracy no lower."""
METHODS = ("muscle", "negative_flips")
DATA = ("text_small",)
SOURCES = ("src/corrigible/_core/torch_training.py",)
SEEDS = range(4)
LENGTH, VOCABULARY, ROWS = 14, 3000, 3000
PAD, UNKNOWN, MASKED = 0, 1, 2


def run(data):
    sets = {name: pd.read_parquet(data / "text_small" / f"{name}.parquet") for name in ("trec6", "banking77")}
    text = pd.read_parquet(data / "text_small" / "clinc150_full.parquet")["text"]
    corpus = [_words(t) for t in [*text, *sets["trec6"]["text"], *sets["banking77"]["text"]]]
    ids = {w: i + 3 for i, (w, _) in enumerate(Counter(w for t in corpus for w in t).most_common(VOCABULARY))}
    rows = _numbered(corpus, ids)
    tasks = {
        "TREC": _task(sets["trec6"], "label", 6, ids),
        "Banking77": _task(sets["banking77"], "category", 12, ids),
    }
    found = {name: [] for name in tasks}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(rows))
        bases = [
            _pretrained(rows[order[:n]], width, depth, seed) for n, width, depth in ((6000, 48, 1), (24_000, 64, 2))
        ]
        for name, (X, y) in tasks.items():
            found[name].append(_one(X, y, bases, seed))
    for name in tasks:
        yield from _summed(name, found[name])


def _words(text):
    return re.findall(r"[a-z]+|[0-9]", text.lower())[:LENGTH]


def _numbered(texts, ids):
    rows = np.full((len(texts), LENGTH), PAD)
    for row, words in zip(rows, texts, strict=True):
        row[: len(words)] = [ids.get(w, UNKNOWN) for w in words] or [UNKNOWN]
    return rows


def _task(table, column, n_classes, ids):
    kept = table[table[column].isin(table[column].value_counts().index[:n_classes])]
    kept = kept.sample(min(ROWS, len(kept)), random_state=0)
    return _numbered([_words(t) for t in kept["text"]], ids), pd.factorize(kept[column], sort=True)[0]


def _summed(name, found):
    plain = np.array([f["plain"] for f in found])
    detail = f"plain: {plain[:, 0].mean():.4f} negative flips, accuracy {plain[:, 1].mean():.4f}, {plain[0, 2]:.4f} before"
    for way in found[0]:
        if way == "plain":
            continue
        those = np.array([f[way] for f in found])
        bars = ({"at_most": 0.9}, {"at_least": 0.0}) if way == "adapter" else ({"kind": "note"},) * 2
        yield Measurement(f"{name}: negative flips of the {way} over the plain update's",
                          *_mean_ratio(those[:, 0], plain[:, 0]), **bars[0], detail=detail)  # fmt: skip
        yield Measurement(f"{name}: accuracy of the {way} minus the plain update's", *_mean(those[:, 1] - plain[:, 1]),
                          **bars[1], detail=f"{those[:, 1].mean():.4f}")  # fmt: skip


def _mean(values):
    draws = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    return float(values.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))


def _mean_ratio(a, b):
    """Ratio of means, seeds resampled in pairs."""
    picks = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
    draws = a[picks].mean(axis=1) / b[picks].mean(axis=1)
    return float(a.mean() / b.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))


def _one(X, y, bases, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    rows, test = np.split(order, [int(0.6 * len(y))])
    old, new = (_adapted(base, X[rows], y[rows], seed) for base in bases)

    def compatible(mask):
        return muscle(old, new, X[rows], y[rows], mask=mask, max_iter=8, learning_rate=0.002, random_state=seed)

    before = _proba(old, X[test])
    answers = {
        "plain": _proba(new, X[test]),
        "adapter": _proba(compatible("wrong"), X[test]),
        "adapter by likelihood": _proba(compatible("likelihood"), X[test]),
        "distillation from the old on all rows": _proba(compatible("all"), X[test]),
        "training on the labels alone": _proba(_tuned(new, X[rows], y[rows], seed), X[test]),
    }
    answers["mean of old and new"] = (before + answers["plain"]) / 2
    flips = {k: negative_flips(y[test], before.argmax(1), p.argmax(1)) for k, p in answers.items()}
    return {k: (f.negative_rate, f.new_accuracy, f.old_accuracy) for k, f in flips.items()}


def _proba(network, X):
    import torch

    with torch.no_grad():
        return network.double()(torch.tensor(X)).softmax(dim=1).numpy()


def _encoder(torch, width, depth):
    """Words to one vector a place: attention of 4 heads and a layer of twice the width, normalised before each."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
            self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
            self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

        def forward(self, x, seen):
            n, length, _ = x.shape
            h = self.before(x)
            q, k, v = (f(h).view(n, length, 4, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
            x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
            return x + self.narrow(nn.functional.gelu(self.wide(self.between(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(VOCABULARY + 3, width)
            self.places = nn.Parameter(0.1 * torch.randn(LENGTH, width))
            self.blocks = nn.ModuleList(Block() for _ in range(depth))
            self.last = nn.LayerNorm(width)

        def forward(self, ids):
            seen = (ids != PAD)[:, None, None, :]
            x = self.words(ids) + self.places
            for block in self.blocks:
                x = block(x, seen)
            return self.last(x)

    return Encoder()


def _pretrained(rows, width, depth, seed):
    """Train an encoder to tell masked words from the others around them."""
    with seeded(seed) as torch:
        encoder, ids = _encoder(torch, width, depth), torch.tensor(rows)

        def cost(module, batch):
            true = ids[batch]
            hidden = (torch.rand(true.shape) < 0.2) & (true != PAD)
            hidden[0, 0] = True  # never none
            states = module(true.masked_fill(hidden, MASKED))[hidden]
            return torch.nn.functional.cross_entropy(states @ module.words.weight.T, true[hidden])

        return train(encoder, len(rows), cost, Recipe(1, 64, 0.003, 1e-4), np.random.default_rng(seed))


def _adapted(base, X, y, seed):
    """Train a low-rank adapter of a frozen base model, and a head, for a task; return them as one network."""
    import copy

    with seeded(seed) as torch:
        nn = torch.nn

        class Classifier(nn.Module):
            def __init__(self):
                super().__init__()
                self.base, self.head = (
                    copy.deepcopy(base).float(),
                    nn.Linear(base.last.normalized_shape[0], y.max() + 1),
                )

            def forward(self, ids):
                ids = ids.long()
                here = (ids != PAD)[:, :, None]
                return self.head((self.base(ids) * here).sum(dim=1) / here.sum(dim=1))

        class LowRank(nn.Module):
            def __init__(self, weight):
                super().__init__()
                self.left = nn.Parameter(torch.zeros(len(weight), 4))
                self.right = nn.Parameter(torch.randn(4, weight.shape[1]) / weight.shape[1] ** 0.5)

            def forward(self, weight):
                return weight + self.left @ self.right

        network = Classifier()
        network.base.requires_grad_(False)
        layers = [m for m in network.base.modules() if isinstance(m, nn.Linear)]
        for layer in layers:
            nn.utils.parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))
        _train(torch, network, X, y, Recipe(8, 64, 0.005, 0.0), seed)
        for layer in layers:
            nn.utils.parametrize.remove_parametrizations(layer, "weight")
        return network.requires_grad_(True)


def _tuned(network, X, y, seed):
    """Train the layers of a network that a compatibility adapter changes, on the labels alone, for as many steps."""
    import copy

    with seeded(seed) as torch:
        tuned = copy.deepcopy(network).float().requires_grad_(False)
        for module in tuned.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.requires_grad_(True)
        return _train(torch, tuned, X, y, Recipe(8, 64, 0.0005, 0.0), seed)


def _train(torch, network, X, y, recipe, seed):
    rows, target = torch.tensor(X), torch.nn.functional.one_hot(torch.tensor(y)).float()

    def cost(module, batch):
        return cross_entropy(module, rows[batch], target[batch])

    return train(network, len(X), cost, recipe, np.random.default_rng(seed))
