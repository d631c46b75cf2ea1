"""Papers in the library: what sources tell is put together, and lists are read."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from corrigible.library._page import Page
from corrigible.library._records import Author, Record, Version
from corrigible.library._schema import answers, papers, sightings, versions

# Which source's word stands where two differ on text: arXiv's own harvest over its feeds, these over other sites.
_TRUST = {"oai": 4, "atom": 3, "rss": 2, "huggingface": 1, "bibtex": 1, "index": 0}
_UPSERT_ROWS = 500


@dataclass(frozen=True)
class Added:
    """What one answer of a source brought.

    Attributes
    ----------
    new, changed, same : int
        Papers that were not known, that now read differently, and that were known like this.
    problems : tuple of str
        Entries that could not be read, a sentence each.
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.changed + other.changed, self.same + other.same,
                     self.problems + other.problems)  # fmt: skip


def add_page(
    connection: sa.Connection,
    page: Page,
    *,
    door: str,
    raw: bytes,
    address: str = "",
    now: dt.datetime | None = None,
) -> Added:
    """Take in the papers of an answer.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    page : Page
        The answer, read.
    door : str
        One of ``DOORS``.
    raw : bytes
        The answer as it came; its hash is kept.
    address : str
        Where it came from: a URL or a file's name.
    now : datetime, optional
        Taken as the time of arrival; by default the clock's.
    """
    now = now or dt.datetime.now(dt.UTC)
    sha256 = hashlib.sha256(raw).hexdigest()
    insert_missing(connection, answers, [{"sha256": sha256, "door": door, "address": address[:2000], "fetched": now,
                                           "records": len(page.records)}])  # fmt: skip
    found = Added(problems=page.problems)
    merged: dict[str, list[Record]] = {}
    for record in page.records:
        merged.setdefault(record.key, []).append(record)
    keys = list(merged)
    for start in range(0, len(keys), _UPSERT_ROWS):
        block = {key: merged[key] for key in keys[start : start + _UPSERT_ROWS]}
        found += _add_block(connection, block, sha256, now)
    if page.deleted:
        gone = sa.update(papers).where(papers.c.key.in_(page.deleted)).values(withdrawn=True, changed=now)
        connection.execute(gone)
    return found


def _add_block(
    connection: sa.Connection, block: Mapping[str, list[Record]], sha256: str, now: dt.datetime
) -> Added:
    known = {row.key: row for row in connection.execute(sa.select(papers).where(papers.c.key.in_(block)))}
    known |= _of_own_index(connection, {k: records[0].title for k, records in block.items() if k not in known})
    latest = _latest_versions(connection, [row.id for row in known.values()])
    doors = _doors(connection, [row.id for row in known.values()])
    new, changed = [], []
    for key, records in block.items():
        row = dict(known[key]._mapping) if key in known else None
        trust, version = doors.get(row["id"], 0) if row else -1, latest.get(row["id"], 0) if row else 0
        values = row
        for record in records:
            values = _told(values, record, trust, version, now)
            trust = max(trust, _TRUST[record.door])
            version = max([version, *(v.number for v in record.versions)])
        assert values is not None
        if row is None:
            new.append(values)
        elif _differs(row, values):
            changed.append({**values, "changed": now})
    for values in changed:
        connection.execute(sa.update(papers).where(papers.c.id == values["id"]).values(values))
    if new:
        connection.execute(sa.insert(papers), new)
    ids = dict(connection.execute(sa.select(papers.c.key, papers.c.id).where(papers.c.key.in_(block))).all())
    insert_missing(connection, sightings, [{"paper_id": i, "sha256": sha256} for i in ids.values()])
    _add_versions(connection, {ids[k]: [v for r in records for v in r.versions] for k, records in block.items()})
    return Added(len(new), len(changed), len(block) - len(new) - len(changed))


def plain_title(title: str) -> str:
    """Return a title without case, blanks and marks: what two sources write alike."""
    return "".join(c for c in title.casefold() if c.isalnum())


def _of_own_index(connection: sa.Connection, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return, by key, the rows of the program's own index that have these titles: they are the same papers."""
    if all(key.startswith("index:") for key in titles):
        return {}
    rows = connection.execute(sa.select(papers).where(papers.c.key.startswith("index:")))
    ours = {plain_title(row.title): row for row in rows}
    return {
        k: ours[plain_title(t)] for k, t in titles.items() if not k.startswith("index:") and plain_title(t) in ours
    }


_TEXTS = ("title", "abstract", "doi", "journal", "comment", "license", "organisation")


def _told(row: dict[str, Any] | None, record: Record, trust: int, version: int, now: dt.datetime) -> dict[str, Any]:
    """Return the row with what a record tells: nothing is erased by silence, and nothing newer by what is older."""
    told = {name: getattr(record, name) for name in _TEXTS}
    told |= {"authors": [asdict(a) for a in record.authors], "categories": list(record.categories),
             "links": [list(pair) for pair in record.links], "keywords": list(record.keywords)}  # fmt: skip
    numbers = [v.number for v in record.versions]
    older = bool(numbers) and max(numbers) < version
    newer = bool(numbers) and max(numbers) > version
    rules = newer or (_TRUST[record.door] >= trust and not older)
    base = row or {name: type(value)() for name, value in told.items()}
    values = {**base, **{n: v if v and (rules or not base[n]) else base[n] for n, v in told.items()}}
    values["counts"] = {**base.get("counts", {}), **record.counts}
    values["author_names"] = ", ".join(a["name"] for a in values["authors"])
    values["keyword_text"] = ", ".join(values["keywords"])
    values["published"] = min((t for t in (base.get("published"), record.published) if t), default=None)
    values["updated"] = max((t for t in (base.get("updated"), record.updated) if t), default=None)
    values["announced"] = min((t for t in (base.get("announced"), record.announced) if t), default=None)
    if record.withdrawn is not None and not older:
        values["withdrawn"] = record.withdrawn
    values.setdefault("withdrawn", False)
    values.setdefault("slug", None)
    values |= {"key": record.key, "seen": base.get("seen", now), "changed": base.get("changed", now)}
    published = values["published"].date() if values["published"] else None
    values["listed"] = (
        values["announced"] or published or (None if record.door == "index" else values["seen"].date())
    )
    return values


def _differs(row: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return any(row[name] != value for name, value in values.items() if name not in ("seen", "changed"))


def _latest_versions(connection: sa.Connection, ids: list[int]) -> dict[int, int]:
    most = sa.select(versions.c.paper_id, sa.func.max(versions.c.number)).where(versions.c.paper_id.in_(ids))
    return dict(connection.execute(most.group_by(versions.c.paper_id)).all()) if ids else {}


def _doors(connection: sa.Connection, ids: list[int]) -> dict[int, int]:
    if not ids:
        return {}
    joined = sightings.join(answers, sightings.c.sha256 == answers.c.sha256)
    rows = connection.execute(
        sa.select(sightings.c.paper_id, answers.c.door)
        .select_from(joined)
        .where(sightings.c.paper_id.in_(ids))
        .distinct()
    )
    found: dict[int, int] = {}
    for paper, door in rows:
        found[paper] = max(found.get(paper, 0), _TRUST.get(door, 0))
    return found


def _add_versions(connection: sa.Connection, told: Mapping[int, list[Version]]) -> None:
    rows = {
        (i, v.number): v.submitted
        for i, list_ in told.items()
        for v in sorted(list_, key=lambda v: v.submitted is None, reverse=True)
    }
    insert_missing(
        connection, versions, [{"paper_id": i, "number": n, "submitted": t} for (i, n), t in rows.items()]
    )
    for (i, n), when in rows.items():
        if when is not None:
            there = (versions.c.paper_id == i) & (versions.c.number == n) & versions.c.submitted.is_(None)
            connection.execute(sa.update(versions).where(there).values(submitted=when))


def insert_missing(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows whose keys are not there yet."""
    if not rows:
        return
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def to_record(row: Any, numbered: Iterable[Version] = ()) -> Record:
    """Return a row of ``papers`` as a record, to export it."""
    return Record(
        key=row.key, title=row.title, door="index", abstract=row.abstract,
        authors=tuple(Author(**a) for a in row.authors), categories=tuple(row.categories),
        published=row.published, updated=row.updated, announced=row.announced, versions=tuple(numbered),
        withdrawn=row.withdrawn, doi=row.doi, journal=row.journal, comment=row.comment, license=row.license,
        links=tuple((k, v) for k, v in row.links), organisation=row.organisation, counts=dict(row.counts),
        keywords=tuple(row.keywords),
    )  # fmt: skip
