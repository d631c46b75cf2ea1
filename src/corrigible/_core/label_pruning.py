"""Which rows to flag, once it is known how many rows of each label belong to each other class."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from corrigible._core.confident_joint import SLACK, Rows

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]


def prune_counts(joint: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """Return how many rows of label i are to be flagged as truly j (i, j), leaving at least `keep` on the diagonal.

    What the diagonal gains is taken in equal parts from the entries of its row that are not zero.
    """
    diagonal = np.maximum(joint.diagonal(), keep)
    parts = np.maximum(np.count_nonzero(joint, axis=1) - 1.0, 1.0)
    need = np.maximum(joint - ((diagonal - joint.diagonal()) / parts)[:, None], 0.0)
    np.fill_diagonal(need, diagonal)
    return need.astype(np.int64)


def prunable(counts: Ints, keep: int) -> NDArray[np.intp]:
    """Return the classes with rows to spare."""
    return np.flatnonzero(counts > max(keep, 1))


def by_noise_rate(
    pred_proba: Floats, rows: Rows, order: Ints, counts: Ints, need: NDArray[np.int64], *, keep: int
) -> Mask:
    """Flag, for each pair of a label i and another class j, the rows with the largest margin p_j - p_i.

    A row can only stay flagged if another class is more probable than its label, so margins are computed for these
    rows alone; all rows of the label are looked at only where fewer such rows are found than are to be flagged.
    """
    mask = np.zeros(len(rows.labels), dtype=bool)
    doubtful = rows.doubtful
    doubtful = doubtful[np.argsort(rows.labels[doubtful], kind="stable")]
    ends = np.searchsorted(rows.labels[doubtful], np.arange(len(counts) + 1))
    starts = np.concatenate([[0], np.cumsum(counts)])
    for i in prunable(counts, keep):
        members = doubtful[ends[i] : ends[i + 1]]
        everyone = order[starts[i] : starts[i + 1]]
        margins = pred_proba[members] - rows.given[members, None]
        for j in np.flatnonzero(need[i]):
            if j == i:
                continue
            clear = np.flatnonzero(margins[:, j] > 2 * SLACK)
            if len(clear) < need[i, j]:
                mask[everyone[_largest(pred_proba[everyone, j] - rows.given[everyone], need[i, j])]] = True
            else:
                mask[members[clear[_largest(margins[clear, j], need[i, j])]]] = True
    return mask


def by_class(rows: Rows, order: Ints, counts: Ints, need: NDArray[np.int64], *, keep: int) -> Mask:
    """Flag the rows of each label with the least probability of their label."""
    mask = np.zeros(len(rows.labels), dtype=bool)
    starts = np.concatenate([[0], np.cumsum(counts)])
    for i in prunable(counts, keep):
        wanted = counts[i] - need[i, i]
        if wanted > 0:
            everyone = order[starts[i] : starts[i + 1]]
            mask[everyone[_largest(-rows.given[everyone], wanted)]] = True
    return mask


def _largest(values: Floats, m: int) -> NDArray[np.intp]:
    """Return the indices of the m largest values, the earlier of equals."""
    if m >= len(values):
        return np.arange(len(values))
    cut = np.partition(values, len(values) - m)[len(values) - m]
    at_least = np.flatnonzero(values >= cut)
    if len(at_least) == m:
        return at_least
    above = np.flatnonzero(values > cut)
    return np.concatenate([above, np.flatnonzero(values == cut)[: m - len(above)]])


@dataclass
class _Best:
    """The `room` largest values offered and their row numbers; of equals the earlier row."""

    room: int
    floor: float = -np.inf
    values: list[Floats] = field(default_factory=list)
    rows: list[Ints] = field(default_factory=list)
    held: int = 0

    def offer(self, values: Floats, rows: Ints) -> None:
        inside = np.flatnonzero(values > self.floor)
        self.values.append(values[inside])
        self.rows.append(rows[inside])
        self.held += len(inside)
        if self.held > 2 * self.room + 4096:
            self.shrink()

    def shrink(self) -> Ints:
        values, rows = np.concatenate(self.values), np.concatenate(self.rows)
        order = np.argsort(-values, kind="stable")[: self.room]
        self.values, self.rows, self.held = [values[order]], [rows[order]], len(order)
        if len(order) == self.room:
            self.floor = float(values[order[-1]])
        return rows[order]


class StreamedPruning:
    """Prune by noise rate or by class over batches: memory in proportion to the rows to be flagged.

    Parameters
    ----------
    counts : ndarray of shape (k,)
        Rows of each label.
    need : ndarray of shape (k, k)
        From `prune_counts`.
    keep : int
        Classes with no more rows than this are left alone.
    rule : {"prune_by_noise_rate", "prune_by_class"}
        Which of the two.
    """

    def __init__(self, counts: Ints, need: NDArray[np.int64], *, keep: int, rule: str) -> None:
        self.best: dict[int, dict[int, _Best]] = {}
        for i in prunable(counts, keep):
            if rule == "prune_by_class":
                wanted = {int(i): int(counts[i] - need[i, i])}
            else:
                wanted = {int(j): int(need[i, j]) for j in range(len(counts)) if j != i}
            self.best[int(i)] = {j: _Best(m) for j, m in wanted.items() if m > 0}

    def update(self, pred_proba: Floats, rows: Rows, first: int) -> None:
        """Take in a batch whose first row has the number `first`."""
        for i, pairs in self.best.items():
            members = np.flatnonzero(rows.labels == i)
            own = rows.given[members]
            for j, best in pairs.items():
                best.offer(-own if i == j else pred_proba[members, j] - own, members + first)

    def flagged(self) -> NDArray[np.intp]:
        """Return the numbers of the rows to flag."""
        found = [best.shrink() for pairs in self.best.values() for best in pairs.values() if best.values]
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.intp)
