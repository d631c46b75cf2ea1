"""Mail that came back: the return path says whose it was, the report says whether for good."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import hashlib
import re
from email.message import EmailMessage
from typing import Any

import sqlalchemy as sa

from corrigible._utils.optional import require
from corrigible.library._papers import insert_missing
from corrigible.library._schema import bounces
from corrigible.library._subscriptions import TOKEN_LENGTH, by_token, suppress

TEMPORARY, WITHIN = 3, dt.timedelta(days=14)  # so many passing failures in so long are taken for a lasting one
_PATH = re.compile(rf"\bb\+([a-z2-7]{{{TOKEN_LENGTH}}})@", re.IGNORECASE)
_LINK = re.compile(rf"/unsubscribe/([a-z2-7]{{{TOKEN_LENGTH}}})\b", re.IGNORECASE)
_RECIPIENT = ("to", "delivered-to", "x-original-to", "envelope-to")


def return_path(token: str, domain: str) -> str:
    """Return the envelope's sender of one subscription's mail."""
    return f"b+{token}@{domain}"


def take_bounce(connection: sa.Connection, raw: bytes, *, now: dt.datetime | None = None) -> str:
    """Read one message that came to a return path, or a complaint, and act on it.

    The token names the subscription: a message without one that is known does nothing, so that a forged report cannot
    end a stranger's mail, whatever addresses it names.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    raw : bytes
        The message as it came.
    now : datetime, optional
        By default the clock's.

    Returns
    -------
    str
        ``permanent``, ``temporary``, ``complaint``, ``known`` (the same message once more) or ``none``.
    """
    now = now or dt.datetime.now(dt.UTC)
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    complaint = (
        message.get_content_type() == "multipart/report" and message.get_param("report-type") == "feedback-report"
    )
    token = _LINK.search(_original(message)) if complaint else _PATH.search(_recipients(message))
    row = by_token(connection, token[1]) if token else None
    if row is None:
        return "none"
    if complaint:
        suppress(connection, row.address, "complaint", now=now)
        return "complaint"
    reader = require("flufl.bounce", extra="web", by="Reading bounces")
    try:
        temporary, permanent = reader.all_failures(message)
    except Exception:  # its detectors fall over some malformed messages, one without a sender for example
        return "none"
    if not (temporary or permanent):
        return "none"  # an answer of somebody on holiday
    new = note_bounce(connection, row.address, bool(permanent), hashlib.sha256(raw).hexdigest(), now)
    return ("permanent" if permanent else "temporary") if new else "known"


def note_bounce(connection: sa.Connection, address: str, permanent: bool, sha256: str, now: dt.datetime) -> bool:
    """Keep a failure and suppress the address where that is due; return whether it was not known before."""
    if connection.execute(sa.select(bounces.c.id).where(bounces.c.sha256 == sha256)).scalar() is not None:
        return False
    insert_missing(connection, bounces, [{"address": address, "permanent": permanent, "at": now, "sha256": sha256}])
    lately = (bounces.c.address == address) & (bounces.c.at > now - WITHIN)
    n = connection.execute(sa.select(sa.func.count()).select_from(bounces).where(lately)).scalar_one()
    if permanent or n >= TEMPORARY:
        suppress(connection, address, "bounced" if permanent else f"bounced {n} times", now=now)
    return True


def _recipients(message: EmailMessage | email.message.Message) -> str:
    return " ".join(str(value) for name in _RECIPIENT for value in message.get_all(name, []))


def _original(message: EmailMessage | email.message.Message) -> str:
    """Return the link that ends the subscription, from the message that a complaint encloses."""
    found = []
    for part in message.walk():
        if part.get_content_type() in ("message/rfc822", "text/rfc822-headers"):
            payload: Any = part.get_payload()
            found.append(str(payload[0].get("list-unsubscribe", "") if isinstance(payload, list) else payload))
    return " ".join(found)
