"""Papers from files and from other sites into the library."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from corrigible.errors import DataError
from corrigible.library._arxiv_atom import parse_atom
from corrigible.library._arxiv_oai import BadTokenError, parse_oai
from corrigible.library._arxiv_rss import parse_rss
from corrigible.library._bibtex import parse_bibtex
from corrigible.library._client import PoliteClient
from corrigible.library._database import Database
from corrigible.library._hugging_face import parse_daily
from corrigible.library._ids import arxiv_id
from corrigible.library._page import Page
from corrigible.library._papers import Added, add_page
from corrigible.library._schema import harvests

API = "https://export.arxiv.org/api/query"
OAI = "https://oaipmh.arxiv.org/oai"
RSS = "https://rss.arxiv.org/rss/"
DAILY = "https://huggingface.co/api/daily_papers"
_SLICE = 100
_MOST = 30_000  # arXiv's own bound on one query
_EMPTY = 3  # an empty page in mid-paging is asked for again so often

PARSERS: dict[str, Callable[[bytes], Page]] = {
    "oai": parse_oai, "rss": parse_rss, "atom": parse_atom, "huggingface": parse_daily, "bibtex": parse_bibtex,
}  # fmt: skip


def ingest_file(database: Database, path: str | Path, *, door: str | None = None) -> Added:
    """Take in a file of any source.

    Parameters
    ----------
    database : Database
        The library.
    path : path
        The file, as the source gave it.
    door : str, optional
        What it is; by default told from its content.

    Raises
    ------
    DataError
        If there is no such file, or it is none of the sources'.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    raw = path.read_bytes()
    door = door or _door(raw, path)
    page = PARSERS[door](raw)
    with database.write() as connection:
        return add_page(connection, page, door=door, raw=raw, address=path.name)


def _door(raw: bytes, path: Path) -> str:
    head = raw[:4000].lstrip()
    if head.startswith((b"{", b"[")):
        return "huggingface"
    marks = {b"OAI-PMH": "oai", b"<rss": "rss", b"announce_type": "rss", b"<feed": "atom"}
    if head.startswith(b"<") and (found := next((d for mark, d in marks.items() if mark in head), None)):
        return found
    if path.suffix.lower() in (".bib", ".bibtex"):
        return "bibtex"
    raise DataError(f"{path} is neither Atom, OAI-PMH, RSS, JSON of daily papers nor BibTeX (.bib).")


def ingest_ids(database: Database, client: PoliteClient, ids: Sequence[str], *, api: str = API) -> Added:
    """Take in papers by their arXiv identifiers."""
    names = [str(arxiv_id(i)) for i in ids]
    found = Added()
    for start in range(0, len(names), _SLICE):
        part = names[start : start + _SLICE]
        params = {"id_list": ",".join(part), "max_results": str(len(part))}
        found += _take(database, "atom", client.get(api, **params), api)
    return found


def ingest_query(
    database: Database, client: PoliteClient, query: str, *, limit: int = 100, api: str = API
) -> Added:
    """Take in what arXiv's search gives for a query, newest first.

    Parameters
    ----------
    database, client
        The library, and who asks.
    query : str
        As arXiv takes it: ``cat:cs.LG AND abs:"label noise"``.
    limit : int, default=100
        At most so many, up to 30,000.
    api : str
        Address of the API.
    """
    found, start, empty = Added(), 0, 0
    limit = min(limit, _MOST)
    while start < limit:
        params = {"search_query": query, "start": str(start), "max_results": str(min(_SLICE, limit - start)),
                  "sortBy": "submittedDate", "sortOrder": "descending"}  # fmt: skip
        raw = client.get(api, **params)
        page = parse_atom(raw)
        got = len(page.records) + len(page.problems)
        empty = empty + 1 if not got else 0
        if (not got and empty >= _EMPTY) or not page.more:
            return found + _add(database, "atom", page, raw, api)
        found += _add(database, "atom", page, raw, api)
        start += got
    return found


def ingest_announcements(
    database: Database, client: PoliteClient, categories: Sequence[str], *, rss: str = RSS
) -> Added:
    """Take in today's announcements of categories, such as ``cs.LG``."""
    address = rss + "+".join(categories)
    return _take(database, "rss", client.get(address), address)


def ingest_daily(
    database: Database, client: PoliteClient, day: dt.date | None = None, *, daily: str = DAILY
) -> Added:
    """Take in Hugging Face's daily papers of a day."""
    params = {"limit": "100"} | ({"date": day.isoformat()} if day else {})
    return _take(database, "huggingface", client.get(daily, **params), daily)


def harvest(
    database: Database, client: PoliteClient, what: str, *, since: str | None = None, oai: str = OAI
) -> Iterator[Added]:
    """Take in what arXiv has changed in a set, page by page; yields what each page brought.

    Where it stands is kept with each page, so that a harvest that was interrupted goes on from there, and the next
    begins at the answer's own date of the last one. Without `since`, the first begins a week back.

    Parameters
    ----------
    database, client
        The library, and who asks.
    what : str
        Set of OAI-PMH, as ``cs`` or ``cs:cs:LG``.
    since : str, optional
        Day from which on, instead of where the last harvest ended.
    oai : str
        Address of the OAI-PMH door.

    Yields
    ------
    Added
        Of each page.
    """
    begun, token, restarted = _stand(database, what, since), "", False
    if begun[1] and since is None:
        token = begun[1]
    first, responded = begun[0], begun[2]
    while True:
        ask = {"resumptionToken": token} if token else {"metadataPrefix": "arXivRaw", "set": what, "from": first}
        raw = client.get(oai, verb="ListRecords", **ask)
        try:
            page = parse_oai(raw)
        except BadTokenError:
            if restarted:
                raise
            token, restarted, responded = "", True, None  # the token has expired: once more from the date
            continue
        responded = responded or (page.responded.date().isoformat() if page.responded else first)
        with database.write() as connection:
            added = add_page(connection, page, door="oai", raw=raw, address=oai)
            # At the end the next harvest begins where this one began to ask: what changed meanwhile is not lost.
            values: dict[str, str | None] = {"since": first, "token": page.more, "began": responded}
            if not page.more:
                values = {"since": responded, "token": None, "began": None}
            _keep(connection, what, values)
        yield added
        if not page.more:
            return
        token = page.more


def _stand(database: Database, what: str, since: str | None) -> tuple[str, str | None, str | None]:
    with database.read() as connection:
        row = connection.execute(
            sa.select(harvests).where(harvests.c.door == "oai", harvests.c.what == what)
        ).first()
    if since is not None:
        try:
            dt.date.fromisoformat(since)
        except ValueError:
            raise DataError(f"--since must be a day such as 2026-11-22. Got {since!r}.") from None
        return since, None, None
    if row is None:
        return (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=7)).isoformat(), None, None
    return row.since, row.token, row.began


def _keep(connection: sa.Connection, what: str, values: dict[str, str | None]) -> None:
    connection.execute(sa.delete(harvests).where(harvests.c.door == "oai", harvests.c.what == what))
    row = {**values, "door": "oai", "what": what, "changed": dt.datetime.now(dt.UTC)}
    connection.execute(sa.insert(harvests).values(row))


def _take(database: Database, door: str, raw: bytes, address: str) -> Added:
    return _add(database, door, PARSERS[door](raw), raw, address)


def _add(database: Database, door: str, page: Page, raw: bytes, address: str) -> Added:
    with database.write() as connection:
        return add_page(connection, page, door=door, raw=raw, address=address)
