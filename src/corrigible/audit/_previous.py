"""What changed since an earlier version: counted over rows in memory, or from files beside rows that stream by."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from corrigible._utils.scan import column_names, scan
from corrigible._utils.tables import check_column, check_same_columns, expand, group_labels, read_table
from corrigible.audit import _evidence as evidence
from corrigible.audit._problem import Problem, encode_target
from corrigible.compare import FlipAccumulator
from corrigible.errors import DataError

BY = "--previous"
NO_MODEL = "Only predictions are known, so the earlier version must be predictions too, not a model."
_WHO = "the previous predictions"
_LISTED = 12
# Ids are matched so many rows at a time, unless that took too many files.
_PART_ROWS, _MOST_PARTS = 500_000, 200
_KEY, _ROW, _GIVEN, _NOW, _OLD = "key", "row", "given", "now", "old"


def previous(problem: Problem) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Count what an earlier version got right and this one gets wrong, and the reverse."""
    if problem.previous_output is None:
        return {}, []
    tally = Tally(problem)
    now, old = (answers(problem, output) for output in (problem.test_output, problem.previous_output))
    tally.update(np.arange(len(now)), problem.y_test, old, now)
    return tally.result()


def answers(problem: Problem, output: NDArray[np.floating]) -> NDArray[Any]:
    """Return class numbers, or values, of a model's outputs."""
    return np.asarray(output.argmax(axis=1)) if problem.is_classification else output


class Tally:
    """Flips, or sums of losses, of two versions: any split and order of the rows gives the same.

    Parameters
    ----------
    problem : Problem
        Task, classes and loss.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.flips = FlipAccumulator()
        self.sums, self.n = np.zeros(3), 0
        self.listed: list[tuple[int, int, int, int]] = []

    def update(self, rows: NDArray[np.intp], y: NDArray[Any], old: NDArray[Any], now: NDArray[Any]) -> None:
        """Take in rows: their numbers, targets, and both versions' class numbers or values, each (n,)."""
        if not len(rows):
            return
        self.n += len(rows)
        if not self.problem.is_classification:
            before, after = (self.problem.row_loss(values, y) for values in (old, now))
            self.sums += [before.sum(), after.sum(), (after > before).sum()]
            return
        self.flips.update(y, old, now)
        turned = np.flatnonzero((old == y) & (now != y))
        first = turned[np.argsort(rows[turned], kind="stable")[:_LISTED]]
        self.listed += [(int(rows[i]), int(y[i]), int(old[i]), int(now[i])) for i in first]
        self.listed = sorted(self.listed)[:_LISTED]

    def result(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return what ``budget.json`` holds of it, and the evidence."""
        if not self.problem.is_classification:
            old, new, worse = (float(v) for v in self.sums / self.n)
            return {"why": "Values do not flip; the mean loss is compared.", "old_loss": old, "new_loss": new,
                    "worse_share": worse}, []  # fmt: skip
        flips = self.flips.compute()
        result = {
            "negative_flips": int(flips.n_negative),
            "positive_flips": int(flips.n_positive),
            "rate": float(flips.negative_rate),
            "low": float(flips.negative_interval[0]),
            "high": float(flips.negative_interval[1]),
            "p_value": float(flips.p_value),
            "why": "A negative flip is a test row that the earlier version got right and this one gets wrong.",
        }
        frame = pd.DataFrame(self.listed, columns=["row", "label", "earlier", "now"])
        for name in frame.columns[1:]:
            frame[name] = self.problem.classes[frame[name].to_numpy(dtype=np.intp)]
        return result, [evidence.table("Negative flips", frame)]


@dataclass
class EarlierFile:
    """A file of an earlier version's predictions.

    Parameters
    ----------
    pattern : str
        Path or glob.
    target : str
        Name of the target: a column of that name, or ``prediction``, or the only one, holds the predictions.
    prediction : str, optional
        Name of the column of predictions in the test file.
    proba : tuple of str
        Names of the probability columns in the test file.
    id : str, optional
        Column by which rows are matched; without one the order of the rows is.
    """

    pattern: str
    target: str
    prediction: str | None = None
    proba: tuple[str, ...] = ()
    id: str | None = None

    def read(self, test_ids: pd.Series | None, classes: Sequence[Any]) -> NDArray[Any]:
        """Return the predicted labels or values of the test rows.

        Parameters
        ----------
        test_ids : Series of shape (n_test,) or None
            Their ids, if they are matched by id.
        classes : sequence
            In the order of the probability columns.
        """
        table = read_table(self.pattern, columns=self._columns(), by=BY)
        labels = self.labels(table, classes)
        if test_ids is None or self.id is None:
            return labels
        at = _match(_keys(table[self.id], BY), _keys(test_ids, "--test"), self.id)
        missing = np.flatnonzero(at < 0)
        if len(missing):
            raise _unmatched(self.id, str(test_ids.iloc[missing[0]]), int(missing[0]))
        return labels[at]

    def frames(self, batch_rows: int) -> Iterator[pd.DataFrame]:
        """Yield the predictions, batch by batch, with the ids where there are any."""
        for path in expand(self.pattern, by=BY):
            yield from scan(path, self._columns(), batch_rows=batch_rows, by=BY)

    def labels(self, frame: pd.DataFrame, classes: Sequence[Any]) -> NDArray[Any]:
        """Return the predicted labels or values of some rows."""
        names, is_proba = self._given
        if not is_proba:
            return np.asarray(frame[names[0]].to_numpy())
        p = frame[list(names)].to_numpy(dtype=np.float64)
        best = (p[:, 0] > 0.5).astype(np.intp) if p.shape[1] == 1 else p.argmax(axis=1)
        return np.asarray(pd.Series(list(classes)).to_numpy()[best])

    def _columns(self) -> list[str]:
        return [*self._given[0], *([self.id] if self.id is not None else [])]

    @cached_property
    def _given(self) -> tuple[tuple[str, ...], bool]:
        """Return the columns that hold the predictions, and whether they are probabilities."""
        files = expand(self.pattern, by=BY)
        columns = column_names(files[0], by=BY)
        for path in files[1:]:
            empty = [pd.DataFrame(columns=c) for c in (columns, column_names(path, by=BY))]
            check_same_columns(*empty, first=str(files[0]), second=str(path), by=BY)
        if self.id is not None:
            check_column(self.id, columns, by=f"{BY}, as --id names it,")
        for name in ("prediction", self.prediction):
            if name in columns:
                return (str(name),), False
        if self.proba and set(self.proba) <= set(columns):
            return self.proba, True
        if self.target in columns:
            return (self.target,), False
        others = [c for c in columns if c != self.id]
        if len(others) == 1:
            return (others[0],), False
        raise DataError(f"{BY} must have a column 'prediction'. It has {', '.join(map(str, columns[:8]))}.")


def _keys(ids: pd.Series, by: str) -> pd.Series:
    """Return ids as text, in which 7, 7.0 and "7" are one."""
    missing = ids.isna().to_numpy()
    if missing.any():
        raise DataError(f"Column {ids.name!r} of {by} must name each row. Row {int(missing.argmax())} is empty.")
    return group_labels(ids.to_frame()).iloc[:, 0]


def _match(known: pd.Series, wanted: pd.Series, name: str) -> NDArray[np.intp]:
    """Return where each wanted key stands among the known ones, -1 if nowhere."""
    twice = known.duplicated().to_numpy()
    if twice.any():
        raise DataError(
            f"Column {name!r} of {BY} must name each row once. It has {known.iloc[twice.argmax()]!r} twice."
        )
    return np.asarray(pd.Index(known).get_indexer(pd.Index(wanted)), dtype=np.intp)


def _unmatched(name: str, value: str, row: int) -> DataError:
    return DataError(f"{BY} must have a prediction for each test row. {name} {value!r} (row {row}) has none.")


class EarlierRows:
    """An earlier version's predictions beside test rows that come in batches, in bounded memory; a context.

    Rows matched by order are compared as they come. Rows matched by id are first dealt out, those of the test and
    those of the file alike, to parts of about `_PART_ROWS` by a hash of the id; then part after part is joined.

    Parameters
    ----------
    file : EarlierFile
    problem : Problem
        Of any of the rows.
    n_rows : int
        Number of test rows.
    batch_rows : int
        Rows to read at a time.
    """

    def __init__(self, file: EarlierFile, problem: Problem, n_rows: int, batch_rows: int) -> None:
        self.file, self.problem, self.n_rows = file, problem, n_rows
        self.tally, self.seen = Tally(problem), 0
        self._frames = file.frames(batch_rows)
        self._left: pd.DataFrame | None = None
        self._parts = (
            None if file.id is None else _Parts(min(-(-n_rows // _PART_ROWS), _MOST_PARTS), ("now", "old"))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._parts is not None:
            self._parts.close()

    def update(self, y: NDArray[Any], now: NDArray[Any], ids: pd.Series | None) -> None:
        """Take in the next test rows: targets, class numbers or values, and ids."""
        rows = np.arange(self.seen, self.seen + len(y))
        self.seen += len(y)
        if self._parts is None:
            self.tally.update(rows, y, self._codes(self._take(len(y)), int(rows[0])), now)
            return
        assert ids is not None
        self._parts.write("now", {_KEY: _keys(ids, "--test"), _ROW: rows, _GIVEN: y, _NOW: now})

    def result(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return what `Tally.result` does, of all rows."""
        if self._parts is None:
            left = (0 if self._left is None else len(self._left)) + sum(map(len, self._frames))
            if left:
                raise self._unequal(self.seen + left)
        else:
            self._join(self._parts)
        return self.tally.result()

    def _codes(self, frame: pd.DataFrame, first: int) -> NDArray[Any]:
        values = pd.Series(self.file.labels(frame, self.problem.classes.tolist()), name="previous")
        return encode_target(
            values, self.problem.classes if self.problem.is_classification else None, by=_WHO, first_row=first
        )

    def _take(self, n: int) -> pd.DataFrame:
        """Return the next rows of the file."""
        parts = [] if self._left is None else [self._left]
        while sum(map(len, parts)) < n:
            if (frame := next(self._frames, None)) is None:
                raise self._unequal(self.seen - n + sum(map(len, parts)))
            parts.append(frame)
        rows = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
        self._left = rows.iloc[n:]
        return rows.iloc[:n].reset_index(drop=True)

    def _unequal(self, got: int) -> DataError:
        return DataError(f"The previous predictions must be one a test row ({self.n_rows}). Got {got}.")

    def _join(self, parts: _Parts) -> None:
        assert self.file.id is not None
        first = 0
        for frame in self._frames:
            parts.write("old", {_KEY: _keys(frame[self.file.id], BY), _OLD: self._codes(frame, first)})
            first += len(frame)
        if not first:
            raise DataError(f"{BY} must hold at least one row. {self.file.pattern!r} holds none.")
        unmatched: list[tuple[int, str]] = []
        for now, old in parts.read():
            at = _match(old[_KEY], now[_KEY], self.file.id)
            lost = np.flatnonzero(at < 0)
            unmatched += [(int(now[_ROW].iloc[i]), str(now[_KEY].iloc[i])) for i in lost[:1]]
            if not unmatched:
                rows, y, now_said = (now[c].to_numpy() for c in (_ROW, _GIVEN, _NOW))
                self.tally.update(rows, y, old[_OLD].to_numpy()[at], now_said)
        if unmatched:
            row, key = min(unmatched)
            raise _unmatched(self.file.id, key, row)


class _Parts:
    """Rows of several tables, dealt out to files by a hash of their key, so that equal keys meet in one part."""

    def __init__(self, n_parts: int, names: tuple[str, ...]) -> None:
        self.n_parts, self.names = n_parts, names
        self._folder, self._open = tempfile.TemporaryDirectory(), ExitStack()
        self._writers: dict[tuple[str, int], Any] = {}

    def write(self, name: str, columns: dict[str, Any]) -> None:
        """Deal out rows of a table."""
        table = pa.table(columns)
        part = pd.util.hash_array(columns[_KEY].to_numpy(dtype=object)) % np.uint64(self.n_parts)
        for p in range(self.n_parts):
            if (name, p) not in self._writers:
                sink = self._open.enter_context(pa.OSFile(str(self._path(name, p)), "wb"))
                self._writers[name, p] = self._open.enter_context(pa.ipc.new_stream(sink, table.schema))
            self._writers[name, p].write_table(table.filter(pa.array(part == p)))

    def read(self) -> Iterator[tuple[pd.DataFrame, ...]]:
        """Yield the rows of each part, a frame a table; nothing can be written any more."""
        self._open.close()
        for p in range(self.n_parts):
            yield tuple(self._part(name, p) for name in self.names)

    def close(self) -> None:
        """Remove the files."""
        self._open.close()
        self._folder.cleanup()

    def _part(self, name: str, p: int) -> pd.DataFrame:
        with pa.OSFile(str(self._path(name, p)), "rb") as source:
            return pa.ipc.open_stream(source).read_pandas()

    def _path(self, name: str, p: int) -> Path:
        return Path(self._folder.name) / f"{name}-{p}.arrow"
