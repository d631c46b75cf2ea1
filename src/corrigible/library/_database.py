"""Opening the library's database: made or brought up to date, and refused where it is newer than this program."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError

require("sqlalchemy", extra="web", by="The library of papers")

import sqlalchemy as sa  # noqa: E402  (after the sentence that tells how to install it)
from alembic import command  # noqa: E402
from alembic.config import Config  # noqa: E402
from alembic.runtime.migration import MigrationContext  # noqa: E402
from alembic.script import ScriptDirectory  # noqa: E402
from sqlalchemy import event  # noqa: E402
from sqlalchemy.exc import ArgumentError, DBAPIError  # noqa: E402

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_266_281  # of PostgreSQL's advisory locks: two processes that start together migrate one after the other


class Database:
    """A connection to the library's database.

    Parameters
    ----------
    url : str
        ``sqlite:///papers.db``, a path, or ``postgresql+psycopg://user@host/name``.

    Raises
    ------
    InvalidParameterError
        If the address is of no database that is known.
    DataError
        If it cannot be opened, is no library, or was made by a newer version.
    """

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self.engine = _engine(self.url)
        try:
            _migrate(self.engine)
        except DBAPIError as error:
            self.engine.dispose()
            raise DataError(f"The library {self.shown} cannot be opened: {_first_line(error.orig)}.") from None
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    @property
    def shown(self) -> str:
        """The address without a password, for messages."""
        return self.url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database, else None."""
        name = self.url.database
        return Path(name) if self.dialect == "sqlite" and name not in (None, "", ":memory:") else None

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection that sees one state of the database throughout."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Yield a connection whose changes are kept together at the end, or not at all on any error."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text if "://" in text else f"sqlite:///{text}")
    except ArgumentError:
        url = None
    known = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
    if url is None or url.drivername not in known:
        raise InvalidParameterError(
            f"The database must be a path, sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME. Got {text[:120]!r}."
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        memory = url.database in (None, "", ":memory:")
        pool: dict[str, Any] = (
            {"poolclass": sa.pool.StaticPool} if memory else {"pool_size": 20, "max_overflow": 20}
        )
        engine = sa.create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    require("psycopg", extra="postgres", by="A library in PostgreSQL")
    return sa.create_engine(url, pool_size=20, max_overflow=20, pool_pre_ping=True)


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes its lock at once: one that reads first and then writes may find the file changed, and fail.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def revisions() -> list[str]:
    """Return the names of the states that the tables have had, the first one first."""
    walked = ScriptDirectory.from_config(_config()).walk_revisions()
    return [revision.revision for revision in walked][::-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(engine: sa.Engine) -> None:
    config = _config()
    known = revisions()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in known:
            raise DataError(
                f"The library {engine.url.render_as_string()} was made by a newer version of Corrigible (its tables are "
                f"{found!r}, this version knows up to {known[-1]!r}). Run: pip install -U corrigible"
            )
        if found is None and sa.inspect(connection).get_table_names():
            raise DataError(
                f"The database {engine.url.render_as_string()} holds tables and no library of papers. Name another, or a "
                "path where there is none yet."
            )
        if found != known[-1]:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
