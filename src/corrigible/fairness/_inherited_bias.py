"""How much bias a network brings from its pretraining into a new task, and which fine-tuning rows overwrite it.

Paper: Overwriting Pretrained Bias with Finetuning Data (Wang, Russakovsky, ICCV 2023).
Original: none found
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from corrigible._card import Card
from corrigible._core.torch_training import Module, Recipe, cross_entropy, outputs, seeded, train
from corrigible._utils.optional import require
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_labels, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="inherited_bias",
    kind="measure",
    obj="inherited_bias",
    also=("InheritedBias",),
    papers=("overwrite_bias",),
    refs=("wang2023overwriting",),
    source="",
    differs="Abstract and introduction were at hand, so the design is ours: of the paper's two notions of bias the "
    "spurious correlation of label and attribute, not underrepresentation; labels are balanced and the correlation is "
    "set by drawing rows; starts are compared pair by pair, with intervals over seeds; the share that undoes what is "
    "inherited is read off the curve.",
    inputs="estimator, X, y, attribute, X_test, y_test, attribute_test",
    stochastic=True,
    cost="a fine-tuning for each start, share and seed",
    use_when="A pretrained network is to be fine-tuned on few rows, and an attribute may sway what it has learnt.",
    avoid_when="The attribute is not known on any rows: nothing can be drawn or measured by it.",
    requires=("torch",),
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class InheritedBias:
    """Outcome of `inherited_bias`; intervals are t intervals over seeds.

    Attributes
    ----------
    curves : DataFrame
        A row a start and share: ``start, share, bias, bias_low, bias_high, accuracy, accuracy_low, accuracy_high``.
    inherited : DataFrame
        A row a start other than the reference and a share: ``bias`` and ``accuracy`` less those of the reference,
        paired by seed, each with ``_low`` and ``_high``.
    matching : DataFrame
        A row a start other than the reference: ``share`` at which its bias is the reference's at the largest share,
        with ``low`` and ``high``; NaN if it is not within the shares for at least half of the seeds. ``accuracy`` there
        less the reference's, by the same line.
    n_rows : int
        Rows of each fine-tuning.
    by_seed : ndarray of shape (n_starts, n_shares, n_seeds, 2)
        Bias and accuracy of each.
    """

    curves: pd.DataFrame
    inherited: pd.DataFrame
    matching: pd.DataFrame
    n_rows: int
    by_seed: Floats = field(repr=False)


def inherited_bias(
    starts: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    attribute: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    attribute_test: ArrayLike,
    *,
    shares: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
    n_rows: int | None = None,
    n_seeds: int = 5,
    new_head: bool = True,
    max_iter: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.003,
    weight_decay: float = 1e-4,
    confidence: float = 0.95,
    random_state: RandomState = None,
    n_jobs: int | None = None,
) -> InheritedBias:
    """Fine-tune several starting networks on rows of more and less correlated attribute, and measure their bias.

    Rows are drawn so that half have label 1, and the attribute is the label in `share` of either half: at 0.5 it says
    nothing, at 1 all. Bias is the difference of false positive rates on the test rows, attribute 1 less attribute 0:
    how much more often the attribute alone makes a negative row positive. Accuracy is the mean over the four cells of
    label and attribute.

    Parameters
    ----------
    starts : mapping of str to torch module or sequence of them
        Networks from rows to logits, with a linear layer last; the first named is the reference, such as one pretrained
        without the correlation or not at all. Of several, seed i starts from the i-th, so that intervals hold pretraining
        too. None is changed.
    X : array-like of shape (n_samples, n_features)
        Rows to draw from.
    y, attribute : array-like of shape (n_samples,)
        Labels and attribute, 0 or 1.
    X_test, y_test, attribute_test : array-like
        Rows to measure on, with all four cells.
    shares : sequence of float, default=(0.5, 0.6, 0.7, 0.8, 0.9)
        Correlations to try, rising.
    n_rows : int, optional
        Rows of a fine-tuning; by default as many as every share can have without drawing a row twice.
    n_seeds : int, default=5
        Fine-tunings of each start and share; rows and shuffles of a seed are the same for all starts.
    new_head : bool, default=True
        Put a new last layer of two outputs in place of the network's, as for a new task.
    max_iter, batch_size, learning_rate, weight_decay
        Epochs, rows a step, first step size of Adam, and decoupled weight decay.
    confidence : float, default=0.95
        Of the intervals.
    random_state : None, int, Generator or RandomState
        Source of the seeds.
    n_jobs : int, optional
        Fine-tunings at once.

    Returns
    -------
    InheritedBias

    Raises
    ------
    DataError
        If labels or attributes are not 0 and 1, a cell is empty, or rows do not suffice.
    InvalidParameterError
        If a start is no torch network with a linear layer.

    References
    ----------
    .. [1] Wang, A. and Russakovsky, O. (2023). Overwriting Pretrained Bias with Finetuning Data. ICCV.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.fairness import inherited_bias
    >>> rng = np.random.default_rng(0)
    >>> y, cue = rng.integers(2, size=(2, 400))
    >>> X = np.column_stack([y + rng.normal(size=400), cue])
    >>> plain = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> found = inherited_bias({"plain": plain}, X, y, cue, X, y, cue, shares=(0.5, 0.9), n_seeds=2, random_state=0)
    >>> bool(found.curves["bias"][1] > found.curves["bias"][0])
    True
    """
    by = "inherited_bias"
    torch = require("torch", extra="torch", by=by)
    check_count(n_seeds, name="n_seeds", by=by, low=2)
    check_number(confidence, name="confidence", by=by, low=0, high=1, closed="neither")
    recipe = Recipe.of(_Settings(max_iter, batch_size, learning_rate, weight_decay), by)
    rows, labels, cue = _rows(X, y, attribute, "", by)
    tested = _rows(X_test, y_test, attribute_test, "_test", by)
    if not len(shares) or any(not 0 <= s <= 1 for s in shares) or list(shares) != sorted(set(shares)):
        raise InvalidParameterError(f"The 'shares' of {by} must rise from 0 to 1. Got {list(shares)}.")
    size = _size(2 * labels + cue, shares, n_rows, by)
    networks = {name: _networks(name, given, torch, by) for name, given in starts.items()}
    if not networks:
        raise InvalidParameterError(f"The 'starts' of {by} must name at least one network. Got none.")
    rng = as_generator(random_state)
    seeds = [integer_seed(rng) for _ in range(n_seeds)]
    tasks = [
        (given[i % len(given)], rows, labels, cue, tested, share, size, recipe, new_head, seed)
        for given in networks.values()
        for share in shares
        for i, seed in enumerate(seeds)
    ]
    found = np.array(parallel_map(_tuned, tasks, n_jobs=n_jobs)).reshape(len(networks), len(shares), n_seeds, 2)
    return _outcome(found, list(networks), list(shares), size, confidence)


@dataclass(frozen=True)
class _Settings:
    max_iter: int
    batch_size: int
    learning_rate: float
    weight_decay: float


def _rows(
    X: ArrayLike, y: ArrayLike, attribute: ArrayLike, suffix: str, by: str
) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    rows = np.asarray(X, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or not (np.abs(rows) < np.finfo(np.float32).max).all():
        raise DataError(f"'X{suffix}' of {by} must be a table that is finite in float32. Got shape {rows.shape}.")
    labels = check_labels(y, n=len(rows), n_classes=2, name=f"y{suffix}", by=by)
    cue = check_labels(attribute, n=len(rows), n_classes=2, name=f"attribute{suffix}", by=by)
    counts = np.bincount(2 * labels + cue, minlength=4)
    if (counts == 0).any():
        cell = int(counts.argmin())
        raise DataError(
            f"{by} needs test and training rows of label {cell // 2} and attribute {cell % 2}. Got none."
        )
    return rows, labels, cue


def _size(cells: NDArray[np.intp], shares: Sequence[float], wanted: int | None, by: str) -> int:
    counts = np.bincount(cells, minlength=4)
    alike, apart = min(counts[0], counts[3]), min(counts[1], counts[2])
    most = min(2 * int(min(alike / s if s else np.inf, apart / (1 - s) if s < 1 else np.inf)) for s in shares)
    size = most if wanted is None else check_count(wanted, name="n_rows", by=by, low=4)
    if size > most or size < 4:
        raise DataError(
            f"{by} can draw {most} rows at most of the shares {list(shares)} without drawing one twice, and needs 4. "
            f"Got n_rows={wanted}. Ask for fewer rows or for shares nearer to those of the data."
        )
    return size - size % 2


def _networks(name: str, given: Any, torch: Any, by: str) -> list[Module]:
    found = [given] if isinstance(given, torch.nn.Module) else list(given if isinstance(given, Sequence) else [])
    linear = [any(isinstance(m, torch.nn.Linear) for m in n.modules()) for n in found if hasattr(n, "modules")]
    if not found or len(linear) < len(found) or not all(linear):
        raise InvalidParameterError(
            f"Start {name!r} of {by} must be a torch module with a torch.nn.Linear last, or a sequence of them. "
            f"Got {type(given).__name__}."
        )
    return found


def _drawn(cells: NDArray[np.intp], share: float, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of which half have label 1, and the share of either half the label for attribute."""
    alike = round(share * size / 2)
    wanted = [alike, size // 2 - alike, size // 2 - alike, alike]
    return np.concatenate([rng.permutation(np.flatnonzero(cells == c))[:n] for c, n in enumerate(wanted)])


def _tuned(
    start: Module, rows: Floats, labels: NDArray[np.intp], cue: NDArray[np.intp], tested: Any, share: float, size: int,
    recipe: Recipe, new_head: bool, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Return bias and accuracy of one fine-tuned copy."""
    with seeded(seed) as torch:
        rng = np.random.default_rng(seed)
        kept = _drawn(2 * labels + cue, share, size, rng)
        network = copy.deepcopy(start)
        if new_head:
            _put_head(network, torch)
        X = torch.tensor(rows[kept]).float()
        target = torch.nn.functional.one_hot(torch.tensor(labels[kept]), 2).float()
        train(network, size, lambda m, i: cross_entropy(m, X[i], target[i]), recipe, rng)
    X_test, y_test, cue_test = tested
    said = outputs(network, X_test)[:, :2].argmax(axis=1)
    rate = np.array([said[(y_test == c) & (cue_test == a)].mean() for c in (0, 1) for a in (0, 1)])
    return float(rate[1] - rate[0]), float((2 - rate[0] - rate[1] + rate[2] + rate[3]) / 4)


def _put_head(network: Module, torch: Any) -> None:
    """Replace the last linear layer by a new one of two outputs."""
    name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)][-1]
    owner = network.get_submodule(name.rpartition(".")[0])
    setattr(owner, name.rpartition(".")[2], torch.nn.Linear(last.in_features, 2))


def _outcome(found: Floats, names: list[str], shares: list[float], size: int, confidence: float) -> InheritedBias:
    curves, inherited, matching = [], [], []
    for k, name in enumerate(names):
        for j, share in enumerate(shares):
            curves.append(
                (name, share, *_interval(found[k, j, :, 0], confidence), *_interval(found[k, j, :, 1], confidence))
            )
            if k:
                apart = found[k, j] - found[0, j]
                inherited.append(
                    (name, share, *_interval(apart[:, 0], confidence), *_interval(apart[:, 1], confidence))
                )
        if k:
            matching.append((name, *_matching(found[k], found[0, -1], np.array(shares), confidence)))
    columns = ["start", "share", *(f"{m}{e}" for m in ("bias", "accuracy") for e in ("", "_low", "_high"))]
    return InheritedBias(
        curves=pd.DataFrame(curves, columns=columns),
        inherited=pd.DataFrame(inherited, columns=columns),
        matching=pd.DataFrame(matching, columns=["start", "share", "low", "high", "accuracy"]),
        n_rows=size,
        by_seed=found,
    )


def _interval(values: Floats, confidence: float) -> tuple[float, float, float]:
    mean = float(values.mean())
    half = float(student.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _matching(own: Floats, wanted: Floats, shares: Floats, confidence: float) -> tuple[float, float, float, float]:
    """Return the share, with interval, where a start's bias meets the wanted one, and what accuracy changes there."""
    met = [_crossing(own[:, s, 0], float(wanted[s, 0]), shares) for s in range(own.shape[1])]
    known = np.isfinite(met)
    if known.sum() < max(2, len(met) / 2):
        return (float("nan"),) * 4
    share, low, high = _interval(np.array(met)[known], confidence)
    change = [np.interp(met[s], shares, own[:, s, 1]) - wanted[s, 1] for s in np.flatnonzero(known)]
    return share, low, high, float(np.mean(change))


def _crossing(bias: Floats, wanted: float, shares: Floats) -> float:
    """Largest share at which the curve of straight pieces meets a value; NaN if nowhere."""
    for j in range(len(shares) - 1, 0, -1):
        a, b = bias[j - 1] - wanted, bias[j] - wanted
        if a * b <= 0 and a != b:
            return float(shares[j - 1] + (shares[j] - shares[j - 1]) * a / (a - b))
    return float("nan")
