"""Nonparametric transfer learning against fine-tuned ensembles, pulled or not to the pretrained weights, and Langevin."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.datasets import load_digits

from corrigible._core.losses import log
from corrigible._core.simplex import softmax
from corrigible._core.torch_training import Recipe, cross_entropy, outputs, seeded, train
from corrigible.papers import Measurement
from corrigible.uncertainty import DeepEnsemble, NonparametricTransfer, calibration_error

CLAIM = """On small transfer tasks the averaged predictions of networks drawn by nonparametric transfer learning have
lower log loss and calibration error than those of deep ensembles and of posteriors around the pretrained weights (L2SP,
Langevin-type sampling), also where test images are corrupted."""
PROTOCOL = """Networks of two hidden layers of 64 units, pretrained and then fine-tuned on 100 or 300 rows: MNIST's
classes 0 to 4 to its classes 5 to 9 (14 x 14, 16,768 weights below the head), and scikit-learn's digits to MNIST (8 x
8, 8,320 weights). Five seeds, each with its own rows; 1,000 test rows. Members: 5, Adam, the same number of steps for
all: 50 epochs of rows and pseudo-rows, 100 epochs elsewhere. Concentration 1, a weight a row. L2SP adds 0.01 / 2 times
the squared distance to the pretrained weights; Langevin: 5 states of the second half of one chain at temperature 0.1
with a normal prior around the pretrained weights. Differences a seed, with 95 % intervals of Student's t; bars set
before any result. The paper's tasks are of ResNets and transformers on larger images."""
METHODS = ("nonparametric_transfer", "deep_ensemble")
DATA = ("mnist_5k",)
NOT_REPRODUCED = {
    "MNIST 0-4 to 5-9, 300 rows: log loss, less deep ensemble":
        "With a concentration of 1 the probe's labels weigh as much as the observed ones, and on these "
        "rows the probe is right in 78 %, the ensemble in 92 %: the prior pulls to the worse. With 0.1 (three seeds, "
        "not tuned further) log loss was 0.28 and calibration error 0.023, the ensemble's 0.32 and 0.039.",
    "MNIST 0-4 to 5-9, 300 rows: ECE, less deep ensemble": "As for log loss: the probe's labels are too unsure.",
    "all tasks: ECE, less L2SP ensemble":
        "0.044 and 0.039, with an interval that holds 0: the same prior, on the same task.",
}  # fmt: skip
N_SEEDS, N_MEMBERS, BATCH, RATE = 5, 5, 32, 3e-3
SCORES = ("log loss", "ECE")


def run(data):
    rows = []
    for task, upstream, (X, y) in _tasks(data):
        backbone = _pretrained(*upstream)
        for n in (100, 300):
            for seed in range(N_SEEDS):
                rows += [{"task": f"{task}, {n} rows", **row} for row in _scored(backbone, X, y, n, seed)]
    table = pd.DataFrame(rows).set_index(["task", "rows", "seed", "method"]).unstack("method")
    for task in table.index.unique("task"):
        for score in SCORES:
            yield _less(f"{task}: {score}, less deep ensemble", table.loc[task, "known"][score], "deep ensemble",
                        at_most=0.0)  # fmt: skip
    mean = table.groupby(["rows", "seed"]).mean()
    for other in ("L2SP ensemble", "Langevin"):
        for score in SCORES:
            yield _less(f"all tasks: {score}, less {other}", mean.loc["known"][score], other, at_most=0.0)
    for score in SCORES:
        yield _less(f"all tasks, noisy test rows: {score}, less deep ensemble", mean.loc["noisy"][score],
                    "deep ensemble", at_most=0.0)  # fmt: skip
        yield _less(
            f"all tasks: {score}, less NPTL with 10 blocks", mean.loc["known"][score], "10 blocks", kind="note"
        )
        yield _less(f"all tasks: {score}, less the probe alone", mean.loc["known"][score], "probe", kind="note")


def _less(title, scores, other, **bar):
    gap = scores["NPTL"] - scores[other]
    half = student.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
    detail = f"NPTL {scores['NPTL'].mean():.3f}, {other} {scores[other].mean():.3f}; {len(gap)} seeds"
    return Measurement(title, float(gap.mean()), float(gap.mean() - half), float(gap.mean() + half),
                       detail=detail, **bar)  # fmt: skip


def _tasks(data):
    found = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images, y = found["images"] / 255, found["labels"].astype(int)
    half = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(y), -1)
    third = images[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4)).reshape(len(y), -1)
    low, (X, digits) = y < 5, load_digits(return_X_y=True)
    yield "MNIST 0-4 to 5-9", (half[low], y[low]), (half[~low], y[~low] - 5)
    yield "digits to MNIST", (X / 16, digits), (third, y)


def _network(n_inputs, n_outputs):
    from torch import nn

    layers = (nn.Linear(n_inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_outputs))
    return nn.Sequential(*layers)


def _pretrained(X, y):
    fitted = DeepEnsemble(_network, n_members=1, max_iter=40, learning_rate=3e-3, random_state=0).fit(X, y)
    return fitted.members_[0][:-1]


def _scored(backbone, X, y, n, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    train_rows, test = order[:n], order[n : n + 1000]
    sets = {"known": X[test], "noisy": X[test] + 0.3 * rng.normal(size=X[test].shape)}
    k = int(y.max()) + 1
    for method, answer in _methods(backbone, X[train_rows], y[train_rows], k, seed):
        for name, rows in sets.items():
            p = answer(rows)
            yield {"rows": name, "seed": seed, "method": method, "log loss": log(y[test], p).mean(),
                   "ECE": calibration_error(y[test], p)}  # fmt: skip


def _methods(backbone, X, y, k, seed):
    common = {"n_members": N_MEMBERS, "batch_size": BATCH, "learning_rate": RATE, "random_state": seed}
    ours = NonparametricTransfer(backbone, max_iter=50, **common).fit(X, y)
    yield "NPTL", ours.predict_proba
    yield "10 blocks", NonparametricTransfer(backbone, max_iter=50, n_blocks=10, **common).fit(X, y).predict_proba
    yield "probe", _probe(backbone, X, y)
    fresh = DeepEnsemble(_Started(backbone), max_iter=100, **common).fit(X, y)
    yield "deep ensemble", fresh.predict_proba
    yield "L2SP ensemble", _averaged([_pulled(backbone, X, y, k, 100 * seed + i) for i in range(N_MEMBERS)])
    yield "Langevin", _averaged(_langevin(backbone, X, y, k, seed))


class _Started:
    """A factory of networks that start from the pretrained weights with a new head."""

    def __init__(self, backbone):
        self.backbone = backbone

    def __call__(self, n_inputs, n_outputs):
        from torch import nn

        return nn.Sequential(deepcopy(self.backbone), nn.Linear(64, n_outputs)).float()


def _averaged(modules):
    return lambda X: np.mean([softmax(outputs(m, X)) for m in modules], axis=0)


def _probe(backbone, X, y):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (1e-3 * len(y)), max_iter=2000))
    model.fit(outputs(backbone, X), y)
    return lambda rows: model.predict_proba(outputs(backbone, rows))


def _squared_distance(module, start):
    return sum(((p - q) ** 2).sum() for p, q in zip(module[0].parameters(), start, strict=True))


def _prepared(backbone, X, y, k, seed):
    with seeded(seed) as torch:
        module = _Started(backbone)(X.shape[1], k)
        start = [p.detach().clone() for p in module[0].parameters()]
        return module, start, torch.tensor(X).float(), torch.nn.functional.one_hot(torch.tensor(y), k).float()


def _pulled(backbone, X, y, k, seed):
    module, start, x, target = _prepared(backbone, X, y, k, seed)

    def loss(m, rows):
        return cross_entropy(m, x[rows], target[rows]) + 0.01 / 2 * _squared_distance(m, start)

    return train(module, len(y), loss, Recipe(100, BATCH, RATE, 1e-4), np.random.default_rng(seed))


def _langevin(backbone, X, y, k, seed, *, step=0.1, temperature=0.1, precision=100.0):
    """States of a chain with gradient steps on the mean loss plus prior, and noise of the temperature."""
    module, start, x, target = _prepared(backbone, X, y, k, seed)
    rng, n = np.random.default_rng(seed), len(y)
    n_steps = 100 * -(-n // BATCH)
    kept = np.linspace(n_steps // 2, n_steps - 1, N_MEMBERS).astype(int)
    states = []
    with seeded(seed) as torch:
        for i in range(n_steps):
            rows = rng.choice(n, BATCH, replace=False)
            prior = precision * _squared_distance(module, start) + (module[1].weight ** 2).sum()
            loss = cross_entropy(module, x[rows], target[rows]) + prior / (2 * n)
            module.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in module.parameters():
                    p -= step * p.grad - (2 * step * temperature / n) ** 0.5 * torch.randn_like(p)
            if i in kept:
                states.append(deepcopy(module).double().eval())
    return states
