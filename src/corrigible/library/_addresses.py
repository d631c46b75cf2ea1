"""Mail addresses: what may be written to, and nothing that could become a second header or a second recipient."""

from __future__ import annotations

import re

from corrigible.errors import InvalidParameterError

_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")


def mail_address(text: str) -> str:
    """Return a mail address in the one form in which it is kept: lower case, its domain in ASCII.

    Parameters
    ----------
    text : str
        What a person typed.

    Raises
    ------
    InvalidParameterError
        If mail cannot be sent there: no address, more than one, or a quoted or non-ASCII name before the ``@``.
    """
    local, at, domain = text.strip(" \t").lower().rpartition("@")
    try:
        domain = domain.encode("idna").decode()
    except UnicodeError:
        domain = ""
    good = at and len(local) <= 64 and _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain)
    if not good or len(local) + 1 + len(domain) > 254:
        raise InvalidParameterError(f"A mail address must look like name@example.org. Got {text[:80]!r}.")
    return f"{local}@{domain}"
