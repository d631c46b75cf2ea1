"""Accounts: users with passwords and roles, sessions of browsers, tokens of programs, and a bound on guessing."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import re
import secrets
import threading
from typing import Any

import sqlalchemy as sa

from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError, UnknownNameError
from corrigible.library._people import LOCAL
from corrigible.library._records import clean_text
from corrigible.library._schema import api_tokens, login_attempts, sessions, users

# Each role may do what those before it may. A reader votes, notes and subscribes; an editor also runs methods; an
# admin also sees and ends what others subscribed.
ROLES = ("reader", "editor", "admin")
SESSION = dt.timedelta(days=14)
MIN_PASSWORD, MAX_PASSWORD = 12, 200
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_TOKEN = "corr_"  # so that a token that leaked into a file is known for what it is

# Wrong passwords within the window, after which the right one is refused too: for one name from one address, for an
# address whatever the names, and for a name wherever from (high, so that a stranger cannot lock its owner out soon).
WINDOW = dt.timedelta(minutes=15)
LIMITS = {"both": 5, "address": 20, "name": 50}
_USED = dt.timedelta(hours=1)  # how exactly the last use of a token is kept: no write with every request

# One hash takes 64 MiB and some 50 ms of every core it gets: many at once would stop everything else.
_hashing = threading.BoundedSemaphore(2)


@functools.cache
def _hasher() -> Any:
    return require("argon2", extra="web", by="Accounts").PasswordHasher()


@functools.cache
def _nobody() -> str:
    """Return a hash that an unknown name is checked against: it must take as long as a known one."""
    with _hashing:
        return str(_hasher().hash(secrets.token_hex()))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


# --- users ------------------------------------------------------------------------------------------------


def add_user(connection: sa.Connection, name: str, password: str, *, role: str = "reader") -> int:
    """Make an account and return its number.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    name : str
        Small letters, digits and ``._-``.
    password : str
        Of at least 12 characters; its argon2id hash is kept.
    role : {"reader", "editor", "admin"}, default="reader"
        What the user may do.

    Raises
    ------
    InvalidParameterError
        If name, password or role cannot be taken.
    DataError
        If the name is taken.
    """
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise InvalidParameterError(
            f"A user's name must have at most 40 small letters, digits and ._-, begin with a letter or digit, and not be "
            f"{LOCAL!r}. Got {name[:60]!r}."
        )
    _check_role(role)
    if connection.execute(sa.select(users.c.id).where(users.c.name == name)).first():
        raise DataError(f"There is a user {name!r} already.")
    row = {"name": name, "password": _hashed(name, password), "role": role, "made": _now()}
    return int(connection.execute(sa.insert(users).values(row).returning(users.c.id)).scalar_one())


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InvalidParameterError(f"A role must be one of {', '.join(ROLES)}. Got {role[:20]!r}.")


def _hashed(name: str, password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidParameterError(
            f"A password must have between {MIN_PASSWORD} and {MAX_PASSWORD} characters. Got {len(password)}."
        )
    if len(set(password)) < 5 or name in password.casefold():
        raise InvalidParameterError("A password must have five different characters and not hold the user's name.")
    with _hashing:
        return str(_hasher().hash(password))


def find_user(connection: sa.Connection, name: str) -> Any:
    """Return the row of a user by name, or say that there is none."""
    row = connection.execute(sa.select(users).where(users.c.name == name)).first()
    if row is None:
        raise UnknownNameError(f"There is no user {name[:60]!r}.")
    return row


def set_password(connection: sa.Connection, user: int, password: str) -> None:
    """Give a user a new password; all sessions end."""
    name = connection.execute(sa.select(users.c.name).where(users.c.id == user)).scalar_one()
    hashed = _hashed(name, password)
    connection.execute(sa.update(users).where(users.c.id == user).values(password=hashed))
    connection.execute(sa.delete(sessions).where(sessions.c.user_id == user))


def set_role(connection: sa.Connection, user: int, role: str) -> None:
    """Give a user another role; it holds from the next request on."""
    _check_role(role)
    connection.execute(sa.update(users).where(users.c.id == user).values(role=role))


def remove_user(connection: sa.Connection, user: int) -> None:
    """Remove an account with its sessions, tokens, votes and notes; its subscriptions stay, and rank by no votes."""
    connection.execute(sa.delete(users).where(users.c.id == user))


# --- logging in -------------------------------------------------------------------------------------------


class TooManyAttemptsError(DataError):
    """A login that is not even looked at, because too many before it failed."""


def attempt(connection: sa.Connection, name: str, address: str, *, now: dt.datetime | None = None) -> None:
    """Count an attempt to log in, before its password is looked at: many at once must not all get through.

    Raises
    ------
    TooManyAttemptsError
        If it is one too many. It is not counted then, so that the window passes.
    """
    now = now or _now()
    name, address = name[:80], address[:64]
    if connection.dialect.name == "postgresql":  # as SQLite's writers do, each waits for the one before
        connection.execute(sa.text("LOCK TABLE login_attempts IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(sa.delete(login_attempts).where(login_attempts.c.at < now - WINDOW))
    by_name, by_address = login_attempts.c.name == name, login_attempts.c.address == address
    for kind, where in (("both", by_name & by_address), ("address", by_address), ("name", by_name)):
        count = sa.select(sa.func.count()).select_from(login_attempts).where(where)
        if connection.execute(count).scalar_one() >= LIMITS[kind]:
            raise TooManyAttemptsError("Too many logins failed. Try again in a quarter of an hour.")
    connection.execute(sa.insert(login_attempts).values(name=name, address=address, at=now))


def check_password(known: str | None, password: str) -> bool:
    """Return whether a password is the one of a hash; for an unknown user, given as None, it takes as long."""
    argon2 = require("argon2", extra="web", by="Accounts")
    reference = known or _nobody()
    try:
        with _hashing:
            good = bool(_hasher().verify(reference, password[: MAX_PASSWORD + 1]))
    except argon2.exceptions.VerificationError:
        return False
    except argon2.exceptions.InvalidHashError:
        return False
    return good and known is not None


def succeeded(connection: sa.Connection, user: int, name: str, address: str, password: str) -> None:
    """Forget the attempts of a login that succeeded, and renew a hash that was made with weaker settings."""
    mine = (login_attempts.c.name == name[:80]) & (login_attempts.c.address == address[:64])
    connection.execute(sa.delete(login_attempts).where(mine))
    known = connection.execute(sa.select(users.c.password).where(users.c.id == user)).scalar_one()
    if _hasher().check_needs_rehash(known):
        with _hashing:
            renewed = str(_hasher().hash(password))
        connection.execute(sa.update(users).where(users.c.id == user).values(password=renewed))


def open_session(connection: sa.Connection, user: int, *, now: dt.datetime | None = None) -> str:
    """Open a session and return its token, known to the browser alone: its hash is kept."""
    now = now or _now()
    connection.execute(sa.delete(sessions).where(sessions.c.expires <= now))
    token = secrets.token_urlsafe(32)
    row = {"token_hash": _hash(token), "user_id": user, "expires": now + SESSION, "csrf": secrets.token_hex(32)}
    connection.execute(sa.insert(sessions).values(row))
    return token


def session_of(connection: sa.Connection, token: str, *, now: dt.datetime | None = None) -> Any:
    """Return the user of an open session, with the token of its forms, or None."""
    there = (sessions.c.token_hash == _hash(token)) & (sessions.c.expires > (now or _now()))
    joined = sessions.join(users, users.c.id == sessions.c.user_id)
    wanted = sa.select(users.c.id, users.c.name, users.c.role, users.c.settings, sessions.c.csrf)
    return connection.execute(wanted.select_from(joined).where(there)).first()


def close_session(connection: sa.Connection, token: str) -> None:
    """Close a session; its token opens nothing any more."""
    connection.execute(sa.delete(sessions).where(sessions.c.token_hash == _hash(token)))


# --- tokens of programs -----------------------------------------------------------------------------------


def add_token(connection: sa.Connection, user: int, label: str = "", *, days: int | None = None) -> str:
    """Make a token with which a program acts as a user, and return it: its hash is kept, so it is shown this once.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    user : int
        As whom.
    label : str, optional
        What it is for.
    days : int, optional
        After how many it ends; by default never.
    """
    if days is not None and not 1 <= days <= 3650:
        raise InvalidParameterError(f"A token must hold between 1 and 3650 days. Got {days}.")
    token = _TOKEN + secrets.token_urlsafe(32)
    ends = _now() + dt.timedelta(days=days) if days else None
    row = {
        "user_id": user,
        "token_hash": _hash(token),
        "label": clean_text(label)[:80],
        "made": _now(),
        "expires": ends,
    }
    connection.execute(sa.insert(api_tokens).values(row))
    return token


def token_user(connection: sa.Connection, token: str, *, now: dt.datetime | None = None) -> Any:
    """Return the user of a token that holds, with its number and last use, or None."""
    now = now or _now()
    holds = api_tokens.c.expires.is_(None) | (api_tokens.c.expires > now)
    joined = api_tokens.join(users, users.c.id == api_tokens.c.user_id)
    wanted = sa.select(users.c.id, users.c.name, users.c.role, users.c.settings, api_tokens.c.id.label("token"),
                       api_tokens.c.used)  # fmt: skip
    return connection.execute(
        wanted.select_from(joined).where(api_tokens.c.token_hash == _hash(token), holds)
    ).first()


def stale_use(used: dt.datetime | None, *, now: dt.datetime | None = None) -> bool:
    """Return whether the use of a token is due to be written down."""
    return used is None or (now or _now()) - used > _USED


def note_use(connection: sa.Connection, token: int) -> None:
    """Write down that a token was used."""
    connection.execute(sa.update(api_tokens).where(api_tokens.c.id == token).values(used=_now()))


def revoke_token(connection: sa.Connection, user: int, token: int) -> None:
    """Take back a token of a user, by its number."""
    mine = (api_tokens.c.id == token) & (api_tokens.c.user_id == user)
    if not connection.execute(sa.delete(api_tokens).where(mine)).rowcount:
        raise UnknownNameError(f"The user has no token {token}.")
