"""`corrigible papers ingest`, `backup`, `export` and `import`: what brings papers in and out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corrigible.errors import DataError, InvalidParameterError

if TYPE_CHECKING:
    from corrigible.library._client import PoliteClient
    from corrigible.library._database import Database
    from corrigible.library._papers import Added

_Names = list[str] | None
DATABASE = Annotated[
    str, typer.Option("--database", help="Path of an SQLite file, or postgresql+psycopg://USER@HOST/NAME.")
]


def ingest(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Atom, OAI-PMH or RSS of arXiv, JSON of daily papers, BibTeX.")
    ] = None,
    ids: Annotated[_Names, typer.Option("--id", help="arXiv identifier, in any form; repeat.")] = None,
    query: Annotated[
        str | None, typer.Option(help='Query of arXiv\'s search: cat:cs.LG AND abs:"label noise".')
    ] = None,
    limit: Annotated[int, typer.Option(help="Most papers of a query.")] = 100,
    rss: Annotated[
        _Names, typer.Option("--rss", help="Category whose announcements of today to take in; repeat.")
    ] = None,
    oai: Annotated[
        str | None, typer.Option("--oai", metavar="SET", help="Set to harvest, as cs or cs:cs:LG.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Day from which to harvest, instead of where the last one ended.")
    ] = None,
    daily: Annotated[
        str | None, typer.Option("--daily", metavar="DAY", help="Day of Hugging Face's daily papers, or 'latest'.")
    ] = None,
    contact: Annotated[
        str, typer.Option(envvar="CORRIGIBLE_CONTACT", help="Mail address that sites are told, for all but files.")
    ] = "",
    database: DATABASE = "papers.db",
) -> None:
    """Take papers into the library: from files, or from other sites where an option asks for it."""
    from corrigible.library._client import PoliteClient
    from corrigible.library._database import Database

    remote = bool(ids or query or rss or oai or daily)
    if not (files or remote):
        raise InvalidParameterError("Say what to ingest: files, --id, --query, --rss, --oai or --daily.")
    day = _day(daily)
    for path in files or []:  # before anything is written
        if not path.is_file():
            raise DataError(f"There is no file {path}.")
    client = PoliteClient(contact) if remote else None
    store = Database(database)
    try:
        for what, added in _all(store, client, files or [], ids, query, limit, rss, oai, since, daily, day):
            print(f"{what}: {added.new} new, {added.changed} changed, {added.same} known")
            for problem in added.problems:
                print(f"  skipped: {problem}")
    finally:
        store.close()


def _all(
    store: Database,
    client: PoliteClient | None,
    files: list[Path],
    ids: _Names,
    query: str | None,
    limit: int,
    rss: _Names,
    oai: str | None,
    since: str | None,
    daily: str | None,
    day: dt.date | None,
) -> Iterator[tuple[str, Added]]:
    from corrigible.library import _ingest as doors

    for path in files:
        yield path.name, doors.ingest_file(store, path)
    if client is None:
        return
    if ids:
        yield "identifiers", doors.ingest_ids(store, client, ids)
    if query:
        yield "query", doors.ingest_query(store, client, query, limit=limit)
    if rss:
        yield "announcements", doors.ingest_announcements(store, client, rss)
    if daily:
        yield "daily papers", doors.ingest_daily(store, client, day)
    if oai:
        for added in doors.harvest(store, client, oai, since=since):
            yield f"harvest of {oai}", added


def _day(text: str | None) -> dt.date | None:
    if text in (None, "latest"):
        return None
    try:
        return dt.date.fromisoformat(text or "")
    except ValueError:
        raise InvalidParameterError(f"--daily must be a day such as 2026-11-22, or latest. Got {text!r}.") from None


def backup(
    out: Annotated[Path, typer.Argument(help="File to write.")],
    database: DATABASE = "papers.db",
) -> None:
    """Copy an SQLite library to a file while it is in use; the copy is whole, or is not there."""
    import sqlite3

    from corrigible._utils.files import atomic_path
    from corrigible.library._database import Database

    if out.exists():
        raise DataError(f"{out} is there already. Name another file.")
    if not out.parent.is_dir():
        raise DataError(f"There is no folder {out.parent}.")
    if "://" not in database and not Path(database).is_file():
        raise DataError(f"There is no library {database}.")
    store = Database(database)
    try:
        if store.path is None:
            raise DataError("A library in PostgreSQL is backed up by its own tool. Run: pg_dump")
        with (
            atomic_path(out) as temporary,
            sqlite3.connect(store.path) as source,
            sqlite3.connect(temporary) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    finally:
        store.close()
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


def export(
    out: Annotated[Path, typer.Argument(help="File to write: JSON lines, compressed.")],
    database: DATABASE = "papers.db",
) -> None:
    """Write the whole library to a file that any machine and either database can take in."""
    from corrigible.library._database import Database
    from corrigible.library._transfer import export_library

    if out.exists():
        raise DataError(f"{out} is there already. Name another file.")
    if not out.parent.is_dir():
        raise DataError(f"There is no folder {out.parent}.")
    if "://" not in database and not Path(database).is_file():
        raise DataError(f"There is no library {database}.")
    store = Database(database)
    try:
        _tell(out, export_library(store, out))
    finally:
        store.close()


def take_in(
    file: Annotated[Path, typer.Argument(help="What export wrote.")],
    database: DATABASE = "papers.db",
) -> None:
    """Take an export into a library that holds nothing yet."""
    from corrigible.library._database import Database
    from corrigible.library._transfer import import_library

    if not file.is_file():
        raise DataError(f"There is no file {file}.")
    store = Database(database)
    try:
        _tell(file, import_library(store, file))
    finally:
        store.close()


def _tell(path: Path, counted: dict[str, int]) -> None:
    rows = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counted.items() if n)
    print(f"{path}: {rows or 'nothing'}")
