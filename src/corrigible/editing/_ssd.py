"""SSD: selective synaptic dampening shrinks the weights that matter more to bad rows than to all rows.

Papers: Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening (Foster, Schoepf, Brintrup, AAAI
2024); Corrective Machine Unlearning (Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024).
Original: https://github.com/if-loops/selective-synaptic-dampening
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._core.torch_training import Module, Tensor
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._unlearning import (
    Ints,
    Rows,
    accuracy,
    best,
    checked_rows,
    known_rows,
    network_copy,
    validation_rows,
)
from corrigible.errors import InvalidParameterError

CARD = Card(
    name="ssd",
    kind="measure",
    obj="SSD",
    also=("Dampening",),
    papers=("corr_unlearn",),
    refs=("foster2024fast", "goel2024corrective"),
    source="https://github.com/if-loops/selective-synaptic-dampening",
    differs="Importance squares the gradient of each row, as the paper's formula says; the authors' code squares the mean "
    "gradient of a batch. The search for alpha is ours: values at which given shares of the weights are selected, where "
    "the corrective paper tries fixed ones from 0.1 up, at which no weight is selected once the bad rows are learned by "
    "heart; lambda is alpha times the paper's factors. Of what keeps accuracy on validation rows within max_loss the one "
    "that forgets most is taken; the paper weighs both.",
    inputs="model, X, y, bad",
    stochastic=False,
    cost="A gradient a row, once; 40 passes over validation rows where alpha is searched. Memory: a dozen of the network's",
    use_when="A few of the rows that carry a trigger or another narrow pattern are known, and the rest cannot be found.",
    avoid_when="Two classes were confused with each other: the weights that confuse them also tell them apart.",
    requires=("torch",),
)

Floats = NDArray[np.floating]
_SHARES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
_FACTORS = (0.1, 0.5, 1.0, 5.0, 10.0)
_AT_ONCE = 2**24  # gradients of rows that are in memory at once, in numbers


@dataclass(frozen=True, kw_only=True)
class Dampening:
    """One strength of dampening that was tried.

    Attributes
    ----------
    alpha, dampening : float
        Above which ratio of importance a weight is selected, and the factor of its dampening. An infinite alpha
        selects none.
    n_dampened : int
        Weights made smaller.
    accuracy : float
        On the validation rows.
    still_bad : float
        Share of the known bad rows that are answered with the label they have in the training data.
    """

    alpha: float
    dampening: float
    n_dampened: int
    accuracy: float
    still_bad: float


class SSD(BaseEstimator):
    """Dampen the weights of a network that are more important to bad rows than to all rows.

    The importance of weight i is the diagonal of the Fisher information, the mean over rows of
    ``(d log p(y | x) / d w_i) ** 2``: F_i over the rows known to be bad, D_i over all rows. Where
    ``F_i > alpha * D_i`` the weight is multiplied by ``min(lambda * D_i / F_i, 1)``. Nothing is trained, no random
    number is drawn.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Ratio of importance above which a weight is selected; smaller forgets more. Foster et al. use 10.
    dampening : float or "auto", default="auto"
        lambda; smaller forgets more. Foster et al. use 1.
    max_loss : float, default=0.02
        With "auto": by how much accuracy on validation rows may fall.
    batch_size : int, default=64
        Rows whose gradients are taken together at most; it changes speed and memory, the result by rounding alone.

    Attributes
    ----------
    model_ : torch module
        The corrected copy, in evaluation mode.
    alpha_, dampening_ : float
        In use.
    n_dampened_ : int
        Weights made smaller.
    tried_ : list of Dampening
        What was tried with "auto", the network as it was first; with both numbers given, that one alone.

    See Also
    --------
    corrective_unlearning : Compares this with training methods.

    References
    ----------
    .. [1] Foster, J., Schoepf, S. and Brintrup, A. (2024). Fast Machine Unlearning Without Retraining Through Selective
       Synaptic Dampening. AAAI.
    .. [2] Goel, S., Prabhu, A., Torr, P., Kumaraguru, P. and Sanyal, A. (2024). Corrective Machine Unlearning. TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.editing import SSD
    >>> X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    >>> network = torch.nn.Linear(3, 2)
    >>> ssd = SSD(alpha=1.0, dampening=1.0).fit(network, X, (X[:, 0] > 0).astype(int), bad=[3, 8])
    >>> bool((ssd.model_.weight.abs() <= network.weight.abs()).all())
    True
    """

    def __init__(
        self,
        *,
        alpha: float | str = "auto",
        dampening: float | str = "auto",
        max_loss: float = 0.02,
        batch_size: int = 64,
    ) -> None:
        self.alpha = alpha
        self.dampening = dampening
        self.max_loss = max_loss
        self.batch_size = batch_size

    def fit(
        self,
        model: Any,
        X: Any,
        y: ArrayLike,
        bad: ArrayLike,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Measure importance, choose the strength and dampen a copy of the network.

        Parameters
        ----------
        model : torch module
            From rows to logits; left as it is. Parameters that require no gradient stay as they are.
        X : array-like or tensor of shape (n_samples, ...)
            The training rows, bad ones included. Of arrays, memory-mapped ones too, a batch at a time is read.
        y : array-like of shape (n_samples,)
            The labels it was trained on, as numbers of the logits' columns.
        bad : array-like of bool of shape (n_samples,), or of row numbers
            The rows known to be bad.
        X_val, y_val : array-like, optional
            Rows with right labels to choose alpha by; by default the training rows that are not known to be bad. Among
            those are the unknown bad ones, whose forgetting then counts as a loss: where they may be more than
            `max_loss` of the rows, give rows that were checked.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If rows are not finite, labels do not fit the logits, or no row or every row is bad.
        InvalidParameterError
            If a parameter is out of range, or the network has no parameter that requires a gradient.
        """
        by = type(self).__name__
        self._check(by)
        network = network_copy(model, by)
        rows = checked_rows(network, X, y, by=by)
        known = known_rows(bad, len(rows), by)
        everything = importance(rows, np.arange(len(rows)), self.batch_size)
        weights = _Weights(network, everything, importance(rows, known, self.batch_size))
        alphas = weights.alphas(_SHARES) if self.alpha == "auto" else [float(self.alpha)]
        grid = [(a, d) for a in alphas for d in self._dampenings(a)]
        validation, index = validation_rows(network, rows, known, X_val, y_val)

        def measured(alpha: float, dampening: float) -> Dampening:
            n = weights.dampen(alpha, dampening)
            right, wrong = accuracy(network, validation, index), accuracy(network, rows, known)
            return Dampening(alpha=alpha, dampening=dampening, n_dampened=n, accuracy=right, still_bad=wrong)

        searched = "auto" in (self.alpha, self.dampening)
        self.tried_ = [measured(*strength) for strength in [(np.inf, 1.0)] * searched + grid]
        floor = self.tried_[0].accuracy - self.max_loss
        chosen = self.tried_[best([(t.accuracy, t.still_bad) for t in self.tried_], floor)]
        self.alpha_, self.dampening_ = chosen.alpha, chosen.dampening
        self.n_dampened_ = weights.dampen(chosen.alpha, chosen.dampening)
        self.model_ = network
        return self

    def _check(self, by: str) -> None:
        for name in ("alpha", "dampening"):
            value = getattr(self, name)
            if isinstance(value, str) and value == "auto":
                continue
            if isinstance(value, str):
                raise InvalidParameterError(
                    f"The {name!r} parameter of {by} must be a positive number or 'auto'. Got {value!r}."
                )
            check_number(value, name=name, by=by, low=0.0, closed="right" if name == "alpha" else "both")
        check_number(self.max_loss, name="max_loss", by=by, low=0.0, high=1.0)
        check_count(self.batch_size, name="batch_size", by=by)

    def _dampenings(self, alpha: float) -> list[float]:
        return [f * alpha for f in _FACTORS] if self.dampening == "auto" else [float(self.dampening)]


class _Weights:
    """The weights of a network as they were, and how much they matter to all rows and to bad ones."""

    def __init__(self, network: Module, everything: dict[str, Tensor], bad: dict[str, Tensor]) -> None:
        self.network = network
        self.held = {name: network.get_parameter(name).detach().clone() for name in everything}
        self.bad = bad
        # D / F: none where a weight does not matter to bad rows, so that it is never selected
        self.inverse = {
            n: (everything[n] / f).where(f > 0, everything[n].new_tensor(np.inf)) for n, f in bad.items()
        }

    def alphas(self, shares: tuple[float, ...]) -> list[float]:
        """Return values of alpha that select given shares of the weights, or less where many are equal."""
        ratio = 1 / np.concatenate([v.flatten().cpu().numpy() for v in self.inverse.values()])
        places = [len(ratio) - 1 - min(int(np.ceil(s * len(ratio))), len(ratio) - 1) for s in shares]
        ordered = np.partition(ratio, places)
        return [float(a) for a in dict.fromkeys(ordered[places]) if a > 0]

    def dampen(self, alpha: float, dampening: float) -> int:
        """Write the dampened weights into the network and return how many are smaller."""
        n = 0
        for name, held in self.held.items():
            inverse = self.inverse[name]
            factor = (dampening * inverse).clamp(max=1.0).where(inverse * alpha < 1, inverse.new_ones(()))
            n += int((factor < 1).sum())
            self.network.get_parameter(name).data.copy_(held * factor.to(held.dtype))
        return n


def importance(rows: Rows, index: Ints, batch_size: int) -> dict[str, Tensor]:
    """Return the mean over rows of each weight's squared gradient, in float64, by the parameter's name."""
    network = rows.network
    trained = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
    if not trained:
        raise InvalidParameterError(
            f"The 'model' of {rows.by} must have a parameter that requires a gradient. Unfreeze those to change."
        )
    size = max(1, min(batch_size, _AT_ONCE // max(1, sum(p.numel() for p in trained.values()))))
    gradients = _vectorised(rows, trained)
    try:
        with warnings.catch_warnings():
            # A module that functorch vectorises by a loop is right all the same.
            warnings.filterwarnings("ignore", message=".*performance drop", category=UserWarning)
            return _mean_squares(rows, index, size, trained, gradients)
    except (RuntimeError, NotImplementedError):
        # Some modules, such as recurrent ones, cannot be vectorised over rows: then a row at a time.
        return _mean_squares(rows, index, 1, trained, _one_by_one(rows, list(trained)))


def _mean_squares(
    rows: Rows, index: Ints, size: int, trained: dict[str, Tensor], gradients: Callable[..., dict[str, Tensor]]
) -> dict[str, Tensor]:
    torch = rows.torch
    total = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in trained.items()}
    for part in _parts(index, size):
        for name, gradient in gradients(*rows.batch(part)).items():
            # In float64: squares of the tiny gradients of rows learned by heart are below what float32 holds.
            total[name] += torch.linalg.vector_norm(gradient, dim=0, dtype=torch.float64).square()
    return {n: t / len(index) for n, t in total.items()}


def _parts(index: Ints, size: int) -> Iterator[Ints]:
    for start in range(0, len(index), size):
        yield index[start : start + size]


def _vectorised(rows: Rows, trained: dict[str, Tensor]) -> Callable[..., dict[str, Tensor]]:
    torch = rows.torch

    def loss(weights: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(rows.network, weights, (row[None],))
        return torch.nn.functional.cross_entropy(logits, label[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    return lambda X, y: each(trained, X, y)


def _one_by_one(rows: Rows, names: list[str]) -> Callable[..., dict[str, Tensor]]:
    torch, weights = rows.torch, [rows.network.get_parameter(n) for n in names]

    def gradients(X: Tensor, y: Tensor) -> dict[str, Tensor]:
        lost = torch.nn.functional.cross_entropy(rows.network(X), y)
        found = torch.autograd.grad(lost, weights, allow_unused=True)
        return {n: g[None] for n, g in zip(names, found, strict=True) if g is not None}

    return gradients
