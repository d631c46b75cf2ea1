"""Issues of the target: labels and values that models contradict, rare classes, and rows that are served badly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from corrigible._core.row_neighbours import RowNeighbours
from corrigible._core.table_matrix import table_matrix
from corrigible.audit._annotators import AnnotatorRates, Labelling, rates
from corrigible.audit._refits import folds, out_of_fold
from corrigible.data import ClassImbalance, ConfidentLearning, UnderperformingGroups, VeracityScores
from corrigible.models import default_model

_FEW_VALUES = 20  # distinct numbers up to which a target is read as classes
_MANY_ROWS, _MANY_CLASSES = 20_000, 20
_LEAST_ROWS = 20


class Issues:
    """The growing list."""

    def __init__(self) -> None:
        self._found: list[tuple[Any, ...]] = []

    def add(
        self, row: Any, column: Any, kind: str, score: float, reason: str, value: Any = None, suggestion: Any = None
    ) -> None:
        """Add one row or cell."""
        self._found.append((int(row), column, kind, float(score), _shown(value), reason, _shown(suggestion)))

    def rows(
        self, kind: str, rows: NDArray[np.intp], score: float, reason: str, *, column: Any = None, value: Any = None
    ) -> None:
        """Add many rows that one reason holds for."""
        for row in rows:
            self.add(row, column, kind, score, reason, value)

    def table(self, kinds: list[str]) -> pd.DataFrame:
        """Return the list, kinds in the order given, the most suspect of each kind first."""
        names = ["row", "column", "kind", "score", "value", "reason", "suggestion"]
        table = pd.DataFrame(self._found, columns=names)
        table = table.assign(_kind=table["kind"].map({k: i for i, k in enumerate(kinds)}))
        table = table.sort_values(["_kind", "score", "row"], ascending=[True, False, True], kind="stable")
        types = {n: "string" for n in ("column", "kind", "value", "reason", "suggestion")}
        table = table[names].astype({"row": "int64", "score": "float64", **types})
        return table.drop_duplicates(["row", "column", "kind"], ignore_index=True)


def _shown(value: Any) -> str | None:
    missing = value is None or (not isinstance(value, list | dict | np.ndarray) and pd.isna(value))
    return None if missing else str(value)


def is_class(target: pd.Series) -> bool:
    """Whether a target is read as class labels: text, truth values, or few whole numbers."""
    if not pd.api.types.is_numeric_dtype(target) or pd.api.types.is_bool_dtype(target):
        return True
    known = target.dropna().to_numpy(dtype=float)
    return len(np.unique(known)) <= _FEW_VALUES and bool((known % 1 == 0).all())


def target_issues(
    issues: Issues, features: pd.DataFrame, target: pd.Series, near: RowNeighbours | None, *, seed: int,
    n_jobs: int | None, summary: dict[str, Any], labelling: Labelling, who: pd.DataFrame,
) -> None:  # fmt: skip
    """Judge the target by models fitted without the row, and say what was found.

    Parameters
    ----------
    issues : Issues
        Where findings go.
    features : DataFrame of shape (n, d)
    target : Series of shape (n,)
        Rows without a target are left out.
    near : RowNeighbours, optional
        Known neighbours of all rows.
    seed : int
    n_jobs : int, optional
    summary : dict
        Where findings about the whole table go.
    labelling : Labelling
        Who labelled the rows.
    who : DataFrame of shape (n, m)
        Its columns.
    """
    known = np.flatnonzero(target.notna())
    summary["task"] = "classification" if is_class(target) else "regression"
    features = features.loc[:, features.iloc[known].notna().any()]
    if len(known) < _LEAST_ROWS or target.nunique() < 2 or not features.shape[1]:
        summary["target_note"] = "There are too few rows, values or columns for models to judge the target by."
        return
    X, y = features.iloc[known].reset_index(drop=True), target.iloc[known].reset_index(drop=True)
    if summary["task"] == "regression":
        _values(issues, known, X, y, seed, n_jobs, summary, labelling, who)
    else:
        _labels(
            issues, known, X, y, near, seed=seed, n_jobs=n_jobs, summary=summary, labelling=labelling, who=who
        )  # fmt: skip


def _labels(
    issues: Issues, known: NDArray[np.intp], X: pd.DataFrame, y: pd.Series, near: RowNeighbours | None, *, seed: int,
    n_jobs: int | None, summary: dict[str, Any], labelling: Labelling, who: pd.DataFrame,
) -> None:  # fmt: skip
    rare = ClassImbalance().fit(y.astype(object).to_numpy())
    summary["classes"] = rare.table_.assign(label=rare.table_["label"].map(str)).to_dict("records")
    for row in np.flatnonzero(rare.issue_mask):
        reason = f"Its class {str(y[row])!r} has {int((y == y[row]).sum())} of {len(y)} rows."
        issues.add(known[row], y.name, "rare_class", rare.issue_scores[row], reason, y[row])
    # A class without a row in a fold's training part cannot be predicted there: such classes are only told.
    counts = y.value_counts()
    kept = y.isin(counts.index[counts >= 2]).to_numpy()
    if y[kept].nunique() < 2:
        return
    known, X, y = known[kept], X[kept].reset_index(drop=True), y[kept].reset_index(drop=True)
    code, levels = pd.factorize(y.astype(object).map(str) if y.dtype == object else y, sort=True)
    classes = np.asarray(levels)
    fold = folds(code, 5 if len(code) <= _MANY_ROWS else 2, stratify=True, seed=seed)
    if len(classes) <= _MANY_CLASSES:
        model, rows = default_model(classification=True, random_state=seed), X
    else:  # a booster fits one tree a class and round
        model, rows = ExtraTreesClassifier(random_state=seed), pd.DataFrame(table_matrix(X, by="clean").points)
    p = out_of_fold(model, rows, classes[code], fold, classes, seed=seed, n_jobs=n_jobs)
    found = ConfidentLearning(random_state=seed).fit(code, p)
    best = p.argmax(axis=1)
    for row in np.flatnonzero(found.issue_mask):
        given, other = classes[code[row]], classes[best[row]]
        reason = (
            f"Models fitted without the row give {str(other)!r} {p[row, best[row]]:.0%} "
            f"and its label {str(given)!r} {p[row, code[row]]:.0%}."
        )
        suggestion = other if best[row] != code[row] else None
        issues.add(known[row], y.name, "label", found.issue_scores[row], reason, given, suggestion)
    summary["labels"] = {
        "estimated_errors": float(found.n_errors_), "interval": [float(v) for v in found.n_errors_interval_],
        "agreement": float((best == code).mean()),
    }  # fmt: skip
    table = _as_labels(who.iloc[known].reset_index(drop=True), labelling, text=classes.dtype == object)
    _tell_rates(summary, rates(labelling, table, code, classes, p, None, by="the table"))
    _groups(issues, known, code, p, near if near is not None and len(known) == len(near) else X, seed, summary)


def _as_labels(who: pd.DataFrame, labelling: Labelling, *, text: bool) -> pd.DataFrame:
    """Return the columns of annotators with labels written as the classes are."""
    if not text:
        return who
    columns = {c: who[c].astype(object).map(str).where(who[c].notna(), None) for c in labelling.annotations}
    return who.assign(**columns)


def _tell_rates(summary: dict[str, Any], found: list[AnnotatorRates]) -> None:
    if found:
        summary["annotators"] = found[-1].to_dict()
        summary["annotator_blocks"] = [f.block() for f in found]


def _groups(
    issues: Issues, known: NDArray[np.intp], code: NDArray[np.intp], p: NDArray[np.floating], X: Any, seed: int,
    summary: dict[str, Any],
) -> None:  # fmt: skip
    found = UnderperformingGroups(random_state=seed).fit(code, p, X)
    summary["groups"] = found.table_.astype({"group": str}).to_dict("records")
    ratio = dict(zip(found.table_["group"], found.table_["ratio"], strict=True))
    for row in np.flatnonzero(found.issue_mask):
        group = found.groups_[row]
        reason = f"Rows like it (cluster {group}) get {ratio[group]:.0%} of the mean confidence in their labels."
        issues.add(known[row], None, "group", found.issue_scores[row], reason)


def _values(
    issues: Issues, known: NDArray[np.intp], X: pd.DataFrame, y: pd.Series, seed: int, n_jobs: int | None,
    summary: dict[str, Any], labelling: Labelling, who: pd.DataFrame,
) -> None:  # fmt: skip
    values = y.to_numpy(dtype=float)
    finite = np.isfinite(values)
    known, values = known[finite], values[finite]
    points = table_matrix(X, by="clean").points[finite]
    method = VeracityScores(
        shares=(0.01, 0.03, 0.1),
        n_fine=0,
        n_bootstrap=5,
        rule="one_se",
        n_folds=3,
        random_state=seed,
        n_jobs=n_jobs,
    )
    found = method.fit(points, values)
    for row in np.flatnonzero(found.issue_mask):
        expected = float(found.suggested_values_[row])
        reason = f"Is {values[row]:.6g}; models fitted without the row expect {expected:.6g}."
        issues.add(known[row], y.name, "value", found.issue_scores[row], reason, values[row], f"{expected:.6g}")
    table = who.iloc[known].reset_index(drop=True)
    _tell_rates(summary, rates(labelling, table, values, np.array([]), None, found.issue_mask, by="the table"))
