"""Matching hidden units of two networks, merging the alike, keeping the others apart, and refitting what is merged.

Everything that is asked of data lies in the second moments of what each layer reads in the two networks: distances
between units, the normal equations of any merged layer, and its error. One pass over the rows serves all widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from corrigible.errors import DataError
from corrigible.merging._unit_chain import Chain, Floats, Link, row_batches

Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Units:
    """Which units of two layers are merged pair by pair, and which are kept from either."""

    a: Ints
    b: Ints
    only_a: Ints
    only_b: Ints

    @property
    def width(self) -> int:
        """Units of the merged layer: pairs first, then those of the first network, then those of the second."""
        return len(self.a) + len(self.only_a) + len(self.only_b)

    def mixed(self, of_a: Floats, of_b: Floats) -> Floats:
        """Return merged units' values along the first axis from those of both networks."""
        return np.concatenate([(of_a[self.a] + of_b[self.b]) / 2, of_a[self.only_a], of_b[self.only_b]])

    def groups(self) -> list[tuple[Ints, str]]:
        """Return positions of merged units, and from which network they come."""
        ends = np.cumsum([0, len(self.a), len(self.only_a), len(self.only_b)])
        return [
            (np.arange(start, stop), of)
            for (start, stop), of in zip(pairwise(ends), ("both", "a", "b"), strict=True)
        ]

    def readable(self, of: str) -> Ints:
        """Return positions of merged units that a unit of the next layer may read: none from the other network."""
        return np.concatenate([where for where, kind in self.groups() if of in ("both", kind) or kind == "both"])


def together(n: int) -> Units:
    """Return n units merged in the order in which they stand, such as inputs."""
    every, none = np.arange(n), np.arange(0)
    return Units(every, every, none, none)


def apart(n_a: int, n_b: int) -> Units:
    """Return units that are all kept, such as outputs of two heads."""
    return Units(np.arange(0), np.arange(0), np.arange(n_a), np.arange(n_b))


def divided(order: Ints, likeness: Floats, kept: int) -> Units:
    """Return units of which the `kept` least alike pairs stay apart, the others are merged.

    Parameters
    ----------
    order : ndarray of shape (n,)
        Unit of the second network matched with each of the first.
    likeness : ndarray of shape (n, n)
        How alike units are, higher is more.
    kept : int
        Pairs that are not merged.
    """
    n = len(order)
    ranks = np.argsort(-likeness[np.arange(n), order], kind="stable")
    merged, rest = np.sort(ranks[: n - kept]), np.sort(ranks[n - kept :])
    return Units(merged, order[merged], rest, order[rest])


class Moments:
    """Second moments of what one link reads in both networks, ``Z' Z / n`` with ``Z = [first, second, 1]``.

    The first link reads the same rows in both: its columns are held once.
    """

    def __init__(self, a: Link, b: Link, *, shared: bool) -> None:
        self.a, self.b = a, b
        _, self.units, self.span = a.weight.shape
        k = self.units * self.span
        self._columns_a = np.arange(k).reshape(self.units, self.span)
        self._columns_b = self._columns_a if shared else self._columns_a + k
        self.values = np.zeros(((1 if shared else 2) * k + 1,) * 2)
        self._shared = shared
        self.rows = 0

    def add(self, of_a: Floats, of_b: Floats) -> None:
        """Add rows, arrays of shape (n_rows, n_units, span)."""
        parts = [of_a] if self._shared else [of_a, of_b]
        z = np.concatenate([*(p.reshape(len(p), -1) for p in parts), np.ones((len(of_a), 1))], axis=1)
        self.values += z.T @ z
        self.rows += len(z)

    def reading(self) -> tuple[Floats, Floats]:
        """Return the maps from the columns of Z to the outputs of the link in either network."""
        found = []
        for link, columns in ((self.a, self._columns_a), (self.b, self._columns_b)):
            out = np.zeros((len(self.values), len(link.bias)))
            out[columns.reshape(-1)] = link.flat.T
            out[-1] = link.bias
            found.append(out)
        return found[0], found[1]

    def distances_in(self) -> Floats:
        """Return root mean square distances between units of the layer that the link reads."""
        a, b, v = self._columns_a, self._columns_b, self.values
        cross = np.zeros((self.units, self.units))
        squares_a, squares_b = np.zeros(self.units), np.zeros(self.units)
        for ia, ib in zip(a.T, b.T, strict=True):  # one position of the span at a time
            cross += v[np.ix_(ia, ib)]
            squares_a += v[ia, ia]
            squares_b += v[ib, ib]
        return _roots(squares_a, squares_b, cross, self.rows)

    def distances_out(self) -> Floats:
        """Return root mean square distances between the link's outputs."""
        to_a, to_b = self.reading()
        half_a, half_b = self.values @ to_a, self.values @ to_b
        squares = [np.einsum("ij,ij->j", to, half) for to, half in ((to_a, half_a), (to_b, half_b))]
        return _roots(squares[0], squares[1], to_a.T @ half_b, self.rows)

    def refitted(self, start: Link, before: Units, after: Units, ridge: float) -> tuple[Link, Floats]:
        """Return the link of least squared error to the merged outputs, and relative errors at the start and there."""
        to_a, to_b = self.reading()
        wanted = after.mixed(to_a.T, to_b.T).T
        half = self._inputs(before, self.values)
        gram, cross = self._inputs(before, np.ascontiguousarray(half.T)).T, half @ wanted
        total = float(np.einsum("ij,ij->", wanted, self.values @ wanted))
        flat = np.concatenate([start.flat.T, start.bias[None]])
        first = _error(flat, gram, cross, total)
        # The ridge draws towards the merged weights, as few steps of gradient descent from them do.
        scale = ridge * np.diag(gram)[:-1].mean()
        for where, of in after.groups():
            rows = (before.readable(of)[:, None] * self.span + np.arange(self.span)).reshape(-1)
            rows = np.append(rows, len(flat) - 1)
            lacking = cross[np.ix_(rows, where)] - gram[np.ix_(rows, np.arange(len(flat)))] @ flat[:, where]
            flat[np.ix_(rows, where)] += _solved(gram[np.ix_(rows, rows)], lacking, scale)
        errors = np.array([first, _error(flat, gram, cross, total)]) / max(total, np.finfo(float).tiny)
        weight = flat[:-1].T.reshape(len(start.bias), before.width, self.span)
        return Link(weight, flat[-1].copy()), errors

    def _inputs(self, units: Units, values: Floats) -> Floats:
        """Return rows of the merged units, and of the constant, from rows of the columns of Z."""
        mixed = units.mixed(values[self._columns_a], values[self._columns_b])  # (width, span, columns)
        return np.concatenate([mixed.reshape(-1, values.shape[1]), values[-1:]])


def moments(a: Chain, b: Chain, X: Any, batch_size: int) -> list[Moments]:
    """Return the moments of every link, from one pass over the rows."""
    found = [Moments(la, lb, shared=i == 0) for i, (la, lb) in enumerate(zip(a.links, b.links, strict=True))]
    for rows in row_batches(X, batch_size):
        for one, of_a, of_b in zip(found, a.designs(rows), b.designs(rows), strict=True):
            one.add(of_a, of_b)
    if not all(np.isfinite(one.values).all() for one in found):
        raise DataError("The rows, or what the networks make of them, hold values that are not finite.")
    return found


def activation_likeness(found: Sequence[Moments]) -> list[Floats]:
    """Return how alike hidden units are, layer by layer: less the distances before and after their function."""
    return [-(here.distances_out() + after.distances_in()) for here, after in pairwise(found)]


def weight_likeness(a: Chain, b: Chain, max_iter: int, *, heads: bool) -> tuple[list[Floats], list[Ints]]:
    """Return inner products of the weights of hidden units, and the matching found by coordinate descent.

    It starts from a round over incoming weights alone, so that a permuted copy is recognised from the inputs on.
    The last link counts only if both networks have the same outputs, as `heads` says.
    """
    hidden = range(len(a.links) - 1)
    orders = [np.arange(len(a.links[i].bias)) for i in hidden]
    likeness: list[Floats] = [np.zeros((len(o), len(o))) for o in orders]
    for round_ in range(max_iter + 1):
        moved = round_ == 0
        for i in hidden:
            here_a, here_b, next_a, next_b = a.links[i], b.links[i], a.links[i + 1], b.links[i + 1]
            before = here_b.weight if i == 0 else here_b.weight[:, orders[i - 1]]
            likeness[i] = here_a.flat @ before.reshape(len(before), -1).T + np.outer(here_a.bias, here_b.bias)
            # In the first round the layers behind stand in no order yet.
            if round_ > 0 and (heads or i + 2 < len(a.links)):
                after = next_b.weight[orders[i + 1]] if i + 1 < len(orders) else next_b.weight
                likeness[i] = likeness[i] + np.einsum("oup,ovp->uv", next_a.weight, after)
            order = matched(likeness[i])
            at = np.arange(len(order))
            if round_ == 0 or likeness[i][at, order].sum() > likeness[i][at, orders[i]].sum() + 1e-12:
                orders[i], moved = order, True
        if not moved:
            break
    return likeness, orders


def matched(likeness: Floats) -> Ints:
    """Return for each unit of the first network the one of the second assigned to it."""
    return np.asarray(linear_sum_assignment(likeness, maximize=True)[1])


def merged_link(a: Link, b: Link, before: Units, after: Units) -> Link:
    """Return the link between merged layers by averaging, without data.

    Pairs read pairs by the average of both weights, and what was kept apart by half its weight; what was kept apart
    reads pairs in place of its own network's units, and nothing of the other network.
    """
    out = np.zeros((after.width, before.width, a.weight.shape[2]))
    both, own_a, own_b = (where for where, _ in after.groups())
    in_both, in_a, in_b = (where for where, _ in before.groups())
    for link, pairs, kept, outs, half, own, inside in (
        (a, before.a, before.only_a, after.a, after.only_a, own_a, in_a),
        (b, before.b, before.only_b, after.b, after.only_b, own_b, in_b),
    ):
        w = link.weight
        out[np.ix_(both, in_both)] += w[np.ix_(outs, pairs)] / 2
        out[np.ix_(both, inside)] = w[np.ix_(outs, kept)] / 2
        out[np.ix_(own, in_both)] = w[np.ix_(half, pairs)]
        out[np.ix_(own, inside)] = w[np.ix_(half, kept)]
    return Link(out, after.mixed(a.bias, b.bias))


def _roots(squares_a: Floats, squares_b: Floats, cross: Floats, rows: int) -> Floats:
    return np.sqrt(np.maximum(squares_a[:, None] + squares_b[None] - 2 * cross, 0) / max(rows, 1))


def _error(flat: Floats, gram: Floats, cross: Floats, total: float) -> float:
    return max(total - 2 * float((flat * cross).sum()) + float((flat * (gram @ flat)).sum()), 0.0)


def _solved(gram: Floats, right: Floats, ridge: float) -> Floats:
    if right.shape[1] == 0:
        return right
    values, vectors = np.linalg.eigh(gram)
    values = values + ridge
    # Directions in which the rows say nothing keep the weights that they have.
    told = values > np.finfo(float).eps * len(values) * max(values[-1], 0)
    inverse = np.divide(1, values, out=np.zeros_like(values), where=told)
    return np.asarray(vectors @ (inverse[:, None] * (vectors.T @ right)))
