"""The paper index that comes with the program, in the library beside what was ingested."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa

from corrigible.library._page import Page
from corrigible.library._papers import Added, add_page, plain_title
from corrigible.library._records import Record
from corrigible.library._schema import answers, papers
from corrigible.papers import index


def load_own_index(connection: sa.Connection) -> Added:
    """Put the papers of the index into the library, each under its slug; those that are there are brought up to date.

    A paper that was ingested under its arXiv identifier and has the same title is taken for the same: it gets the
    slug, and no second row is made.
    """
    raw = "\n".join(f"{p.slug}\t{p.title}\t{p.build}" for p in index().values()).encode()
    if _is_there(connection, raw):
        return Added()
    found = Added()
    taken = {
        plain_title(t): (i, slug)
        for i, t, slug in connection.execute(sa.select(papers.c.id, papers.c.title, papers.c.slug))
    }
    records = []
    for slug, paper in index().items():
        row, owner = taken.get(plain_title(paper.title), (None, None))
        if row is None:
            words = tuple(dict.fromkeys((paper.room, paper.kind, *paper.methods)))
            records.append(
                Record(key=f"index:{slug}", title=paper.title, door="index", abstract=paper.build, keywords=words)
            )
        elif owner != slug:
            connection.execute(sa.update(papers).where(papers.c.id == row).values(slug=slug))
    found += add_page(connection, Page(records=tuple(records)), door="index", raw=raw, address="index.tsv")
    for record in records:
        slug = record.key.removeprefix("index:")
        connection.execute(sa.update(papers).where(papers.c.key == record.key).values(slug=slug))
    return found


def _is_there(connection: sa.Connection, raw: bytes) -> bool:
    """Return whether this very index was taken in and all of it is there: to compare a large store's titles is slow."""
    known = sa.select(answers.c.sha256).where(answers.c.sha256 == hashlib.sha256(raw).hexdigest())
    there = sa.select(sa.func.count()).select_from(papers).where(papers.c.slug.in_(list(index())))
    return connection.execute(known).first() is not None and connection.scalar(there) == len(index())
