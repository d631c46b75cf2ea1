"""Hugging Face's daily papers: JSON of https://huggingface.co/api/daily_papers and /api/papers/<id>."""

from __future__ import annotations

import json
from typing import Any

from corrigible.errors import DataError
from corrigible.library._ids import arxiv_id
from corrigible.library._page import Page
from corrigible.library._records import Author, Record, clean_text, safe_link
from corrigible.library._xml import MAX_BYTES, iso_time

_COUNTS = (("upvotes", "upvotes"), ("numComments", "comments"), ("githubStars", "stars"))


def parse_daily(raw: bytes) -> Page:
    """Read a list of daily papers, or one paper.

    Parameters
    ----------
    raw : bytes
        JSON. ``publishedAt`` of an item is the day it entered the list, that of its ``paper`` arXiv's own; all but
        identifier and title may be absent.

    Raises
    ------
    DataError
        If it is no JSON of that shape.
    """
    source = "The daily papers"
    if len(raw) > MAX_BYTES:
        raise DataError(f"{source} must have at most {MAX_BYTES // 2**20} MiB. Got {len(raw) / 2**20:.0f}.")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} must be JSON: {str(error)[:120]}.") from None
    items = [found] if isinstance(found, dict) else found
    if not isinstance(items, list):
        raise DataError(f"{source} must be a list of papers. Got {type(found).__name__}.")
    records, problems = [], []
    for place, item in enumerate(items):
        try:
            records.append(_record(item, place))
        except DataError as error:
            problems.append(str(error))
    return Page(records=tuple(records), problems=tuple(problems))


def _record(item: Any, place: int) -> Record:
    inner = item.get("paper") if isinstance(item, dict) else None
    nested = isinstance(inner, dict)
    paper = inner if isinstance(inner, dict) else item
    if not isinstance(paper, dict):
        raise DataError(f"Item {place} of the daily papers must be an object. Got {type(item).__name__}.")
    found = arxiv_id(_text(paper, "id"))
    title = _text(paper, "title") or _text(item, "title")
    if not title:
        raise DataError(f"A daily paper must have a title. {found} has none.")
    listed = iso_time(_text(item, "publishedAt")) if nested else iso_time(_text(paper, "submittedOnDailyAt"))
    badge = item.get("organization") or paper.get("organization")
    links = [("code", safe_link(_text(paper, "githubRepo"))), ("project", safe_link(_text(paper, "projectPage")))]
    words = paper.get("ai_keywords")
    return Record(
        key=found.id, title=title, door="huggingface", abstract=_text(paper, "summary") or _text(item, "summary"),
        authors=_authors(paper.get("authors")), published=iso_time(_text(paper, "publishedAt")),
        announced=listed.date() if listed else None,
        withdrawn=True if _text(paper, "withdrawnAt") else None, links=tuple(pair for pair in links if pair[1]),
        organisation=(_text(badge, "fullname") or _text(badge, "name")) if isinstance(badge, dict) else "",
        counts=_counts(item, paper),
        keywords=tuple(clean_text(w) for w in words if isinstance(w, str)) if isinstance(words, list) else (),
    )  # fmt: skip


def _authors(given: Any) -> tuple[Author, ...]:
    shown = [a for a in given if isinstance(a, dict) and not a.get("hidden")] if isinstance(given, list) else []
    return tuple(Author(name) for a in shown if (name := _text(a, "name")))


def _counts(*places: dict[str, Any]) -> dict[str, int]:
    found = {}
    for theirs, ours in _COUNTS:
        numbers = [p.get(theirs) for p in places]
        number = next((n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None)
        if number is not None:
            found[ours] = min(number, 2**53)
    return found


def _text(place: Any, name: str) -> str:
    value = place.get(name) if isinstance(place, dict) else None
    return clean_text(value) if isinstance(value, str) else ""
