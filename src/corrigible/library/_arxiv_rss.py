"""arXiv's announcements of the day: https://rss.arxiv.org/rss/cs.LG, as RSS or Atom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from corrigible.errors import DataError
from corrigible.library._ids import arxiv_id
from corrigible.library._page import Page
from corrigible.library._records import Record, Version, clean_text, safe_link, split_authors
from corrigible.library._xml import ARXIV, ATOM, DC, iso_time, mail_time, parse_xml

if TYPE_CHECKING:
    import datetime as dt
    from xml.etree.ElementTree import Element

_DESCRIPTION = re.compile(
    r"arXiv:(?P<id>\S+)\s+Announce Type:\s*(?P<type>[\w-]+)\s+Abstract:\s*(?P<text>.*)", re.DOTALL
)
_EASTERN = ZoneInfo("America/New_York")  # announcements carry midnight there


def parse_rss(raw: bytes) -> Page:
    """Read a day's announcements.

    Parameters
    ----------
    raw : bytes
        RSS 2.0 or Atom. It is no truth on versions: the server leaves out replacements from the sixth on.

    Raises
    ------
    DataError
        If it is neither.
    """
    root = parse_xml(raw, source="The arXiv announcements", roots=("rss", f"{ATOM}feed"))
    atom = root.tag != "rss"
    items = root.iterfind(f"{ATOM}entry") if atom else root.iterfind("channel/item")
    records, problems = [], []
    for item in items:
        try:
            records.append(_record(item, atom))
        except DataError as error:
            problems.append(str(error))
    stamp = iso_time(root.findtext(f"{ATOM}updated")) if atom else mail_time(root.findtext("channel/pubDate"))
    return Page(records=tuple(records), problems=tuple(problems), responded=stamp)


def _record(item: Element, atom: bool) -> Record:
    def text(tag: str) -> str:
        return clean_text(item.findtext(f"{ATOM}{tag}" if atom else tag))

    said = _DESCRIPTION.match(text("summary" if atom else "description"))
    link = item.find(f"{ATOM}link")
    address = (link.get("href", "") if link is not None else "") if atom else text("link")
    found = arxiv_id(text("id" if atom else "guid") or (said["id"] if said else address))
    title = text("title")
    if not title:
        raise DataError(f"An announcement must have a title. {found} has none.")
    kind = clean_text(item.findtext(f"{ARXIV}announce_type")) or (said["type"] if said else "")
    when = iso_time(text("published")) if atom else mail_time(text("pubDate"))
    categories = [
        c.get("term", "") if atom else clean_text(c.text)
        for c in item.iterfind(f"{ATOM}category" if atom else "category")
    ]
    return Record(
        key=found.id, title=title, door="rss", abstract=said["text"] if said else "",
        authors=split_authors(clean_text(item.findtext(f"{DC}creator"))),
        categories=tuple(dict.fromkeys(c for c in categories if c)),
        # A cross-list may be of an old paper, and a replacement carries the day it was replaced.
        published=when if kind == "new" else None, announced=_day(when) if kind in ("new", "cross") else None,
        versions=(Version(found.version),) if found.version else (),
        doi=clean_text(item.findtext(f"{ARXIV}DOI")), journal=clean_text(item.findtext(f"{ARXIV}journal_reference")),
        license=safe_link(item.findtext(f"{DC}rights")),
    )  # fmt: skip


def _day(when: dt.datetime | None) -> dt.date | None:
    return None if when is None else when.astimezone(_EASTERN).date()
