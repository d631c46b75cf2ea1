"""The whole library as one file of JSON lines, and back: to another machine, or from SQLite to PostgreSQL."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, StatementError

import corrigible
from corrigible._utils.files import atomic_path
from corrigible.errors import DataError
from corrigible.library._database import Database, revisions
from corrigible.library._schema import UTC, metadata

FORMAT = "corrigible-library"
# Sessions end with the machine they were opened on; vectors stand in a file of their own and are made again.
_LEFT_OUT = ("sessions", "login_attempts", "vectors")
_BATCH = 500
_MAX_LINE = 64 * 2**20


def tables() -> list[sa.Table]:
    """Return the tables that an export holds, each after those it points to."""
    return [t for t in metadata.sorted_tables if t.name not in _LEFT_OUT]


def export_library(database: Database, path: str | Path) -> dict[str, int]:
    """Write everything to a file, as it stands at one moment; the file is whole, or is not there.

    Two libraries that hold the same give the same bytes, whatever database keeps them.

    Parameters
    ----------
    database : Database
        The library.
    path : path
        The file: JSON lines, compressed by gzip.

    Returns
    -------
    dict of str to int
        Rows of each table.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    counted: dict[str, int] = {}
    head = {"format": FORMAT, "schema": revisions()[-1], "version": corrigible.__version__}
    try:
        with (
            atomic_path(path) as temporary,
            open(temporary, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file,
            _one_state(database) as connection,
        ):
            _write(file, head)
            for table in tables():
                counted[table.name] = 0
                for row in connection.execute(sa.select(table).order_by(*_order(table, database.dialect))):
                    _write(file, {"table": table.name, "row": _plain(row._mapping)})
                    counted[table.name] += 1
            _write(file, {"end": counted})
        Path(path).chmod(0o600)  # it holds addresses, and hashes of passwords
    except OSError as error:
        raise DataError(f"The export {path} cannot be written: {error.strerror}.") from None
    return counted


@contextmanager
def _one_state(database: Database) -> Iterator[sa.Connection]:
    """Yield a connection to which what others write meanwhile does not show: PostgreSQL must be asked for that."""
    level = {"isolation_level": "REPEATABLE READ"} if database.dialect == "postgresql" else {}
    with database.engine.connect().execution_options(yield_per=_BATCH, **level) as connection:
        yield connection


def _order(table: sa.Table, dialect: str) -> list[sa.ColumnElement[Any]]:
    # PostgreSQL sorts texts by the rules of a language, SQLite by their bytes.
    binary = dialect == "postgresql"
    return [
        c.collate("C") if binary and isinstance(c.type, sa.String) else c
        for c in table.primary_key.columns.values()
    ]


def _plain(row: Any) -> dict[str, Any]:
    return {name: v.isoformat() if isinstance(v, dt.date) else v for name, v in row.items()}


def _write(file: gzip.GzipFile, value: Any) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def import_library(database: Database, path: str | Path) -> dict[str, int]:
    """Take in an export, into a library that holds nothing yet: all of it, or nothing of it.

    Parameters
    ----------
    database : Database
        An empty library.
    path : path
        What `export_library` wrote, of this version or an older one.

    Returns
    -------
    dict of str to int
        Rows of each table.

    Raises
    ------
    DataError
        If the library holds anything, or the file is none of these, is of a newer version, or is not whole.
    """
    if not Path(path).is_file():
        raise DataError(f"There is no file {path}.")
    try:
        with gzip.open(path, "rb") as file, database.write() as connection:
            _refuse_full(connection, database)
            lines = _lines(file, path)
            _check_head(next(lines, (1, None))[1], path)
            counted = _take_all(connection, lines, path)
            if database.dialect == "postgresql":
                _advance(connection)
            return counted
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path} is no export of a library, or is cut off.") from None
    except (DBAPIError, StatementError) as error:
        words = str(error.orig).strip().splitlines()[0].rstrip(".") if error.orig else "a value does not fit"
        raise DataError(f"The rows of {path} cannot be kept: {words}.") from None


def _refuse_full(connection: sa.Connection, database: Database) -> None:
    for table in metadata.sorted_tables:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise DataError(
                f"The library {database.shown} is not empty: it has {table.name}. Import into one that is not there yet."
            )


def _lines(file: gzip.GzipFile, path: str | Path) -> Iterator[tuple[int, Any]]:
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path} is no export of a library, or is cut off: see its line {number}.") from None


def _check_head(head: Any, path: str | Path) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise DataError(f"{path} is no export of a library.")
    if head.get("schema") not in revisions():
        raise DataError(
            f"{path} was written by a newer version of Corrigible ({str(head.get('version'))[:40]}; its tables are "
            f"{str(head.get('schema'))[:40]!r}, this version knows up to {revisions()[-1]!r}). "
            "Run: pip install -U corrigible"
        )


def _take_all(connection: sa.Connection, lines: Iterator[tuple[int, Any]], path: str | Path) -> dict[str, int]:
    known = {t.name: t for t in tables()}
    counted: dict[str, int] = {}
    batch: list[dict[str, Any]] = []
    of: sa.Table | None = None
    told = None
    for number, line in lines:
        if isinstance(line, dict) and "end" in line:
            told = line["end"]
            break
        table, row = _row(known, line, path, number)
        if table is not of or len(batch) == _BATCH:
            _insert(connection, of, batch)
            of, batch = table, []
        batch.append(row)
        counted[table.name] = counted.get(table.name, 0) + 1
    _insert(connection, of, batch)
    if not isinstance(told, dict) or {n: c for n, c in told.items() if c} != counted:
        raise DataError(f"{path} is cut off: it does not hold as many rows as it says, or does not say how many.")
    return counted


def _row(known: dict[str, sa.Table], line: Any, path: str | Path, number: int) -> tuple[sa.Table, dict[str, Any]]:
    wrong = DataError(f"{path}, line {number}: this is no row of a library.")
    if not isinstance(line, dict) or line.get("table") not in known or not isinstance(line.get("row"), dict):
        raise wrong
    table = known[line["table"]]
    if not set(line["row"]) <= set(table.c.keys()):
        raise wrong
    try:
        return table, {name: _value(table.c[name].type, v) for name, v in line["row"].items()}
    except (ValueError, TypeError):
        raise wrong from None


def _value(kind: Any, value: Any) -> Any:
    if value is None or isinstance(kind, sa.JSON):
        return value
    if isinstance(kind, UTC):
        return dt.datetime.fromisoformat(value)
    if isinstance(kind, sa.Date):
        return dt.date.fromisoformat(value)
    wanted: Any = {sa.Boolean: bool, sa.Float: (int, float), sa.Integer: int}
    types = next((t for base, t in wanted.items() if isinstance(kind, base)), str)
    # To SQLite a text in a column of numbers is welcome, and a bool is a number to Python: neither is here.
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise TypeError
    return value


def _insert(connection: sa.Connection, table: sa.Table | None, rows: list[dict[str, Any]]) -> None:
    if table is not None and rows:
        connection.execute(sa.insert(table), rows)


def _advance(connection: sa.Connection) -> None:
    """Let PostgreSQL count on from the identifiers that came with the rows."""
    for table in tables():
        if "id" in table.c:
            most = sa.select(sa.func.max(table.c.id)).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            connection.execute(sa.select(sa.func.setval(sequence, most)).where(sa.exists(sa.select(table.c.id))))
