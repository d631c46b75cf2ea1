"""Where a mail goes: to a folder, or to a server."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from corrigible._utils.files import atomic_path
from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError


class RefusedError(Exception):
    """A mail was certainly not taken; ``permanent`` says whether the address itself was refused."""

    def __init__(self, words: str, *, permanent: bool = False, recipient: bool = False) -> None:
        super().__init__(words)
        self.permanent, self.recipient = permanent, recipient


@dataclass(frozen=True)
class Outbox:
    """A folder in which each mail is an ``.eml`` file, there whole or not at all.

    Attributes
    ----------
    folder : Path
        Made with the first mail.
    """

    folder: Path

    def send(self, raw: bytes, *, sender: str, recipient: str, name: str) -> None:
        """Write a mail under a name; its envelope stands in the first lines, for a relay to read."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.folder / f"{name}.eml") as temporary:
                temporary.write_bytes(f"Return-Path: <{sender}>\r\nX-Envelope-To: <{recipient}>\r\n".encode() + raw)
        except OSError as error:
            raise DataError(f"The outbox {self.folder} cannot be written: {error.strerror}.") from None

    def withdraw(self, subscription: int) -> None:
        """Delete what waits for a subscription that has ended."""
        for path in self.folder.glob("*.eml"):
            if re.fullmatch(rf"[\d-]+-s{subscription}", path.stem):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Smtp:
    """A mail server.

    Attributes
    ----------
    host, port : str, int
        Where it is.
    user, password : str
        Empty for none.
    tls : {"start", "always", "none"}
        ``start`` insists on STARTTLS; ``none`` is for a server of this machine.
    timeout : float
        Seconds.
    """

    host: str
    port: int = 587
    user: str = ""
    password: str = ""
    tls: str = "start"
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.tls not in ("start", "always", "none"):
            raise InvalidParameterError(
                f"The TLS of a mail server must be start, always or none. Got {self.tls[:20]!r}."
            )
        if self.tls == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise InvalidParameterError(f"Mail goes to {self.host[:80]} over TLS alone. Set it to start or always.")

    def send(self, raw: bytes, *, sender: str, recipient: str, name: str) -> None:
        """Hand a mail to the server.

        Raises
        ------
        RefusedError
            If it was certainly not taken. Any other error leaves that open.
        """
        smtp = require("aiosmtplib", extra="web", by="Sending mails")
        try:
            asyncio.run(smtp.send(
                raw, sender=sender, recipients=[recipient], hostname=self.host, port=self.port, timeout=self.timeout,
                username=self.user or None, password=self.password or None, use_tls=self.tls == "always",
                start_tls=self.tls == "start",
            ))  # fmt: skip
        except smtp.SMTPRecipientsRefused as error:
            answer = error.recipients[0]
            lasting = answer.code >= 500 and " 5.1." in f" {answer.message}"
            raise RefusedError(f"{answer.code} {answer.message}", permanent=lasting, recipient=True) from None
        except (smtp.SMTPResponseException, smtp.SMTPConnectError, smtp.SMTPNotSupported) as error:
            raise RefusedError(str(error)) from None
