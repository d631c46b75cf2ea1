"""Whether two networks are joined by a path of low loss, on the data and where a cue is changed.

Paper: Mechanistic Mode Connectivity (Lubana, Bigelow, Dick, Krueger, Tanaka, ICML 2023).
Original: https://github.com/EkdeepSLubana/MMC
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._card import Card
from corrigible._core.torch_paths import Weights, alike, at, between, permuted_towards, weights_of
from corrigible._core.torch_training import Module, Recipe, Tensor, outputs, seeded
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_labels, check_number
from corrigible.errors import DataError

CARD = Card(
    name="mode_connectivity",
    kind="measure",
    obj="mode_connectivity",
    also=("ModeConnectivity", "PathLoss", "align_units"),
    papers=("modeconn",),
    refs=("lubana2023mechanistic",),
    source="https://github.com/EkdeepSLubana/MMC",
    differs="Units are aligned in networks of linear layers only, once over all rows instead of batch by batch. The "
    "middle of a quadratic path starts halfway and is trained by Adam, in the authors' code from a random start by "
    "gradient descent.",
    inputs="estimator a, estimator b, X, y",
    stochastic=True,
    cost="n_points passes over each set of rows; with a quadratic path max_iter epochs more",
    use_when="Two networks score alike, and it matters whether they answer by the same cues.",
    avoid_when="Architectures differ, or hidden units cannot be aligned: a barrier then says nothing of mechanisms.",
    requires=("torch",),
)

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class PathLoss:
    """Loss along a path, on one set of rows.

    Attributes
    ----------
    loss, accuracy : ndarray of shape (n_points,)
        Mean cross-entropy in nats, and share of right answers; from the first network to the second.
    barrier : float
        Largest excess of the loss over the straight line between its ends, in nats; 0 if there is none.
    """

    loss: Floats = field(repr=False)
    accuracy: Floats = field(repr=False)
    barrier: float


@dataclass(frozen=True, kw_only=True)
class ModeConnectivity:
    """Outcome of `mode_connectivity`.

    Attributes
    ----------
    data : PathLoss
        On the rows given.
    counterfactuals : dict of str to PathLoss
        On each changed set of rows. Its ends tell whether both networks are invariant to the change: that is what
        makes mechanisms similar.
    t : ndarray of shape (n_points,)
        Points of the path, 0 to 1.
    path : str
        "linear" or "quadratic".
    middle : torch module or None
        Network that bends the quadratic path.
    """

    data: PathLoss
    counterfactuals: dict[str, PathLoss]
    t: Floats = field(repr=False)
    path: str
    middle: Any = field(repr=False, default=None)

    def invariance_gap(self, name: str) -> float:
        """Return how differently the networks respond to a counterfactual.

        Parameters
        ----------
        name : str
            Which one.

        Returns
        -------
        float
            Difference of the two networks' changes in accuracy; near 0 for networks of similar mechanisms.
        """
        changed = self.counterfactuals[name].accuracy - self.data.accuracy
        return abs(float(changed[0] - changed[-1]))


def mode_connectivity(
    a: Any,
    b: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    counterfactuals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    path: str = "linear",
    align: bool = True,
    n_points: int = 21,
    X_train: ArrayLike | None = None,
    y_train: ArrayLike | None = None,
    max_iter: int = 30,
    batch_size: int = 64,
    learning_rate: float = 0.01,
    random_state: RandomState = None,
) -> ModeConnectivity:
    """Measure the loss on a path between two networks' parameters.

    Two minima are connected if no point of the path ``g(t)`` has ``L(g(t)) > (1 - t) L(a) + t L(b)``. Networks that
    are not connected linearly, up to a permutation of their hidden units, rely on different mechanisms: they
    are not invariant to the same changes of the input.

    Parameters
    ----------
    a, b : torch modules
        Networks of one architecture, from rows to logits; left as they are.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Numbers of the logits' columns.
    counterfactuals : dict of str to (X, y), optional
        Sets in which something was changed, such as a cue removed or drawn at random.
    path : {"linear", "quadratic"}, default="linear"
        ``(1 - t) a + t b``, or ``(1 - t)^2 a + 2 t (1 - t) m + t^2 b`` with a middle m trained for low loss.
    align : bool, default=True
        Permute the hidden units of `b` to match those of `a` first.
    n_points : int, default=21
        Points, ends included.
    X_train, y_train : array-like, optional
        Rows on which the middle is trained and statistics of batch normalisation are taken; by default X and y.
    max_iter, batch_size, learning_rate
        Epochs, rows a step and first step size of Adam for the middle.
    random_state : None, int, Generator or RandomState
        Source of the points and shuffles in training the middle.

    Returns
    -------
    ModeConnectivity
        Losses and barriers.

    Raises
    ------
    InvalidParameterError
        If the networks differ in architecture, or cannot be aligned.

    References
    ----------
    .. [1] Lubana, E. S., Bigelow, E. J., Dick, R. P., Krueger, D. and Tanaka, H. (2023). Mechanistic Mode
       Connectivity. ICML.

    Examples
    --------
    >>> import torch
    >>> from corrigible.compare import mode_connectivity
    >>> a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    >>> X, y = torch.eye(2), [0, 1]
    >>> mode_connectivity(a, b, X, y).data.barrier  # the loss of a linear model is convex
    0.0
    """
    by = "mode_connectivity"
    check_choice(path, ("linear", "quadratic"), name="path", by=by)
    check_count(n_points, name="n_points", by=by, low=3)
    recipe = _recipe(max_iter, batch_size, learning_rate)
    alike(a, b, by)
    torch = require("torch", extra="torch", by=by)
    sets = {"": _rows(X, y, by)} | {k: _rows(*v, by) for k, v in (counterfactuals or {}).items()}
    training = sets[""] if X_train is None or y_train is None else _rows(X_train, y_train, by)
    ends = _doubled(a), _doubled(b)
    if align:
        ends = ends[0], permuted_towards(ends[1], ends[0], torch.tensor(training[0]))
    start, stop = (weights_of(m) for m in ends)
    middle = None
    if path == "quadratic":
        seed = integer_seed(as_generator(random_state))
        with seeded(seed):
            middle = _trained_middle(ends[0], start, stop, training, recipe, seed)
    t = np.linspace(0.0, 1.0, n_points)
    context = torch.tensor(training[0])
    points = [at(ends[0], between(float(s), start, stop, middle), context) for s in t]
    found = {name: _along(points, *rows) for name, rows in sets.items()}
    bent = None if middle is None else at(ends[0], middle, context)
    return ModeConnectivity(data=found.pop(""), counterfactuals=found, t=t, path=path, middle=bent)


def align_units(network: Any, target: Any, X: ArrayLike) -> Any:
    """Permute the hidden units of a network to match those of another, without changing its function.

    Parameters
    ----------
    network, target : torch modules
        ``Sequential`` ones of linear layers, BatchNorm1d and elementwise functions, of one architecture.
    X : array-like of shape (n_samples, n_features)
        Rows whose activations are matched.

    Returns
    -------
    torch module
        A copy of the network, in float64.

    References
    ----------
    .. [1] Lubana, E. S., Bigelow, E. J., Dick, R. P., Krueger, D. and Tanaka, H. (2023). Mechanistic Mode
       Connectivity. ICML.

    Examples
    --------
    >>> import torch
    >>> from corrigible.compare import align_units
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> same = align_units(net, net, torch.rand(10, 2))
    >>> bool(torch.equal(same[0].weight, net[0].weight.double()))
    True
    """
    alike(network, target, "align_units")
    torch = require("torch", extra="torch", by="align_units")
    return permuted_towards(_doubled(network), _doubled(target), torch.tensor(np.asarray(X, dtype=np.float64)))


def _recipe(max_iter: int, batch_size: int, learning_rate: float) -> Recipe:
    by = "mode_connectivity"
    check_count(max_iter, name="max_iter", by=by)
    check_count(batch_size, name="batch_size", by=by)
    check_number(learning_rate, name="learning_rate", by=by, low=0.0, high=1e6, closed="right")
    return Recipe(max_iter, batch_size, learning_rate, 0.0)


def _doubled(network: Module) -> Module:
    import copy

    return copy.deepcopy(network).double().eval()


def _rows(X: ArrayLike, y: ArrayLike, by: str) -> tuple[Floats, NDArray[np.intp]]:
    rows = np.asarray(X, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or not np.isfinite(rows).all():
        raise DataError(f"'X' of {by} must be a finite table with at least one row. Got shape {rows.shape}.")
    return rows, check_labels(y, n=len(rows), name="y", by=by)


def _along(points: list[Module], X: Floats, y: NDArray[np.intp]) -> PathLoss:
    losses, rights = [], []
    for network in points:
        z = outputs(network, X)
        z = z - z.max(axis=1, keepdims=True)
        losses.append(float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]).mean()))
        rights.append(float((z.argmax(axis=1) == y).mean()))
    loss = np.array(losses)
    chord = np.linspace(loss[0], loss[-1], len(loss))
    excess = float((loss - chord)[1:-1].max())
    # A chord that the loss touches is no barrier: rounding must not make it one.
    barrier = excess if excess > 1e-12 * max(1.0, float(np.abs(loss).max())) else 0.0
    return PathLoss(loss=loss, accuracy=np.array(rights), barrier=barrier)


def _trained_middle(
    network: Module, start: Weights, stop: Weights, rows: tuple[Floats, NDArray[np.intp]], recipe: Recipe, seed: int
) -> Weights:
    """Minimise the expected loss at a uniformly drawn point of the path, over its middle."""
    torch = require("torch", extra="torch", by="mode_connectivity")
    X, target = torch.tensor(rows[0]), torch.tensor(rows[1])
    middle = {k: v.requires_grad_() for k, v in between(0.5, start, stop).items()}
    optimiser = torch.optim.Adam(middle.values(), lr=recipe.learning_rate)
    rng = np.random.default_rng(seed)
    n_batches = -(-len(X) // recipe.batch_size)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.max_iter * n_batches)
    buffers = dict(network.named_buffers())
    for _ in range(recipe.max_iter):
        for batch in np.array_split(rng.permutation(len(X)), n_batches):
            weights = between(float(rng.uniform()), start, stop, middle)
            optimiser.zero_grad()
            logits: Tensor = torch.func.functional_call(network, weights | buffers, (X[batch],))
            torch.nn.functional.cross_entropy(logits, target[batch]).backward()
            optimiser.step()
            falling.step()
    return {k: v.detach() for k, v in middle.items()}
