"""What methods of unlearning share: rows that are read batch by batch, the marks of known bad ones, and the choice.

Rows stay where they are, a memory-mapped array on its disk; a batch of them at a time is turned into a tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._core.torch_training import Module, Tensor
from corrigible._utils.optional import require
from corrigible._utils.validation import as_array, check_labels
from corrigible.errors import DataError, InvalidParameterError

Ints = NDArray[np.intp]
BATCH = 256  # rows a pass that needs no gradient


class Unlearner(Protocol):
    """What `corrective_unlearning` asks of a method: after ``fit``, ``model_`` is the corrected network."""

    model_: Any

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
        """Correct a copy of the network."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows as a network takes them, one batch in memory at a time."""

    X: Any
    y: Ints
    network: Module
    torch: Any
    by: str

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, index: Ints) -> tuple[Tensor, Tensor]:
        """Return rows and labels where the network is; integer tensors stay integers, as embeddings need them."""
        torch, weight = self.torch, next(self.network.parameters())
        if hasattr(self.X, "detach"):
            rows = self.X[torch.as_tensor(index, device=self.X.device)].to(weight.device)
            rows = rows.to(weight.dtype) if rows.is_floating_point() else rows
        else:
            part = np.array(self.X[index])
            part = part if part.dtype in (np.float32, np.float64) else part.astype(np.float64)
            rows = torch.as_tensor(part).to(weight.device, weight.dtype)
        if rows.is_floating_point() and not bool(torch.isfinite(rows).all()):
            raise DataError(f"Rows of {self.by} must be finite in {weight.dtype}. Refill or drop what is missing.")
        return rows, torch.as_tensor(self.y[index], device=weight.device)


def network_copy(model: Any, by: str) -> Module:
    """Return a copy of a network in evaluation mode."""
    require("torch", extra="torch", by=by)
    if not hasattr(model, "named_parameters") or next(iter(model.parameters()), None) is None:
        raise InvalidParameterError(
            f"The 'model' of {by} must be a torch module with parameters. Got {type(model).__name__}."
        )
    return copy.deepcopy(model).eval()


def checked_rows(network: Module, X: Any, y: ArrayLike, *, by: str, name: str = "y") -> Rows:
    """Return rows and labels, checked against the logits of one row."""
    torch = require("torch", extra="torch", by=by)
    rows = X if hasattr(X, "detach") else np.asarray(X)
    if rows.ndim < 1 or len(rows) == 0:
        raise DataError(f"Rows of {by} must not be empty. Got shape {tuple(rows.shape)}.")
    probe = Rows(rows, np.zeros(1, dtype=np.intp), network, torch, by)
    with torch.no_grad():
        logits = network(probe.batch(np.arange(1))[0])
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(
            f"The network of {by} must answer with logits, a row each, a column a class. "
            f"Got shape {tuple(logits.shape)} for one row."
        )
    labels = check_labels(as_array(y), n=len(rows), n_classes=logits.shape[1], name=name, by=by)
    return Rows(rows, labels, network, torch, by)


def known_rows(bad: ArrayLike, n: int, by: str) -> Ints:
    """Return the numbers of the rows known to be bad, from a mask or from numbers, in order and once each."""
    given = as_array(bad)
    if given.dtype == bool and given.shape == (n,):
        found = np.flatnonzero(given)
    elif (
        given.dtype.kind in "iu" and given.ndim == 1 and (given.size == 0 or (0 <= given.min() <= given.max() < n))
    ):
        found = np.unique(given)
    else:
        raise DataError(
            f"'bad' of {by} must be a boolean mask of {n} rows or numbers of rows from 0 to {n - 1}. "
            f"Got {given.dtype} of shape {given.shape}."
        )
    if not 0 < len(found) < n:
        raise DataError(f"'bad' of {by} must mark some rows and leave some. Got {len(found)} of {n}.")
    return found.astype(np.intp)


def validation_rows(network: Module, rows: Rows, known: Ints, X_val: Any, y_val: Any) -> tuple[Rows, Ints]:
    """Return the rows to choose by: those given, or the training rows that are not known to be bad."""
    if (X_val is None) != (y_val is None):
        raise InvalidParameterError(f"{rows.by} takes X_val and y_val together. Got one of them.")
    if X_val is None:
        return rows, np.setdiff1d(np.arange(len(rows)), known)
    given = checked_rows(network, X_val, y_val, by=rows.by, name="y_val")
    return given, np.arange(len(given))


def accuracy(network: Module, rows: Rows, index: Ints) -> float:
    """Return the share of rows that the network answers with their label."""
    right = 0
    with rows.torch.no_grad():
        for start in range(0, len(index), BATCH):
            batch, labels = rows.batch(index[start : start + BATCH])
            right += int((network(batch).argmax(dim=1) == labels).sum())
    return right / len(index)


def best(scores: Sequence[tuple[float, float]], floor: float) -> int:
    """Return the number of the best (accuracy, share of known bad rows still answered as labelled).

    Of those whose accuracy is at least `floor` it is the one that has forgotten most, then the most accurate, then
    the first. Where none reaches the floor it is the most accurate.
    """
    within = [i for i, (right, _) in enumerate(scores) if right >= floor]
    if not within:
        return max(range(len(scores)), key=lambda i: (scores[i][0], -i))
    return min(within, key=lambda i: (scores[i][1], -scores[i][0], i))
