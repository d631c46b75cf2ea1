"""Splits by commonness: trained on classes in their common settings, tested in uncommon ones.

Paper: FOCUS: Familiar Objects in Common and Uncommon Settings (Kattakinda, Feizi, ICML 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta
from sklearn.model_selection import StratifiedKFold

from corrigible._card import Card
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError

CARD = Card(
    name="commonness_report",
    kind="measure",
    obj="commonness_report",
    also=("CommonnessReport", "GroupShiftSplit", "uncommon_attributes"),
    papers=("focus_bench",),
    refs=("kattakinda2022focus",),
    source="",
    differs="Settings are any attributes of the rows, and what is uncommon for a class follows from their shares in the "
    "class, where the authors chose settings by hand and gathered photos of them. The splitter and the intervals are "
    "ours. Of the paper abstract and summaries were read.",
    inputs="correct, y, attributes",
    stochastic=False,
    cost="O(n) a pair of class and attribute",
    use_when="A test set is like the training set: it says how a model does in settings that a class is rarely seen in.",
    avoid_when="Attributes are part of what the class means.",
)

Floats = NDArray[np.floating]


def uncommon_attributes(y: ArrayLike, attributes: Any, *, share: float = 0.2) -> NDArray[np.bool_]:
    """Say which attributes of each row are uncommon for its class.

    Parameters
    ----------
    y : array-like of shape (n,)
        Classes.
    attributes : array-like or DataFrame of shape (n,) or (n, m)
        Settings of the rows: place, weather, time of day, source.
    share : float, default=0.2
        A value is uncommon for a class if a smaller share of the class's rows has it.

    Returns
    -------
    ndarray of bool of shape (n, m)

    References
    ----------
    .. [1] Kattakinda, P. and Feizi, S. (2022). FOCUS: Familiar Objects in Common and Uncommon Settings. ICML.

    Examples
    --------
    >>> from corrigible.shift import uncommon_attributes
    >>> uncommon_attributes(["ship"] * 6, ["sea"] * 5 + ["street"])[:, 0]
    array([False, False, False, False, False,  True])
    """
    by = "uncommon_attributes"
    check_number(share, name="share", by=by, low=0.0, high=1.0)
    labels, table = _checked(y, attributes, by)
    known, classes = pd.factorize(labels)
    found = np.empty(table.shape, dtype=bool)
    for j, column in enumerate(table):
        codes, values = pd.factorize(table[column])
        cells = known * len(values) + codes
        counts = np.bincount(cells, minlength=len(classes) * len(values))
        found[:, j] = counts[cells] < share * np.bincount(known)[known]
    return found


@dataclass(frozen=True, eq=False)
class CommonnessReport:
    """What settings do to a model.

    Attributes
    ----------
    table : DataFrame
        A row a number of uncommon attributes: ``uncommon``, ``rows``, ``accuracy``, ``low``, ``high``, and ``drop``
        (accuracy in common settings less this one) with ``drop_low``, ``drop_high``.
    cells : DataFrame
        A row a class, attribute and value that is uncommon for it: ``rows``, ``accuracy``, ``low``, ``high``, the worst
        first.
    """

    table: pd.DataFrame
    cells: pd.DataFrame


def commonness_report(
    correct: ArrayLike, y: ArrayLike, attributes: Any, *, share: float = 0.2, confidence: float = 0.95
) -> CommonnessReport:
    """Measure accuracy by how many of a row's attributes are uncommon for its class.

    Parameters
    ----------
    correct : array-like of bool of shape (n,)
        Whether the model is right.
    y : array-like of shape (n,)
        Classes.
    attributes : array-like or DataFrame of shape (n,) or (n, m)
        Settings of the rows.
    share : float, default=0.2
        A value is uncommon for a class if a smaller share of the class's rows has it.
    confidence : float, default=0.95
        Of the intervals: Clopper-Pearson's of accuracies, Newcombe's of drops.

    Returns
    -------
    CommonnessReport

    Raises
    ------
    DataError
        If lengths differ or there are no rows.

    References
    ----------
    .. [1] Kattakinda, P. and Feizi, S. (2022). FOCUS: Familiar Objects in Common and Uncommon Settings. ICML.

    Examples
    --------
    >>> from corrigible.shift import commonness_report
    >>> correct = [True] * 9 + [True, False, False]
    >>> report = commonness_report(correct, ["ship"] * 12, ["sea"] * 9 + ["street", "desk", "street"])
    >>> report.table[["uncommon", "rows", "accuracy"]].round(2).values.tolist()
    [[0.0, 9.0, 1.0], [1.0, 3.0, 0.33]]
    """
    by = "commonness_report"
    check_number(confidence, name="confidence", by=by, low=0.0, high=1.0, closed="neither")
    labels, table = _checked(y, attributes, by)
    right = np.asarray(correct, dtype=bool)
    if right.shape != (len(labels),):
        raise DataError(f"'correct' of {by} must have {len(labels)} entries, one a row. Got shape {right.shape}.")
    uncommon = uncommon_attributes(labels, table, share=share)
    number = uncommon.sum(axis=1)
    rows = [_rate(right[number == k], confidence) | {"uncommon": k} for k in np.unique(number)]
    found = pd.DataFrame(rows)[["uncommon", "rows", "accuracy", "low", "high"]]
    common = rows[0] if rows[0]["uncommon"] == 0 else _rate(right[:0], confidence)
    drops = [_drop(common, row) for row in rows]
    found[["drop", "drop_low", "drop_high"]] = np.array(drops)
    return CommonnessReport(found, _cells(right, labels, table, uncommon, confidence))


class GroupShiftSplit:
    """Split so that models are trained on classes in common settings and tested in common or uncommon ones.

    Folds are drawn as for stratified cross-validation. A training set holds the rows of the other folds that have no
    uncommon attribute; the test set holds the rows of the fold that have at least one, or none for a score to compare with.

    Parameters
    ----------
    share : float, default=0.2
        A value is uncommon for a class if a smaller share of the class's rows has it.
    test : {"uncommon", "common"}, default="uncommon"
        Rows of the fold to test on.
    n_splits : int, default=5
        Folds.
    random_state : None, int, Generator or RandomState
        Source of the folds; the same for both kinds of test gives the same training sets.

    See Also
    --------
    AxisSplit : Whole values held out.

    References
    ----------
    .. [1] Kattakinda, P. and Feizi, S. (2022). FOCUS: Familiar Objects in Common and Uncommon Settings. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import GroupShiftSplit
    >>> y, place = np.repeat([0, 1], 50), np.r_[np.repeat(["sea", "street"], [45, 5]), np.repeat("street", 50)]
    >>> train, test = next(GroupShiftSplit(random_state=0).split(np.zeros((100, 1)), y, place))
    >>> len(train), place[test].tolist()
    (76, ['street'])
    """

    def __init__(
        self, *, share: float = 0.2, test: str = "uncommon", n_splits: int = 5, random_state: RandomState = None
    ) -> None:
        self.share = share
        self.test = test
        self.n_splits = n_splits
        self.random_state = random_state

    def split(self, X: Any, y: ArrayLike, groups: Any) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the rows to train on and those to test on.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Not looked at.
        y : array-like of shape (n,)
            Classes.
        groups : array-like or DataFrame of shape (n,) or (n, m)
            Attributes.

        Raises
        ------
        DataError
            If no row is common, or a fold has no row to test on.
        """
        by = "GroupShiftSplit"
        check_choice(self.test, ("uncommon", "common"), name="test", by=by)
        check_count(self.n_splits, name="n_splits", by=by, low=2)
        labels, table = _checked(y, groups, by)
        uncommon = np.asarray(uncommon_attributes(labels, table, share=self.share).any(axis=1))
        wanted = uncommon if self.test == "uncommon" else ~uncommon
        # Uncommon rows are few: folds part them as evenly as the classes.
        strata = pd.factorize(pd.Series(labels).astype(str) + uncommon.astype(str))[0]
        if np.bincount(strata).min() < self.n_splits:
            strata = uncommon.astype(int)
        seed = integer_seed(as_generator(self.random_state))
        if not wanted.any() or uncommon.all():
            kind = "common" if uncommon.all() else self.test
            raise DataError(f"{by} finds no {kind} row at share={self.share:g}. Choose another share.")
        folds = StratifiedKFold(self.n_splits, shuffle=True, random_state=seed % 2**32)
        for train, test in folds.split(np.zeros(len(labels)), strata):
            chosen = test[wanted[test]]
            if len(chosen) == 0:
                raise DataError(f"A fold of {by} has no {self.test} row. Take fewer than {self.n_splits} folds.")
            yield train[~uncommon[train]], chosen

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits


def _checked(y: ArrayLike, attributes: Any, by: str) -> tuple[NDArray[Any], pd.DataFrame]:
    labels = np.asarray(y)
    table = attributes if isinstance(attributes, pd.DataFrame) else pd.DataFrame(np.asarray(attributes))
    if labels.ndim != 1 or len(labels) == 0 or len(table) != len(labels) or table.shape[1] == 0:
        raise DataError(
            f"{by} needs classes (n,) and attributes (n, m), of one row or more. Got shapes {labels.shape} and "
            f"{table.shape}."
        )
    table = table.reset_index(drop=True).astype(object)
    return labels, table.where(table.notna(), "missing")


def _rate(right: NDArray[np.bool_], confidence: float) -> dict[str, Any]:
    n, k, tail = len(right), int(right.sum()), (1 - confidence) / 2
    if n == 0:
        return {"rows": 0, "accuracy": np.nan, "low": np.nan, "high": np.nan}
    low = float(beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return {"rows": n, "accuracy": k / n, "low": low, "high": high}


def _drop(common: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """Return the fall of accuracy with an interval from those of both accuracies (Newcombe's square and add)."""
    value = common["accuracy"] - other["accuracy"]
    if other["uncommon"] == 0:
        return 0.0, 0.0, 0.0
    below = np.hypot(common["accuracy"] - common["low"], other["high"] - other["accuracy"])
    above = np.hypot(common["high"] - common["accuracy"], other["accuracy"] - other["low"])
    return value, value - below, value + above


def _cells(
    right: NDArray[np.bool_],
    labels: NDArray[Any],
    table: pd.DataFrame,
    uncommon: NDArray[np.bool_],
    confidence: float,
) -> pd.DataFrame:
    rows = []
    for j, column in enumerate(table):
        part = pd.DataFrame({"class": labels, "value": table[column], "right": right})[uncommon[:, j]]
        for (label, value), cell in part.groupby(["class", "value"], sort=True)["right"]:
            rate = _rate(cell.to_numpy(), confidence)
            rows.append({"class": label, "attribute": str(column), "value": value, **rate})
    names = ["class", "attribute", "value", "rows", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=names).sort_values("accuracy", kind="stable", ignore_index=True)
