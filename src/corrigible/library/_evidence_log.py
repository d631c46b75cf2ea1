"""What changed in evidence: the state of each result is noted, so that a change can be told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from corrigible.library._schema import evidence_log, papers
from corrigible.papers import index, results

_LOCK = 7_266_282  # of PostgreSQL's advisory locks: two that note at once would note twice
_FIGURES = 3


@dataclass(frozen=True)
class Change:
    """A change of evidence.

    Attributes
    ----------
    name : str
        Of the result, or of the paper that was withdrawn.
    what : str
        What changed, in a few words.
    papers : tuple of str
        Slugs of the papers it stands for.
    """

    name: str
    what: str
    papers: tuple[str, ...]


def note_evidence(connection: sa.Connection, *, now: dt.datetime) -> None:
    """Note every result that reads otherwise than when it was last noted; the first time, all as known.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    now : datetime
        The time to note it under.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    newest = sa.select(sa.func.max(evidence_log.c.id)).group_by(evidence_log.c.name)
    known = {
        r.name: r.state for r in connection.execute(sa.select(evidence_log).where(evidence_log.c.id.in_(newest)))
    }
    rows = [
        # The very first states have no predecessor and are no news: they stand as their own.
        {"name": name, "before": known.get(name, None if known else state), "state": state, "at": now}
        for name, state in sorted(_states(connection).items())
        if known.get(name) != state
    ]
    if rows:
        connection.execute(sa.insert(evidence_log), rows)


def changes_since(connection: sa.Connection, since: dt.datetime, *, rooms: Collection[str] = ()) -> list[Change]:
    """Return what changed after a time, in the rooms given or in all."""
    rows = connection.execute(sa.select(evidence_log).where(evidence_log.c.at > since).order_by(evidence_log.c.id))
    found: dict[str, tuple[Any, Any]] = {}
    for row in rows:  # of several changes of one result, from the first state to the last
        found[row.name] = (found[row.name][0] if row.name in found else row.before, row.state)
    told = [
        Change(name.removeprefix("withdrawn:"), _told(before, state), tuple(state["papers"]))
        for name, (before, state) in found.items()
        if before != state
    ]
    return [
        c for c in told if c.what and (not rooms or any(index()[s].room in rooms for s in c.papers if s in index()))
    ]


def _states(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        name: {
            "status": r["status"],
            "papers": list(r["papers"]),
            "values": {m["name"]: f"{m['value']:.4g}" for m in r["measurements"] if m["kind"] != "note"},
        }
        for name, r in results().items()
    }
    gone = sa.select(papers.c.slug).where(papers.c.withdrawn, papers.c.slug.is_not(None))
    for slug in connection.execute(gone).scalars():
        found[f"withdrawn:{slug}"] = {"status": "withdrawn", "papers": [slug], "values": {}}
    return found


def _told(before: dict[str, Any] | None, state: dict[str, Any]) -> str:
    if state["status"] == "withdrawn":
        n = sum(len(index()[slug].methods) for slug in state["papers"] if slug in index())
        return f"withdrawn; {n} method{'' if n == 1 else 's'} here rest{'s' if n == 1 else ''} on it"
    if before is None:
        return f"measured for the first time: {state['status']}"
    parts = [f"{before['status']} before, {state['status']} now"] if before["status"] != state["status"] else []
    moved = [(n, v) for n, v in state["values"].items() if before["values"].get(n) != v]
    parts += [f"{n}: {before['values'].get(n, 'not measured')} before, {v} now" for n, v in moved[:_FIGURES]]
    parts += [f"{len(moved) - _FIGURES} figures more"] if len(moved) > _FIGURES else []
    return "; ".join(parts)
