"""Ratatouille beside a uniform soup, on digits unlike those of the target task."""

from __future__ import annotations

import copy
import warnings

import numpy as np
from scipy.ndimage import gaussian_filter, rotate, shift, zoom
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from corrigible.merging import Ratatouille, UniformSoup
from corrigible.papers import Measurement

CLAIM = """Fine-tunes that start from models of auxiliary tasks are more diverse than fine-tunes from the base, and still
connected: their average is better out of domain than a soup of as many fine-tunes from the base."""
PROTOCOL = """A network of 784-128-10 is trained on 1200 upright digits of MNIST. Auxiliary models: the base trained on for
10 epochs on 1000 of these rows mirrored, with inverted ink, moved by three pixels, and enlarged by 1.3. Target: 600 other
digits turned by 30 degrees, the head trained first by logistic regression on the base's hidden layer, then five fine-tunes
of 8 epochs (step sizes 0.0005 to 0.002), one from each auxiliary model and one from the base, averaged; the soup averages
five fine-tunes from the base with the same head, step sizes and seeds. Out of domain: 1500 held-out digits turned by 50
degrees, by 30 with noise of 0.4, and by 30 blurred by 1.5 pixels; none of these is an auxiliary task. Five seeds, intervals
from the seeds (t, 95 %). Bar, set beforehand: mean out-of-domain accuracy not below the soup's."""
METHODS = ("ratatouille",)
SOURCES = ("src/corrigible/_core/model_weights.py", "src/corrigible/merging/_soups.py")
DATA = ("mnist_5k",)
STEPS = (5e-4, 1e-3, 2e-3, 1e-3, 5e-4)


def run(data):
    warnings.simplefilter("ignore")
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1).reshape(-1, 28, 28) / 255.0
    y = next(held[k] for k in held.files if held[k].ndim == 1).astype(int)
    found = [_one_seed(images, y, seed) for seed in range(5)]
    f = {k: np.array([one[k] for one in found]) for k in found[0]}
    domains = ("turned by 50", "noise", "blur")
    for name in ("soup", "ratatouille", "single", "single of ratatouille"):
        f[f"{name}: out"] = np.mean([f[f"{name}: {d}"] for d in domains], axis=0)
    detail = f"{f['ratatouille: out'].mean():.4f} and {f['soup: out'].mean():.4f}, paired over 5 seeds"
    gained = f["ratatouille: out"] - f["soup: out"]
    yield _measured("out-of-domain accuracy less the uniform soup's", gained, at_least=0.0, detail=detail)
    for d in (*domains, "in"):
        yield _measured(f"{d}: accuracy less the uniform soup's", f[f"ratatouille: {d}"] - f[f"soup: {d}"])
    yield _measured("out-of-domain accuracy of single fine-tunes from the base", f["single: out"])
    yield _measured(
        "out-of-domain accuracy of single fine-tunes from auxiliary models", f["single of ratatouille: out"]
    )


def _one_seed(images, y, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    first, target, test = order[:1200], order[1200:1800], order[2000:3500]
    base = MLPClassifier((128,), max_iter=25, random_state=seed).fit(_flat(images[first]), y[first])
    auxiliaries = [
        _trained(base, _flat(x[:1000]), y[first[:1000]], 1e-3, 10, seed) for x in _auxiliary(images[first])
    ]
    turned = _flat(_turned(images[target], 30))

    def fine_tune(model, number):
        return _trained(model, turned, y[target], STEPS[number % 5], 8, 100 * seed + number)

    runs = iter(range(5))
    rata = Ratatouille(lambda m, _: fine_tune(m, next(runs)), probe=lambda m: _probed(m, turned, y[target]))
    rata.fit(base, auxiliaries)
    plain = [fine_tune(copy.deepcopy(_probed(base, turned, y[target])), i) for i in range(5)]
    soup = UniformSoup().fit(plain).model_
    tests = {
        "turned by 50": _turned(images[test], 50),
        "noise": _turned(images[test], 30) + 0.4 * rng.normal(size=images[test].shape),
        "blur": gaussian_filter(_turned(images[test], 30), (0, 1.5, 1.5)),
        "in": _turned(images[test], 30),
    }
    scores = {}
    for name, x in tests.items():
        for who, models in (("soup", [soup]), ("ratatouille", [rata.model_]), ("single", plain),
                            ("single of ratatouille", rata.models_)):  # fmt: skip
            scores[f"{who}: {name}"] = float(np.mean([m.score(_flat(x), y[test]) for m in models]))
    return scores


def _auxiliary(images):
    larger = np.stack([zoom(x, 1.3, order=1)[4:32, 4:32] for x in images])
    return images[:, :, ::-1], 1 - images, shift(images, (0, 3, 3), order=1), larger


def _probed(base, X, y):
    """Return the base with its head trained on what its hidden layer makes of the rows."""
    made = copy.deepcopy(base)
    hidden = np.maximum(X @ base.coefs_[0] + base.intercepts_[0], 0)
    head = LogisticRegression(max_iter=300).fit(hidden, y)
    made.coefs_[1], made.intercepts_[1] = np.ascontiguousarray(head.coef_.T), head.intercept_
    return made


def _trained(base, X, y, step, epochs, seed):
    model, rng = copy.deepcopy(base), np.random.default_rng(seed)
    model.__dict__.pop("_optimizer", None)  # every training begins with moments of its own
    model.learning_rate_init = step
    for _ in range(epochs):
        rows = rng.permutation(len(y))
        model.partial_fit(X[rows], y[rows])
    return model


def _turned(images, angle):
    return rotate(images, angle, axes=(1, 2), reshape=False, order=1)


def _flat(images):
    return np.ascontiguousarray(images).reshape(len(images), -1)


def _measured(name, values, at_least=None, detail="5 seeds"):
    half = 2.776 * values.std(ddof=1) / np.sqrt(len(values))  # t with 4 degrees of freedom
    kind = "note" if at_least is None else "claim"
    return Measurement(name, float(values.mean()), float(values.mean() - half), float(values.mean() + half),
                       at_least=at_least, kind=kind, detail=detail)  # fmt: skip
