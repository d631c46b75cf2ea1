"""The same papers for machines: Atom, JSON Feed, BibTeX, CSL-JSON, and JSON of the shape Hugging Face's clients read."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import asdict
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import corrigible
from corrigible.errors import DataError
from corrigible.library._bibtex import to_bibtex, to_csl
from corrigible.library._papers import to_record
from corrigible.library._schema import papers
from corrigible.library._search import search
from corrigible.library._trending import FORMULA, trending
from corrigible.papers import index
from corrigible.web._cards import cards, facets_where
from corrigible.web._measured import statuses
from corrigible.web._pages import row_of
from corrigible.web._render import paper_path

_FEED = 50
_ATOM = "http://www.w3.org/2005/Atom"


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers['host']}"


def _newest(request: Request, limit: int) -> list[dict[str, Any]]:
    query = sa.select(papers.c.id).where(papers.c.listed <= dt.date.today(), *facets_where(request.query_params))
    with request.app.state.database.read() as connection:
        ids = (
            connection.execute(query.order_by(papers.c.listed.desc(), papers.c.id.desc()).limit(limit))
            .scalars()
            .all()
        )
        return cards(connection, ids)


def atom(request: Request) -> Response:
    """Return the newest papers as an Atom feed."""
    base, shown = _base(request), _newest(request, _FEED)
    feed = Element("feed", xmlns=_ATOM)
    updated = max((c["listed"] for c in shown), default=dt.date.today())
    for tag, text in (("title", "Corrigible: papers"), ("id", f"{base}/"), ("updated", f"{updated}T00:00:00Z")):
        SubElement(feed, tag).text = text
    SubElement(feed, "link", rel="self", href=f"{base}/feed.atom")
    for card in shown:
        entry = SubElement(feed, "entry")
        address = base + paper_path(card["key"])
        for tag, text in (("title", card["title"]), ("id", address), ("updated", f"{card['listed']}T00:00:00Z"),
                          ("summary", card["abstract"])):  # fmt: skip
            SubElement(entry, tag).text = text
        SubElement(entry, "link", rel="alternate", href=address)
        for author in card["authors"] or [{"name": "unknown"}]:
            SubElement(SubElement(entry, "author"), "name").text = author["name"]
    return Response(tostring(feed, encoding="utf-8", xml_declaration=True), media_type="application/atom+xml")


def json_feed(request: Request) -> Response:
    """Return the newest papers as a JSON Feed."""
    base = _base(request)
    items = [
        {"id": base + paper_path(c["key"]), "url": base + paper_path(c["key"]), "title": c["title"],
         "content_text": c["abstract"], "date_published": f"{c['listed']}T00:00:00Z",
         "authors": [{"name": a["name"]} for a in c["authors"]]}
        for c in _newest(request, _FEED)
    ]  # fmt: skip
    return JSONResponse(
        {"version": "https://jsonfeed.org/version/1.1", "title": "Corrigible: papers", "home_page_url": f"{base}/",
         "feed_url": f"{base}/feed.json", "items": items},
        media_type="application/feed+json",
    )  # fmt: skip


def bibtex(request: Request) -> Response:
    """Return a paper as BibTeX."""
    with request.app.state.database.read() as connection:
        record = to_record(row_of(connection, request.path_params["key"]))
    return Response(to_bibtex([record]), media_type="application/x-bibtex; charset=utf-8")


def csl(request: Request) -> Response:
    """Return a paper as CSL-JSON."""
    with request.app.state.database.read() as connection:
        record = to_record(row_of(connection, request.path_params["key"]))
    return JSONResponse(to_csl([record]), media_type="application/vnd.citationstyles.csl+json")


def daily_papers(request: Request) -> Response:
    """Return the papers of a day, week or month, in the shape of Hugging Face's daily papers."""
    asked = request.query_params
    limit = _number(asked.get("limit"), 50, 1, 100)
    skip = _number(asked.get("p"), 0, 0, 10_000) * limit
    with request.app.state.database.read() as connection:
        first, last = _span(connection, asked)
        query = sa.select(papers).where(papers.c.listed.between(first, last))
        rows = connection.execute(
            query.order_by(papers.c.listed.desc(), papers.c.id.desc()).limit(limit).offset(skip)
        ).all()
        shown = {c["id"]: c for c in cards(connection, [r.id for r in rows])}
    return JSONResponse([_daily(r, shown[r.id]) for r in rows])


def _span(connection: sa.Connection, asked: Any) -> tuple[dt.date, dt.date]:
    try:
        if day := asked.get("date"):
            return (dt.date.fromisoformat(day),) * 2
        if week := asked.get("week"):
            monday = dt.datetime.strptime(f"{week}-1", "%G-W%V-%u").date()
            return monday, monday + dt.timedelta(days=6)
        if month := asked.get("month"):
            first = dt.date.fromisoformat(f"{month}-01")
            return first, first.replace(day=calendar.monthrange(first.year, first.month)[1])
    except (ValueError, OverflowError):
        raise DataError("'date' must look like 2026-11-22, 'week' like 2026-W47, 'month' like 2026-11.") from None
    newest = connection.execute(
        sa.select(sa.func.max(papers.c.listed)).where(papers.c.listed <= dt.date.today())
    ).scalar()
    return (newest or dt.date.today(),) * 2


def _daily(row: Any, card: dict[str, Any]) -> dict[str, Any]:
    return {"title": row.title, "summary": row.abstract, "publishedAt": f"{row.listed}T00:00:00.000Z",
            "numComments": row.counts.get("comments", 0), "paper": _paper(row, card)}  # fmt: skip


def _paper(row: Any, card: dict[str, Any]) -> dict[str, Any]:
    code = next((url for kind, url in row.links if kind == "code"), None)
    found = {
        "id": row.key, "title": row.title, "summary": row.abstract,
        "authors": [{"name": a["name"], "hidden": False} for a in row.authors],
        "publishedAt": row.published.strftime("%Y-%m-%dT%H:%M:%S.000Z") if row.published else None,
        "upvotes": card["votes"], "githubRepo": code, "ai_keywords": row.keywords,
        "withdrawnAt": row.changed.strftime("%Y-%m-%dT%H:%M:%S.000Z") if row.withdrawn else None,
        "corrigible": {"slug": row.slug, "room": card["room"], "status": card["status"], "methods": card["methods"]},
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def api_search(request: Request) -> Response:
    """Search, as JSON."""
    asked = request.query_params
    text = asked.get("q", "")[:10_000]
    with request.app.state.database.read() as connection:
        found = search(connection, text, vectors=request.app.state.vectors, words=request.app.state.words,
                       where=facets_where(asked, strict=True), limit=_number(asked.get("limit"), 20, 1, 120))  # fmt: skip
        rows = {r.id: r for r in connection.execute(sa.select(papers).where(papers.c.id.in_(found.ids)))}
        shown = {c["id"]: c for c in cards(connection, found.ids)}
    return JSONResponse({"way": found.way, "papers": [_paper(rows[i], shown[i]) for i in found.ids]})


def api_paper(request: Request) -> Response:
    """Return one paper as JSON."""
    with request.app.state.database.read() as connection:
        row = row_of(connection, request.path_params["key"])
        (card,) = cards(connection, [row.id])
    return JSONResponse(_paper(row, card))


def api_trending(request: Request) -> Response:
    """Return the trending papers with the parts of their scores."""
    with request.app.state.database.read() as connection:
        found = trending(connection, today=dt.date.today())
        keys = dict(
            connection.execute(
                sa.select(papers.c.id, papers.c.key).where(papers.c.id.in_([t.paper for t in found]))
            ).all()
        )
    parts = [{**asdict(t), "id": keys[t.paper]} for t in found]
    return JSONResponse({"formula": FORMULA, "papers": parts})


def health(request: Request) -> Response:
    """Say whether the database answers, and what is served."""
    with request.app.state.database.read() as connection:
        n = connection.execute(sa.select(sa.func.count()).select_from(papers)).scalar_one()
    counted = list(statuses().values())
    return JSONResponse({"status": "ok", "version": corrigible.__version__, "papers": n, "own": len(index()),
                         "reproduced": counted.count("reproduced")})  # fmt: skip


def _number(text: str | None, default: int, low: int, high: int) -> int:
    if text is None or text == "":
        return default
    if not re.fullmatch(r"[0-9]{1,6}", text) or not low <= int(text) <= high:
        raise DataError(f"A number between {low} and {high} was expected. Got {text[:20]!r}.")
    return int(text)
