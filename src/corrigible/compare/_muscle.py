"""MUSCLE: a compatibility adapter that keeps an updated network from breaking what its predecessor got right.

Paper: MUSCLE: A Model Update Strategy for Compatible LLM Evolution (Echterhoff, Faghri, Vemulapalli, Hu, Li, Tuzel,
Pouransari, EMNLP Findings 2024).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._card import Card
from corrigible._core.torch_training import Module, Recipe, Tensor, seeded, train
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_labels, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="muscle",
    kind="measure",
    obj="muscle",
    papers=("muscle",),
    refs=("echterhoff2024muscle",),
    source="",
    differs="The paper adapts language models; a row with its class stands here for a token. Its adapter goes on from "
    "that of the new task model; here a new one of zeros does, on the new network, which is the same function. Full text "
    "and code were not at hand: the masked objective is written from its description, and steps, rank and rates are ours.",
    inputs="estimator, estimator, X, y",
    stochastic=True,
    cost="max_iter epochs of the new network's passes, one pass of the old one",
    use_when="A deployed torch network is replaced, and rows are at hand that neither was fitted to.",
    avoid_when="The only rows are those that the new network was fitted to: it errs on none, so that nothing is masked.",
    requires=("torch",),
)

Floats = NDArray[np.floating]
_BY = "muscle"


def muscle(
    old: Any,
    new: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    rank: int = 8,
    mask: str = "wrong",
    max_iter: int = 20,
    batch_size: int = 64,
    learning_rate: float = 0.003,
    weight_decay: float = 0.0,
    random_state: RandomState = None,
) -> Any:
    """Return the new network with a low-rank adapter trained to agree with the old one where it would err.

    With the probabilities p of the adapted network, the adapter minimises the mean over rows of
    ``m KL(p_old || p) + (1 - m) KL(p_new || p)``; the mask m is 1 where p is wrong at the time. The weights of the new
    network stay as they are: each matrix and kernel W becomes ``W + B A`` with A and B of the rank given, B starting
    at 0. Adam does not settle where the gradient is 0 but hovers about, at a distance in proportion to `learning_rate`.

    Parameters
    ----------
    old, new : torch module
        Networks from rows to logits, with the same classes; left as they are.
    X : array-like of shape (n_samples, ...)
        Rows of the task.
    y : array-like of shape (n_samples,)
        Numbers of the logits' columns.
    rank : int, default=8
        Of the adapter, at most that of each matrix.
    mask : {"wrong", "likelihood", "all", "none"}, default="wrong"
        Rows that the old network teaches: those on which the adapted one is wrong; those whose label is likelier to the
        old network than to the new; all (plain distillation from the old); none.
    max_iter : int, default=20
        Epochs.
    batch_size : int, default=64
        Rows a step.
    learning_rate : float, default=0.003
        First step size of Adam; it falls to 0 along half a cosine.
    weight_decay : float, default=0.0
        Of the adapter.
    random_state : None, int, Generator or RandomState
        Source of the adapter's start and the shuffles.

    Returns
    -------
    torch module
        A network like `new`, of its precision, with the adapter merged into its weights, in evaluation mode.

    Raises
    ------
    DataError
        If rows are not finite, or the networks answer with different classes.
    InvalidParameterError
        If the new network has no linear or convolutional layer.

    See Also
    --------
    CompatibleUpdate : The analogue for scikit-learn classifiers.
    negative_flips : Counts what turned wrong.

    References
    ----------
    .. [1] Echterhoff, J., Faghri, F., Vemulapalli, R. and others (2024). MUSCLE: A Model Update Strategy for
       Compatible LLM Evolution. EMNLP Findings.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.compare import muscle
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> old, new = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    >>> adapted = muscle(old, new, X, y, rank=1, max_iter=2, random_state=0)
    >>> adapted(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """
    check_count(rank, name="rank", by=_BY)
    check_choice(mask, ("wrong", "likelihood", "all", "none"), name="mask", by=_BY)
    check_count(max_iter, name="max_iter", by=_BY)
    check_count(batch_size, name="batch_size", by=_BY)
    check_number(learning_rate, name="learning_rate", by=_BY, low=0.0, high=1e6, closed="right")
    check_number(weight_decay, name="weight_decay", by=_BY, low=0.0, high=1e6)
    torch = require("torch", extra="torch", by=_BY)
    rows = torch.tensor(_rows(X))
    old_log, new_log = (_log_proba(torch, network, rows) for network in (old, new))
    if old_log.ndim != 2 or old_log.shape != new_log.shape:
        raise DataError(
            f"The networks of {_BY} must answer with logits of the same classes. Got shapes {tuple(old_log.shape)} and "
            f"{tuple(new_log.shape)}."
        )
    labels = torch.tensor(check_labels(y, n_classes=new_log.shape[1], n=len(rows), name="y", by=_BY))
    seed = integer_seed(as_generator(random_state))
    with seeded(seed):
        adapter = _adapter(torch, new, rank)
        taught = {"all": torch.ones(len(rows), dtype=torch.bool), "none": torch.zeros(len(rows), dtype=torch.bool)}
        label = labels[:, None]
        taught["likelihood"] = (old_log.gather(1, label) > new_log.gather(1, label))[:, 0]

        def cost(module: Module, batch: Any) -> Tensor:
            log_p = module(rows[batch]).log_softmax(dim=1)
            wrong = log_p.detach().argmax(dim=1) != labels[batch]
            m = (wrong if mask == "wrong" else taught[mask][batch])[:, None]
            target = torch.where(m, old_log[batch], new_log[batch])
            return (target.exp() * (target - log_p)).sum(dim=1).mean()

        recipe = Recipe(max_iter, batch_size, learning_rate, weight_decay)
        return train(adapter, len(rows), cost, recipe, np.random.default_rng(seed)).merged()


def _rows(X: ArrayLike) -> Floats:
    rows = np.array(X, dtype=np.float32)  # a copy: torch takes no array that must not be written to
    if rows.ndim < 2 or len(rows) == 0 or not np.isfinite(rows).all():
        raise DataError(f"'X' of {_BY} must be rows that are finite in float32. Got shape {rows.shape}.")
    return rows


def _log_proba(torch: Any, network: Module, rows: Tensor) -> Tensor:
    network = copy.deepcopy(network).float().eval()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in rows.split(4096)])
    return logits.log_softmax(dim=1) if logits.ndim == 2 else logits


def _adapter(torch: Any, network: Module, rank: int) -> Module:
    """Return a module whose only parameters are the factors of the adapter; the network in it is frozen."""
    frozen = copy.deepcopy(network).float().eval().requires_grad_(False)
    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    names = [f"{n}.weight" if n else "weight" for n, m in frozen.named_modules() if isinstance(m, kinds)]
    if not names:
        raise InvalidParameterError(
            f"The 'new' network of {_BY} must have a linear or convolutional layer to adapt. Got {type(network).__name__}."
        )

    class Adapter(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.held = (frozen,)  # in a tuple, so that its parameters are not this module's
            self.left, self.right = torch.nn.ParameterList(), torch.nn.ParameterList()
            for name in names:
                n_out, n_in = frozen.get_parameter(name).flatten(1).shape
                r = min(rank, n_out, n_in)
                self.left.append(torch.zeros(n_out, r))
                self.right.append(torch.randn(r, n_in) / math.sqrt(n_in))

        def weights(self) -> dict[str, Tensor]:
            kept = [frozen.get_parameter(name) for name in names]
            made = zip(names, kept, self.left, self.right, strict=True)
            return {name: w + (b @ a).to(w.dtype).view_as(w) for name, w, b, a in made}

        def forward(self, X: Tensor) -> Tensor:
            return torch.func.functional_call(frozen, self.weights(), (X,))

        def merged(self) -> Module:
            adapted = copy.deepcopy(network).eval()
            with torch.no_grad():
                for name, value in self.weights().items():
                    adapted.get_parameter(name).copy_(value)
            return adapted

    return Adapter()
