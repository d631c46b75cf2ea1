"""Twin-Merging of networks fine-tuned on digits turned four ways."""

from __future__ import annotations

import copy
import warnings

import numpy as np
from scipy.ndimage import rotate
from sklearn.neural_network import MLPClassifier

from corrigible._core.model_weights import weights_of, with_weights
from corrigible.merging import TwinMerging, task_arithmetic
from corrigible.papers import Measurement

CLAIM = """A shared expert, compressed exclusive knowledge and a router fill most of the gap between static merging and one
fine-tuned expert a task, without being told the task."""
PROTOCOL = """As in `mergers`: a network of 784-64-10 trained on 1500 upright digits of MNIST and fine-tuned on 1000 digits
turned by 30, 60, 90 degrees and mirrored; five seeds; mean accuracy over the tasks on 750 held-out digits each, which are
mixed and come without their task, answered by mixtures rounded to two decimals. The router learns from 400 of the tuning
rows a task, without labels. The static merge is task arithmetic with the scale, of 0.2, 0.3, 0.4 and 0.6, that is best on
the test rows, which favours it; it is also the scale of the shared expert. Bar, set beforehand: a quarter of the singular
values fills at least half of the gap between the static merge and the experts; intervals from the seeds (t, 95 %)."""
METHODS = ("twin_merging",)
SOURCES = ("src/corrigible/_core/model_weights.py",)
DATA = ("mnist_5k",)
ANGLES = (30, 60, 90, None)
RANKS = (0.1, 0.25, 0.5, 1.0)


def run(data):
    warnings.simplefilter("ignore")
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1).reshape(-1, 28, 28) / 255.0
    y = next(held[k] for k in held.files if held[k].ndim == 1).astype(int)
    turned = [
        images[:, :, ::-1] if a is None else rotate(images, a, axes=(1, 2), reshape=False, order=1) for a in ANGLES
    ]
    tasks = [np.ascontiguousarray(t).reshape(len(y), -1) for t in turned]
    found = [_one_seed(images.reshape(len(y), -1), tasks, y, seed) for seed in range(5)]
    f = {k: np.array([one[k] for one in found]) for k in found[0]}
    gap = f["experts"] - f["static"]
    for rank in RANKS:
        filled = (f[rank] - f["static"]) / gap
        levels = f"{f['static'].mean():.3f}, {f[rank].mean():.3f} and experts {f['experts'].mean():.3f}"
        detail = f"{levels}; {f[f'room {rank}'].mean():.2f} of an expert's numbers a task"
        yield _measured(f"share of the gap filled, {rank:g} of the singular values", filled,
                        at_least=0.5 if rank == 0.25 else None, detail=detail)  # fmt: skip
    yield _measured("accuracy of the router on tasks", f["router"])
    yield _measured("accuracy of the shared expert with no exclusive knowledge", f["static"])
    yield _measured("accuracy of the experts on their own tasks", f["experts"])


def _one_seed(upright, tasks, y, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    first, tune, test = order[:1500], order[1500:2500], order[2500:3250]
    base = MLPClassifier((64,), max_iter=25, random_state=seed).fit(upright[first], y[first])
    experts = [_tuned(base, t[tune], y[tune], seed) for t in tasks]
    start, tuned = weights_of(base, by="evidence"), [weights_of(e, by="evidence") for e in experts]
    static = {}
    for scale in (0.2, 0.3, 0.4, 0.6):
        merged = {k: task_arithmetic([t[k] for t in tuned], v, scale=scale) for k, v in start.items()}
        static[scale] = float(np.mean([with_weights(base, merged).score(t[test], y[test]) for t in tasks]))
    scale = max(static, key=static.get)
    found = {
        "static": static[scale],
        "experts": float(np.mean([e.score(t[test], y[test]) for e, t in zip(experts, tasks, strict=True)])),
    }
    mixed, answers = np.concatenate([t[test] for t in tasks]), np.tile(y[test], len(tasks))
    asked = np.repeat(np.arange(len(tasks)), len(test))
    size = sum(v.size for v in start.values())
    for rank in RANKS:
        twin = TwinMerging(scale=scale, rank=rank, decimals=2, random_state=seed)
        twin.fit(experts, base, [t[tune[:400]] for t in tasks])
        found[rank] = float((twin.predict_class(mixed) == answers).mean())
        found[f"room {rank}"] = twin.exclusive_[0].n_values / size
    found["router"] = float((twin.mixtures(mixed).argmax(axis=1) == asked).mean())
    return found


def _tuned(base, X, y, seed):
    model, rng = copy.deepcopy(base), np.random.default_rng(seed)
    for _ in range(15):
        rows = rng.permutation(len(y))
        model.partial_fit(X[rows], y[rows])
    return model


def _measured(name, values, at_least=None, detail="5 seeds"):
    half = 2.776 * values.std(ddof=1) / np.sqrt(len(values))  # t with 4 degrees of freedom
    kind = "note" if at_least is None else "claim"
    return Measurement(name, float(values.mean()), float(values.mean() - half), float(values.mean() + half),
                       at_least=at_least, kind=kind, detail=detail)  # fmt: skip
