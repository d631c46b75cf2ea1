"""What unlearning repairs of a trigger and of confused classes when a tenth of the bad rows is known."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from corrigible._core.torch_training import Recipe, seeded, train
from corrigible.editing import SCRUB, SSD, FineTuneWithout, RetrainWithout, corrective_unlearning
from corrigible.papers import Measurement

CLAIM = """Knowing a tenth of the bad rows, SSD removes the effect of all of them, a patch trigger's as well as planted
mislabels', at little loss elsewhere; training again without the known ones, from scratch or on, and SCRUB do not. (The
paper says so of the trigger; of two confused classes it reports that SSD fails too.)"""
PROTOCOL = """MNIST: 3000 rows to train on, 500 with right labels to choose by, 1000 to test, a convolutional network.
Digits: 1000, 200 and 597 rows, one hidden layer of 128. Trigger: a bright patch in a corner of 100 (digits: 60) rows of
classes other than 0, labelled 0; affected are test rows with the patch, retained those without. Mislabels: 40 % of the
training rows of classes 4 and 9 labelled as the other; affected are test rows of both, retained the others. A tenth of
the bad rows is known, drawn at random. Repaired: affected accuracy after less before, over that of a network trained on
right rows less before; ratio of means over seeds, with bootstrap intervals over seeds. Five seeds, none of them used
while the search was written. SSD as it comes; SCRUB of three sizes of step and weights alpha, chosen among as SSD's alpha
is (the three were set on other rows, after SCRUB as it comes had repaired nothing in a first run on these seeds);
retraining by the first training's recipe. Bars, set beforehand: SSD repairs at least 0.9 and retained accuracy falls by
0.02 at most; the others repair at most 0.5. Notes: the same with every bad row known."""
METHODS = ("corrective_unlearning", "ssd", "scrub", "retrain_without")
SOURCES = ("src/corrigible/editing/_unlearning.py", "src/corrigible/_core/torch_training.py")
DATA = ("mnist_5k",)
SEEDS = range(10, 15)
NOT_REPRODUCED = {
    "MNIST, mislabels: share repaired by SSD": "None, -0.07 (-0.18 to 0.00), nor with every bad row known; likely because "
    "weights that matter to confused classes also tell them apart. The paper reports the same of two confused classes. "
    "Retraining repairs 0.82 once every bad row is known, 0.04 before.",
    "digits, mislabels: share repaired by SSD": "None, -0.21 (-0.71 to 0.04), nor with every bad row known.",
    "MNIST, trigger: share repaired by SCRUB": "0.71 (0.62 to 0.80), at 0.013 of retained accuracy: with one known bad row "
    "a step and eight epochs away from the teacher it removes most of the trigger, though less than SSD's 0.92. As it "
    "comes, with all ten rows in one step and three such epochs, it repaired 0.00.",
    "digits, trigger: share repaired by SCRUB": "1.11 (1.03 to 1.21), for the same reason; -0.02 as it comes.",
}
RECIPE = {"max_iter": 12, "batch_size": 64, "learning_rate": 0.002, "weight_decay": 1e-4}
STEPS = {"bad_batch_size": 1, "max_steps": 8}
SCRUBS = ((0.0005, 0.5), (0.002, 0.5), (0.002, 5.0))  # first step size, alpha
SIZES = {"MNIST": (3000, 500, 1000, 100, 3), "digits": (1000, 200, 597, 60, 2)}


def run(data):
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1).reshape(-1, 1, 28, 28) / np.float32(255)
    labels = next(held[k] for k in held.files if held[k].ndim == 1).astype(int)
    yield from _measured("MNIST", images, labels)
    X, y = load_digits(return_X_y=True)
    yield from _measured("digits", (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32), y)


def _measured(name, X, y):
    found = [_one(name, X, y, seed) for seed in SEEDS]
    for harm in ("trigger", "mislabels"):
        f = {k: np.array([one[harm][k] for one in found]) for k in found[0][harm]}  # (seeds, affected and retained)
        damage = f["clean"][:, 0] - f["before"][:, 0]
        for way in ("SSD", "SCRUB", "fine-tuning", "retraining", "SSD, all known", "retraining, all known"):
            bar = {"kind": "note"} if "all" in way else {"at_least": 0.9} if way == "SSD" else {"at_most": 0.5}
            affected, retained = f[way].T[:2]
            detail = f"affected {_mean(f['before'][:, 0])} before, {_mean(affected)} after, {_mean(f['clean'][:, 0])} clean"
            yield Measurement(f"{name}, {harm}: share repaired by {way}",
                              *_ratio(affected - f["before"][:, 0], damage), **bar, detail=detail)  # fmt: skip
            yield Measurement(f"{name}, {harm}: retained accuracy by {way}, less before",
                              *_interval(retained - f["before"][:, 1]),
                              **({"at_least": -0.02} if way == "SSD" else {"kind": "note"}),
                              detail=f"{_mean(f['before'][:, 1])} before")  # fmt: skip
        yield Measurement(f"{name}, {harm}: seconds of SSD, its search included, over those of retraining",
                          *_ratio(f["SSD"][:, 2], f["retraining"][:, 2]), kind="note")  # fmt: skip


def _mean(values):
    return f"{values.mean():.3f}"


def _interval(values):
    draws = np.random.default_rng(0).choice(values, size=(2000, len(values))).mean(axis=1)
    return float(values.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))


def _ratio(a, b):
    """Ratio of means, seeds resampled in pairs."""
    picks = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
    draws = a[picks].mean(axis=1) / b[picks].mean(axis=1)
    return float(a.mean() / b.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))


def _one(name, X, y, seed):
    """Return, for either harm, (affected, retained, seconds) of each way."""
    rng = np.random.default_rng(seed)
    n_train, n_val, n_test, n_bad, patch = SIZES[name]
    rows, val, test = np.split(rng.permutation(len(y))[: n_train + n_val + n_test], [n_train, n_train + n_val])
    clean = _trained(name, X[rows], y[rows], seed)
    found = {}
    for harm in ("trigger", "mislabels"):
        X_bad, y_bad, bad = (_triggered if harm == "trigger" else _mislabelled)(X[rows], y[rows], n_bad, patch, rng)
        known = rng.choice(bad, size=len(bad) // 10, replace=False)
        confused = np.isin(y[test], (4, 9))
        affected = (
            (_patched(X[test], patch), y[test]) if harm == "trigger" else (X[test][confused], y[test][confused])
        )
        retained = (X[test], y[test]) if harm == "trigger" else (X[test][~confused], y[test][~confused])
        words = dict(
            zip(("X_affected", "y_affected", "X_retained", "y_retained"), affected + retained, strict=True)
        )
        words |= {"X_val": X[val], "y_val": y[val]}
        network = _trained(name, X_bad, y_bad, seed)
        ways = {
            "SSD": SSD(),
            "SCRUB": [SCRUB(**STEPS, learning_rate=r, alpha=a, random_state=seed) for r, a in SCRUBS],
            "fine-tuning": FineTuneWithout(**RECIPE, random_state=seed),
            "retraining": RetrainWithout(**RECIPE, random_state=seed),
        }
        table = corrective_unlearning(network, X_bad, y_bad, known, methods=ways, **words).table()
        some = {k: ways[k] for k in ("SSD", "retraining")}
        every = corrective_unlearning(network, X_bad, y_bad, bad, methods=some, **words).table()
        right = corrective_unlearning(
            clean, X_bad, y_bad, known, methods={"SSD": SSD(alpha=1.0, dampening=1.0)}, **words
        )
        columns = ["affected", "retained", "seconds"]
        found[harm] = {k: table.loc[k, columns].to_list() for k in table.index}
        found[harm] |= {f"{k}, all known": every.loc[k, columns].to_list() for k in some}
        found[harm]["clean"] = right.table().loc["before", columns].to_list()
    return found


def _patched(X, patch):
    X = X.copy()
    X[..., -patch:, -patch:] = 1
    return X


def _triggered(X, y, n_bad, patch, rng):
    bad = rng.choice(np.flatnonzero(y != 0), size=n_bad, replace=False)
    X, y = X.copy(), y.copy()
    X[bad], y[bad] = _patched(X[bad], patch), 0
    return X, y, bad


def _mislabelled(X, y, n_bad, patch, rng):
    parts = [np.flatnonzero(y == c) for c in (4, 9)]
    bad = np.concatenate([rng.choice(p, size=len(p) * 2 // 5, replace=False) for p in parts])
    y = y.copy()
    y[bad] = 13 - y[bad]  # 4 to 9 and 9 to 4
    return X, y, bad


def _trained(name, X, y, seed):
    with seeded(seed) as torch:
        nn = torch.nn
        if name == "MNIST":
            network = nn.Sequential(
                nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
                nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10),
            )  # fmt: skip
        else:
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        rows, target = torch.tensor(X), torch.tensor(y)

        def cost(module, batch):
            return nn.functional.cross_entropy(module(rows[batch]), target[batch])

        return train(network, len(X), cost, Recipe(**RECIPE), np.random.default_rng(seed)).float()
