"""Laplace's approximation of the last layer and dropout passes, against one network and a deep ensemble."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import rotate
from scipy.stats import t as student
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from corrigible._core.losses import log
from corrigible.papers import Measurement
from corrigible.uncertainty import DeepEnsemble, LastLayerLaplace, MCDropout, calibration_error

CLAIM = """A posterior of the last layer, learnt after training, states better than the trained network alone what the
network knows, above all under shift (Laplace Redux); passes with dropout have a lower log loss than one pass without
(Gal and Ghahramani); a deep ensemble costs more and is a strong baseline."""
PROTOCOL = """scikit-learn's digits (8 x 8, 600 training rows) and MNIST (14 x 14 by averaging, 1,000 training rows); one
hidden layer of 64 units, 40 epochs, the same recipe for all; five members of the ensemble, 50 passes of dropout with
rate 0.2, full Hessian with the evidence's precision and the probit link. Four seeds, each with its own split. Test rows
as they are, turned by 30 degrees, with normal noise of 0.3 of the pixels' range. Log loss, ECE of 15 bins, AUROC of
wrong answers by 1 - max p; differences a seed with 95 % intervals of Student's t. Bars: not worse than the
baseline; set before any result, but those of Laplace on known rows, which were notes first."""
METHODS = ("last_layer_laplace", "mc_dropout")
DATA = ("mnist_5k",)
NOT_REPRODUCED = {
    "digits, known: log loss, Laplace less one network": "+0.22: on rows like those of training the posterior is far too "
    "cautious, its confidence 0.22 below its accuracy, that of the network 0.01.",
    "digits, known: ECE, Laplace less one network": "0.215 and 0.016, for the same reason.",
    "mnist, known: log loss, Laplace less one network": "+0.02, with an interval that holds 0.",
    "mnist, known: ECE, Laplace less one network": "0.145 and 0.045: too cautious on known rows.",
    "digits, known: log loss, dropout passes less one pass": "0.141 and 0.127: on rows like those of training there is no "
    "overconfidence to take away, and averaging passes flattens the probabilities. On MNIST passes are better (-0.026).",
    "digits, noisy: log loss, Laplace less one network": "0.718 and 0.696. Under this noise the network's own calibration "
    "error is 0.093, a third of that on turned rows and on MNIST's noise, where Laplace gains a nat.",
    "digits, noisy: ECE, Laplace less one network": "0.180 and 0.093: where the network is hardly overconfident, the "
    "posterior is too cautious.",
}
N_SEEDS, EPOCHS = 4, 40
CONDITIONS = ("known", "turned", "noisy")


def run(data):
    rows = [row for name, images, y, n in _collections(data) for s in range(N_SEEDS)
            for row in _scored(name, images, y, n, s)]  # fmt: skip
    table = pd.DataFrame(rows).set_index(["data", "condition", "seed", "method"]).unstack("method")
    for name in ("digits", "mnist"):
        for condition in CONDITIONS:
            here = table.loc[name, condition]
            for score in ("log loss", "ECE"):
                yield _less(f"{name}, {condition}: {score}, Laplace less one network", here[score], "Laplace",
                            "one network", at_most=0.0)  # fmt: skip
            yield _less(f"{name}, {condition}: log loss, dropout passes less one pass", here["log loss"], "dropout",
                        "dropout, one pass", at_most=0.0)  # fmt: skip
            for method in ("Laplace", "dropout"):
                for score in ("log loss", "ECE", "AUROC"):
                    yield _less(f"{name}, {condition}: {score}, {method} less deep ensemble", here[score], method,
                                "deep ensemble", kind="note")  # fmt: skip
    yield Measurement("largest difference of the evidence to a determinant of the whole matrix", _evidence_gap(),
                      at_most=1e-6, kind="reference", detail="iris, logistic regression")  # fmt: skip


def _less(title, scores, ours, other, **bar):
    gap = scores[ours] - scores[other]
    half = student.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
    detail = f"{ours} {scores[ours].mean():.3f}, {other} {scores[other].mean():.3f}; {len(gap)} seeds"
    return Measurement(title, float(gap.mean()), float(gap.mean() - half), float(gap.mean() + half),
                       detail=detail, **bar)  # fmt: skip


def _scored(name, images, y, n, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    train, test = order[:n], order[n : n + 1000]
    turned = rotate(images[test], 30, axes=(1, 2), reshape=False, order=1)
    shifted = (images[test], turned, images[test] + 0.3 * rng.normal(size=images[test].shape))
    X, words = images[train].reshape(n, -1), {"max_iter": EPOCHS, "random_state": seed}
    ensemble = DeepEnsemble(n_members=5, **words).fit(X, y[train])
    one = ensemble.members_[0]
    laplace = LastLayerLaplace(one, prefit=True).fit(X, y[train])
    dropout = MCDropout(**words).fit(X, y[train])
    for condition, x in zip(CONDITIONS, shifted, strict=True):
        x = x.reshape(len(x), -1)
        said = {"one network": ensemble.member_proba(x)[0], "deep ensemble": ensemble.predict_proba(x),
                "Laplace": laplace.predict_proba(x), "dropout": dropout.predict_proba(x),
                "dropout, one pass": _one_pass(dropout.module_, x)}  # fmt: skip
        for method, p in said.items():
            wrong = p.argmax(axis=1) != y[test]
            yield {"data": name, "condition": condition, "seed": seed, "method": method,
                   "log loss": log(y[test], p).mean(), "ECE": calibration_error(y[test], p),
                   "AUROC": roc_auc_score(wrong, -p.max(axis=1))}  # fmt: skip


def _one_pass(module, x):
    import torch

    with torch.no_grad():
        return module(torch.tensor(x)).softmax(dim=1).numpy()


def _collections(data):
    X, y = load_digits(return_X_y=True)
    yield "digits", X.reshape(-1, 8, 8) / 16, y, 600
    found = np.load(data / "mnist_5k" / "mnist_5k.npz")
    names = sorted(found, key=lambda k: -found[k].size)
    images = found[names[0]].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    yield "mnist", images, found[names[1]].ravel().astype(int), 1000


def _evidence_gap():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    fitted = LastLayerLaplace(model, prefit=True).fit(X, y)
    phi, p = np.column_stack([X, np.ones(len(X))]), model.predict_proba(X)
    hessian = sum(np.kron(np.diag(q) - np.outer(q, q), np.outer(f, f)) for q, f in zip(p, phi, strict=True))
    weights = np.column_stack([model.coef_, model.intercept_])
    fit, size = np.log(p[np.arange(len(y)), y]).sum(), len(hessian)

    def evidence(delta):
        ratio = np.linalg.slogdet(hessian + delta * np.eye(size))[1] - size * np.log(delta)
        return fit - 0.5 * ratio - 0.5 * delta * (weights**2).sum()

    return max(abs(evidence(d) - fitted.log_marginal_likelihood(d)) for d in (0.01, 1.0, 100.0))
