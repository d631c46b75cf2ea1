"""A compatibility adapter trained by masked distillation lowers the negative flips of a network's update."""

from __future__ import annotations

import copy

import numpy as np

from corrigible._core.torch_training import Recipe, cross_entropy, seeded, train
from corrigible.compare import muscle, negative_flips
from corrigible.papers import Measurement

CLAIM = """Adapting the updated network by masked distillation lowers negative flips (the paper: by up to 40 %) at an
accuracy that is no lower, more than ensembles or distillation from the old network do at equal accuracy."""
PROTOCOL = """MNIST (5000 images) and digits (1797): a quarter of the rows is held out; the old network (64 hidden units) is
trained on 5 % of the others, the new one (256 units, other seed) on 60 %; the adapter of rank 8 sees the remaining 35 %,
which neither saw. A second setting has the adapter see the new network's own training rows, as where there are no
others. Beside it, at the same rows and steps: distillation from the old network on all rows, an adapter of cross-entropy
alone, the mean of both networks' probabilities, and the mean of 2 new networks. 6 seeds of each; means over seeds of
paired ratios, with bootstrap intervals. Bars: negative flips at most 0.9 of the plain update's, accuracy no lower."""
METHODS = ("muscle", "negative_flips")
DATA = ("mnist_5k",)
SOURCES = ("src/corrigible/_core/torch_training.py",)
SEEDS = range(6)
NOT_REPRODUCED = {
    "digits: negative flips of the adapter over the plain update's": "The plain update has 2.5 negative flips a seed "
    "(0.56 % of 450 rows), 15 in all, the adapter 14: 0.93, interval 0.71 to 1.25, which holds the bar. On MNIST, with "
    "168 flips, it is 0.77. More training on the same rows, without the old network, does as well: 0.73 and 0.71.",
}


def run(data):
    from sklearn.datasets import load_digits

    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1)
    labels = next(held[k] for k in held.files if held[k].ndim == 1)
    yield from _measured("MNIST", images.reshape(len(labels), -1)[:, ::2] / 255.0, labels.astype(int))
    X, y = load_digits(return_X_y=True)
    yield from _measured("digits", X / 16.0, y)


def _measured(name, X, y):
    found = [_one(X, y, seed) for seed in SEEDS]
    plain = np.array([f["plain"] for f in found])
    detail = f"plain: {plain[:, 0].mean():.4f} negative flips, accuracy {plain[:, 1].mean():.4f}"
    for way in found[0]:
        if way == "plain":
            continue
        those = np.array([f[way] for f in found])
        ratio, change = _mean_ratio(those[:, 0], plain[:, 0]), those[:, 1] - plain[:, 1]
        is_claim = way == "adapter"
        yield Measurement(f"{name}: negative flips of the {way} over the plain update's", *ratio,
                          **({"at_most": 0.9} if is_claim else {"kind": "note"}), detail=detail)  # fmt: skip
        yield Measurement(f"{name}: accuracy of the {way} minus the plain update's", *_mean(change),
                          **({"at_least": 0.0} if is_claim else {"kind": "note"}),
                          detail=f"{those[:, 1].mean():.4f}")  # fmt: skip


def _mean(values):
    draws = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    return float(values.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))


def _mean_ratio(a, b):
    """Ratio of means, seeds resampled in pairs."""
    picks = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
    draws = a[picks].mean(axis=1) / b[picks].mean(axis=1)
    return float(a.mean() / b.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))


def _one(X, y, seed):
    import torch

    order = np.random.default_rng(seed).permutation(len(y))
    test, first, more, rest = np.split(order, np.round(len(y) * np.array([0.25, 0.2875, 0.7375])).astype(int))
    old = _network(X, y, first, 64, 100 + seed)
    several = [_network(X, y, more, 256, 1000 * i + 200 + seed) for i in range(2)]
    new = several[0]
    rows = torch.tensor(X[test])

    def proba(network):
        with torch.no_grad():
            return copy.deepcopy(network).double()(rows).softmax(dim=1).numpy()

    def adapted(rows, **words):
        return proba(muscle(old, new, X[rows], y[rows], random_state=seed, max_iter=10, **words))

    before = proba(old).argmax(axis=1)
    answers = {
        "plain": proba(new),
        "adapter": adapted(rest),
        "adapter by likelihood": adapted(rest, mask="likelihood"),
        "adapter on the new network's own rows": adapted(more),
        "distillation from the old on all rows": adapted(rest, mask="all"),
        "fine-tuning on the same rows": proba(_tuned(new, X[rest], y[rest], seed)),
        "mean of old and new": (proba(old) + proba(new)) / 2,
        "mean of 2 new networks": np.mean([proba(n) for n in several], axis=0),
    }
    flips = {k: negative_flips(y[test], before, p.argmax(axis=1)) for k, p in answers.items()}
    return {k: (f.negative_rate, f.new_accuracy) for k, f in flips.items()}


def _network(X, y, rows, hidden, seed):
    with seeded(seed) as torch:
        network = torch.nn.Sequential(
            torch.nn.Linear(X.shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10)
        )
        return _train(torch, network, X[rows], y[rows], Recipe(12, 32, 0.002, 1e-4), seed)


def _tuned(network, X, y, seed):
    with seeded(seed) as torch:
        return _train(torch, copy.deepcopy(network), X, y, Recipe(10, 64, 0.003, 0.0), seed)


def _train(torch, network, X, y, recipe, seed):
    rows, target = torch.tensor(X).float(), torch.nn.functional.one_hot(torch.tensor(y), 10).float()

    def cost(module, batch):
        return cross_entropy(module, rows[batch], target[batch])

    return train(network, len(X), cost, recipe, np.random.default_rng(seed))
