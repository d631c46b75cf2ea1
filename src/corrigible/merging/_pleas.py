"""PLeaS: merge two networks by matching their units, keeping the unlike apart, and refitting layers by least squares.

Paper: PLeaS - Merging Models with Permutations and Least Squares (Nasery, Hayase, Koh, Oh, CVPR 2025).
Original: https://github.com/SewoongLab/PLeaS-Merging
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from corrigible._card import Card
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging._unit_chain import Chain, Floats, Link, chains
from corrigible.merging._unit_merging import (
    Ints,
    Moments,
    Units,
    activation_likeness,
    apart,
    divided,
    matched,
    merged_link,
    moments,
    together,
    weight_likeness,
)

CARD = Card(
    name="pleas",
    kind="merger",
    obj="PLeaS",
    papers=("pleas",),
    refs=("nasery2024pleas", "ainsworth2023git"),
    source="https://github.com/SewoongLab/PLeaS-Merging",
    differs="The least squares are solved, with a ridge towards the merged weights, where the authors take 400 steps of "
    "Adam from them. Weight matching goes through the layers in order, not at random, after a first round over incoming "
    "weights. Separate heads are refitted with the other layers; the authors apply each model's own. The program of "
    "widths is solved by SLSQP from several starts, not by Gurobi. Batch normalisation is folded into the layer before. "
    "Chains of layers only, no residual networks and no transformers.",
    inputs="models, X",
    stochastic=False,
    cost="One pass of both networks over the rows; memory of the squared inputs of the widest layer, four times; an "
    "assignment and an eigenvalue problem a layer. A budget takes two scores and fits a hidden layer",
    use_when="Two networks of one architecture were trained from different starts, on one task or on several.",
    avoid_when="Both were fine-tuned from one start: their units match already, and an average needs no data.",
    test_params=({}, {"width": 1.5}, {"matching": "weights"}),
)


class PLeaS:
    """Merge two networks into one of any width between that of one and of both.

    Hidden units of one network are matched with the other's. Pairs that are alike become one unit, the others stay side
    by side; then the weights of each layer are refitted, so that it makes of merged inputs what both networks make of
    their own.

    Parameters
    ----------
    width : float or sequence of float, default=1.0
        Units of each hidden layer of the result, as a multiple of one network's, from 1 (all pairs merged) to 2 (none);
        one number, or one a hidden layer.
    budget : float, optional
        Multiplications of the result as a multiple of one network's, instead of `width`: layers get widths so that
        what `score` says is gained is largest. Weights between what is kept of either network are zero and not counted.
    score : callable, optional
        With `budget`: takes a merged network and gives a number, higher is better, on held-out rows. Without it all
        layers are worth the same.
    matching : {"activations", "weights"}, default="activations"
        What makes units alike: what they do on the rows, or their weights, in and out, as Git Re-Basin does.
    heads : {"shared", "separate"}, default="shared"
        Whether both networks answer the same question, so that outputs are averaged, or different ones, so that the
        result gives the outputs of the first followed by those of the second (torch only).
    least_squares : bool, default=True
        Refit the weights; without it this is permutation and averaging alone, the partial version of Git Re-Basin.
    ridge : float, default=1e-3
        Pull of the refitted weights towards the merged ones, in units of the mean square of a layer's inputs.
    max_iter : int, default=100
        Rounds of weight matching at most.
    batch_size : int, default=64
        Rows that are in memory at once.

    Attributes
    ----------
    model_ : torch.nn.Sequential, MLPClassifier or MLPRegressor
        The merged network: a copy of the first with layers of other widths and without batch normalisation.
    widths_ : list of int
        Units of each of its hidden layers.
    orders_ : list of ndarray of shape (n_units,)
        For each hidden layer, the second network's unit that each of the first was matched with.
    errors_ : ndarray of shape (n_layers, 2)
        Squared error of each layer's output on merged inputs, relative to the squared output: merged, and refitted. NaN
        without least squares.
    gains_ : ndarray of shape (n_hidden_layers,)
        With `budget`: what each layer is worth.

    References
    ----------
    .. [1] Nasery, A., Hayase, J., Koh, P. W. and Oh, S. (2025). PLeaS - Merging Models with Permutations and Least
       Squares. CVPR.
    .. [2] Ainsworth, S. K., Hayase, J. and Srinivasa, S. (2023). Git Re-Basin: Merging Models modulo Permutation
       Symmetries. ICLR.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from corrigible.merging import PLeaS
    >>> warnings.simplefilter("ignore")
    >>> X, y = load_digits(return_X_y=True)
    >>> nets = [MLPClassifier((32,), max_iter=40, random_state=i).fit(X[:900] / 16, y[:900]) for i in range(2)]
    >>> merged = PLeaS(width=1.25).fit(nets, X[:900] / 16)
    >>> merged.widths_, merged.model_.score(X[900:] / 16, y[900:]) > 0.85
    ([40], True)
    """

    def __init__(
        self,
        *,
        width: float | Sequence[float] = 1.0,
        budget: float | None = None,
        score: Callable[[Any], float] | None = None,
        matching: str = "activations",
        heads: str = "shared",
        least_squares: bool = True,
        ridge: float = 1e-3,
        max_iter: int = 100,
        batch_size: int = 64,
    ) -> None:
        self.width = width
        self.budget = budget
        self.score = score
        self.matching = matching
        self.heads = heads
        self.least_squares = least_squares
        self.ridge = ridge
        self.max_iter = max_iter
        self.batch_size = batch_size

    def fit(self, models: Sequence[Any], X: ArrayLike | None = None) -> Self:
        """Match, merge and refit.

        Parameters
        ----------
        models : sequence of two networks
            Both torch.nn.Sequential, nested or not, or both multilayer perceptrons of scikit-learn, of one architecture.
            In torch: Linear, ungrouped Conv2d with zero padding, BatchNorm right after either, pooling, Flatten, Dropout
            and functions of single units, in a chain; anything else is refused.
        X : array-like of shape (n_samples, ...)
            Unlabelled rows as the networks take them, of both models' tasks. Needed unless units are matched by weights
            and nothing is refitted.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the networks differ in architecture, or the rows do not fit them.
        InvalidParameterError
            If a layer is none of those above, or a parameter is out of range.
        """
        by = type(self).__name__
        self._check(by)
        a, b = chains(models, by=by, separate=self.heads == "separate")
        rows = self._rows(X, by)
        found = [] if rows is None else moments(a, b, rows, self.batch_size)
        pair = _Pair(a, b, found, self.heads == "separate", float(self.ridge) if self.least_squares else None)
        likeness, self.orders_ = self._matching(a, b, found)
        pair.matched(likeness, self.orders_)
        widths = self._widths(pair, by)
        links, self.errors_ = pair.merged(widths)
        self.widths_ = [len(link.bias) for link in links[:-1]]
        self.model_ = a.rebuilt(links)
        return self

    def _check(self, by: str) -> None:
        check_choice(self.matching, ("activations", "weights"), name="matching", by=by)
        check_choice(self.heads, ("shared", "separate"), name="heads", by=by)
        check_number(self.ridge, name="ridge", by=by, low=0.0, high=1e6)
        check_count(self.max_iter, name="max_iter", by=by)
        check_count(self.batch_size, name="batch_size", by=by)
        if self.budget is not None:
            check_number(self.budget, name="budget", by=by, low=1.0, high=2.0)
            if not np.isscalar(self.width) or self.width != 1.0:
                raise InvalidParameterError(f"{by} takes either a width or a budget. Got both.")
        elif self.score is not None:
            raise InvalidParameterError(f"The 'score' of {by} divides a budget among layers. Pass budget too.")

    def _rows(self, X: Any, by: str) -> Any:
        if X is None:
            if self.least_squares or self.matching == "activations":
                raise DataError(f"{by} needs unlabelled rows X, unless matching='weights' and least_squares=False.")
            return None
        rows = X if hasattr(X, "detach") else np.asarray(X)
        if rows.ndim < 2 or not len(rows):
            raise DataError(f"{by} needs rows with features. Got an array of shape {tuple(rows.shape)}.")
        return rows

    def _matching(self, a: Chain, b: Chain, found: list[Moments]) -> tuple[list[Floats], list[Ints]]:
        if self.matching == "weights":
            return weight_likeness(a, b, self.max_iter, heads=self.heads == "shared")
        likeness = activation_likeness(found)
        return likeness, [matched(one) for one in likeness]

    def _widths(self, pair: _Pair, by: str) -> Floats:
        n = len(pair.sizes)
        if self.budget is not None:
            self.gains_ = self._gains(pair)
            return 1 + _shares(pair.costs, self.gains_, float(self.budget))
        width = np.asarray(self.width, dtype=np.float64)
        if width.shape not in ((), (n,)) or not ((width >= 1) & (width <= 2)).all():
            raise InvalidParameterError(
                f"The 'width' of {by} must be a number in [1, 2], or {n} of them, one a hidden layer. Got {self.width!r}."
            )
        return np.broadcast_to(width, n)

    def _gains(self, pair: _Pair) -> Floats:
        """Return what splitting one layer gains over merging all, and what merging it loses where all are split."""
        n = len(pair.sizes)
        if self.score is None:
            return np.ones(n)
        score, share = self.score, float(self.budget or 1) - 1

        def at(width: Floats) -> float:
            return float(score(pair.a.rebuilt(pair.merged(width)[0])))

        one, two, eye = at(np.ones(n)), at(np.full(n, 2.0)), np.eye(n)
        gained = np.array([at(1 + eye[i]) - one for i in range(n)])
        lost = np.array([two - at(2 - eye[i]) for i in range(n)])
        return np.asarray(np.maximum(gained * (1 - share) + lost * share, 1e-5))


class _Pair:
    """Two networks whose units are matched, merged at any widths."""

    def __init__(self, a: Chain, b: Chain, found: list[Moments], separate: bool, ridge: float | None) -> None:
        self.a, self.b, self.moments, self.ridge = a, b, found, ridge
        self.sizes = [len(link.bias) for link in a.links[:-1]]
        ends = (len(a.links[-1].bias), len(b.links[-1].bias))
        self._last = apart(*ends) if separate else together(ends[0])

    def matched(self, likeness: list[Floats], orders: list[Ints]) -> None:
        self._likeness, self._orders = likeness, orders

    @property
    def costs(self) -> Floats:
        """Multiplications of each link for one row of the network."""
        places = [m.rows for m in self.moments] or [1] * len(self.a.links)
        return np.array([p * link.weight.size for p, link in zip(places, self.a.links, strict=True)], dtype=float)

    def merged(self, widths: Floats) -> tuple[list[Link], Floats]:
        """Return the links at these widths, and the errors of each before and after refitting."""
        layers: list[Units] = [together(self.a.links[0].weight.shape[1])]
        for width, n, order, likeness in zip(widths, self.sizes, self._orders, self._likeness, strict=True):
            layers.append(divided(order, likeness, int(np.floor((width - 1) * n + 1e-9))))
        layers.append(self._last)
        links, errors = [], np.full((len(self.a.links), 2), np.nan)
        for i, (la, lb) in enumerate(zip(self.a.links, self.b.links, strict=True)):
            link = merged_link(la, lb, layers[i], layers[i + 1])
            if self.ridge is not None:
                link, errors[i] = self.moments[i].refitted(link, layers[i], layers[i + 1], self.ridge)
            links.append(link)
        return links, errors


def _shares(costs: Floats, gains: Floats, budget: float) -> Floats:
    """Return the share of each hidden layer's pairs to keep apart: most gained at a cost within the budget.

    A layer with share r before it and s behind it takes ``(1 + r)(1 + s) - 2 r s`` times its multiplications.
    """

    def cost(shares: Floats) -> float:
        r = np.concatenate([[0.0], shares, [0.0]])
        return float((costs * (1 + r[:-1] + r[1:] - r[:-1] * r[1:])).sum() / costs.sum())

    def fitting(direction: Floats) -> Floats:
        low, high = 0.0, 1.0
        for _ in range(50):  # the cost rises with every share
            middle = (low + high) / 2
            low, high = (middle, high) if cost(middle * direction) <= budget else (low, middle)
        return low * direction

    n = len(gains)
    if cost(np.ones(n)) <= budget:
        return np.ones(n)
    starts = [fitting(np.ones(n)), *(fitting(e) for e in np.eye(n))]
    best = max(starts, key=lambda r: float(gains @ r))
    scale = gains / gains.max()
    for start in starts:
        found = minimize(
            lambda r: -float(scale @ r), start, jac=lambda r: -scale, method="SLSQP", bounds=[(0, 1)] * n,
            constraints={"type": "ineq", "fun": lambda r: budget - cost(r)}, options={"maxiter": 200},
        ).x  # fmt: skip
        fits = found if cost(found) <= budget else fitting(found)  # a solver stops a little outside
        if gains @ fits > gains @ best:
            best = fits
    return np.asarray(np.clip(best, 0, 1))
