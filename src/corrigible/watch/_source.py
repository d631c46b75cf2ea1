"""The stream of production rows: read in batches as often as needed, checked once whole, then taken chunk by chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from corrigible._core.any_table import as_pandas
from corrigible._utils.scan import column_names, scan
from corrigible._utils.tables import check_column, check_names, expand
from corrigible.errors import DataError
from corrigible.watch._inputs import Part, Reader

BATCH_ROWS = 65_536
_BY = "--production"


@dataclass
class Plan:
    """A chunk before it is computed.

    Parameters
    ----------
    number : int
        Its number by the chunking.
    first : int
        Rows of the stream before it.
    rows, labelled : int
        Its rows, and those with a label.
    start, end : Timestamp, optional
        First and last time.
    digest : hash
        Of all that an estimate rests on.
    """

    number: int
    first: int
    rows: int = 0
    labelled: int = 0
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, part: Part) -> None:
        """Count further rows."""
        self.rows += len(part)
        self.labelled += int(part.labelled.sum())
        part.digest(self.digest)
        if part.times is not None:
            self.start = self.start or part.times[0]
            self.end = part.times[-1]


@dataclass(frozen=True)
class Source:
    """Files, or one table, as a stream.

    Parameters
    ----------
    files : tuple of Path
        Files in order; empty where there is a table.
    table : DataFrame, optional
        Rows in memory.
    columns : tuple of str
        Columns of the first file or the table.
    reader : Reader, optional
        What turns rows into parts; set by `reading`.
    total : int
        Rows of all files; known after `reading` if asked for.
    """

    files: tuple[Path, ...]
    table: pd.DataFrame | None
    columns: tuple[str, ...]
    reader: Reader | None = None
    total: int = 0

    @classmethod
    def of(cls, given: Any) -> Source:
        """Name the files of a path, a glob or a sequence of them; or take a dataframe."""
        if isinstance(given, str | Path):
            given = [given]
        if isinstance(given, Sequence) and given and all(isinstance(g, str | Path) for g in given):
            files = tuple(dict.fromkeys(p for g in given for p in expand(g, by=_BY)))
            return cls(files, None, tuple(column_names(files[0], by=_BY)))
        if isinstance(given, Sequence):
            raise DataError(f"{_BY} must name at least one file, or be a table.")
        table = as_pandas(given)
        names = [str(c) for c in table.columns]
        check_names(names, None, "the table", _BY)
        return cls((), table.set_axis(names, axis=1).reset_index(drop=True), tuple(names))

    def reading(self, reader: Reader) -> Source:
        """Return the source with what it needs to give parts, its columns checked in every file."""
        needed = reader.columns(target=False)
        for path in self.files or ("the table",):
            names = self.columns if not self.files else column_names(Path(path), by=_BY)
            for name in needed:
                check_column(name, names, by=_BY if len(self.files) < 2 else f"{_BY} {str(path)!r}")
        found = replace(self, reader=reader)
        return replace(found, total=found._count()) if reader.settings.chunk.kind == "count" else found

    def _count(self) -> int:
        if self.table is not None:
            return len(self.table)
        total = 0
        for path in self.files:
            if path.name.lower().endswith((".parquet", ".pq")):
                total += pq.ParquetFile(path).metadata.num_rows
            else:
                first = column_names(path, by=_BY)[:1]
                total += sum(len(f) for f in scan(path, first, batch_rows=BATCH_ROWS, by=_BY))
        return total

    def parts(self) -> Iterator[tuple[str, int, Part]]:
        """Yield file, number of the first row in it, and checked rows."""
        reader = self.reader
        assert reader is not None
        for where, first, frame in self._frames(reader):
            yield where, first, reader.part(frame, by=_BY, where=where, first=first)

    def _frames(self, reader: Reader) -> Iterator[tuple[str, int, pd.DataFrame]]:
        target = reader.settings.target
        if self.table is not None:
            wanted = reader.columns(target=target in self.columns)
            for first in range(0, len(self.table), BATCH_ROWS):
                yield "", first, self.table[wanted].iloc[first : first + BATCH_ROWS].reset_index(drop=True)
            return
        for path in self.files:
            wanted = reader.columns(target=target in column_names(path, by=_BY))
            first = 0
            for frame in scan(path, wanted, batch_rows=BATCH_ROWS, by=_BY):
                yield str(path), first, frame
                first += len(frame)

    def numbered(self) -> Iterator[tuple[int, int, Part]]:
        """Yield the rows of a chunk that stand together in a batch: its number, rows before them, and the rows.

        Raises
        ------
        DataError
            If times fall.
        """
        reader = self.reader
        assert reader is not None
        seen, latest = 0, None
        for where, first, part in self.parts():
            if part.times is not None and len(part):
                _check_order(part.times, latest, reader.settings.time, where, first)
                latest = part.times[-1]
            numbers = reader.settings.chunk.numbers(seen, len(part), self.total, part.times)
            cuts = np.flatnonzero(np.diff(numbers)) + 1
            for rows in np.split(np.arange(len(part)), cuts):
                if len(rows):
                    yield int(numbers[rows[0]]), seen + int(rows[0]), part[rows[0] : rows[-1] + 1]
            seen += len(part)

    def plans(self) -> list[Plan]:
        """Read all rows once: check them, and return the chunks that they fall into."""
        found: list[Plan] = []
        for number, first, part in self.numbered():
            if not found or found[-1].number != number:
                found.append(Plan(number, first))
            found[-1].add(part)
        if not found:
            raise DataError(f"{_BY} must hold at least one row. It holds none.")
        return found

    def chunks(self, wanted: set[int]) -> Iterator[tuple[int, Part]]:
        """Yield the wanted chunks, one in memory at a time."""
        number: int | None = None
        kept: list[Part] = []
        for this, _, part in self.numbered():
            if this != number and kept:
                yield number or 0, Part.joined(kept)
                kept = []
            number = this
            if this in wanted:
                kept.append(part)
        if kept:
            yield number or 0, Part.joined(kept)


def _check_order(times: pd.DatetimeIndex, latest: Any, name: Any, where: str, first: int) -> None:
    values = times.asi8 if latest is None else np.r_[latest.value, times.asi8]
    falls = np.flatnonzero(np.diff(values) < 0)
    if len(falls):
        row = int(falls[0]) + (1 if latest is None else 0)
        before = latest if row == 0 else times[row - 1]
        place = f"Row {first + row}" + (f" of {where!r}" if where else "")
        raise DataError(
            f"The time column {name!r} of {_BY} must not fall. {place} is of {times[row]}, after {before}; sort the rows, "
            "and name the files in order."
        )
