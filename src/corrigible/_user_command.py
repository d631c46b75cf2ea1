"""`corrigible papers user`: accounts of a library that is served with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corrigible._ingest_command import DATABASE
from corrigible.errors import DataError, InvalidParameterError

if TYPE_CHECKING:
    from corrigible.library._database import Database

users_app = typer.Typer(no_args_is_help=True, help="Accounts of a library that is served with --users.")
NAME = Annotated[str, typer.Argument(help="Name of the user.")]
ROLE = Annotated[str, typer.Option(help="reader votes and notes; editor also runs methods; admin sees all.")]
PASSWORD = Annotated[
    Path | None,
    typer.Option("--password-file", help="File whose first line is the password; else it is asked for."),
]


@contextmanager
def _store(address: str) -> Iterator[Database]:
    from corrigible.library._database import Database

    found = Database(address)
    try:
        yield found
    finally:
        found.close()


def _password(file: Path | None) -> str:
    if file is None:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"The password cannot be read from {file}.") from None
    if not lines:
        raise InvalidParameterError(f"{file} is empty; its first line must be the password.")
    return lines[0]


@users_app.command()
def add(
    name: NAME, role: ROLE = "reader", password_file: PASSWORD = None, database: DATABASE = "papers.db"
) -> None:
    """Make an account."""
    from corrigible.library import _accounts as accounts

    password = _password(password_file)
    with _store(database) as store, store.write() as connection:
        accounts.add_user(connection, name, password, role=role)
    print(f"{name}: {role}")


@users_app.command("list")
def list_users(database: DATABASE = "papers.db") -> None:
    """List the accounts, their roles and tokens."""
    import sqlalchemy as sa

    from corrigible.library._schema import api_tokens, users

    with _store(database) as store, store.read() as connection:
        people = connection.execute(
            sa.select(users).where(users.c.password.is_not(None)).order_by(users.c.name)
        ).all()
        tokens = connection.execute(sa.select(api_tokens).order_by(api_tokens.c.id)).all()
    for user in people:
        print(f"{user.name}: {user.role}, since {user.made:%Y-%m-%d}")
        for token in tokens:
            if token.user_id == user.id:
                print(f"  token {token.id}{_of(token)}")


def _of(token: Any) -> str:
    name = f" ({token.label})" if token.label else ""
    used = f"used {token.used:%Y-%m-%d}" if token.used else "never used"
    return f"{name}: made {token.made:%Y-%m-%d}, {used}" + (
        f", ends {token.expires:%Y-%m-%d}" if token.expires else ""
    )


@users_app.command()
def remove(name: NAME, database: DATABASE = "papers.db") -> None:
    """Remove an account with its sessions, tokens, votes and notes."""
    from corrigible.library import _accounts as accounts

    with _store(database) as store, store.write() as connection:
        accounts.remove_user(connection, accounts.find_user(connection, name).id)
    print(f"{name}: removed")


@users_app.command()
def role(
    name: NAME,
    role: Annotated[str, typer.Argument(help="reader, editor or admin.")],
    database: DATABASE = "papers.db",
) -> None:
    """Give an account another role."""
    from corrigible.library import _accounts as accounts

    with _store(database) as store, store.write() as connection:
        accounts.set_role(connection, accounts.find_user(connection, name).id, role)
    print(f"{name}: {role}")


@users_app.command()
def password(name: NAME, password_file: PASSWORD = None, database: DATABASE = "papers.db") -> None:
    """Give an account a new password; its sessions end."""
    from corrigible.library import _accounts as accounts

    new = _password(password_file)
    with _store(database) as store, store.write() as connection:
        accounts.set_password(connection, accounts.find_user(connection, name).id, new)
    print(f"{name}: new password")


@users_app.command()
def token(
    name: NAME,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[int | None, typer.Option(help="Days it holds; by default for good.")] = None,
    revoke: Annotated[int | None, typer.Option(help="Number of a token to take back.")] = None,
    database: DATABASE = "papers.db",
) -> None:
    """Make a token with which a program acts as the user, or take one back. It is shown this once."""
    from corrigible.library import _accounts as accounts

    with _store(database) as store, store.write() as connection:
        user = accounts.find_user(connection, name).id
        if revoke is not None:
            accounts.revoke_token(connection, user, revoke)
            print(f"token {revoke}: taken back")
        else:
            print(accounts.add_token(connection, user, label, days=days))
