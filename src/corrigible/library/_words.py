"""Search by words: BM25 of SQLite's FTS5, and PostgreSQL's own ranking."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa

from corrigible.library._schema import papers

MAX_WORDS = 32
# Of title, abstract, keywords, authors.
WEIGHTS = (5.0, 1.0, 3.0, 2.0)
# Words that nearly every abstract holds: they cost a pass over its postings and order nothing.
_COMMON = frozenset(
    "a an and are as at be by can do does for from has have how i in is it its my not of on or our that the their "
    "this to we what when where which while who why will with you your".split()
)


def query_words(text: str) -> list[str]:
    """Return the words of a query: at most ``MAX_WORDS``, without marks, common ones only if there are no others.

    Parameters
    ----------
    text : str
        Whatever a person typed, of any length.
    """
    found = dict.fromkeys(w for w in re.findall(r"\w+", text[:10_000].casefold()) if w.strip("_"))
    telling = [w for w in found if w not in _COMMON] or list(found)
    return telling[:MAX_WORDS]


def searched_words(connection: sa.Connection, text: str) -> list[str]:
    """Return the words of a query that the store looks for: PostgreSQL passes over more common ones, such as "out".

    Parameters
    ----------
    connection : Connection
        Of `Database.read`.
    text : str
        The query.
    """
    words = query_words(text)
    if connection.dialect.name != "postgresql" or not words:
        return words
    asked = sa.text(
        "SELECT w FROM unnest(CAST(:words AS text[])) w WHERE numnode(plainto_tsquery('english', w)) > 0"
    )
    kept = set(connection.scalars(asked, {"words": words}))
    return [w for w in words if w in kept]


def rank_by_words(
    connection: sa.Connection, text: str, *, where: Sequence[sa.ColumnElement[bool]] = (), limit: int = 100
) -> list[tuple[int, float]]:
    """Return the papers that hold words of a query, best first.

    Parameters
    ----------
    connection : Connection
        Of `Database.read`.
    text : str
        The query.
    where : sequence of conditions, optional
        On columns of ``papers``.
    limit : int, default=100
        How many.

    Returns
    -------
    list of (int, float)
        ``papers.id`` and score; higher is better. Empty where the query has no words.
    """
    words = query_words(text)
    if not words:
        return []
    ranked = _sqlite(words) if connection.dialect.name == "sqlite" else _postgresql(words)
    query = (
        sa.select(ranked.c.id, ranked.c.score)
        .select_from(ranked.join(papers, papers.c.id == ranked.c.id) if where else ranked)
        .where(*where)
        .order_by(ranked.c.score.desc(), ranked.c.id.desc())
        .limit(limit)
    )
    return [(int(i), float(score)) for i, score in connection.execute(query)]


def _sqlite(words: list[str]) -> sa.Subquery:
    # Every word is quoted, for to FTS5 a hyphen, a colon or NOT is an operator. bm25() is lower for better rows.
    match = " OR ".join(f'"{w}"' for w in words)
    weights = ", ".join(str(float(w)) for w in WEIGHTS)
    text = sa.text(
        f"SELECT rowid AS id, -bm25(papers_fts, {weights}) AS score FROM papers_fts WHERE papers_fts MATCH :match"
    )
    return text.bindparams(match=match).columns(id=sa.Integer, score=sa.Float).subquery("ranked")


def _postgresql(words: list[str]) -> sa.Subquery:
    # plainto_tsquery of one word cannot fail; between words stands OR. Weights are of D, C, B, A.
    parts = " || ".join(f"plainto_tsquery('english', :w{i})" for i in range(len(words)))
    title, abstract, keyword, author = (w / max(WEIGHTS) for w in WEIGHTS)
    order = f"{{{author}, {abstract}, {keyword}, {title}}}"
    text = sa.text(
        f"SELECT id, ts_rank('{order}', words, q, 1) AS score FROM papers, (SELECT {parts} AS q) AS asked WHERE words @@ q"
    )
    bound = text.bindparams(**{f"w{i}": w for i, w in enumerate(words)})
    return bound.columns(id=sa.Integer, score=sa.Float).subquery("ranked")
