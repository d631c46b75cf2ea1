"""Bias that fine-tuned networks bring from pretraining, and the fine-tuning rows that overwrite it."""

from __future__ import annotations

import numpy as np

from corrigible._core.torch_training import Recipe, seeded, train
from corrigible.fairness import inherited_bias
from corrigible.papers import Measurement

CLAIM = """Networks fine-tuned from a biased pretrained one inherit its bias; a moderate change of the fine-tuning
rows' correlation of label and attribute takes it away, at hardly a loss of accuracy."""
PROTOCOL = """Digits (mnist_5k, 14 x 14) in one of two colours. Pretraining: 2500 images, 5 and above or below, the
colour the label's in 0.5 of them (neutral), or in 0.95 (biased), five networks each; and networks that were not
pretrained. Fine-tuning: odd or even, 240 rows from 1000 others, the colour the label's in 0.3 to 0.9 of them; two
hidden layers of 64 throughout, a new last layer. Test: 1500 images in both colours. Five seeds, t intervals. Bars: at
a share of 0.8 the biased start's difference of false positive rates exceeds the neutral one's, lower end of the
paired interval above 0; a share within 0.3 to 0.8 gives it the neutral one's at 0.8, at an accuracy at most 0.02
below."""
METHODS = ("inherited_bias",)
DATA = ("mnist_5k",)
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SEEDS = 5


def run(data):
    import torch

    images, digits = _digits(data)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(digits))
    before, pool, test = np.split(order, [2500, 3500])
    starts = {"neutral": [], "biased": [], "none": []}
    for seed in range(SEEDS):
        for name, share in (("neutral", 0.5), ("biased", 0.95)):
            y = (digits[before] >= 5).astype(int)
            cue = np.where(np.random.default_rng(seed).uniform(size=len(y)) < share, y, 1 - y)
            starts[name].append(_pretrained(_coloured(images[before], cue), y, seed))
        with seeded(100 + seed):
            starts["none"].append(_network(torch))
    cue = rng.integers(2, size=len(pool))
    both = np.repeat([0, 1], len(test))
    test = np.tile(test, 2)
    found = inherited_bias(
        starts, _coloured(images[pool], cue), digits[pool] % 2, cue,
        _coloured(images[test], both), digits[test] % 2, both,
        shares=SHARES, n_rows=240, n_seeds=SEEDS, max_iter=15, random_state=0,
    )  # fmt: skip
    yield from _told(found)


def _told(found):
    curve = found.curves.set_index(["start", "share"])
    apart = found.inherited.set_index(["start", "share"])
    at = apart.loc[("biased", 0.8)]
    bias = {name: curve.loc[(name, 0.8), "bias"] for name in ("neutral", "biased", "none")}
    name = "lower end: bias of the biased start minus the neutral one's, share 0.8"
    yield Measurement(name, at["bias_low"], at_least=0.0,
                      detail=f"{at['bias']:.3f}; biases {', '.join(f'{k} {v:.3f}' for k, v in bias.items())}")  # fmt: skip
    match = found.matching.set_index("start").loc["biased"]
    yield Measurement("share at which the biased start has the neutral one's bias at 0.8", match["share"], match["low"],
                      match["high"], at_least=0.3, at_most=0.8)  # fmt: skip
    yield Measurement("accuracy there minus the neutral start's at 0.8", match["accuracy"], at_least=-0.02,
                      detail=f"neutral at 0.8: {curve.loc[('neutral', 0.8), 'accuracy']:.3f}")  # fmt: skip
    for name in ("neutral", "biased", "none"):
        told = ", ".join(f"{s}: {curve.loc[(name, s), 'bias']:.3f}" for s in SHARES)
        row = curve.loc[(name, 0.5)]
        yield Measurement(f"bias at a share of 0.5, start {name}", row["bias"], row["bias_low"], row["bias_high"],
                          kind="note", detail=f"by share {told}; accuracy {row['accuracy']:.3f}")  # fmt: skip


def _digits(data):
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1)
    labels = next(held[k] for k in held.files if held[k].ndim == 1)
    small = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255.0
    return small.reshape(len(labels), -1), labels.astype(int)


def _coloured(images, cue):
    """Two channels; a digit is in that of its colour."""
    return np.concatenate([images * (cue == 0)[:, None], images * (cue == 1)[:, None]], axis=1)


def _network(torch):
    nn = torch.nn
    return nn.Sequential(nn.Linear(392, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def _pretrained(X, y, seed):
    with seeded(seed) as torch:
        rows, target = torch.tensor(X).float(), torch.tensor(y)

        def cost(module, i):
            return torch.nn.functional.cross_entropy(module(rows[i]), target[i])

        return train(_network(torch), len(y), cost, Recipe(12, 64, 0.003, 1e-4), np.random.default_rng(seed))
