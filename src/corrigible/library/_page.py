"""What one answer of a source holds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from corrigible.library._records import Record


@dataclass(frozen=True, kw_only=True)
class Page:
    """One answer of a source, read.

    Attributes
    ----------
    records : tuple of Record
        The papers, in order.
    problems : tuple of str
        Entries that could not be read, a sentence each; the others are kept.
    deleted : tuple of str
        Identifiers that the source says it deleted.
    more : str
        What asks for the next page (a resumption token, the next ``start``); empty at the end.
    total : int or None
        How many there are over all pages, where the source says.
    responded : datetime or None
        The source's own clock: where the next harvest begins.
    """

    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    more: str = ""
    total: int | None = None
    responded: dt.datetime | None = None
