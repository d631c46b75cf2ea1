"""From settings to a sender and the place mails go to: the same for the pages and the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from corrigible.errors import DataError, InvalidParameterError
from corrigible.library._mail import Sender, Signature
from corrigible.library._post import Outbox, Smtp

LOCAL_SENDER, LOCAL_SITE = "papers@localhost.localdomain", "http://127.0.0.1:8321"


def make_sender(address: str, site: str, dkim_key: str | Path | None, dkim_selector: str) -> Sender:
    """Return a sender; the key for DKIM is read from its file."""
    if dkim_key and not dkim_selector:
        raise InvalidParameterError("A key for DKIM needs the selector under which its public half stands in DNS.")
    try:
        signature = Signature(Path(dkim_key).read_bytes(), dkim_selector) if dkim_key else None
    except OSError as error:
        raise DataError(f"The key for DKIM {dkim_key} cannot be read: {error.strerror}.") from None
    return Sender(address, site=site, signature=signature)


def from_environment(values: Mapping[str, str], outbox: Path | None) -> tuple[Outbox | Smtp, Sender] | None:
    """Return where mail goes and who sends it, by ``CORRIGIBLE_SMTP_HOST`` and the like, else to an outbox.

    Parameters
    ----------
    values : mapping
        The environment.
    outbox : Path or None
        Folder, where no server is named; with None there is then nowhere to send to.
    """

    def get(name: str, default: str = "") -> str:
        return values.get(f"CORRIGIBLE_{name}", default)

    sender = make_sender(
        get("MAIL_FROM", LOCAL_SENDER), get("SITE", LOCAL_SITE), get("DKIM_KEY"), get("DKIM_SELECTOR")
    )
    if not get("SMTP_HOST"):
        return (Outbox(outbox), sender) if outbox else None
    port = get("SMTP_PORT", "587")
    if not port.isdigit():
        raise InvalidParameterError(f"CORRIGIBLE_SMTP_PORT must be a number. Got {port[:20]!r}.")
    return Smtp(
        get("SMTP_HOST"), int(port), get("SMTP_USER"), get("SMTP_PASSWORD"), get("SMTP_TLS", "start")
    ), sender
