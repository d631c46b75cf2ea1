"""`corrigible papers digest` and `bounces`: mail to subscribers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corrigible._ingest_command import DATABASE
from corrigible.errors import DataError, InvalidParameterError

if TYPE_CHECKING:
    from corrigible.library._database import Database
    from corrigible.library._post import Outbox, Smtp


def digest(
    outbox: Annotated[Path | None, typer.Option(help="Folder for mails as .eml files.")] = None,
    send: Annotated[bool, typer.Option("--send", help="Hand mails to --smtp-host.")] = False,
    smtp_host: Annotated[str, typer.Option(envvar="CORRIGIBLE_SMTP_HOST", help="Mail server.")] = "",
    smtp_port: Annotated[int, typer.Option(envvar="CORRIGIBLE_SMTP_PORT", help="Its port.")] = 587,
    smtp_user: Annotated[
        str, typer.Option(envvar="CORRIGIBLE_SMTP_USER", help="Account; its password is CORRIGIBLE_SMTP_PASSWORD.")
    ] = "",
    smtp_tls: Annotated[
        str, typer.Option(envvar="CORRIGIBLE_SMTP_TLS", help="start, always, or none for a server of this machine.")
    ] = "start",
    mail_from: Annotated[
        str,
        typer.Option(envvar="CORRIGIBLE_MAIL_FROM", help="Address of the sender; its domain takes the bounces."),
    ] = "papers@localhost.localdomain",
    site: Annotated[
        str, typer.Option(envvar="CORRIGIBLE_SITE", help="Where readers reach the pages; links lead there.")
    ] = "http://127.0.0.1:8321",
    dkim_key: Annotated[
        Path | None, typer.Option(envvar="CORRIGIBLE_DKIM_KEY", help="Private RSA key, PEM, to sign with.")
    ] = None,
    dkim_selector: Annotated[
        str, typer.Option(envvar="CORRIGIBLE_DKIM_SELECTOR", help="Where its public half stands in DNS.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent; send and keep nothing.")
    ] = False,
    database: DATABASE = "papers.db",
) -> None:
    """Send every confirmed subscription that is due its new papers and what changed in evidence."""
    from corrigible.library._mail_settings import make_sender
    from corrigible.library._sending import send_digests

    post = _post(outbox, send, smtp_host, smtp_port, smtp_user, smtp_tls, site, dry_run)
    sender = make_sender(mail_from, site, dkim_key, dkim_selector)
    store = _open(database)
    bad = 0
    try:
        for found in send_digests(store, post, sender, dry_run=dry_run):
            told = (
                f", {found.papers} papers, {found.changes} changes of evidence"
                if found.state != "nothing"
                else " is new"
            )
            print(f"{found.address}: {found.state}{told}{_why(found.why)}")
            bad += bool(found.why)
    finally:
        store.close()
    if bad:
        raise typer.Exit(1)


def _post(
    outbox: Path | None, send: bool, host: str, port: int, user: str, tls: str, site: str, dry_run: bool
) -> Outbox | Smtp:
    from corrigible.library._post import Outbox, Smtp

    if (outbox is not None) + send > 1 or not (outbox is not None or send or dry_run):
        raise InvalidParameterError("Say where mails go: --outbox DIR, or --send with --smtp-host.")
    if not send:
        return Outbox(outbox or Path("outbox"))
    if not host:
        raise InvalidParameterError("--send needs the mail server: --smtp-host HOST.")
    if not site.startswith("https://"):
        raise InvalidParameterError(
            f"--send needs a --site under https, where readers can end their mail with one click. Got {site[:80]!r}."
        )
    return Smtp(host, port, user, os.environ.get("CORRIGIBLE_SMTP_PASSWORD", ""), tls)


def bounces(
    files: Annotated[
        list[Path], typer.Argument(help="Messages that came to b+TOKEN@ or as complaints, a file each.")
    ],
    database: DATABASE = "papers.db",
) -> None:
    """Read mail that came back, and stop writing to addresses that are gone or complain."""
    from corrigible.library._bounces import take_bounce

    if missing := [path for path in files if not path.is_file()]:
        raise DataError(f"There is no file {missing[0]}.")
    store = _open(database)
    try:
        for path in files:
            with store.write() as connection:
                print(f"{path.name}: {take_bounce(connection, path.read_bytes())}")
    finally:
        store.close()


def _open(database: str) -> Database:
    from corrigible.library._database import Database

    if "://" not in database and not Path(database).is_file():
        raise DataError(f"There is no library {database}.")
    return Database(database)


def _why(words: str) -> str:
    return f" ({words[:300]})" if words else ""
