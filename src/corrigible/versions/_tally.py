"""Counts and sums over rows, batch by batch: all that a comparison says follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._core import losses
from corrigible._core.bootstrap import BlockSums
from corrigible._core.text_match import normalised, token_f1
from corrigible._utils.tables import group_labels
from corrigible.compare import AgreementAccumulator, CapaAccumulator, FlipAccumulator, Flips
from corrigible.errors import DataError
from corrigible.uncertainty import CalibrationErrorSum
from corrigible.versions._inputs import Answers

Floats = NDArray[np.floating]
Codes = NDArray[np.int32]
CONFIDENCE_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
KINDS = ("both right", "turned wrong", "turned right", "both wrong", "both wrong, differently")
_TURNED = np.array([k not in ("both right", "both wrong") for k in KINDS])
# A row's kind by 4 (old right) + 2 (new right) + 1 (same answer).
_KIND = np.array([4, 3, 2, 2, 1, 1, 0, 0], dtype=np.int8)
# Triples of label and answers up to which they are counted in a table.
_MAX_CELLS = 1 << 18


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
    y: NDArray[Any] | pd.Categorical[Any]
    old: Answers
    new: Answers
    groups: pd.DataFrame

    def __len__(self) -> int:
        return len(self.numbers)


class Labels:
    """Numbers of labels, in the order in which they are met, or named as categories; 1 and 1.0 are one label."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def codes(self, values: NDArray[Any] | pd.Categorical[Any]) -> Codes:
        """Return the numbers (n,) of labels that are not missing."""
        codes: NDArray[Any]
        found: Any
        if isinstance(values, pd.Categorical):
            codes, found = values.codes, values.categories
        else:
            codes, found = pd.factorize(values)
        numbers = [self.known.setdefault(v, len(self.known)) for v in np.asarray(found, dtype=object).tolist()]
        return np.asarray(numbers, dtype=np.int32)[codes]


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
    match : str
        How texts are compared: ``exact``, ``normalised`` or ``token_f1``.
    """

    def __init__(self, classes: tuple[Any, ...], *, regression: bool, seed: int, match: str = "exact") -> None:
        self.classes, self.regression, self.graded = classes, regression, match == "token_f1"
        self.form = normalised if match == "normalised" else None
        self.fall = self.rise = 0.0
        self.rng = np.random.default_rng(seed)
        self.names: tuple[str, ...] = ()
        self.labels = Labels()
        self.flips = np.zeros(5, dtype=np.int64)
        self.by_group: dict[str, dict[str, NDArray[np.int64]]] = {}
        self.by_confidence = np.zeros((len(CONFIDENCE_EDGES) - 1, 5), dtype=np.int64)
        self.answers_that_are_labels = 0
        self.alike, self.capa = AgreementAccumulator(), CapaAccumulator()
        self.calibration = [CalibrationErrorSum(kind="binary", n_bins=15, debiased=True) for _ in range(2)]
        self.codes: tuple[Codes, ...] = ()
        self.listed: list[dict[str, Any]] = []
        self.sums: BlockSums | None = None

    def update(self, rows: Rows) -> None:
        """Take in a batch."""
        kinds = (
            self._score_kinds if self.graded else self._regression_kinds if self.regression else self._label_kinds
        )
        kind = kinds(rows)
        self.flips += np.bincount(kind, minlength=5)
        for column in rows.groups:
            self._count_groups(str(column), rows.groups[[column]], kind)
        if not self.regression:  # of values nearly all turn
            self._list(rows, kind)

    def _label_kinds(self, rows: Rows) -> NDArray[np.int8]:
        y, old, new = self._coded(rows)
        was, now, same = old == y, new == y, old == new
        self.answers_that_are_labels += int(was.sum() + now.sum())
        self.alike.update(*_distinct(old, new, y, len(self.labels.known)))
        kind = _KIND[4 * was.view(np.int8) + 2 * now.view(np.int8) + same.view(np.int8)]
        if rows.old.confidence is not None:
            above = ((rows.old.confidence >= edge).view(np.int8) for edge in CONFIDENCE_EDGES[1:-1])
            bins = sum(above, np.zeros(len(rows), dtype=np.int8))
            self.by_confidence += np.bincount(bins * 5 + kind, minlength=self.by_confidence.size).reshape(-1, 5)
        if rows.old.p is not None and rows.new.p is not None:
            codes = self._class_numbers(y)
            columns: dict[str, tuple[Floats, Floats]] = {"zero_one": ((~was).astype(float), (~now).astype(float))}
            for name in ("log", "brier"):
                columns[name] = (losses.ROW_LOSS[name](codes, rows.old.p), losses.ROW_LOSS[name](codes, rows.new.p))
            for summed, right, said in zip(self.calibration, (was, now), (rows.old, rows.new), strict=True):
                summed.update(right.astype(np.intp), np.asarray(said.confidence))
            self.capa.update(rows.old.p, rows.new.p, codes)
            self._sum(columns)
        return kind

    def _class_numbers(self, y: Codes) -> NDArray[np.intp]:
        """Return the columns of probabilities of the labels."""
        columns = {name: i for i, name in enumerate(self.classes)}
        of_label = np.array([columns.get(name, -1) for name in self.labels.known], dtype=np.intp)
        found = of_label[y]
        if (found < 0).any():
            label = list(self.labels.known)[y[(found < 0).argmax()]]
            raise DataError(
                f"The target has the label {label!r}, for which no version has a probability. "
                f"Classes are {', '.join(map(str, self.classes[:8]))}."
            )
        return found

    def _coded(self, rows: Rows) -> tuple[Codes, ...]:
        given = (rows.y, rows.old.label, rows.new.label)
        self.codes = tuple(self.labels.codes(v if self.form is None else _mapped(v, self.form)) for v in given)
        return self.codes

    def _score_kinds(self, rows: Rows) -> NDArray[np.intp]:
        self._coded(rows)
        known = [str(v) for v in self.labels.known]
        y, *answers = self.codes
        before, after = (
            np.array([token_f1(known[a], known[b]) for a, b in zip(y, answer, strict=True)]) for answer in answers
        )
        self._sum({"token_f1": (1 - before, 1 - after)})
        self.fall += float(np.maximum(before - after, 0).sum())
        self.rise += float(np.maximum(after - before, 0).sum())
        return np.where(after < before, 1, np.where(after > before, 2, 3)).astype(np.intp)

    def score_change(self) -> dict[str, float]:
        """Return the mean fall and the mean rise of the score over all rows, of graded texts."""
        n = int(self.flips.sum())
        return {"fall": self.fall / n, "rise": self.rise / n} if self.graded else {}

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
        self.sums.update(np.array([c for pair in columns.values() for c in pair]).T)

    def _count_groups(self, column: str, values: pd.DataFrame, kind: NDArray[np.integer]) -> None:
        codes, found = pd.factorize(values.iloc[:, 0], use_na_sentinel=False)
        names = group_labels(pd.DataFrame({column: found})).iloc[:, 0]
        table = np.bincount(codes * 5 + kind, minlength=5 * len(names)).reshape(-1, 5)
        known = self.by_group.setdefault(column, {})
        for name, counts in zip(names.tolist(), table, strict=True):
            known[str(name)] = known.get(str(name), np.zeros(5, dtype=np.int64)) + counts

    def _list(self, rows: Rows, kind: NDArray[np.integer]) -> None:
        """Keep the rows that turned, by the codes of their answers: text takes longer than all else."""
        at = np.flatnonzero(_TURNED[kind])
        if len(at) == 0:
            return
        listed: dict[str, Any] = {"row": rows.numbers[at]}
        if rows.ids is not None:
            listed["id"] = rows.ids[at]
        listed["kind"] = kind[at].astype(np.int8)
        for name, codes in zip(("label", "old", "new"), self.codes, strict=True):
            listed[name] = codes[at]
        for name, answers in (("old", rows.old), ("new", rows.new)):
            if answers.confidence is not None:
                listed[f"{name}_confidence"] = answers.confidence[at]
        self.listed.append(listed)

    def turned(self) -> pd.DataFrame:
        """Return the rows that turned."""
        if not self.listed:
            return pd.DataFrame(columns=["row", "kind", "label", "old", "new"])
        made: dict[str, Any] = {
            name: np.concatenate([part[name] for part in self.listed]) for name in self.listed[0]
        }
        words = pd.Series([str(v) for v in self.labels.known]).array
        for name, known in (("kind", pd.Series(KINDS).array), *((name, words) for name in ("label", "old", "new"))):
            made[name] = known.take(made[name])
        order = ("row", "id", "kind", "label", "old", "old_confidence", "new", "new_confidence")
        return pd.DataFrame({name: made[name] for name in order if name in made})

    def changes(self, *, n_resamples: int = 1000) -> dict[str, dict[str, float]]:
        """Return, by loss, its mean in both versions, the change, and its paired bootstrap interval."""
        if self.sums is None:
            return {"zero_one": self._error_change(n_resamples)}
        means, draws = self.sums.means(), self.sums.draws(n_resamples=n_resamples)
        found = {}
        for i, name in enumerate(self.names):
            old, new = 2 * i, 2 * i + 1
            low, high = np.quantile(draws[:, new] - draws[:, old], [0.025, 0.975])
            found[name] = {"old": float(means[old]), "new": float(means[new]), "change": float(means[new] - means[old]),
                           "low": float(low), "high": float(high)}  # fmt: skip
        return found

    def _error_change(self, n_resamples: int) -> dict[str, float]:
        """Change of the error rate from counts of flips: resampling rows is drawing these counts."""
        n = int(self.flips.sum())
        drawn = self.rng.multinomial(n, self.flips / n, size=n_resamples)
        low, high = np.quantile((drawn[:, 1] - drawn[:, 2]) / n, [0.025, 0.975])
        _, negative, positive, *wrong = self.flips.tolist()
        return {"old": (positive + sum(wrong)) / n, "new": (negative + sum(wrong)) / n,
                "change": (negative - positive) / n, "low": float(low), "high": float(high)}  # fmt: skip

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


def _distinct(old: Codes, new: Codes, y: Codes, n_labels: int) -> tuple[Any, ...]:
    """Return the triples of old and new answer and label, each once, and the rows of each."""
    if n_labels**3 > _MAX_CELLS:
        return old, new, y, None
    counts = np.bincount((y * n_labels + old) * n_labels + new)
    cell = np.flatnonzero(counts)
    return cell // n_labels % n_labels, cell % n_labels, cell // n_labels**2, counts[cell]


def _mapped(values: NDArray[Any] | pd.Categorical[Any], form: Callable[[object], str]) -> NDArray[Any]:
    """Return the form of each value, made once of those that are the same."""
    codes, found = pd.factorize(values)
    return np.array([form(v) for v in found], dtype=object)[codes]


def _numbers(given: NDArray[Any] | pd.Categorical[Any], what: str) -> Floats:
    values = np.asarray(given)
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise DataError(f"{what} must hold finite numbers. One value is {values[int(bad.argmax())]!r}.")
    return numbers
