"""Subscriptions: asked for, confirmed by the owner of the address, ended by whoever holds the link."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from corrigible.errors import DataError, InvalidParameterError, UnknownNameError
from corrigible.library._addresses import mail_address
from corrigible.library._papers import insert_missing
from corrigible.library._records import clean_text
from corrigible.library._schema import subscriptions, suppressions

EVERY = {"day": dt.timedelta(days=1), "week": dt.timedelta(days=7)}
CONFIRM_WITHIN = dt.timedelta(hours=48)
ASK_AGAIN_AFTER = dt.timedelta(minutes=10)  # so that nobody fills a stranger's mailbox with questions
MAX_WISHES, MAX_WISH = 20, 200
# Lower case alone: this token is also the local part of a return path, which some mail servers fold.
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
TOKEN_LENGTH = 22  # 110 bits; a longer one would not keep the header that carries it on one line everywhere


def ask(
    connection: sa.Connection,
    address: str,
    *,
    every: str = "day",
    rooms: Sequence[str] = (),
    searches: Sequence[str] = (),
    authors: Sequence[str] = (),
    user: int | None = None,
    source: str = "",
    now: dt.datetime | None = None,
) -> str | None:
    """Ask for a subscription; nothing is sent before its address confirms it.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    address : str
        Where to.
    every : {"day", "week"}, default="day"
        How often at most.
    rooms, searches, authors : sequence of str
        What of; with none of them, of everything new.
    user : int, optional
        Whose votes rank the papers.
    source : str, optional
        Where it was asked for; kept.
    now : datetime, optional
        By default the clock's.

    Returns
    -------
    str or None
        The token for the link that confirms, known here alone: its hash is kept. None where no mail is due, because
        the address has this subscription, is suppressed, or was asked a moment ago. To whoever asks these must look
        the same.

    Raises
    ------
    InvalidParameterError
        If the address is none, or a wish is too long or not known.
    """
    now = now or dt.datetime.now(dt.UTC)
    address = mail_address(address)
    wishes = check_wishes(every, rooms, searches, authors)
    if connection.execute(sa.select(suppressions.c.address).where(suppressions.c.address == address)).scalar():
        return None
    token = secrets.token_urlsafe(32)
    asked = {**wishes, "user_id": user, "state": "pending", "token_hash": _hash(token), "asked": now, "confirmed": None,
             "source": clean_text(source)[:80]}  # fmt: skip
    there = (subscriptions.c.address == address) & (subscriptions.c.every == every)
    row = connection.execute(sa.select(subscriptions).where(there).with_for_update()).first()
    if row is None:
        new = {"address": address, "every": every, "unsubscribe": new_token(), **asked}
        insert_missing(connection, subscriptions, [new])
        kept = connection.execute(sa.select(subscriptions.c.token_hash).where(there)).scalar()
        return token if kept == _hash(token) else None  # another asked at the same moment
    if row.state in ("confirmed", "paused") or (row.state == "pending" and now - row.asked < ASK_AGAIN_AFTER):
        return None
    connection.execute(sa.update(subscriptions).where(subscriptions.c.id == row.id).values(asked))
    return token


def check_wishes(
    every: str, rooms: Sequence[str], searches: Sequence[str], authors: Sequence[str]
) -> dict[str, list[str]]:
    """Return wishes as they are kept, or say what is wrong with them."""
    if every not in EVERY:
        raise InvalidParameterError(f"A subscription must be for every day or week. Got {every[:20]!r}.")
    return {
        "rooms": _rooms(rooms),
        "searches": _wishes("searches", searches),
        "authors": _wishes("authors", authors),
    }


def waiting(connection: sa.Connection, token: str, *, now: dt.datetime | None = None) -> Any:
    """Return the subscription that a link of a confirmation mail is for: pending, or confirmed by it before.

    Raises
    ------
    UnknownNameError
        If there is none, it was ended, or the link is older than 48 hours.
    """
    now = now or dt.datetime.now(dt.UTC)
    row = connection.execute(sa.select(subscriptions).where(subscriptions.c.token_hash == _hash(token))).first()
    late = row is not None and row.state == "pending" and now - row.asked > CONFIRM_WITHIN
    if row is None or late or row.state == "ended":
        raise UnknownNameError("This link is not valid any more: it holds for 48 hours. Subscribe again.")
    return row


def confirm(connection: sa.Connection, token: str, *, now: dt.datetime | None = None) -> Any:
    """Confirm a subscription with the token of its mail, once or again; return its row as it was."""
    row = waiting(connection, token, now=now)
    if row.state == "pending":
        changed = {"state": "confirmed", "confirmed": now or dt.datetime.now(dt.UTC)}
        connection.execute(
            sa.update(subscriptions)
            .where(subscriptions.c.id == row.id, subscriptions.c.state == "pending")
            .values(changed)
        )
    return row


def by_token(connection: sa.Connection, token: str) -> Any:
    """Return the subscription of an unsubscribe link or a return path, or None."""
    return connection.execute(
        sa.select(subscriptions).where(subscriptions.c.unsubscribe == token.lower()[:32])
    ).first()


def end(connection: sa.Connection, subscription: int) -> None:
    """End a subscription; ending it again changes nothing."""
    connection.execute(sa.update(subscriptions).where(subscriptions.c.id == subscription).values(state="ended"))


def pause(connection: sa.Connection, subscription: int) -> None:
    """Send nothing of a confirmed subscription until it goes on."""
    _turn(connection, subscription, "confirmed", "paused")


def resume(connection: sa.Connection, subscription: int) -> None:
    """Let a subscription that pauses go on; what was new meanwhile comes with its next issue."""
    _turn(connection, subscription, "paused", "confirmed")


def _turn(connection: sa.Connection, subscription: int, before: str, after: str) -> None:
    there = (subscriptions.c.id == subscription) & (subscriptions.c.state == before)
    connection.execute(sa.update(subscriptions).where(there).values(state=after))


def change(
    connection: sa.Connection,
    subscription: int,
    *,
    every: str,
    rooms: Sequence[str] = (),
    searches: Sequence[str] = (),
    authors: Sequence[str] = (),
) -> None:
    """Give a subscription other wishes.

    Raises
    ------
    InvalidParameterError
        If a wish is too long or not known.
    DataError
        If its address has another subscription as often.
    """
    values = {**check_wishes(every, rooms, searches, authors), "every": every}
    mine = subscriptions.c.id == subscription
    address = sa.select(subscriptions.c.address).where(mine).scalar_subquery()
    others = (
        (subscriptions.c.address == address)
        & (subscriptions.c.every == every)
        & (subscriptions.c.id != subscription)
    )
    if connection.execute(sa.select(subscriptions.c.id).where(others)).first():
        raise DataError(f"The address has a subscription for every {every} already, perhaps one that has ended.")
    connection.execute(sa.update(subscriptions).where(mine).values(values))


def suppress(connection: sa.Connection, address: str, reason: str, *, now: dt.datetime | None = None) -> None:
    """Never write to an address again, and end what it had."""
    row = {"address": address, "reason": reason, "at": now or dt.datetime.now(dt.UTC)}
    insert_missing(connection, suppressions, [row])
    connection.execute(sa.update(subscriptions).where(subscriptions.c.address == address).values(state="ended"))


def wanted(connection: sa.Connection, subscription: int) -> bool:
    """Return whether a subscription is confirmed and its address not suppressed, at this moment."""
    known = sa.select(suppressions.c.address)
    good = (subscriptions.c.state == "confirmed") & subscriptions.c.address.not_in(known)
    found = sa.select(subscriptions.c.id).where(subscriptions.c.id == subscription, good)
    return connection.execute(found.with_for_update(of=subscriptions)).scalar() is not None


def new_token() -> str:
    """Return a new token for the links that end a subscription."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _rooms(names: Sequence[str]) -> list[str]:
    from corrigible.papers import index

    known = {p.room for p in index().values()}
    if unknown := [n for n in names if n not in known]:
        raise InvalidParameterError(
            f"There is no room {unknown[0][:40]!r}. The rooms are {', '.join(sorted(known))}."
        )
    return sorted(set(names))


def _wishes(what: str, lines: Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(clean for line in lines if (clean := clean_text(line))))
    if len(found) > MAX_WISHES or any(len(wish) > MAX_WISH for wish in found):
        raise InvalidParameterError(
            f"The {what} of a subscription must be at most {MAX_WISHES} of at most {MAX_WISH} characters each. "
            f"Got {len(found)}, the longest of {max(map(len, found))}."
        )
    return found
