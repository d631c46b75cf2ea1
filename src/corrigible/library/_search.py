"""Search: by words, by meaning, or both put together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from corrigible.errors import InvalidParameterError
from corrigible.library._schema import papers
from corrigible.library._vectors import Vectors
from corrigible.library._word_index import WordIndex
from corrigible.library._words import rank_by_words

_POOL = 100  # of each ranking, before they are put together
_RRF = 60  # Cormack, Clarke and Buettcher (2009): how slowly a rank's weight falls
WAYS = ("auto", "words", "meaning", "both")


@dataclass(frozen=True)
class Found:
    """Outcome of `search`.

    Attributes
    ----------
    ids : tuple of int
        ``papers.id``, best first.
    way : str
        ``words``, ``meaning`` or ``both``: how they were ranked. Without an encoder it is words, and says so.
    """

    ids: tuple[int, ...]
    way: str


def search(
    connection: sa.Connection,
    text: str,
    *,
    vectors: Vectors | None = None,
    words: WordIndex | None = None,
    way: str = "auto",
    where: Sequence[sa.ColumnElement[bool]] = (),
    limit: int = 20,
) -> Found:
    """Return the papers that answer a query.

    Parameters
    ----------
    connection : Connection
        Of `Database.read`.
    text : str
        The query, as a person writes it.
    vectors : Vectors, optional
        For search by meaning.
    words : WordIndex, optional
        For search by words in a very large library; by default the database itself searches.
    way : {"auto", "words", "meaning", "both"}, default="auto"
        ``auto`` is both where there are vectors, else words.
    where : sequence of conditions, optional
        On columns of ``papers``.
    limit : int, default=20
        How many.

    Raises
    ------
    InvalidParameterError
        If meaning is asked for and there is no encoder.
    """
    if way not in WAYS:
        raise InvalidParameterError(f"'way' of search must be one of {', '.join(WAYS)}. Got {way!r}.")
    if way in ("meaning", "both") and vectors is None:
        raise InvalidParameterError("Search by meaning needs an encoder, and there is none. Search by words.")
    alone = vectors is None or way == "words" or not text.strip()
    pool = limit if alone else max(_POOL, limit)
    rank = words.rank if words is not None else rank_by_words
    by_words = [] if way == "meaning" else rank(connection, text, where=where, limit=pool)
    if alone or vectors is None:
        return Found(tuple(i for i, _ in by_words[:limit]), "words")
    by_meaning = vectors.nearest(text, limit=pool, among=_allowed(connection, where))
    if way == "meaning":
        return Found(tuple(i for i, _ in by_meaning[:limit]), "meaning")
    return Found(tuple(fuse([[i for i, _ in by_words], [i for i, _ in by_meaning]])[:limit]), "both")


def fuse(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Put rankings together by reciprocal ranks: each adds ``1 / (60 + rank)`` to what it holds."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, i in enumerate(ranking, start=1):
            scores[i] = scores.get(i, 0.0) + 1 / (_RRF + rank)
    return sorted(scores, key=lambda i: (-scores[i], -i))


def _allowed(connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]) -> np.ndarray | None:
    if not where:
        return None
    return np.array(connection.execute(sa.select(papers.c.id).where(*where)).scalars().all(), dtype=np.int64)


def listed_between(first: dt.date | None, last: dt.date | None) -> list[sa.ColumnElement[bool]]:
    """Return conditions on the day a paper stands under, both ends included."""
    ends = [(first, papers.c.listed.__ge__), (last, papers.c.listed.__le__)]
    return [compare(day) for day, compare in ends if day is not None]
