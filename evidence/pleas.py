"""PLeaS on networks trained from different seeds, on one task, on turned digits, and on different classes."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from corrigible._core.torch_training import seeded
from corrigible.merging import PLeaS
from corrigible.papers import Measurement

CLAIM = """Two networks of one architecture, trained from different starts on the same or on different tasks, merge to one
that is better than by permutation of units alone (weight matching and averaging, Git Re-Basin), at the same size; a wider
one comes close to both networks' ensemble."""
PROTOCOL = """Networks from different seeds, merged with 600 unlabelled training rows and no labels; accuracy on test rows.
Four settings, five seeds each, t intervals of paired differences: (1) scikit-learn's 8x8 digits, 64-64-64-10, both networks
on the same 900 rows; (2) MNIST, 784-64-64-10, one trained on upright and one on digits turned by 40 degrees, both asked;
(3) MNIST, a small convolutional network with batch normalisation, both on the same 2000 rows; (4) the same convolutional
network, one trained on digits 0 to 4 and one on 5 to 9, with separate heads, each head asked about its own digits. Bars,
set beforehand: PLeaS at the width of one network above weight matching by more than 0 in each setting; at a width of 1.5
no worse than at a width of 1."""
METHODS = ("pleas",)
SOURCES = ("src/corrigible/merging/_unit_chain.py", "src/corrigible/merging/_unit_merging.py")
DATA = ("mnist_5k",)
WAYS = {
    "weight matching": {"matching": "weights", "least_squares": False},
    "activation matching": {"least_squares": False},
    "PLeaS": {},
    "PLeaS by weights": {"matching": "weights"},
    "PLeaS at 1.5": {"width": 1.5},
    "both": {"width": 2.0, "least_squares": False},
}


def run(data):
    warnings.simplefilter("ignore")
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1).reshape(-1, 28, 28) / 255.0
    y = next(held[k] for k in held.files if held[k].ndim == 1).astype(int)
    turned = rotate(images, 40, axes=(1, 2), reshape=False, order=1)
    for name, setting in (
        ("digits, two seeds", lambda seed: _digits(seed)),
        ("MNIST, upright and turned", lambda seed: _turned(images, turned, y, seed)),
        ("MNIST convolutions, two seeds", lambda seed: _convolutions(images, y, seed)),
        ("MNIST convolutions, digits 0-4 and 5-9", lambda seed: _classes(images, y, seed)),
    ):
        found = [setting(seed) for seed in range(5)]
        f = {k: np.array([one[k] for one in found]) for k in found[0]}
        yield _measured(f"{name}: PLeaS less weight matching", f["PLeaS"] - f["weight matching"], at_least=0.0,
                        detail=_means(f, "PLeaS", "weight matching"))  # fmt: skip
        yield _measured(f"{name}: PLeaS at a width of 1.5 less PLeaS", f["PLeaS at 1.5"] - f["PLeaS"], at_least=0.0,
                        detail=_means(f, "PLeaS at 1.5", "PLeaS"))  # fmt: skip
        for way in ("activation matching", "PLeaS by weights", "both", "single"):
            yield _measured(f"{name}: accuracy of {way}", f[way])


def _merged(networks, X, accuracy, **words):
    """Return the accuracy of each way of merging."""
    return {way: accuracy(PLeaS(**options, **words).fit(networks, X).model_) for way, options in WAYS.items()}


def _digits(seed):
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    X, y, train, test = X / 16, y, order[:900], order[900:]
    networks = [
        MLPClassifier((64, 64), max_iter=60, random_state=100 * seed + i).fit(X[train], y[train]) for i in range(2)
    ]

    def accuracy(m):
        return float(m.score(X[test], y[test]))

    return _merged(networks, X[train[:600]], accuracy) | {"single": np.mean([accuracy(m) for m in networks])}


def _turned(images, turned, y, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:1500], order[3000:]
    tasks = [x.reshape(len(y), -1) for x in (images, turned)]
    networks = [
        MLPClassifier((64, 64), max_iter=25, random_state=100 * seed + i).fit(x[train], y[train])
        for i, x in enumerate(tasks)
    ]

    def accuracy(m):
        return float(np.mean([m.score(x[test], y[test]) for x in tasks]))

    seen = np.concatenate([x[train[:300]] for x in tasks])
    return _merged(networks, seen, accuracy) | {"single": np.mean([accuracy(m) for m in networks])}


def _convolutions(images, y, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:2000], order[4000:]
    networks = [_trained(images[train], y[train], 100 * seed + i, 10) for i in range(2)]

    def accuracy(m):
        return float((_outputs(m, images[test]).argmax(axis=1) == y[test]).mean())

    seen = _tensor(images[train[:600]])
    return _merged(networks, seen, accuracy) | {"single": np.mean([accuracy(m) for m in networks])}


def _classes(images, y, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:3000], order[3000:]
    halves = [(train[y[train] // 5 == i], test[y[test] // 5 == i]) for i in (0, 1)]
    networks = [_trained(images[t], y[t] % 5, 100 * seed + i, 5) for i, (t, _) in enumerate(halves)]

    def accuracy(m):
        answers = [_outputs(m, images[t]).reshape(-1, 2, 5)[:, i].argmax(axis=1) for i, (_, t) in enumerate(halves)]
        return float(np.mean([(a == y[t] % 5).mean() for a, (_, t) in zip(answers, halves, strict=True)]))

    single = [
        (_outputs(n, images[t]).argmax(axis=1) == y[t] % 5).mean()
        for n, (_, t) in zip(networks, halves, strict=True)
    ]
    seen = _tensor(images[np.concatenate([t[:300] for t, _ in halves])])
    return _merged(networks, seen, accuracy, heads="separate") | {"single": np.mean(single)}


def _trained(images, y, seed, n_classes):
    """Return a small convolutional network, trained by Adam for four epochs."""
    with seeded(seed) as torch:
        nn = torch.nn
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, n_classes),
        )  # fmt: skip
        step = torch.optim.Adam(net.parameters(), lr=3e-3)
        X, target = _tensor(images), torch.as_tensor(y)
        for _ in range(4):
            for rows in torch.randperm(len(X)).split(64):
                step.zero_grad()
                nn.functional.cross_entropy(net(X[rows]), target[rows]).backward()
                step.step()
    return net.eval()


def _tensor(images):
    import torch

    return torch.as_tensor(images[:, None], dtype=torch.float32)


def _outputs(net, images):
    import torch

    with torch.no_grad():
        return net.eval()(_tensor(images)).numpy()


def _means(f, a, b):
    return f"{f[a].mean():.4f} and {f[b].mean():.4f}, paired over 5 seeds"


def _measured(name, values, at_least=None, detail="5 seeds"):
    half = 2.776 * values.std(ddof=1) / np.sqrt(len(values))  # t with 4 degrees of freedom
    kind = "note" if at_least is None else "claim"
    return Measurement(name, float(values.mean()), float(values.mean() - half), float(values.mean() + half),
                       at_least=at_least, kind=kind, detail=detail)  # fmt: skip
