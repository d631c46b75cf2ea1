"""Counts and sums over rows, batch by batch: all that a comparison says follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._core import losses
from corrigible._core.bootstrap import BlockSums
from corrigible._utils.tables import group_labels
from corrigible.compare import AgreementAccumulator, CapaAccumulator, FlipAccumulator, Flips
from corrigible.errors import DataError
from corrigible.uncertainty import CalibrationErrorSum
from corrigible.versions._inputs import Answers

Floats = NDArray[np.floating]
CONFIDENCE_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
KINDS = ("both right", "turned wrong", "turned right", "both wrong", "both wrong, differently")


@dataclass(frozen=True)
class Rows:
    """Some rows with the answers of both versions.

    Parameters
    ----------
    numbers : ndarray of shape (n,)
        Their numbers in the test data.
    ids : ndarray of shape (n,) or None
        Their ids.
    y : ndarray of shape (n,)
        Labels or values.
    old, new : Answers
        Of the two versions.
    groups : DataFrame
        Group columns.
    """

    numbers: NDArray[np.intp]
    ids: NDArray[Any] | None
    y: NDArray[Any]
    old: Answers
    new: Answers
    groups: pd.DataFrame

    def __len__(self) -> int:
        return len(self.numbers)


class Labels:
    """Numbers of labels, in the order in which they are met; 1 and 1.0 are one label."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def codes(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return the numbers (n,) of labels that are not missing."""
        codes, found = pd.factorize(values)
        numbers = [self.known.setdefault(v, len(self.known)) for v in np.asarray(found, dtype=object).tolist()]
        return np.asarray(numbers, dtype=np.intp)[codes]


class Tally:
    """Flips, losses and calibration of two versions.

    Parameters
    ----------
    classes : tuple
        Of the probability columns.
    regression : bool
        Whether answers are values.
    seed : int
        Of the blocks of the bootstrap.
    """

    def __init__(self, classes: tuple[Any, ...], *, regression: bool, seed: int) -> None:
        self.classes, self.regression = classes, regression
        self.rng = np.random.default_rng(seed)
        self.names: tuple[str, ...] = ()
        self.labels = Labels()
        self.flips = np.zeros(5, dtype=np.int64)
        self.by_group: dict[str, dict[str, NDArray[np.int64]]] = {}
        self.by_confidence = np.zeros((len(CONFIDENCE_EDGES) - 1, 5), dtype=np.int64)
        self.answers_that_are_labels = 0
        self.alike, self.capa = AgreementAccumulator(), CapaAccumulator()
        self.calibration = [CalibrationErrorSum(n_bins=15, debiased=True) for _ in range(2)]
        self.listed: list[pd.DataFrame] = []
        self.sums: BlockSums | None = None

    def update(self, rows: Rows) -> None:
        """Take in a batch."""
        kind = self._regression_kinds(rows) if self.regression else self._label_kinds(rows)
        self.flips += np.bincount(kind, minlength=5)
        for column in rows.groups:
            self._count_groups(str(column), rows.groups[[column]], kind)
        self._list(rows, kind)

    def _label_kinds(self, rows: Rows) -> NDArray[np.intp]:
        y, old, new = (self.labels.codes(v) for v in (rows.y, rows.old.label, rows.new.label))
        was, now = old == y, new == y
        self.answers_that_are_labels += int(was.sum() + now.sum())
        self.alike.update(old, new, y)
        columns = {"zero_one": ((~was).astype(float), (~now).astype(float))}
        kind = np.where(was, np.where(now, 0, 1), np.where(now, 2, np.where(old == new, 3, 4)))
        if rows.old.p is not None:
            bins = np.searchsorted(CONFIDENCE_EDGES[1:-1], rows.old.p.max(axis=1), side="right")
            self.by_confidence += np.bincount(bins * 5 + kind, minlength=self.by_confidence.size).reshape(-1, 5)
        if rows.old.p is not None and rows.new.p is not None:
            codes = pd.Index(self.classes).get_indexer(pd.Index(rows.y))
            if (codes < 0).any():
                raise DataError(
                    f"The target has the label {rows.y[(codes < 0).argmax()]!r}, for which no version has a probability. "
                    f"Classes are {', '.join(map(str, self.classes[:8]))}."
                )
            for summed, p in zip(self.calibration, (rows.old.p, rows.new.p), strict=True):
                summed.update(codes, p)
            self.capa.update(rows.old.p, rows.new.p, codes)
            for name in ("log", "brier"):
                columns[name] = (losses.ROW_LOSS[name](codes, rows.old.p), losses.ROW_LOSS[name](codes, rows.new.p))
        self._sum(columns)
        return np.asarray(kind, dtype=np.intp)

    def _regression_kinds(self, rows: Rows) -> NDArray[np.intp]:
        given = ((rows.y, "The target"), (rows.old.label, "OLD"), (rows.new.label, "NEW"))
        y, old, new = (_numbers(values, what) for values, what in given)
        self._sum({
            "squared": (losses.squared(y, old), losses.squared(y, new)),
            "absolute": (losses.absolute(y, old), losses.absolute(y, new)),
        })  # fmt: skip
        before, after = losses.absolute(y, old), losses.absolute(y, new)
        return np.where(after > before, 1, np.where(after < before, 2, 3)).astype(np.intp)

    def _sum(self, columns: dict[str, tuple[Floats, Floats]]) -> None:
        self.names = tuple(columns)
        if self.sums is None:
            self.sums = BlockSums(2 * len(columns), rng=self.rng)
        self.sums.update(np.column_stack([c for pair in columns.values() for c in pair]))

    def _count_groups(self, column: str, values: pd.DataFrame, kind: NDArray[np.intp]) -> None:
        codes, names = pd.factorize(group_labels(values).iloc[:, 0])
        table = np.bincount(codes * 5 + kind, minlength=5 * len(names)).reshape(-1, 5)
        known = self.by_group.setdefault(column, {})
        for name, counts in zip(names.tolist(), table, strict=True):
            known[str(name)] = known.get(str(name), np.zeros(5, dtype=np.int64)) + counts

    def _list(self, rows: Rows, kind: NDArray[np.intp]) -> None:
        """Keep the rows that turned; in regression nearly all do, so that they are not listed."""
        at = np.flatnonzero(np.isin(kind, (1, 2, 4)))
        if self.regression or len(at) == 0:
            return
        listed: dict[str, Any] = {"row": rows.numbers[at]}
        if rows.ids is not None:
            listed["id"] = rows.ids[at]
        listed |= {"kind": np.asarray(KINDS, dtype=object)[kind[at]], "label": _text(rows.y[at])}
        for name, answers in (("old", rows.old), ("new", rows.new)):
            listed[name] = _text(answers.label[at])
            if answers.p is not None:
                listed[f"{name}_confidence"] = answers.p[at].max(axis=1)
        self.listed.append(pd.DataFrame(listed))

    def turned(self) -> pd.DataFrame:
        """Return the rows that turned."""
        columns = ["row", "kind", "label", "old", "new"]
        return pd.concat(self.listed, ignore_index=True) if self.listed else pd.DataFrame(columns=columns)

    def changes(self, *, n_resamples: int = 1000) -> dict[str, dict[str, float]]:
        """Return, by loss, its mean in both versions, the change, and its paired bootstrap interval."""
        assert self.sums is not None
        means, draws = self.sums.means(), self.sums.draws(n_resamples=n_resamples)
        found = {}
        for i, name in enumerate(self.names):
            old, new = 2 * i, 2 * i + 1
            low, high = np.quantile(draws[:, new] - draws[:, old], [0.025, 0.975])
            found[name] = {"old": float(means[old]), "new": float(means[new]), "change": float(means[new] - means[old]),
                           "low": float(low), "high": float(high)}  # fmt: skip
        return found

    def flip_summary(self) -> Flips:
        """Return the flips of all rows."""
        return flips_of(self.flips)

    def agreement(self) -> dict[str, float]:
        """Return how alike the versions answer: raw, beyond chance, in their errors, and by probabilities."""
        found = self.alike.compute()
        values = {"agreement": found.raw, "kappa": found.cohen_kappa, "error_consistency": found.error_consistency,
                  "error_overlap": found.error_overlap}  # fmt: skip
        return {**values, "capa": self.capa.compute().value} if self.capa.n else values


def flips_of(counts: NDArray[np.int64]) -> Flips:
    """Return the flips that five counts stand for."""
    summed = FlipAccumulator()
    summed.counts = counts
    return summed.compute()


def _text(values: NDArray[Any]) -> NDArray[np.object_]:
    return np.array([str(v) for v in values], dtype=object)


def _numbers(values: NDArray[Any], what: str) -> Floats:
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise DataError(f"{what} must hold finite numbers. One value is {values[int(bad.argmax())]!r}.")
    return numbers
