"""The tables of the library, the same in SQLite and PostgreSQL. Migrations make them: see ``migrations``."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Table, UniqueConstraint


class UTC(sa.TypeDecorator[dt.datetime]):
    """A time in UTC: SQLite keeps none of its zone, so it is taken off going in and put on coming out."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        """Return the time without its zone, in UTC."""
        return None if value is None else value.astimezone(dt.UTC).replace(tzinfo=None)

    def process_result_value(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        """Return the time with its zone."""
        return None if value is None else value.replace(tzinfo=dt.UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", sa.Integer, primary_key=True)


def _to(table: str, name: str = "", *, primary: bool = False, cascade: bool = True) -> Column[int]:
    rule = "CASCADE" if cascade else "SET NULL"
    key = ForeignKey(f"{table}.id", ondelete=rule)
    return Column(
        name or f"{table.removesuffix('s')}_id", sa.Integer, key, primary_key=primary, nullable=not cascade
    )


def _text(name: str) -> Column[str]:
    return Column(name, sa.Text, nullable=False, server_default="")


def _json(name: str) -> Column[Any]:
    return Column(name, sa.JSON, nullable=False)


# --- papers ---------------------------------------------------------------------------------------------------

papers = Table(
    "papers", metadata,
    _id(),
    Column("key", sa.String(160), nullable=False, unique=True),  # arXiv identifier without version, or door:name
    Column("slug", sa.String(80), unique=True),  # of the paper index, for the papers that have methods here
    _text("title"), _text("abstract"),
    _json("authors"), _json("categories"), _json("links"), _json("counts"), _json("keywords"),
    _text("author_names"),  # the names alone, one string, for search
    _text("keyword_text"),
    Column("published", UTC, index=True), Column("updated", UTC), Column("announced", sa.Date, index=True),
    # The day it stands under: announced, else published, else first seen; none for the program's own index.
    Column("listed", sa.Date),
    Column("withdrawn", sa.Boolean, nullable=False, server_default=sa.false()),
    _text("doi"), _text("journal"), _text("comment"), _text("license"), _text("organisation"),
    Column("seen", UTC, nullable=False, index=True), Column("changed", UTC, nullable=False, index=True),
    Index("ix_papers_listed_id", "listed", "id"),
)  # fmt: skip

versions = Table(
    "versions", metadata,
    _to("papers", primary=True), Column("number", sa.Integer, primary_key=True), Column("submitted", UTC),
)  # fmt: skip

# An answer of a source as it came: its hash, door and address. A paper's sightings say which answers told of it.
answers = Table(
    "answers", metadata,
    Column("sha256", sa.String(64), primary_key=True), Column("door", sa.String(20), nullable=False),
    _text("address"), Column("fetched", UTC, nullable=False), Column("records", sa.Integer, nullable=False),
)  # fmt: skip

sightings = Table(
    "sightings", metadata,
    _to("papers", primary=True),
    Column("sha256", sa.String(64), ForeignKey("answers.sha256", ondelete="CASCADE"), primary_key=True),
)  # fmt: skip

# Where a harvest stands, so that one that was interrupted goes on and the next begins where this one ended.
harvests = Table(
    "harvests", metadata,
    Column("door", sa.String(20), primary_key=True), Column("what", sa.String(200), primary_key=True),
    Column("since", sa.String(40)), Column("token", sa.Text), Column("began", sa.String(40)),
    Column("changed", UTC, nullable=False),
)  # fmt: skip

# --- people ---------------------------------------------------------------------------------------------------

users = Table(
    "users", metadata,
    _id(),
    Column("name", sa.String(80), nullable=False, unique=True), Column("password", sa.String(200)),
    Column("role", sa.String(10), nullable=False), Column("made", UTC, nullable=False),
    Column("settings", sa.JSON, nullable=False, server_default=sa.text("'{}'")),
)  # fmt: skip

sessions = Table(
    "sessions", metadata,
    Column("token_hash", sa.String(64), primary_key=True), _to("users"), Column("expires", UTC, nullable=False),
    Column("csrf", sa.String(64), nullable=False),
)  # fmt: skip

api_tokens = Table(
    "api_tokens", metadata,
    _id(), _to("users"), Column("token_hash", sa.String(64), nullable=False, unique=True), _text("label"),
    Column("made", UTC, nullable=False), Column("used", UTC), Column("expires", UTC),
)  # fmt: skip

# Kept for a quarter of an hour, and taken away by a login that succeeds.
login_attempts = Table(
    "login_attempts", metadata,
    _id(), Column("name", sa.String(80), nullable=False), Column("address", sa.String(64), nullable=False),
    Column("at", UTC, nullable=False, index=True),
)  # fmt: skip

votes = Table(
    "votes", metadata,
    _to("users", primary=True), _to("papers", primary=True),
    Column("value", sa.SmallInteger, nullable=False), Column("at", UTC, nullable=False),
    Index("ix_votes_paper_id", "paper_id"),
)  # fmt: skip

notes = Table(
    "notes", metadata,
    _to("users", primary=True), _to("papers", primary=True), _text("text"), Column("at", UTC, nullable=False),
)  # fmt: skip

# --- digests --------------------------------------------------------------------------------------------------

subscriptions = Table(
    "subscriptions", metadata,
    _id(),
    Column("address", sa.String(254), nullable=False), _to("users", cascade=False),
    Column("every", sa.String(10), nullable=False),  # day or week
    _json("rooms"), _json("searches"), _json("authors"),
    Column("state", sa.String(12), nullable=False, index=True),  # pending, confirmed, paused or ended
    Column("token_hash", sa.String(64), nullable=False, unique=True),  # of the link that confirms
    Column("unsubscribe", sa.String(32), nullable=False, unique=True),  # short, of the link that ends
    Column("asked", UTC, nullable=False), Column("confirmed", UTC), Column("source", sa.String(80)),
    UniqueConstraint("address", "every"),
)  # fmt: skip

# One row before each mail: no subscriber gets an issue twice, even if the sender dies in between.
issues = Table(
    "issues", metadata,
    _id(), _to("subscriptions"), Column("day", sa.Date, nullable=False), _json("papers"),  # {"shown": ids, "passed": ids}
    Column("state", sa.String(10), nullable=False),  # claimed, sent, failed or dropped
    Column("at", UTC, nullable=False), _text("message_id"),
    UniqueConstraint("subscription_id", "day"),
)  # fmt: skip

suppressions = Table(
    "suppressions", metadata,
    Column("address", sa.String(254), primary_key=True), _text("reason"), Column("at", UTC, nullable=False),
)  # fmt: skip

bounces = Table(
    "bounces", metadata,
    _id(), Column("address", sa.String(254), nullable=False, index=True), Column("permanent", sa.Boolean, nullable=False),
    Column("at", UTC, nullable=False), Column("sha256", sa.String(64), nullable=False, unique=True),
)  # fmt: skip

# A result's state, and the one before, each time that it reads otherwise; before = state where it was first noted.
evidence_log = Table(
    "evidence_log", metadata,
    _id(), Column("name", sa.String(160), nullable=False, index=True), Column("before", sa.JSON(none_as_null=True)),
    _json("state"), Column("at", UTC, nullable=False, index=True),
)  # fmt: skip

# --- runs of methods ------------------------------------------------------------------------------------------

runs = Table(
    "runs", metadata,
    _id(), _to("papers", cascade=False), _to("users", cascade=False),
    Column("kind", sa.String(10), nullable=False),  # example or evidence
    Column("name", sa.String(120), nullable=False),  # of the method or the evidence script
    Column("state", sa.String(10), nullable=False, index=True),  # waiting, running, done, failed or stopped
    Column("asked", UTC, nullable=False), Column("started", UTC), Column("ended", UTC),
    Column("exit", sa.Integer), Column("seconds", sa.Float), Column("version", sa.String(40)),
    _text("data"), Column("result", sa.JSON), _text("log"),
)  # fmt: skip

# Vectors of abstracts stand in a memory-mapped file; here is which row is whose, and of which text.
vectors = Table(
    "vectors", metadata,
    Column("model", sa.String(120), primary_key=True), _to("papers", primary=True),
    Column("row", sa.Integer, nullable=False), Column("text_sha256", sa.String(64), nullable=False),
)  # fmt: skip
