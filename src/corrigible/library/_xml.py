"""Reading of foreign XML: bounded, without entities, and with one sentence for what is wrong."""

from __future__ import annotations

import datetime as dt
import email.utils
from typing import TYPE_CHECKING

from corrigible._utils.optional import require
from corrigible.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 64 * 2**20

ATOM = "{http://www.w3.org/2005/Atom}"
ARXIV = "{http://arxiv.org/schemas/atom}"
OPENSEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"
DC = "{http://purl.org/dc/elements/1.1/}"


def parse_xml(raw: bytes, *, source: str, roots: tuple[str, ...]) -> Element:
    """Return the root of a document.

    Parameters
    ----------
    raw : bytes
        The document.
    source : str
        What it is, for messages.
    roots : tuple of str
        Names that the root may have.

    Raises
    ------
    DataError
        If it is too large, is not well-formed, declares entities, or is another kind of document.
    """
    defused = require("defusedxml.ElementTree", extra="web", by=source)
    from defusedxml.common import DefusedXmlException

    if len(raw) > MAX_BYTES:
        raise DataError(f"{source} must have at most {MAX_BYTES // 2**20} MiB. Got {len(raw) / 2**20:.0f}.")
    try:
        root: Element = defused.fromstring(raw, forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(
            f"{source} must declare no entities and no document type. Got {type(error).__name__}."
        ) from None
    # expat's own errors, a wrong encoding, a declared encoding that Python lacks
    except (SyntaxError, ValueError, LookupError) as error:
        raise DataError(f"{source} must be well-formed XML: {error}.") from None
    if root.tag not in roots:
        raise DataError(f"{source} must have the root {' or '.join(map(_bare, roots))}. Got {_bare(root.tag)}.")
    return root


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2][:60]


def iso_time(text: str | None) -> dt.datetime | None:
    """Return a UTC time from ISO 8601, or None if it is not one."""
    try:
        found = dt.datetime.fromisoformat((text or "").strip())
        found = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
        return found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def mail_time(text: str | None) -> dt.datetime | None:
    """Return a UTC time from the form of RFC 5322, or None if it is not one."""
    try:
        found = email.utils.parsedate_to_datetime((text or "").strip())
        found = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
        return found.astimezone(dt.UTC)
    except (ValueError, OverflowError, TypeError):
        return None
