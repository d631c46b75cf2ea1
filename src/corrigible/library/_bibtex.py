"""BibTeX in and out, and CSL-JSON out."""

from __future__ import annotations

import datetime as dt
import logging
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from corrigible._utils.optional import require
from corrigible.errors import DataError
from corrigible.library._ids import arxiv_id
from corrigible.library._page import Page
from corrigible.library._records import Author, Record, clean_text, plain_tex, safe_link
from corrigible.library._xml import MAX_BYTES

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_bibtex(raw: bytes) -> Page:
    """Read a bibliography.

    Parameters
    ----------
    raw : bytes
        BibTeX, UTF-8. An entry whose ``eprint``, DOI or link names an arXiv paper is kept under that identifier, any
        other under its own key.

    Raises
    ------
    DataError
        If it is no text, or holds no entry.
    """
    source = "The bibliography"
    if len(raw) > MAX_BYTES:
        raise DataError(f"{source} must have at most {MAX_BYTES // 2**20} MiB. Got {len(raw) / 2**20:.0f}.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} must be UTF-8: {error.reason} at byte {error.start}.") from None
    bibtex = require("bibtexparser", extra="web", by="BibTeX")
    logging.getLogger("bibtexparser").setLevel(logging.ERROR)  # failed blocks are told below
    library = bibtex.parse_string(text)
    problems = [f"Line {b.start_line + 1} of the bibliography could not be read." for b in library.failed_blocks]
    records = []
    for entry in library.entries:
        try:
            records.append(_record(entry))
        except DataError as error:
            problems.append(str(error))
    if not records and not problems:
        raise DataError(f"{source} must hold an entry. Got none.")
    return Page(records=tuple(records), problems=tuple(problems))


def _record(entry: Any) -> Record:
    fields = {f.key.lower(): plain_tex(_unbraced(str(f.value))) for f in entry.fields}
    title = fields.get("title", "")
    if not title:
        raise DataError(f"An entry of the bibliography must have a title. {entry.key[:60]!r} has none.")
    names = re.split(r"\s+and\s+", str(entry.fields_dict["author"].value)) if "author" in entry.fields_dict else []
    year = re.fullmatch(r"\d{4}", fields.get("year", fields.get("date", ""))[:4])
    month = fields.get("month", "")[:3].lower()
    published = (
        dt.datetime(int(year[0]), _MONTHS.index(month) + 1 if month in _MONTHS else 1, 1, tzinfo=dt.UTC)
        if year and int(year[0]) > 0
        else None
    )
    link = safe_link(fields.get("url"))
    return Record(
        key=_key(entry.key, fields), title=title, door="bibtex", abstract=fields.get("abstract", ""),
        authors=tuple(Author(name) for n in names if (name := _name(n)) and name != "others"), published=published,
        categories=tuple(c for c in [fields.get("primaryclass", "")] if c), doi=fields.get("doi", ""),
        journal=fields.get("journal", fields.get("booktitle", "")), comment=fields.get("note", ""),
        links=(("page", link),) if link else (),
        keywords=tuple(w for word in re.split(r"[,;]", fields.get("keywords", "")) if (w := clean_text(word))),
    )  # fmt: skip


def _key(name: str, fields: dict[str, str]) -> str:
    for place in ("eprint", "arxivid", "doi", "url", "journal"):
        try:
            return arxiv_id(re.sub(r"^arXiv preprint ", "", fields.get(place, ""))).id
        except DataError:
            continue
    return f"bibtex:{clean_text(name)[:120]}"


def _unbraced(value: str) -> str:
    value = value.strip()
    while len(value) > 1 and (value[0], value[-1]) in (("{", "}"), ('"', '"')):
        value = value[1:-1].strip()
    return value


def _name(written: str) -> str:
    """Return a name in reading order: BibTeX also takes ``Last, First`` and ``Last, Jr, First``."""
    parts = [p.strip() for p in _unbraced(written).split(",")]
    ordered = [parts[-1], *parts[:1], *parts[1:-1]] if len(parts) > 1 else parts
    return plain_tex(clean_text(" ".join(ordered)))


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def to_bibtex(papers: Iterable[Record]) -> str:
    """Return entries for papers, UTF-8, with what TeX takes for a command escaped; TeX's own mathematics is kept."""
    return "\n".join(_entry(p) for p in papers)


def _entry(paper: Record) -> str:
    fields = {"title": f"{{{_tex(paper.title)}}}", "author": _tex(" and ".join(a.name for a in paper.authors))}
    if paper.published:
        fields["year"] = str(paper.published.year)
    if paper.arxiv:
        fields |= {"eprint": paper.arxiv, "archiveprefix": "arXiv", "url": f"https://arxiv.org/abs/{paper.arxiv}"}
        fields |= {"primaryclass": paper.categories[0]} if paper.categories else {}
    fields |= {"doi": paper.doi} if paper.doi else {}
    fields |= {"journal": _tex(paper.journal)} if paper.journal else {}
    kind = "article" if paper.journal else "misc"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{citation_key(paper)},", *lines, "}", ""])


def _tex(text: str) -> str:
    # What stands between dollar signs is mathematics already; an odd number of them means prices, not mathematics.
    parts = text.split("$")
    if len(parts) % 2 == 0:
        return r"\$".join(_escaped(p) for p in parts)
    return "$".join(p if i % 2 and p.count("{") == p.count("}") else _escaped(p) for i, p in enumerate(parts))


def _escaped(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)


def citation_key(paper: Record) -> str:
    """Return a key of the first author's last name, the year and the first long word of the title."""

    def ascii_word(text: str) -> str:
        flat = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        return re.sub(r"[^a-z0-9]", "", flat.lower())

    last = ascii_word(paper.authors[0].name.split()[-1]) if paper.authors else ""
    word = next((w for t in paper.title.split() if len(w := ascii_word(t)) > 3), "")
    return f"{last or 'anonymous'}{paper.published.year if paper.published else ''}{word}"


def to_csl(papers: Iterable[Record]) -> list[dict[str, Any]]:
    """Return papers as CSL-JSON items."""
    return [_item(p) for p in papers]


def _item(paper: Record) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": paper.key,
        "type": "article-journal" if paper.journal else "article",
        "title": paper.title,
    }
    item["author"] = [_csl_name(a.name) for a in paper.authors]
    if paper.published:
        item["issued"] = {"date-parts": [[paper.published.year, paper.published.month, paper.published.day]]}
    optional = {"abstract": paper.abstract, "DOI": paper.doi, "container-title": paper.journal}
    if paper.arxiv:
        optional |= {
            "URL": f"https://arxiv.org/abs/{paper.arxiv}",
            "archive": "arXiv",
            "archive_location": paper.arxiv,
        }
        optional["DOI"] = paper.doi or f"10.48550/arXiv.{paper.arxiv}"
    return item | {name: value for name, value in optional.items() if value}


def _csl_name(name: str) -> dict[str, str]:
    given, _, family = name.rpartition(" ")
    return {"given": given, "family": family} if given else {"literal": family}
