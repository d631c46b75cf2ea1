"""Search by words: BM25 of SQLite's FTS5, and PostgreSQL's own ranking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

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
# BM25 takes half a microsecond a row and word: up to so many rows all are weighed, beyond it the telling words choose.
_ROWS = 20_000
_WIDE = (
    1000  # so many of all papers are looked through for those that conditions allow, before the conditions choose
)
_K = 1000  # how much a store may grow before the papers that hold a word are counted again
_counted: WeakKeyDictionary[sa.Engine, tuple[int, dict[str, int]]] = WeakKeyDictionary()


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
    if connection.dialect.name != "sqlite":
        return _ranked(connection, _postgresql(words), where, limit)
    newest = connection.scalar(sa.select(sa.func.max(papers.c.id))) or 0
    few = sa.select(papers.c.id).where(*where)
    if newest * len(words) <= _ROWS:
        return _ranked(connection, _sqlite([words]), where, limit)
    few_enough = sa.select(sa.func.count() <= _ROWS).select_from(few.limit(_ROWS + 1).subquery())
    if where and connection.scalar(few_enough):
        ranked = _sqlite([words])
        return _ranked(connection, ranked, [ranked.c.id.in_(few)], limit, joined=False)
    return _rank_many(connection, _holders(connection, words, newest), newest, where, limit)


def _ranked(
    connection: sa.Connection,
    ranked: sa.Subquery,
    where: Sequence[sa.ColumnElement[bool]],
    limit: int,
    *,
    joined: bool = True,
) -> list[tuple[int, float]]:
    query = (
        sa.select(ranked.c.id, ranked.c.score)
        .select_from(ranked.join(papers, papers.c.id == ranked.c.id) if where and joined else ranked)
        .where(*where)
        .order_by(ranked.c.score.desc(), ranked.c.id.desc())
        .limit(limit)
    )
    return [(int(i), float(score)) for i, score in connection.execute(query)]


def _rank_many(
    connection: sa.Connection,
    holders: Mapping[str, int],
    n: int,
    where: Sequence[sa.ColumnElement[bool]],
    limit: int,
) -> list[tuple[int, float]]:
    """Rank in a large store, where to weigh each row that holds any of the words takes too long.

    FTS5 gives a word that more than half of the papers hold no weight to speak of (1e-6): it ranks nothing, and fills up a
    list that is not full, newest first. Of the others the rarest choose the rows, as many words as ``_ROWS`` rows allow.
    The further words add to the score of a row that is chosen, and choose none: exact, unless a paper with none of the
    rarest words would have come before the last of `limit`.
    """
    if where:
        wide = _rank_many(connection, holders, n, (), max(_WIDE, limit))
        there = sa.select(papers.c.id).where(papers.c.id.in_([i for i, _ in wide]), *where)
        allowed = set(connection.scalars(there))
        if len(allowed) >= limit:
            return [pair for pair in wide if pair[0] in allowed][:limit]
    rarest_first = sorted((w for w in holders if holders[w]), key=lambda w: holders[w])
    telling = [w for w in rarest_first if holders[w] <= n / 2]
    choose: list[str] = []
    rows = 0
    for word in telling:
        if rows >= limit and rows + holders[word] > _ROWS:
            break
        choose.append(word)
        rows += holders[word]
    found: dict[int, float] = {}
    if choose:
        add = telling[len(choose) :]
        found = dict(_ranked(connection, _sqlite([choose]), where, limit))
        if add and len(found) < limit:  # the conditions leave out too many: then all words choose
            found = dict(_ranked(connection, _sqlite([telling]), where, limit))
        elif add:  # rows with both kinds of words; of those with the first kind alone the first pass has the best
            found |= dict(_ranked(connection, _sqlite([choose, add]), where, limit))
    best = sorted(found.items(), key=lambda pair: (-pair[1], -pair[0]))[:limit]
    if len(best) < limit and len(telling) < len(rarest_first):
        best += _newest(connection, rarest_first[len(telling) :], found, where, limit - len(best))
    return best


def _newest(
    connection: sa.Connection,
    words: list[str],
    known: Mapping[int, float],
    where: Sequence[sa.ColumnElement[bool]],
    limit: int,
) -> list[tuple[int, float]]:
    ranked = sa.text("SELECT rowid AS id FROM papers_fts WHERE papers_fts MATCH :match ORDER BY rowid DESC")
    rows = ranked.bindparams(match=_match([words])).columns(id=sa.Integer).subquery("newest")
    query = sa.select(rows.c.id).select_from(rows.join(papers, papers.c.id == rows.c.id) if where else rows)
    query = query.where(*where).order_by(rows.c.id.desc()).limit(limit + len(known))
    return [(i, 0.0) for i in connection.scalars(query) if i not in known][:limit]


def _holders(connection: sa.Connection, words: Sequence[str], newest: int) -> dict[str, int]:
    """Return how many papers hold each word: kept until the store has grown, for it takes a pass over each list."""
    stamp = newest // _K
    at, kept = _counted.get(connection.engine, (-1, {}))
    if at != stamp or len(kept) > 100_000:
        kept = {}
        _counted[connection.engine] = (stamp, kept)
    count = sa.text("SELECT count(*) FROM papers_fts WHERE papers_fts MATCH :match")
    for word in words:
        if word not in kept:
            kept[word] = int(connection.scalar(count, {"match": _match([[word]])}) or 0)
    return {word: kept[word] for word in words}


def _match(groups: Sequence[Sequence[str]]) -> str:
    # Every word is quoted, for to FTS5 a hyphen, a colon or NOT is an operator. A row holds a word of each group.
    return " AND ".join("(" + " OR ".join(f'"{w}"' for w in words) + ")" for words in groups)


def _sqlite(groups: Sequence[Sequence[str]]) -> sa.Subquery:
    weights = ", ".join(str(float(w)) for w in WEIGHTS)  # bm25() is lower for better rows
    # With a sign before rowid a condition on it is tested row by row: else FTS5 starts anew for each.
    text = sa.text(
        f"SELECT +rowid AS id, -bm25(papers_fts, {weights}) AS score FROM papers_fts WHERE papers_fts MATCH :match"
    )
    return text.bindparams(match=_match(groups)).columns(id=sa.Integer, score=sa.Float).subquery("ranked")


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
