"""Mechanistic mode connectivity: networks of different cues are apart, and CBFT makes a network drop its cue."""

from __future__ import annotations

import copy

import numpy as np

from corrigible._core.torch_training import Recipe, outputs, seeded, train
from corrigible.compare import cbft, mode_connectivity
from corrigible.papers import Measurement

CLAIM = """Networks that answer by different cues are not joined by a straight path of low loss, even with their hidden
units aligned, while a bent path joins them. Naive fine-tuning on rows without the cue stays connected to the old
network and goes on reading it; connectivity-based fine-tuning (CBFT) breaks the connection and reads it less."""
PROTOCOL = """MNIST, 2000 training and 1000 test images, reduced to 14 by 14 pixels; the cue is one of ten boxes
beside the image, that of the class. Cued networks are trained with the cue on all images, clean ones without,
two hidden layers of 64 units with batch normalisation, as the paper's networks have. Fine-tuning with 100 clean
images (5 %, the paper's share), 200 steps of gradient descent (the authors' number and their step size 0.01) for both
ways, batches of 20. 3 seeds. Losses on test images with the cue. Reliance: accuracy on clean
images minus accuracy on images whose cue is that of a random class."""
METHODS = ("mode_connectivity", "cbft")
DATA = ("mnist_5k",)
SOURCES = ("src/corrigible/_core/torch_paths.py", "src/corrigible/_core/torch_training.py")
NOT_REPRODUCED = {
    "barrier between a cued and a clean network minus that between two cued ones, nats": "-0.002: with aligned units "
    "the loss never exceeds the straight line between its ends on the way from a cued to a clean network, although "
    "they differ by 0.69 in reliance, and exceeds it by 0.002 between two cued ones. Without batch normalisation it "
    "was -0.019. The paper's barriers are those of VGG-13 and ResNet-18 on 50000 images.",
    "quadratic over linear barrier, cued and clean network": "There is no linear barrier that could be bent round.",
    "barrier after CBFT, nats": "0: 200 steps of the authors' size lower the reliance, but the loss on the way back "
    "stays below the line between its ends, as between networks that were trained apart.",
}
SEEDS = range(3)


def run(data):
    rows = {}
    for seed in SEEDS:
        for name, value in _one(data, seed).items():
            rows.setdefault(name, []).append(value)
    mean = {k: float(np.mean(v)) for k, v in rows.items()}

    def said(name, values, detail="", **bar):
        values = np.asarray(values)
        return Measurement(
            name, float(values.mean()), float(values.min()), float(values.max()), detail=detail, **bar
        )

    apart = np.subtract(rows["barrier, cued and clean"], rows["barrier, cued and cued"])
    yield said("barrier between a cued and a clean network minus that between two cued ones, nats", apart,
               f"{mean['barrier, cued and clean']:.3f} and {mean['barrier, cued and cued']:.3f}, units aligned",
               at_least=0.1)  # fmt: skip
    straight = mean["barrier, cued and clean"]
    bent = (
        mean["quadratic barrier, cued and clean"] / straight if straight > 0.01 else np.nan
    )  # no barrier, no claim
    yield Measurement("quadratic over linear barrier, cued and clean network", bent, at_most=0.5,
                      detail=f"mean quadratic barrier {mean['quadratic barrier, cued and clean']:.3f} nats")  # fmt: skip
    yield said("barrier after naive fine-tuning, nats", rows["barrier, naive"], at_most=0.05)
    yield said("barrier after CBFT, nats", rows["barrier, cbft"], at_least=0.3)
    for kind in ("original", "naive", "cbft"):
        yield said(f"reliance on the cue, {kind}", rows[f"reliance, {kind}"],
                   f"accuracy on clean images {mean[f'clean, {kind}']:.3f}, with a random cue "
                   f"{mean[f'random, {kind}']:.3f}", kind="note")  # fmt: skip
    yield said("reliance after naive fine-tuning minus after CBFT",
               np.subtract(rows["reliance, naive"], rows["reliance, cbft"]), at_least=0.05)  # fmt: skip
    yield said("accuracy with a random cue, CBFT minus naive fine-tuning",
               np.subtract(rows["random, cbft"], rows["random, naive"]), at_least=0.05)  # fmt: skip
    yield said("largest gap of a shuffled network's path to no barrier", rows["shuffled"], at_most=1e-9,
               kind="reference")  # fmt: skip


def _one(data, seed):
    (X, y), (Z, z), rng = _mnist(data, seed)
    cued, clean = _with_cue(X, y), _with_cue(X, None)
    test = {
        "cue": _with_cue(Z, z),
        "clean": _with_cue(Z, None),
        "random": _with_cue(Z, rng.integers(10, size=len(z))),
    }
    first, second = (_network(cued, y, 10 * seed + s) for s in range(2))
    other = _network(clean, y, 10 * seed + 2)
    few = rng.permutation(len(y))[:100]
    naive = _fine_tuned(first, clean[few], y[few], seed)
    tuned = cbft(first, cued, y, clean[few], y[few], max_iter=40, batch_size=20, random_state=seed)
    words = {"X_train": cued, "y_train": y, "random_state": seed}
    found = {
        "barrier, cued and clean": _barrier(first, other, test["cue"], z, **words),
        "barrier, cued and cued": _barrier(first, second, test["cue"], z, **words),
        "quadratic barrier, cued and clean": _barrier(first, other, test["cue"], z, path="quadratic", max_iter=10,
                                                      **words),
        "barrier, naive": _barrier(first, naive, test["cue"], z, **words),
        "barrier, cbft": _barrier(first, tuned, test["cue"], z, **words),
        "shuffled": _barrier(first, _shuffled(first, rng), test["cue"], z, **words),
    }  # fmt: skip
    for kind, network in (("original", first), ("naive", naive), ("cbft", tuned)):
        right = {k: float((outputs(network, rows).argmax(axis=1) == z).mean()) for k, rows in test.items()}
        found |= {f"clean, {kind}": right["clean"], f"random, {kind}": right["random"]}
        found[f"reliance, {kind}"] = right["clean"] - right["random"]
    return found


def _barrier(a, b, X, y, **words):
    return mode_connectivity(a, b, X, y, **words).data.barrier


def _mnist(data, seed):
    file = np.load(data / "mnist_5k" / "mnist_5k.npz")
    X, y = (file[k] for k in (("X", "y") if "X" in file else file.files[:2]))
    X = np.asarray(X, dtype=float).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255
    y = np.asarray(y).ravel().astype(int)
    rng = np.random.default_rng([seed, 5])
    rows = rng.permutation(len(y))
    return (X[rows[:2000]], y[rows[:2000]]), (X[rows[2000:3000]], y[rows[2000:3000]]), rng


def _with_cue(X, label):
    box = np.zeros((len(X), 10)) if label is None else np.eye(10)[label]
    return np.column_stack([X, np.repeat(box, 2, axis=1)])


def _network(X, y, seed):
    with seeded(seed) as torch:
        nn = torch.nn
        hidden = [
            nn.Linear(216, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
        ]
        network = nn.Sequential(*hidden, nn.Linear(64, 10))
        rows, target = torch.tensor(X).float(), torch.tensor(y)

        def cost(module, batch):
            return nn.functional.cross_entropy(module(rows[batch]), target[batch])

        return train(network, len(X), cost, Recipe(15, 64, 0.003, 1e-4), np.random.default_rng(seed))


def _fine_tuned(network, X, y, seed):
    import torch

    tuned = copy.deepcopy(network).float().train()
    optimiser = torch.optim.SGD(tuned.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    rows, target, rng = torch.tensor(X).float(), torch.tensor(y), np.random.default_rng(seed)
    for _ in range(40):
        for batch in np.array_split(rng.permutation(len(X)), 5):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(tuned(rows[batch]), target[batch]).backward()
            optimiser.step()
            falling.step()
    return tuned.double().eval()


def _shuffled(network, rng):
    import torch

    other = copy.deepcopy(network)
    with torch.no_grad():
        for here in (0, 3):
            order = torch.tensor(rng.permutation(64))
            for layer in (other[here], other[here + 1]):
                for name in ("weight", "bias", "running_mean", "running_var"):
                    if hasattr(layer, name):
                        getattr(layer, name).copy_(getattr(layer, name)[order].clone())
            other[here + 3].weight.copy_(other[here + 3].weight[:, order].clone())
    return other
