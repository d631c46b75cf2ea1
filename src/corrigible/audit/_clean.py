"""`clean`: every detector of errors in data over one table, their findings in one list, and what was asked applied."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from corrigible._core.hidden_codes import find_hidden_codes
from corrigible._core.row_neighbours import RowNeighbours, row_neighbours
from corrigible._core.table_matrix import as_frame, first_copy
from corrigible._utils.files import atomic_path, write_text
from corrigible._utils.folders import new_folder
from corrigible._utils.progress import Progress, progress
from corrigible._utils.tables import check_column
from corrigible._utils.versions import versions
from corrigible.audit._annotators import Labelling
from corrigible.audit._clean_targets import Issues, is_class, target_issues
from corrigible.data import CellErrors, NearDuplicates, NonIIDTest, OutlierScores
from corrigible.errors import DataError, UnknownNameError, nearest

# What each kind says, and what applying it does.
KINDS: dict[str, tuple[str, str]] = {
    "duplicate": ("equal to an earlier row in every cell", "drop"),
    "near_duplicate": ("nearly equal to another row", ""),
    "leak": ("has a copy in another split", "drop"),
    "contradiction": ("copies with different targets", ""),
    "empty_row": ("no cell is filled", "drop"),
    "label": ("a label that models fitted without the row contradict", "drop"),
    "value": ("a target value that models fitted without the row contradict", "drop"),
    "missing_target": ("the target is missing", "drop"),
    "rare_class": ("a class with too few rows to be learnt", ""),
    "group": ("rows of a kind that models serve badly", ""),
    "outlier": ("far from all other rows", "drop"),
    "typo": ("nearly a frequent value", "replace"),
    "pattern": ("written unlike the rest of the column", "replace"),
    "unit_text": ("a unit among numbers", "replace"),
    "run_together": ("holds the value of another cell", "replace"),
    "dependency": ("breaks what other columns determine", "replace"),
    "number": ("far from all other numbers of the column", ""),
    "missing_code": ("stands for missing", "empty"),
}
COLUMNS = ["row", "column", "kind", "score", "value", "reason", "suggestion"]
_NEIGHBOURS, _STEPS = 10, 5


@dataclass
class CleanReport:
    """What `clean` found and did.

    Attributes
    ----------
    issues : DataFrame
        A row a suspect row or cell, most suspect first within a kind: ``row`` (numbered from 0), ``column`` (missing
        where the whole row is meant), ``kind``, ``score`` (higher is more suspect; of its kind's own scale),
        ``value``, ``reason`` in words, ``suggestion``.
    cleaned : DataFrame
        The table with what was asked applied, and the columns ``original_row`` and ``changes``.
    summary : dict
        Rows, columns, counts by kind, and what concerns the whole table.
    settings : dict
        What repeats the run; filled by the command line.
    """

    issues: pd.DataFrame
    cleaned: pd.DataFrame
    summary: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``index.html``, ``issues.parquet``, ``cleaned.parquet`` and ``summary.json``.

        Parameters
        ----------
        folder : str or Path
            A new or empty folder, or one that holds an earlier output.
        overwrite : bool
            Replace an earlier output.

        Returns
        -------
        Path
            The page.

        Raises
        ------
        DataError
            If the folder holds something else, or cannot be written.
        """
        from corrigible.report._clean_page import render_clean

        with new_folder(folder, marker="issues.parquet", overwrite=overwrite) as made:
            with atomic_path(made / "issues.parquet") as path:
                self.issues.to_parquet(path, index=False)
            with atomic_path(made / "cleaned.parquet") as path:
                _storable(self.cleaned).to_parquet(path, index=False)
            write_text(made / "summary.json", json.dumps(self.summary, indent=1, default=str) + "\n")
            write_text(made / "index.html", render_clean(self.page()))
        return Path(folder) / "index.html"

    def page(self) -> dict[str, Any]:
        """Return what the page shows, as plain values."""
        return {
            "title": self.settings.get("title", "Data audit"),
            "made": datetime.date.today().isoformat(),
            "version": versions()["corrigible"],
            "command": self.settings.get("command", ""),
            "summary": self.summary,
            "kinds": {k: meaning for k, (meaning, _) in KINDS.items()},
            "issues": {str(k): part.head(200).to_dict("records") for k, part in self.issues.groupby("kind")},
            "settings": {k: v for k, v in self.settings.items() if k not in ("title", "command")},
            "versions": versions(),
        }

    def __repr__(self) -> str:
        counts = self.summary["issues"]
        head = f"{self.summary['rows']} rows, {self.summary['columns']} columns, {len(self.issues)} issues"
        return "\n".join([head, *(f"  {kind:<15} {count:>7}" for kind, count in counts.items())])


def clean(
    table: Any,
    target: str | None = None,
    *,
    split: str | None = None,
    group: str | None = None,
    drop: Sequence[str] = (),
    annotator: str | None = None,
    annotations: Sequence[str] = (),
    apply: Sequence[str] = (),
    n_jobs: int | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> CleanReport:
    """Look for errors of every kind in a table; change nothing but what is asked.

    Parameters
    ----------
    table : DataFrame or array-like of shape (n, d)
        The table.
    target : str, optional
        Column to predict: its labels or values are judged by cross-fitted models.
    split : str, optional
        Column that says which split a row belongs to; copies across splits are leaks.
    group : str, optional
        Column that says who or what a row is of.
    drop : sequence of str
        Columns, such as an identifier, that are neither compared between rows nor shown to models.
    annotator : str, optional
        Column that says who labelled a row; no feature. With `target`.
    annotations : sequence of str
        Columns of several annotators' labels, missing where one gave none; no features. With `target`.
    apply : sequence of str
        Kinds of issues to act on: rows are dropped (duplicate, leak, empty_row, label, value, missing_target,
        outlier), cells replaced by their suggestion (typo, pattern, unit_text, run_together, dependency), or emptied
        (missing_code).
    n_jobs : int, optional
        Parallel work, as in joblib.
    seed : int
        The same seed gives the same bits.
    quiet : bool
        Show no progress.

    Returns
    -------
    CleanReport

    Raises
    ------
    DataError
        If the table has no row, no column or a column twice.
    UnknownNameError
        If a column or a kind is unknown, or nothing can be done about a kind.

    Examples
    --------
    >>> import pandas as pd
    >>> from corrigible.audit import clean
    >>> table = pd.DataFrame({"city": ["Bonn"] * 30 + ["Bonm"], "n": range(31)})
    >>> clean(table, apply=["typo"]).cleaned["city"].nunique()
    1
    """
    frame = as_frame(table, by="clean")
    frame = as_frame(frame.set_axis(frame.columns.map(str), axis=1), by="clean")
    labelling = Labelling(annotator, tuple(annotations))
    for name in (*(n for n in (target, split, group) if n is not None), *drop):
        check_column(name, frame.columns, by="The table")
    regression = target is not None and not is_class(frame[target])
    labelling.check([frame], regression=regression, by="The table")
    if labelling.columns and target is None:
        raise DataError("Annotators are judged by the labels they gave: name the target as well.")
    _check_kinds(apply)
    issues = Issues()
    summary: dict[str, Any] = {"rows": len(frame), "columns": frame.shape[1], "target": target}
    features = frame.drop(
        columns=list({c for c in (target, split, group, *drop, *labelling.columns) if c is not None})
    )
    with progress(_STEPS, quiet=quiet) as bar:
        _empty_cells(issues, frame, features, target, summary, bar)
        near = _neighbours(features, n_jobs, bar)
        _copies(issues, frame, features, near, (target, split, group), summary)
        _cells(issues, frame, target, bar)
        bar.step("outliers and order")
        if near is not None:
            _far_rows(issues, near, seed, summary)
        bar.step("target" if target is not None else "target: none given")
        if target is not None and features.shape[1]:
            target_issues(
                issues, features, frame[target], near, seed=seed, n_jobs=n_jobs, summary=summary, labelling=labelling,
                who=frame[list(labelling.columns)],
            )  # fmt: skip
    found = issues.table(list(KINDS))
    summary["issues"] = {str(k): int(v) for k, v in found["kind"].value_counts(sort=False).items()}
    cleaned = _apply(frame, found, apply)
    summary["applied"] = list(apply)
    summary["rows_dropped"] = len(frame) - len(cleaned)
    summary["rows_changed"] = int((cleaned["changes"] != "").sum())
    return CleanReport(found, cleaned, summary)


def _check_kinds(kinds: Sequence[str]) -> None:
    actions = [k for k, (_, action) in KINDS.items() if action]
    for kind in kinds:
        if kind not in actions:
            known = "can only be looked at" if kind in KINDS else "is unknown"
            hint = nearest(kind, actions) if kind not in KINDS else ""
            raise UnknownNameError(
                f"The kind {kind!r} of --apply {known}.{hint} Kinds that can be applied: {', '.join(actions)}."
            )


def _empty_cells(
    issues: Issues, frame: pd.DataFrame, features: pd.DataFrame, target: str | None, summary: dict[str, Any],
    bar: Progress,
) -> None:  # fmt: skip
    bar.step("missing values and their codes")
    missing = frame.isna()
    summary["missing_cells"] = {c: int(k) for c, k in missing.sum().items() if k}
    if features.shape[1]:
        empty = features.isna().all(axis=1)
        issues.rows("empty_row", np.flatnonzero(empty), 1.0, "No cell of the row is filled.")
    if target is not None:
        at = np.flatnonzero(missing[target])
        issues.rows("missing_target", at, 1.0, "The target is missing.", column=target)
    for code in find_hidden_codes(frame):
        if code.kind in ("number", "date") and code.column != target:
            at = np.flatnonzero((frame[code.column] == code.value).fillna(False))
            issues.rows("missing_code", at, code.score, code.reason, column=code.column, value=code.value)


def _neighbours(features: pd.DataFrame, n_jobs: int | None, bar: Progress) -> RowNeighbours | None:
    bar.step("copies of rows")
    if len(features) < 3 or not features.shape[1]:
        return None
    return row_neighbours(features, _NEIGHBOURS, n_jobs=n_jobs, by="clean")


def _copies(
    issues: Issues, frame: pd.DataFrame, features: pd.DataFrame, near: RowNeighbours | None,
    roles: tuple[str | None, str | None, str | None], summary: dict[str, Any],
) -> None:  # fmt: skip
    if not features.shape[1]:
        return
    target = roles[0]
    column = {name: None if c is None else frame[c].astype(object) for name, c in zip("tsg", roles, strict=True)}
    method = NearDuplicates(threshold=0.0 if near is None else 0.13, k=_NEIGHBOURS)
    found = method.fit(features, column["t"], split=column["s"], groups=column["g"], neighbours=near)
    whole = features if target is None else frame[[*features.columns, target]]
    again = first_copy(whole) != np.arange(len(whole))
    differing = set(found.contradictions_)
    for number, rows in enumerate(found.sets_):
        for row in rows:
            other = int(rows[0] if row != rows[0] else rows[1])
            score = float(found.issue_scores[row])
            if number in differing:
                reason = f"Is a copy of row {other}, or nearly, and its set has several targets."
                issues.add(row, None, "contradiction", score, reason)
            elif again[row]:
                issues.add(row, None, "duplicate", 1.0, f"Equals row {int(rows[0])} in every cell.")
            elif row != rows[0]:
                issues.add(row, None, "near_duplicate", score, f"Nearly equals row {other}.")
    for row, other, part, part_of, exact in found.leaks_.itertuples(index=False):
        how = "Equals" if exact else "Nearly equals"
        reason = f"{how} row {other} of {part_of!r}, while it stands in {part!r}."
        issues.add(row, None, "leak", float(found.issue_scores[row]), reason)
    summary["copies"] = {"sets": len(found.sets_), "contradicting_sets": len(differing)}
    summary["group_leaks"] = [str(g) for g in found.group_leaks_["group"]]


def _cells(issues: Issues, frame: pd.DataFrame, target: str | None, bar: Progress) -> None:
    bar.step("cells")
    # Apart from the others: a column that determines the target, or is determined by it, must not correct it.
    parts = [frame] if target is None else [frame.drop(columns=target), frame[[target]]]
    for shown in (p for p in parts if p.shape[1]):
        for cell in CellErrors().fit(shown).cells_.to_dict("records"):
            issues.add(**{str(name): value for name, value in cell.items()})


def _far_rows(issues: Issues, near: RowNeighbours, seed: int, summary: dict[str, Any]) -> None:
    far = OutlierScores(k=_NEIGHBOURS).fit(near)
    middle = float(np.median(far.mean_distance_)) or 1.0
    for row, column in far.columns_.items():
        times = far.mean_distance_[row] / middle
        reason = (
            f"Lies {times:.1f} times as far from its nearest rows as the median row, most so in {str(column)!r}."
        )
        issues.add(row, None, "outlier", float(far.issue_scores[row]), reason)
    order = NonIIDTest(random_state=seed).fit(near)
    summary["order"] = {
        "statistic": order.statistic_, "pvalue": order.pvalue_, "rows_in_runs": int(order.issue_mask.sum()),
    }  # fmt: skip


def _apply(frame: pd.DataFrame, issues: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """Return the table with the issues of `kinds` acted on, and two columns that tell of it."""
    cleaned = frame.copy()
    notes: dict[int, list[str]] = {}
    dropped: set[int] = set()
    for kind in dict.fromkeys(kinds):
        part, action = issues[issues["kind"] == kind], KINDS[kind][1]
        if action == "drop":
            dropped |= {int(r) for r in part["row"]}
            continue
        for column, cells in part.groupby("column"):
            if action == "replace":
                cells = cells[cells["suggestion"].notna()]
            rows = cells["row"].to_numpy(dtype=np.intp)
            if not len(rows):
                continue
            new = [None] * len(rows) if action == "empty" else list(cells["suggestion"])
            cleaned[column] = _filled(cleaned[column], rows, new)
            for row, before, after in zip(rows, frame[column].iloc[rows], new, strict=True):
                notes.setdefault(int(row), []).append(f"{column}: {before!r} -> {'' if after is None else after!r}")
    row_name, note_name = _free("original_row", frame), "changes"
    cleaned[row_name] = np.arange(len(frame))
    if note_name in frame.columns:
        cleaned = cleaned.rename(columns={note_name: "changes_original"})
    cleaned[note_name] = ["; ".join(notes.get(i, [])) for i in range(len(frame))]
    kept = np.ones(len(frame), dtype=bool)
    kept[list(dropped)] = False
    return cleaned[kept].reset_index(drop=True)


def _filled(column: pd.Series, rows: np.ndarray, new: list[Any]) -> pd.Series:
    """Return the column with cells replaced, in its own type where the new values have one."""
    if all(v is None for v in new):
        mask = np.zeros(len(column), dtype=bool)
        mask[rows] = True
        return column.mask(mask)
    values = column.astype(object)
    if pd.api.types.is_numeric_dtype(column):
        new = [float(v) for v in new]
    values.iloc[rows] = new
    return values.infer_objects()


def _free(name: str, frame: pd.DataFrame) -> str:
    while name in frame.columns:
        name += "_"
    return name


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with columns of mixed types as text, which is all that a column of Parquet can hold of them."""
    mixed = [str(n) for n, c in frame.items() if c.dtype == object and len({type(v) for v in c.dropna()}) > 1]
    return frame.assign(**{n: frame[n].astype("string") for n in mixed})
