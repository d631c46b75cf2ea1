"""Who labelled the rows, and how often their labels are suspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from corrigible._core.empirical_bayes import beta_prior
from corrigible._utils.tables import check_column, group_labels
from corrigible.audit import _evidence as evidence
from corrigible.data import ConfidentLearning, MultiAnnotator
from corrigible.errors import DataError

if TYPE_CHECKING:
    from corrigible.audit._chain import Chain

Floats = NDArray[np.floating]
# With fewer rows than this share labelled twice, annotators cannot judge each other, and the models must.
_LABELLED_TWICE = 0.2
_SHOWN = 20
_COLUMNS = ["annotator", "labels", "suspect", "rate", "low", "high"]


@dataclass(frozen=True)
class Labelling:
    """Which columns say who labelled the rows.

    Parameters
    ----------
    annotator : str, optional
        Column of names.
    annotations : tuple of str
        Columns of single annotators' labels, missing where one gave none.
    """

    annotator: str | None = None
    annotations: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return all of them."""
        return (*([self.annotator] if self.annotator is not None else []), *self.annotations)

    def check(self, tables: Sequence[pd.DataFrame], *, regression: bool, by: str = "The tables") -> None:
        """Raise if a column is in no table, or the annotators cannot be compared."""
        names = list(dict.fromkeys(str(c) for table in tables for c in table.columns))
        for name in self.columns:
            check_column(name, names, by=by)
        if self.annotations and regression:
            raise DataError("--annotations needs a target of classes. Use --annotator for numbers.")
        if len(self.annotations) == 1:
            raise DataError(
                f"--annotations needs the label columns of at least two annotators. Got {self.annotations[0]!r} alone; "
                "who gave the target's labels is told by --annotator."
            )


NOBODY = Labelling()


@dataclass(frozen=True)
class AnnotatorRates:
    """Suspected error rates.

    Attributes
    ----------
    method : {"confident_learning", "veracity", "dawid_skene"}
        What suspects a label.
    table : DataFrame
        An annotator a row, those who surely err most first: ``annotator``, ``labels``, ``suspect`` (expected number),
        ``rate``, ``low`` and ``high``: mean and 95 % interval of the rate, drawn towards the others' (empirical Bayes).
    overall : float
        Suspect share of all labels.
    consensus : dict of int to (code, float)
        Rows labelled more than once whose given label is not the consensus: this, and its probability.
    """

    method: str
    table: pd.DataFrame
    overall: float
    consensus: dict[int, tuple[int, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the rates as JSON holds them."""
        found = {"method": self.method, "rate": self.overall, "annotators": self.table.to_dict("records")}
        return {**found, "contradicted": len(self.consensus)} if self.method == "dawid_skene" else found

    def block(self) -> dict[str, Any]:
        """Return the table for a report."""
        shown = self.table.head(_SHOWN).assign(suspect=self.table["suspect"].head(_SHOWN).round(1))
        left = len(self.table) - len(shown)
        note = (
            _WORDS[self.method]
            + " Rates and 95 % intervals are drawn towards those of all annotators, the more the "
        )
        note += f"fewer labels one has given. All labels together: {self.overall:.1%}."
        note += f" {left} further annotators are in budget.json." if left else ""
        return evidence.table("Suspect labels by annotator", shown, note)


_WORDS = {
    "confident_learning": "Suspect is what models fitted without the row contradict, their own mistakes among it: compare "
    "annotators rather than count errors. Who labelled harder rows has more of them.",
    "veracity": "Suspect are values that models fitted without the row contradict.",
    "dawid_skene": "Annotators are judged by those who labelled the same rows (Dawid and Skene 1979): suspect is the "
    "expected number of wrong labels.",
}


def by_annotator(names: pd.Series, suspect: NDArray[Any], *, method: str = "confident_learning") -> AnnotatorRates:
    """Return the rates where every row was labelled once.

    Parameters
    ----------
    names : Series of shape (n,)
        Who labelled each row; missing names are one annotator.
    suspect : ndarray of shape (n,)
        Whether, or how probably, each label is wrong.
    method : str
        What says so.
    """
    text = group_labels(names.to_frame()).iloc[:, 0].to_numpy(dtype=object)
    codes, known = pd.factorize(text, sort=True)
    wrong = np.asarray(suspect, dtype=float)
    labels: Floats = np.bincount(codes).astype(float)
    hits: Floats = np.bincount(codes, wrong).astype(float)
    unsure: Floats = np.bincount(codes, wrong * (1 - wrong)).astype(float)
    return AnnotatorRates(method, _rates(list(known), hits, labels, unsure), float(hits.sum() / labels.sum()))


def by_annotations(
    labels: pd.DataFrame, classes: NDArray[Any], p: Floats, given: NDArray[np.intp], *, by: str
) -> AnnotatorRates:
    """Return the rates where several annotators labelled the rows, a column each.

    Parameters
    ----------
    labels : DataFrame of shape (n, n_annotators)
        Missing where an annotator gave no label.
    classes : ndarray of shape (k,)
        Class labels.
    p : ndarray of shape (n, k)
        Out-of-sample probabilities of models of the given labels.
    given : ndarray of shape (n,)
        Class numbers of the labels that the models were fitted to.
    by : str
        Whose columns they are, for messages.

    Raises
    ------
    DataError
        If a label is no class, or no row has one.
    """
    codes = np.column_stack([_codes(labels[c], classes, by) for c in labels.columns])
    row, column = np.nonzero(codes >= 0)
    if not len(row):
        raise DataError(f"The columns of --annotations of {by} must hold labels. All cells are missing.")
    label = codes[row, column]
    names = pd.Series(np.array([str(c) for c in labels.columns], dtype=object)[column])
    twice = np.bincount(row, minlength=len(labels)) > 1
    if twice.sum() < _LABELLED_TWICE * len(np.unique(row)):
        return by_annotator(names, ConfidentLearning().fit(label, p[row]).issue_mask)
    # Hardly smoothed: the rates are drawn towards each other below, once.
    found = MultiAnnotator(n_classes=len(classes), smoothing=1.0).fit_long(row, column, label)
    at = np.asarray(found.rows_, dtype=np.intp)
    sure = found.posterior_.max(axis=1)
    differs = np.flatnonzero((found.consensus_ != given[at]) & (sure > 0.5) & twice[at])
    rates = by_annotator(names, 1 - found.label_quality_, method="dawid_skene")
    told = {int(at[i]): (int(found.consensus_[i]), float(sure[i])) for i in differs}
    return AnnotatorRates(rates.method, rates.table, rates.overall, told)


def _codes(column: pd.Series, classes: NDArray[Any], by: str) -> NDArray[np.intp]:
    codes = np.asarray(pd.Index(classes).get_indexer(pd.Index(column)), dtype=np.intp)
    codes[column.isna().to_numpy()] = -1
    unknown = (codes < 0) & column.notna().to_numpy()
    if unknown.any():
        row = int(unknown.argmax())
        raise DataError(
            f"Column {column.name!r} of {by} must hold labels of the target. Row {row} has {column.iloc[row]!r}; classes "
            f"are {', '.join(map(str, classes[:8]))}."
        )
    return codes


def _rates(names: Sequence[Any], hits: Floats, labels: Floats, unsure: Floats) -> pd.DataFrame:
    """Return the table; labels that are wrong with a probability other than 0 or 1 count as fewer.

    The variance of an annotator's rate is that of drawing the labels, and that of not knowing which are wrong
    (`unsure`): as of so many fewer labels, all known.
    """
    drawn = hits * (1 - hits / labels)
    worth = np.divide(drawn, drawn + unsure, out=np.ones_like(drawn), where=drawn > 0)
    h, n = hits * worth, labels * worth
    a, b = beta_prior(h, n)
    if not np.isfinite(a):  # too few annotators to tell how they differ: Jeffreys' prior
        a = b = 0.5
    posterior = beta(a + h, b + n - h)
    low, high = posterior.ppf(0.025), posterior.ppf(0.975)
    columns = (names, labels.astype(int), hits, posterior.mean(), low, high)
    table = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
    return table.sort_values("low", ascending=False, kind="stable", ignore_index=True)


def rates(
    labelling: Labelling, table: pd.DataFrame, y: NDArray[Any], classes: NDArray[Any], p: Floats | None,
    suspect: NDArray[Any] | None, *, by: str,
) -> list[AnnotatorRates]:  # fmt: skip
    """Return the rates that the columns of a table allow, those of ``annotator`` first.

    Parameters
    ----------
    labelling : Labelling
    table : DataFrame of shape (n, d)
        With its columns.
    y : ndarray of shape (n,)
        Class numbers, or values.
    classes : ndarray of shape (k,)
        Empty for values.
    p : ndarray of shape (n, k) or None
        Out-of-sample probabilities; None for values.
    suspect : ndarray of bool of shape (n,) or None
        Suspect values, where they are no classes.
    by : str
        Whose table it is, for messages.
    """
    found = []
    if labelling.annotator is not None and p is not None:
        flags = ConfidentLearning().fit(y, p).issue_mask
        found.append(by_annotator(table[labelling.annotator], flags))
    elif labelling.annotator is not None and suspect is not None:
        found.append(by_annotator(table[labelling.annotator], suspect, method="veracity"))
    if labelling.annotations and p is not None:
        found.append(by_annotations(table[list(labelling.annotations)], classes, p, y, by=by))
    return found


def annotators(chain: Chain) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the suspected error rates of those who labelled the rows, for ``budget.json`` and for the report.

    The training rows are looked at where they say who labelled them, else the test rows.
    """
    problem = chain.problem
    labelling, wanted = problem.labelling, problem.labelling.columns
    if not wanted:
        return {}, []
    train = problem.table_train is not None and all(c in problem.table_train for c in wanted)
    split, table = ("train", problem.table_train) if train else ("test", problem.table_test)
    y, output = (problem.y_train, chain.first_output) if train else (problem.y_test, problem.test_output)
    assert table is not None
    assert y is not None
    found = []
    if output is not None and problem.has_proba:
        flags = next(r for r in chain.records if r.id == "label_errors").train_flag if train else None
        p = output if problem.is_classification else None
        found = rates(
            labelling, table.reset_index(drop=True), y, problem.classes, p, flags, by=f"the {split} table"
        )  # fmt: skip
    if not found:
        return {"why": "The labels cannot be judged: there are no outputs of a model that did not see them."}, []
    if problem.findings is not None:
        for row, (code, sure) in found[-1].consensus.items():
            told = f"its annotators' consensus is {problem.classes[code]} ({sure:.0%})"
            problem.findings.of(split)[row].append(told)
    return {"split": split, **found[-1].to_dict()}, [f.block() for f in found]
