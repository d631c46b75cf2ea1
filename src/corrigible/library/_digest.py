"""What stands in an issue of a digest: new papers that a subscriber wished for, and what changed in evidence."""

from __future__ import annotations

import datetime as dt
import unicodedata
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from corrigible.library._evidence_log import Change, changes_since
from corrigible.library._papers import plain_title
from corrigible.library._rooms import rooms_of
from corrigible.library._schema import issues, papers
from corrigible.library._subscriptions import EVERY
from corrigible.library._taste import taste_of
from corrigible.library._words import rank_by_words, searched_words
from corrigible.papers import index

SHOWN = 20
_POOL = 5_000
_OVERLAP = dt.timedelta(hours=1)  # an ingest may end after an issue that it began before
_BACKFILL = dt.timedelta(days=7)  # what stands under an older day is history that was taken in, and no news


@dataclass(frozen=True)
class Entry:
    """A paper of an issue.

    Attributes
    ----------
    paper : row of ``papers``
        The paper.
    reasons : tuple of str
        Which wishes it answers; none where everything was asked for.
    words : tuple of str
        Those that decided its rank, where votes rank.
    """

    paper: Any
    reasons: tuple[str, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Issue:
    """An issue for one subscription.

    Attributes
    ----------
    subscription : row of ``subscriptions``
        Whose.
    day : date
        Which day's.
    at : datetime
        Until when papers were looked at.
    entries : tuple of Entry
        Best first.
    passed : tuple of int
        Papers that answered a wish and did not find room.
    changes : tuple of Change
        What changed in evidence.
    by_votes : bool
        Whether votes ranked the papers.
    """

    subscription: Any
    day: dt.date
    at: dt.datetime
    entries: tuple[Entry, ...]
    passed: tuple[int, ...]
    changes: tuple[Change, ...]
    by_votes: bool


def is_due(connection: sa.Connection, subscription: Any, *, now: dt.datetime) -> bool:
    """Return whether a subscription may get an issue: none of today, nor of the last seven days for a weekly one."""
    first = now.date() - EVERY[subscription.every] + dt.timedelta(days=1)
    mine = (issues.c.subscription_id == subscription.id) & (issues.c.day >= first)
    return (
        connection.execute(sa.select(issues.c.id).where(mine, issues.c.state.in_(("claimed", "sent")))).first()
        is None
    )


def compose(connection: sa.Connection, subscription: Any, *, now: dt.datetime, shown: int = SHOWN) -> Issue | None:
    """Return the issue of a subscription, or None where nothing is new.

    It begins where the last one that was *sent* ended. One whose sender died may have arrived or not, so its papers
    come again: a paper twice is better than a paper never.

    Parameters
    ----------
    connection : Connection
        Of `Database.read`.
    subscription : row
        Of ``subscriptions``.
    now : datetime
        The time of the issue.
    shown : int, default=20
        Most papers.
    """
    sent = connection.execute(
        sa.select(issues.c.at, issues.c.papers)
        .where(issues.c.subscription_id == subscription.id, issues.c.state == "sent")
        .order_by(issues.c.at.desc())
        .limit(60)
    ).all()
    since = sent[0].at if sent else (subscription.confirmed or now) - EVERY[subscription.every]
    told = {i for row in sent for i in row.papers["shown"]} | set(sent[0].papers["passed"] if sent else ())
    new = _new(connection, since, now, told)
    reasons = _reasons(connection, subscription, new)
    taste = taste_of(connection, subscription.user_id)
    found = [Entry(paper, reasons[paper.id]) for paper in new if paper.id in reasons]
    if taste:
        judged = taste.judge([_text(e.paper) for e in found])
        order = sorted(range(len(found)), key=lambda i: (-judged[i][0], -found[i].paper.id))
        found = [Entry(found[i].paper, found[i].reasons, judged[i][1]) for i in order]
    else:
        found.sort(key=lambda e: (-len(e.reasons), -e.paper.id))
    changes = changes_since(connection, since, rooms=subscription.rooms)
    if not found and not changes:
        return None
    return Issue(subscription, now.date(), now, tuple(found[:shown]), tuple(e.paper.id for e in found[shown:]),
                 tuple(changes), taste is not None)  # fmt: skip


def _new(connection: sa.Connection, since: dt.datetime, now: dt.datetime, told: set[int]) -> list[Any]:
    begin = since - _OVERLAP
    there = (
        papers.c.seen.between(begin, now) & (papers.c.listed >= (begin - _BACKFILL).date()) & ~papers.c.withdrawn
    )
    rows = connection.execute(sa.select(papers).where(there).order_by(papers.c.id.desc()).limit(_POOL))
    return [row for row in rows if row.id not in told]


def _reasons(connection: sa.Connection, subscription: Any, new: list[Any]) -> dict[int, tuple[str, ...]]:
    """Return, of each paper that was wished for, which wishes it answers."""
    if not (subscription.rooms or subscription.searches or subscription.authors):
        return {paper.id: () for paper in new}
    found: dict[int, list[str]] = {}
    if subscription.rooms:
        guessed = rooms_of([_text(paper) for paper in new])
        for paper, near in zip(new, guessed, strict=True):
            room = index()[paper.slug].room if paper.slug in index() else near
            if room in subscription.rooms:
                found.setdefault(paper.id, []).append(f"room {room}")
    for text in subscription.searches:
        for i in _holding(connection, text, new):
            found.setdefault(i, []).append(f"search “{text}”")
    for wished in subscription.authors:
        for paper in new:
            if any(same_person(wished, author["name"]) for author in paper.authors):
                found.setdefault(paper.id, []).append(f"author {wished}")
    return {i: tuple(reasons) for i, reasons in found.items()}


def _holding(connection: sa.Connection, text: str, new: list[Any]) -> set[int]:
    """Return the papers that hold all words of a saved search; a list to be read may be wide, a mail must not."""
    if not new:
        return set()
    ids = {paper.id for paper in new}
    among = [papers.c.id.between(min(ids), max(ids))]
    words = searched_words(connection, text)
    for word in words:
        ids &= {i for i, _ in rank_by_words(connection, word, where=among, limit=10 * _POOL)}
    return ids if words else set()


def same_person(one: str, other: str) -> bool:
    """Return whether two names may be of one person: the same, or the same but for given names as initials."""
    a, b = _name(one), _name(other)
    if not a or not b or a[-1] != b[-1]:
        return False
    given = list(zip(a[:-1], b[:-1], strict=False))
    return a == b or (bool(given) and all(x == y or (1 in (len(x), len(y)) and x[0] == y[0]) for x, y in given))


def _name(text: str) -> list[str]:
    last, comma, first = text.partition(",")
    plain = unicodedata.normalize("NFKD", f"{first} {last}" if comma else text)
    return [
        w for part in plain.replace(".", " ").split() if (w := plain_title("".join(c for c in part if c.isalnum())))
    ]


def _text(paper: Any) -> str:
    return f"{paper.title} {paper.abstract}"
