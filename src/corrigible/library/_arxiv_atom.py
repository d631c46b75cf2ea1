"""arXiv's search API: Atom feeds of https://export.arxiv.org/api/query."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from corrigible.errors import DataError
from corrigible.library._ids import arxiv_id
from corrigible.library._page import Page
from corrigible.library._records import Author, Record, Version, clean_text, safe_link, says_withdrawn
from corrigible.library._xml import ARXIV, ATOM, OPENSEARCH, iso_time, parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CATEGORY = re.compile(r"[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z-]+)?")  # ACM and MSC classes stand in the same element


def parse_atom(raw: bytes) -> Page:
    """Read an answer of the search API.

    Parameters
    ----------
    raw : bytes
        An Atom feed. The order of elements does not matter, and the feed's own title is never taken for a paper's.

    Raises
    ------
    DataError
        If it is no such feed, or if the feed carries the API's word for an error.
    """
    feed = parse_xml(raw, source="The arXiv feed", roots=(f"{ATOM}feed",))
    records, problems = [], []
    for entry in feed.iterfind(f"{ATOM}entry"):
        name = _text(entry, f"{ATOM}id")
        if "/api/errors" in name:
            raise DataError(f"arXiv refused the query: {_text(entry, f'{ATOM}summary') or name}.")
        try:
            records.append(_record(entry, name))
        except DataError as error:
            problems.append(str(error))
    total, start = (_number(feed, f"{OPENSEARCH}{n}") for n in ("totalResults", "startIndex"))
    # An empty page in mid-paging is arXiv's fault and asks for another try, so the next start is where this began.
    reached = (start or 0) + len(records) + len(problems)
    more = str(reached) if total is not None and reached < total else ""
    responded = iso_time(_text(feed, f"{ATOM}updated"))
    return Page(records=tuple(records), problems=tuple(problems), more=more, total=total, responded=responded)


def _record(entry: Element, name: str) -> Record:
    found = arxiv_id(name)
    title = _text(entry, f"{ATOM}title")
    if not title:
        raise DataError(f"An entry of the arXiv feed must have a title. {found} has none.")
    published, updated = (iso_time(_text(entry, f"{ATOM}{n}")) for n in ("published", "updated"))
    primary = entry.find(f"{ARXIV}primary_category")
    terms = [c.get("term", "") for c in entry.iterfind(f"{ATOM}category")]
    first = [primary.get("term", "")] if primary is not None else []
    categories = dict.fromkeys(c for c in [*first, *terms] if _CATEGORY.fullmatch(c))
    comment, abstract = _text(entry, f"{ARXIV}comment"), _text(entry, f"{ATOM}summary")
    number = found.version or 1
    versions = [Version(number, updated)] + ([Version(1, published)] if number > 1 and published else [])
    return Record(
        key=found.id, title=title, door="atom", abstract=abstract, authors=_authors(entry),
        categories=tuple(categories), published=published, updated=updated,
        versions=tuple(sorted(versions, key=lambda v: v.number)), withdrawn=says_withdrawn(comment, abstract),
        doi=_text(entry, f"{ARXIV}doi"), journal=_text(entry, f"{ARXIV}journal_ref"), comment=comment,
        links=code_links(comment, abstract),
    )  # fmt: skip


def _authors(entry: Element) -> tuple[Author, ...]:
    found = []
    for author in entry.iterfind(f"{ATOM}author"):
        places = [clean_text(a.text) for a in author.iterfind(f"{ARXIV}affiliation")]
        found.append(Author(_text(author, f"{ATOM}name"), ", ".join(p for p in places if p)))
    return tuple(a for a in found if a.name)


_CODE = re.compile(
    r"https?://(?:www\.)?(?:github\.com|gitlab\.com|huggingface\.co)/[\w.-]+/[\w.-]*\w", re.IGNORECASE
)


def code_links(*texts: str) -> tuple[tuple[str, str], ...]:
    """Return the repositories that a comment or an abstract names, each once."""
    found = dict.fromkeys(safe_link(m) for text in texts for m in _CODE.findall(text))
    return tuple(("code", url) for url in found if url)


def _text(parent: Element, tag: str) -> str:
    return clean_text(parent.findtext(tag))


def _number(parent: Element, tag: str) -> int | None:
    text = _text(parent, tag)
    return int(text) if re.fullmatch(r"\d{1,12}", text) else None
