"""arXiv's OAI-PMH door, ``metadataPrefix=arXivRaw``: https://oaipmh.arxiv.org/oai."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from corrigible.errors import DataError
from corrigible.library._arxiv_atom import code_links
from corrigible.library._ids import arxiv_id
from corrigible.library._page import Page
from corrigible.library._records import Record, Version, clean_text, safe_link, says_withdrawn, split_authors
from corrigible.library._xml import iso_time, mail_time, parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_OAI = "{http://www.openarchives.org/OAI/2.0/}"
_RAW = "{http://arxiv.org/OAI/arXivRaw/}"


class BadTokenError(DataError):
    """The resumption token is no longer valid: the harvest begins again from its date."""


def parse_oai(raw: bytes) -> Page:
    """Read an answer of ListRecords or GetRecord.

    Parameters
    ----------
    raw : bytes
        An OAI-PMH document with arXivRaw records. ``acm-class`` is ignored: the server writes other classes into it.

    Raises
    ------
    BadTokenError
        If the server says that the resumption token is not valid.
    DataError
        If it is no such document, or if the server names another error. ``noRecordsMatch`` is none: nothing is new.
    """
    root = parse_xml(raw, source="The OAI-PMH answer", roots=(f"{_OAI}OAI-PMH",))
    responded = iso_time(root.findtext(f"{_OAI}responseDate"))
    for error in root.iterfind(f"{_OAI}error"):
        code, words = error.get("code", ""), clean_text(error.text)
        if code == "noRecordsMatch":
            return Page(records=(), responded=responded)
        kind = BadTokenError if code == "badResumptionToken" else DataError
        raise kind(f"arXiv's OAI-PMH refused the request: {code or 'error'}{': ' + words if words else ''}.")
    records, problems, deleted = [], [], []
    for record in root.iter(f"{_OAI}record"):
        try:
            name = clean_text(record.findtext(f"{_OAI}header/{_OAI}identifier"))
            header = record.find(f"{_OAI}header")
            if header is not None and header.get("status") == "deleted":
                deleted.append(arxiv_id(name).id)
            else:
                records.append(_record(record, name))
        except DataError as error:
            problems.append(str(error))
    more = clean_text(root.findtext(f".//{_OAI}resumptionToken"))
    return Page(records=tuple(records), problems=tuple(problems), deleted=tuple(deleted), more=more,
                responded=responded)  # fmt: skip


def _record(record: Element, name: str) -> Record:
    raw = record.find(f"{_OAI}metadata/{_RAW}arXivRaw")
    if raw is None:
        raise DataError(f"A record of the OAI-PMH answer must hold arXivRaw. {name or 'One'} does not.")

    def text(tag: str) -> str:
        return clean_text(raw.findtext(f"{_RAW}{tag}"))

    found, title = arxiv_id(text("id") or name), text("title")
    if not title:
        raise DataError(f"A record of the OAI-PMH answer must have a title. {found} has none.")
    versions = _versions(raw)
    comment, abstract = text("comments"), text("abstract")
    return Record(
        key=found.id, title=title, door="oai", abstract=abstract, authors=split_authors(text("authors")),
        categories=tuple(dict.fromkeys(text("categories").split())),
        published=versions[0].submitted if versions else None, updated=versions[-1].submitted if versions else None,
        versions=versions, withdrawn=says_withdrawn(comment, abstract), doi=text("doi"),
        journal=text("journal-ref"), comment=comment, license=safe_link(text("license")),
        links=code_links(comment, abstract),
    )  # fmt: skip


def _versions(raw: Element) -> tuple[Version, ...]:
    found = {}
    for element in raw.iterfind(f"{_RAW}version"):
        number = re.fullmatch(r"v([1-9]\d{0,3})", element.get("version", ""))
        if number:
            found[int(number[1])] = mail_time(element.findtext(f"{_RAW}date"))
    return tuple(Version(n, when) for n, when in sorted(found.items()))
