"""Votes and notes: one of each a user and paper."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from corrigible.errors import InvalidParameterError
from corrigible.library._papers import insert_missing
from corrigible.library._records import clean_lines
from corrigible.library._schema import notes, users, votes

LOCAL = "local"  # the one user of a library without accounts
MAX_NOTE = 20_000


def local_user(connection: sa.Connection) -> int:
    """Return the user of a library without accounts, made when first asked for."""
    found = connection.execute(sa.select(users.c.id).where(users.c.name == LOCAL)).scalar()
    if found is None:
        made = {"name": LOCAL, "role": "admin", "made": dt.datetime.now(dt.UTC)}
        found = connection.execute(sa.insert(users).values(made).returning(users.c.id)).scalar_one()
    return int(found)


def vote(connection: sa.Connection, user: int, paper: int, value: int) -> None:
    """Set a user's vote on a paper: 1, -1, or 0 to take it back."""
    if value not in (-1, 0, 1):
        raise InvalidParameterError(f"A vote must be 1, -1 or 0. Got {value!r}.")
    mine = (votes.c.user_id == user) & (votes.c.paper_id == paper)
    if value == 0:
        connection.execute(sa.delete(votes).where(mine))
        return
    now = dt.datetime.now(dt.UTC)
    insert_missing(connection, votes, [{"user_id": user, "paper_id": paper, "value": value, "at": now}])
    connection.execute(sa.update(votes).where(mine, votes.c.value != value).values(value=value, at=now))


def note(connection: sa.Connection, user: int, paper: int, text: str) -> None:
    """Set a user's note on a paper; an empty one is taken away."""
    text = clean_lines(text)
    if len(text) > MAX_NOTE:
        raise InvalidParameterError(f"A note must have at most {MAX_NOTE} characters. Got {len(text)}.")
    mine = (notes.c.user_id == user) & (notes.c.paper_id == paper)
    if not text:
        connection.execute(sa.delete(notes).where(mine))
        return
    now = dt.datetime.now(dt.UTC)
    insert_missing(connection, notes, [{"user_id": user, "paper_id": paper, "text": text, "at": now}])
    connection.execute(sa.update(notes).where(mine, notes.c.text != text).values(text=text, at=now))
