"""What the tests of digests share: times, a post that keeps mails, and short ways to fill a library."""

import datetime as dt
import email
import email.policy
import re
import zlib

import sqlalchemy as sa

from corrigible.library import Page, Record
from corrigible.library._digest import compose
from corrigible.library._mail import Sender
from corrigible.library._papers import add_page
from corrigible.library._schema import subscriptions
from corrigible.library._sending import send_digests
from corrigible.library._subscriptions import ask, confirm

NOW = dt.datetime(2026, 11, 30, 7, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
SENDER = Sender("papers@lists.example.org", site="https://papers.example.org")
ADA = "ada@example.org"


class Kept:
    """A post that keeps what it is given, or raises."""

    def __init__(self, error=None):
        self.sent, self.error = [], error

    def send(self, raw, *, sender, recipient, name):
        if self.error:
            raise self.error
        self.sent.append((raw, sender, recipient))


def subscribed(database, address=ADA, *, at=NOW - 2 * DAY, **wishes):
    with database.write() as connection:
        confirm(connection, ask(connection, address, now=at, **wishes), now=at)
        return row_of(connection, address)


def row_of(connection, address=ADA):
    return connection.execute(sa.select(subscriptions).where(subscriptions.c.address == address)).one()


def add(database, *titles, at=NOW - HOUR, day=None, **more):
    keys = [f"2611.{zlib.crc32(t.encode()) % 90000 + 10000}" for t in titles]
    told = {"door": "atom", "announced": day or at.date(), **more}
    records = [Record(key=k, title=t, **told) for k, t in zip(keys, titles, strict=True)]
    with database.write() as connection:
        add_page(connection, Page(records=tuple(records)), door="atom", raw=repr(records).encode(), now=at)


def run(database, post, **more):
    return list(send_digests(database, post, SENDER, **{"now": NOW} | more))


def composed(database, now=NOW, **more):
    with database.read() as connection:
        return compose(connection, row_of(connection), now=now, **more)


def titles(issue):
    return [e.paper.title for e in issue.entries] if issue else []


def count(database, table):
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


# --- addresses and subscriptions ------------------------------------------------------------------------------


def headers(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


def text_of(raw, kind="plain"):
    # The lines of a paragraph are joined, as a reader joins them.
    return re.sub(r"\s+", " ", headers(raw).get_body((kind,)).get_content())
