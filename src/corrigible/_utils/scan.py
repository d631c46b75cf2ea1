"""Tables from files, batch by batch: what does not fit in memory is read as often as needed."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from corrigible._utils.tables import _CSV, _FEATHER, _PARQUET, _UNREADABLE, _reason, check_names
from corrigible.errors import DataError


def column_names(path: Path, *, by: str) -> list[str]:
    """Return the columns of a CSV, Parquet or Feather file.

    Parameters
    ----------
    path : Path
        The file.
    by : str
        Whose file it is, for messages.

    Raises
    ------
    DataError
        If it cannot be read, has a column twice, or begins with a row longer than its header.
    """
    name = path.name.lower()
    try:
        if name.endswith(_CSV):
            with _opened(path) as file:
                rows = csv.reader(file, delimiter=_separator(path))
                names, first = next(rows, []), next(rows, [])
            if len(first) > len(names):  # pandas would take cells for row names, or shift them, and not say so
                raise DataError(
                    f"{by} must have a name for each cell. {str(path)!r} has longer rows than its header."
                )
        elif name.endswith(_PARQUET):
            names = pq.read_schema(path).names
        elif name.endswith(_FEATHER):
            with pa.memory_map(str(path)) as file:
                names = pa.ipc.open_file(file).schema.names
        else:
            raise DataError(f"{by} must be CSV, Parquet or Feather. Got {str(path)!r}.")
    except _UNREADABLE as error:
        raise DataError(f"{by} cannot be read: {str(path)!r} {_reason(error)}.") from None
    if not names:
        raise DataError(f"{by} cannot be read: {str(path)!r} (it has no columns).")
    check_names(names, None, path, by)
    return list(names)


def scan(
    path: Path, columns: Sequence[str], *, batch_rows: int, by: str, coded: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file in order, at most so many at a time.

    Parameters
    ----------
    path : Path
        A CSV, Parquet or Feather file.
    columns : sequence of str
        Columns that it has; others are not read.
    batch_rows : int
        Rows a batch at most.
    by : str
        Whose file it is, for messages.
    coded : sequence of str
        Columns of which text may come as categories, as Parquet stores it: reading their numbers is several times
        faster than writing out the words.

    Yields
    ------
    DataFrame
        Rows numbered from 0 in each batch.
    """
    try:
        for frame in _batches(path, list(columns), batch_rows, by, list(coded)):
            yield frame.reset_index(drop=True)
    except _UNREADABLE as error:
        raise DataError(f"{by} cannot be read: {str(path)!r} {_reason(error)}.") from None


def _batches(path: Path, columns: list[str], batch_rows: int, by: str, coded: list[str]) -> Iterator[pd.DataFrame]:
    name = path.name.lower()
    if name.endswith(_CSV):
        words: dict[str, Any] = {"usecols": columns, "chunksize": batch_rows, "low_memory": False}
        with pd.read_csv(path, sep=_separator(path), encoding="utf-8-sig", **words) as reader:
            for frame in reader:
                yield frame[columns]
    elif name.endswith(_PARQUET):
        for batch in pq.ParquetFile(path, read_dictionary=coded).iter_batches(batch_rows, columns=columns):
            yield pa.Table.from_batches([batch]).select(columns).to_pandas(ignore_metadata=True)
    else:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for i in range(reader.num_record_batches):
                table = pa.Table.from_batches([reader.get_batch(i)]).select(columns)
                for start in range(0, table.num_rows, batch_rows):
                    yield table.slice(start, batch_rows).to_pandas(ignore_metadata=True)


def _separator(path: Path) -> str:
    return "\t" if ".tsv" in path.name.lower() else ","


def _opened(path: Path) -> Any:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")
