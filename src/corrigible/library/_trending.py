"""Which papers move: a published formula, with every part of it at hand."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import sqlalchemy as sa

from corrigible.library._schema import papers, runs, votes

FORMULA = "(votes + 2 × methods run here + log10(1 + upvotes elsewhere + stars)) / (age in days + 2)^1.4"
_DECAY, _OFFSET, _POOL = 1.4, 2.0, 2000


@dataclass(frozen=True)
class Trend:
    """A paper's place among the trending, and what it comes from.

    Attributes
    ----------
    paper : int
        ``papers.id``.
    score : float
        See ``FORMULA``.
    votes : int
        Sum of votes here.
    runs : int
        Methods of the paper that were run here to the end, each counted once.
    elsewhere : float
        ``log10(1 + upvotes + stars)`` of other sites.
    age : int
        Days since it was listed.
    """

    paper: int
    score: float
    votes: int
    runs: int
    elsewhere: float
    age: int


def trending(connection: sa.Connection, *, today: dt.date, limit: int = 50) -> list[Trend]:
    """Return the trending papers, best first; those with nothing to count are left out.

    Parameters
    ----------
    connection : Connection
        Of `Database.read`.
    today : date
        Ages are counted from here.
    limit : int, default=50
        How many.
    """
    voted = sa.select(votes.c.paper_id, sa.func.sum(votes.c.value).label("n")).group_by(votes.c.paper_id).subquery()
    ran = (
        sa.select(runs.c.paper_id, sa.func.count(sa.distinct(runs.c.name)).label("n"))
        .where(runs.c.state == "done", runs.c.exit == 0)
        .group_by(runs.c.paper_id)
        .subquery()
    )
    there = sa.select(papers.c.id, papers.c.listed, papers.c.counts, voted.c.n, ran.c.n).select_from(
        papers.outerjoin(voted, voted.c.paper_id == papers.c.id).outerjoin(ran, ran.c.paper_id == papers.c.id)
    )
    # What was voted on or run is few; of what only other sites count, the newest can still move.
    touched = sa.union(sa.select(voted.c.paper_id), sa.select(ran.c.paper_id))
    counted = connection.execute(there.where(papers.c.id.in_(touched))).all()
    newest = connection.execute(
        there.where(papers.c.listed.is_not(None)).order_by(papers.c.listed.desc()).limit(_POOL)
    ).all()
    found = {row[0]: _trend(*row, today=today) for row in [*newest, *counted]}
    moving = [t for t in found.values() if t.votes or t.runs or t.elsewhere]
    return sorted(moving, key=lambda t: (-t.score, -t.paper))[:limit]


def _trend(
    paper: int,
    listed: dt.date | None,
    counts: dict[str, int],
    voted: int | None,
    ran: int | None,
    *,
    today: dt.date,
) -> Trend:
    elsewhere = math.log10(1 + counts.get("upvotes", 0) + counts.get("stars", 0))
    age = max((today - listed).days, 0) if listed else 0  # what stands under no day does not grow old
    votes_, runs_ = int(voted or 0), int(ran or 0)
    score = (votes_ + 2 * runs_ + elsewhere) / (age + _OFFSET) ** _DECAY
    return Trend(paper, score, votes_, runs_, elsewhere, age)
