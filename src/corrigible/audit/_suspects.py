"""Suspect labels: told in words, and found again in rows that stream by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.confident_joint import SLACK
from corrigible._core.label_pruning import prunable, prune_counts
from corrigible.audit._problem import Problem
from corrigible.data import ConfidentLearning

Floats = NDArray[np.floating]


def label_words(
    problem: Problem, y: NDArray[Any], output: Floats, rows: NDArray[np.intp], *, unseen: bool
) -> NDArray[np.object_]:
    """Return for each of some rows why its label or value is suspect.

    Parameters
    ----------
    problem : Problem
        Task and classes.
    y, output : ndarray
        Class numbers or values, and the outputs that contradict them, of all rows.
    rows : ndarray of shape (m,)
        Which to tell of.
    unseen : bool
        Whether the outputs come from models that did not see the row, and not from the model.
    """
    who, verb = ("models that did not see the row", "give") if unseen else ("the model", "gives")
    given, output = y[rows], output[rows]
    if not problem.is_classification:
        expect = f"{who} expect{'' if unseen else 's'}"
        values = zip(given, output, strict=True)
        return np.array([f"the value is {v:.4g}, {expect} {o:.4g}" for v, o in values], dtype=object)
    best, at, k = output.argmax(axis=1), np.arange(len(rows)), output.shape[1]
    percent = [np.rint(100 * output[at, c]).astype(np.intp) for c in (given, best)]
    # Millions of rows have few different sentences.
    cells = np.ravel_multi_index((given, best, *percent), (k, k, 101, 101))
    known, number = np.unique(cells, return_inverse=True)
    told = zip(*np.unravel_index(known, (k, k, 101, 101)), strict=True)
    names = problem.classes
    sentences = [f"{who} {verb} its label {names[a]} {p}%, and {names[b]} {q}%" for a, b, p, q in told]
    return np.array(sentences, dtype=object)[number]


class LabelCutoffs:
    """What confident learning flags among a sample of rows, as margins that any row must reach.

    Of the rows of label i, those are flagged that exceed in ``p_j - p_i`` the last row flagged as truly j. On the
    sample these are the rows that `ConfidentLearning` flags, up to ties.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Class numbers.
    p : ndarray of shape (n, k)
        Probabilities.
    """

    def __init__(self, y: NDArray[np.intp], p: Floats) -> None:
        detector = ConfidentLearning().fit(y, p)
        need = prune_counts(detector.confident_joint_, detector.min_examples_per_class)
        k = p.shape[1]
        self.least = np.full((k, k), np.inf)
        for i in prunable(np.bincount(y, minlength=k), detector.min_examples_per_class):
            margins = p[y == i] - p[y == i, i][:, None]
            for j in np.flatnonzero((need[i] > 0) & (np.arange(k) != i)):
                m = min(int(need[i, j]), len(margins))
                self.least[i, j] = np.partition(margins[:, j], len(margins) - m)[len(margins) - m]

    def flags(self, y: NDArray[np.intp], p: Floats) -> NDArray[np.bool_]:
        """Return which rows are suspect (n,)."""
        flags = np.zeros(len(y), dtype=bool)
        given = p[np.arange(len(y)), y]
        doubtful = np.flatnonzero(p.max(axis=1) > given + SLACK)
        margins = p[doubtful] - given[doubtful, None]
        flags[doubtful] = (margins >= self.least[y[doubtful]]).any(axis=1)
        return flags
