"""Fine-tuning that breaks a network's connection with its old self, to make it drop a cue.

Paper: Mechanistic Mode Connectivity (Lubana, Bigelow, Dick, Krueger, Tanaka, ICML 2023), section 5.
Original: https://github.com/EkdeepSLubana/MMC
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._card import Card
from corrigible._core.torch_paths import between, weights_of
from corrigible._core.torch_training import Module, Tensor, seeded
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_labels, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="cbft",
    kind="measure",
    obj="cbft",
    papers=("modeconn",),
    refs=("lubana2023mechanistic",),
    source="https://github.com/EkdeepSLubana/MMC",
    differs="The features that are held invariant are the inputs of the network's last linear layer, whatever its "
    "architecture; steps of an epoch go through the clean rows, with as many cued rows drawn beside them.",
    inputs="estimator, X with cue, y, X without cue, y",
    stochastic=True,
    cost="max_iter epochs over the clean rows, four passes a batch",
    use_when="A network relies on a cue that will not hold, and a few rows without it can be had.",
    avoid_when="Clean rows are as many as rows with the cue: train on them anew.",
    requires=("torch",),
)

Floats = NDArray[np.floating]


def cbft(
    network: Any,
    X: ArrayLike,
    y: ArrayLike,
    X_clean: ArrayLike,
    y_clean: ArrayLike,
    *,
    margin: float = 1.0,
    invariance: float = 1.0,
    max_iter: int = 20,
    n_warm_up: int = 1,
    batch_size: int = 256,
    learning_rate: float = 0.01,
    random_state: RandomState = None,
) -> Any:
    """Fine-tune a network on rows without a cue so that no straight path of low loss leads back to it.

    Connectivity-based fine-tuning takes two steps in turn. The first lowers the barrier loss
    ``|margin - L(t c + (1 - t) w; rows with the cue)|`` of the parameters w, c being those of the network given and
    t a random point within [1/4, 3/4] of the path: on it, the loss shall stand at `margin`. The second lowers the loss
    on clean rows plus `invariance` times the mean over classes of
    ``||u(mean features of clean rows) - u(mean features of rows with the cue)||^2``, u scaling to length 1.

    Parameters
    ----------
    network : torch module
        From rows to logits, with a linear layer last; left as it is.
    X : array-like of shape (n_samples, n_features)
        Rows with the cue.
    y : array-like of shape (n_samples,)
        Numbers of the logits' columns.
    X_clean, y_clean : array-like of shape (n_clean, n_features) and (n_clean,)
        Rows without it.
    margin : float, default=1.0
        Loss wanted on the path, in nats.
    invariance : float, default=1.0
        Weight of the features' invariance.
    max_iter : int, default=20
        Epochs over the clean rows.
    n_warm_up : int, default=1
        Epochs without the invariance term, at full step size.
    batch_size : int, default=256
        Clean rows a step, and rows with the cue.
    learning_rate : float, default=0.01
        First step size of gradient descent with momentum 0.9; it falls to 0 along half a cosine.
    random_state : None, int, Generator or RandomState
        Source of points, shuffles and dropout.

    Returns
    -------
    torch module
        The fine-tuned network, in evaluation mode and float64.

    Raises
    ------
    InvalidParameterError
        If the network has no linear layer.

    See Also
    --------
    mode_connectivity : Measures the barrier.

    References
    ----------
    .. [1] Lubana, E. S., Bigelow, E. J., Dick, R. P., Krueger, D. and Tanaka, H. (2023). Mechanistic Mode
       Connectivity. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.compare import cbft
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=40)
    >>> cued = np.column_stack([y + rng.normal(size=40), 2.0 * y])
    >>> clean = cued * [1.0, 0.0]
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> tuned = cbft(network, cued, y, clean, y, max_iter=5, random_state=0)
    >>> tuned(torch.tensor(clean)).shape
    torch.Size([40, 2])
    """
    by = "cbft"
    check_number(margin, name="margin", by=by, low=0.0, high=1e6)
    check_number(invariance, name="invariance", by=by, low=0.0, high=1e6)
    check_count(max_iter, name="max_iter", by=by)
    check_count(n_warm_up, name="n_warm_up", by=by, low=0)
    check_count(batch_size, name="batch_size", by=by)
    check_number(learning_rate, name="learning_rate", by=by, low=0.0, high=1e6, closed="right")
    cued, clean = _rows(X, y), _rows(X_clean, y_clean)
    seed = integer_seed(as_generator(random_state))
    with seeded(seed):
        tuning = _Tuning(network, cued, clean, margin, invariance, learning_rate)
        return tuning.run(max_iter, n_warm_up, batch_size, np.random.default_rng(seed))


def _rows(X: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    rows = np.asarray(X, dtype=np.float32)
    if rows.ndim != 2 or len(rows) == 0 or not np.isfinite(rows).all():
        raise DataError(f"The rows of cbft must be a table that is finite in float32. Got shape {rows.shape}.")
    return rows, check_labels(y, n=len(rows), name="y", by="cbft")


class _Tuning:
    """The network that moves, the one that it came from, and the rows."""

    def __init__(
        self, network: Module, cued: Any, clean: Any, margin: float, invariance: float, rate: float
    ) -> None:
        self.torch = require("torch", extra="torch", by="cbft")
        linear = [m for m in network.modules() if isinstance(m, self.torch.nn.Linear)]
        if not linear:
            raise InvalidParameterError(
                f"The 'network' of cbft must have a torch.nn.Linear last. Got {type(network).__name__}."
            )
        self.moving = copy.deepcopy(network).float().train()
        self.origin = weights_of(self.moving)
        self.cued, self.clean = ([self.torch.tensor(v) for v in rows] for rows in (cued, clean))
        self.margin, self.invariance = margin, invariance
        self.optimiser = self.torch.optim.SGD(self.moving.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
        last = [m for m in self.moving.modules() if isinstance(m, self.torch.nn.Linear)][-1]
        self.features: Tensor = None
        self.hook = last.register_forward_pre_hook(self._keep)

    def _keep(self, _: Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]

    def run(self, max_iter: int, n_warm_up: int, batch_size: int, rng: np.random.Generator) -> Module:
        n = len(self.clean[0])
        n_batches = -(-n // batch_size)
        steps = max(1, (max_iter - n_warm_up) * n_batches)
        falling = self.torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, 2 * steps)
        for epoch in range(max_iter):
            for rows in np.array_split(rng.permutation(n), n_batches):
                beside = rng.choice(len(self.cued[0]), size=min(batch_size, len(self.cued[0])), replace=False)
                for cost in (lambda b=beside: self._barrier(b, rng),
                             lambda r=rows, b=beside, e=epoch: self._second(r, b, e >= n_warm_up)):  # fmt: skip
                    self.optimiser.zero_grad()
                    cost().backward()
                    self.optimiser.step()
                    if epoch >= n_warm_up:
                        falling.step()
        self.hook.remove()
        return self.moving.double().eval()

    def _barrier(self, rows: NDArray[Any], rng: np.random.Generator) -> Tensor:
        t = 0.5 + 0.5 * float(np.clip(rng.normal(), -0.5, 0.5))
        weights = between(t, dict(self.moving.named_parameters()), self.origin)
        # The mixed network must not leave its statistics of batch normalisation in the one that moves.
        weights |= {k: v.clone() for k, v in self.moving.named_buffers()}
        logits = self.torch.func.functional_call(self.moving, weights, (self.cued[0][rows],))
        return (self.margin - self._entropy(logits, self.cued[1][rows])).abs()

    def _second(self, rows: NDArray[Any], beside: NDArray[Any], invariant: bool) -> Tensor:
        loss = self._entropy(self.moving(self.clean[0][rows]), self.clean[1][rows])
        if not invariant or not self.invariance:
            return loss
        clean = self.features
        self.moving(self.cued[0][beside])
        return loss + self.invariance * self._apart(clean, rows, self.features, beside)

    def _apart(self, clean: Tensor, rows: NDArray[Any], cued: Tensor, beside: NDArray[Any]) -> Tensor:
        """Mean over classes of the squared distance between unit mean features."""
        ours, theirs = self.clean[1][rows], self.cued[1][beside]
        both = [c for c in self.torch.unique(ours) if (theirs == c).any()]
        unit = self.torch.nn.functional.normalize
        gaps = [(unit(clean[ours == c].mean(dim=0), dim=0) - unit(cued[theirs == c].mean(dim=0), dim=0)).pow(2).sum()
                for c in both]  # fmt: skip
        return self.torch.stack(gaps).mean() if gaps else self.torch.zeros(())

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.torch.nn.functional.cross_entropy(logits, target)
