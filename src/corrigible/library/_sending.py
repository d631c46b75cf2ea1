"""Sending digests: an issue is claimed before it is sent, so that none goes out twice."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from corrigible.errors import CorrigibleError
from corrigible.library._addresses import mail_address
from corrigible.library._bounces import note_bounce, return_path
from corrigible.library._database import Database
from corrigible.library._digest import SHOWN, Issue, compose, is_due
from corrigible.library._evidence_log import note_evidence
from corrigible.library._mail import Sender, confirmation_mail, digest_mail, message_id
from corrigible.library._post import Outbox, RefusedError, Smtp
from corrigible.library._schema import issues, subscriptions
from corrigible.library._subscriptions import ask, wanted


@dataclass(frozen=True)
class Outcome:
    """What became of one subscription's issue.

    Attributes
    ----------
    address : str
        Where to.
    state : str
        ``sent``; ``failed``: certainly not taken, the next run of the day tries again; ``claimed``: another sender has
        it, or it is not known whether it was taken, and it is not sent again; ``dropped``: ended in the meantime;
        ``nothing``: nothing is new; ``would send``: of a dry run.
    papers, changes : int
        How many.
    why : str
        Of a failure.
    """

    address: str
    state: str
    papers: int = 0
    changes: int = 0
    why: str = ""


def send_digests(
    database: Database,
    post: Outbox | Smtp,
    sender: Sender,
    *,
    dry_run: bool = False,
    shown: int = SHOWN,
    now: dt.datetime | None = None,
) -> Iterator[Outcome]:
    """Send every subscription that is due its issue, if there is anything new.

    Parameters
    ----------
    database : Database
        The library.
    post : Outbox or Smtp
        Where mails go.
    sender : Sender
        Who sends.
    dry_run : bool, default=False
        Send and keep nothing.
    shown : int, default=20
        Most papers of an issue.
    now : datetime, optional
        By default the clock's.
    """
    now = now or dt.datetime.now(dt.UTC)
    if not dry_run:
        with database.write() as connection:
            note_evidence(connection, now=now)
    confirmed = sa.select(subscriptions).where(subscriptions.c.state == "confirmed").order_by(subscriptions.c.id)
    with database.read() as connection:
        due = [row for row in connection.execute(confirmed).all() if is_due(connection, row, now=now)]
    for row in due:
        with database.read() as connection:
            if dry_run:
                note_evidence(connection, now=now)  # seen by this connection alone: it is never committed
            issue = compose(connection, row, now=now, shown=shown)
        if issue is None:
            yield Outcome(row.address, "nothing")
            continue
        raw, issue = digest_mail(issue, sender, now=now)
        if dry_run:
            yield _outcome(issue, "would send")
        else:
            yield _send(database, post, sender, issue, raw)


def _send(database: Database, post: Outbox | Smtp, sender: Sender, issue: Issue, raw: bytes) -> Outcome:
    mine = issue.subscription
    claimed = claim(database, issue, sender)
    if claimed is None:
        return _outcome(issue, "claimed")
    with database.write() as connection:  # the last look before it goes: an end that came in between wins
        if not wanted(connection, mine.id):
            _mark(connection, claimed, "dropped")
            return _outcome(issue, "dropped")
    try:
        post.send(raw, sender=return_path(mine.unsubscribe, sender.domain), recipient=mine.address,
                  name=f"{issue.day}-s{mine.id}")  # fmt: skip
    except RefusedError as error:
        with database.write() as connection:
            _mark(connection, claimed, "failed")
            if error.recipient:
                unique = hashlib.sha256(f"refused {claimed} {issue.at}".encode()).hexdigest()
                note_bounce(connection, mine.address, error.permanent, unique, issue.at)
        return _outcome(issue, "failed", str(error))
    except CorrigibleError as error:  # the outbox: no file stands there
        with database.write() as connection:
            _mark(connection, claimed, "failed")
        return _outcome(issue, "failed", str(error))
    except Exception as error:  # a connection that broke: taken or not, nobody here knows
        return _outcome(issue, "claimed", f"{type(error).__name__}: {error}")
    with database.write() as connection:
        _mark(connection, claimed, "sent")
    return _outcome(issue, "sent")


def claim(database: Database, issue: Issue, sender: Sender) -> int | None:
    """Take an issue for this sender, in one transaction; return its row, or None where it cannot be had.

    One row stands for a subscription's day. It is had by whoever inserts it, or takes it over from an attempt that was
    *certainly* refused. A row that stays ``claimed`` belongs to a sender that is at work or died between claim and
    answer; it is never taken over, because that mail may have arrived: no mail twice is kept, at the price of none.
    """
    from sqlalchemy.dialects import postgresql, sqlite

    mine = issue.subscription
    values = {
        "subscription_id": mine.id, "day": issue.day, "state": "claimed", "at": issue.at,
        "message_id": message_id(issue, sender),
        "papers": {"shown": [e.paper.id for e in issue.entries], "passed": list(issue.passed)},
    }  # fmt: skip
    with database.write() as connection:
        if not wanted(connection, mine.id):
            return None
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        insert = dialect.insert(issues).values(values)
        taken = insert.on_conflict_do_update(
            index_elements=["subscription_id", "day"],
            set_={name: insert.excluded[name] for name in ("state", "at", "papers", "message_id")},
            where=issues.c.state == "failed",
        ).returning(issues.c.id)
        found: int | None = connection.execute(taken).scalar()
        return found


def subscribe(
    database: Database,
    post: Outbox | Smtp,
    sender: Sender,
    address: str,
    *,
    now: dt.datetime | None = None,
    **wishes: object,
) -> None:
    """Ask for a subscription and send the mail that lets its owner confirm; nothing tells whether the address was known.

    Parameters
    ----------
    database : Database
        The library.
    post : Outbox or Smtp
        Where the mail goes.
    sender : Sender
        Who sends.
    address : str
        Where to.
    now : datetime, optional
        By default the clock's.
    **wishes
        As `ask` takes them.
    """
    now, address = now or dt.datetime.now(dt.UTC), mail_address(address)
    with database.write() as connection:
        token = ask(connection, address, now=now, **wishes)  # type: ignore[arg-type]
    if token is not None:
        raw = confirmation_mail(address, token, sender, now=now)
        name = f"confirm-{hashlib.sha256(token.encode()).hexdigest()[:16]}"
        post.send(raw, sender=sender.address, recipient=address, name=name)


def _mark(connection: sa.Connection, issue: int, state: str) -> None:
    connection.execute(
        sa.update(issues).where(issues.c.id == issue, issues.c.state == "claimed").values(state=state)
    )


def _outcome(issue: Issue, state: str, why: str = "") -> Outcome:
    return Outcome(issue.subscription.address, state, len(issue.entries), len(issue.changes), " ".join(why.split()))
