"""The pages that are read."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

import corrigible
from corrigible.errors import DataError, UnknownNameError
from corrigible.library._ids import arxiv_id
from corrigible.library._schema import notes, papers, runs, versions, votes
from corrigible.library._search import search
from corrigible.library._trending import FORMULA, trending
from corrigible.papers import STATUSES, index
from corrigible.web._cards import cards, facets_where, measured, needs, options
from corrigible.web._measured import results, statuses
from corrigible.web._render import page, paper_path, setting

_LIST, _SEARCHED = 50, 20
_OWN = 20  # of the papers that come with the program, on the first page of a library that holds nothing else


def latest(request: Request) -> Response:
    """Show the papers of the newest day that has any, and where else to go."""
    with request.app.state.database.read() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(papers.c.listed)).where(papers.c.listed <= dt.date.today())
        ).scalar()
    return _between(request, newest, newest, "day", front=True) if newest else _own(request)


def day(request: Request) -> Response:
    """Show the papers of a day."""
    when = _date(request.path_params["day"])
    return _between(request, when, when, "day")


def week(request: Request) -> Response:
    """Show the papers of a week, as 2026-W47."""
    found = re.fullmatch(r"(\d{4})-W(\d{2})", request.path_params["week"])
    try:
        monday = dt.date.fromisocalendar(int(found[1]), int(found[2]), 1) if found else None
        sunday = monday + dt.timedelta(days=6) if monday else None
    except (ValueError, OverflowError):
        monday = sunday = None
    if monday is None or sunday is None:
        raise DataError(f"A week must look like 2026-W47. Got {request.path_params['week'][:40]!r}.")
    return _between(request, monday, sunday, "week")


def month(request: Request) -> Response:
    """Show the papers of a month, as 2026-11."""
    first = _date(f"{request.path_params['month']}-01")
    last = first.replace(day=calendar.monthrange(first.year, first.month)[1])
    return _between(request, first, last, "month")


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise DataError(f"A day must look like 2026-11-22 and a month like 2026-11. Got {text[:40]!r}.") from None


def _between(request: Request, first: dt.date, last: dt.date, span: str, *, front: bool = False) -> Response:
    at, length = max(_whole(request.query_params.get("page"), 1), 1), setting(request, "length", _LIST)
    there = papers.c.listed.between(first, last)
    with request.app.state.database.read() as connection:
        n = connection.execute(sa.select(sa.func.count()).select_from(papers).where(there)).scalar_one()
        query = sa.select(papers.c.id).where(there).order_by(papers.c.listed.desc(), papers.c.id.desc())
        ids = connection.execute(query.limit(length).offset((at - 1) * length)).scalars().all()
        before = connection.execute(sa.select(sa.func.max(papers.c.listed)).where(papers.c.listed < first)).scalar()
        after = connection.execute(sa.select(sa.func.min(papers.c.listed)).where(papers.c.listed > last)).scalar()
        shown = cards(connection, ids)
    return page(request, "list.html.j2", title=_title(first, span), cards=shown, n=n, span=span, at=at,
                pages=-(-n // length), first=first, before=_at(before, span), after=_at(after, span), front=front,
                counts=_counts() if front else {})  # fmt: skip


def _own(request: Request) -> Response:
    """Show the papers of the program's own index that have methods: nothing was ingested yet."""
    slugs = [slug for slug, p in index().items() if p.methods]
    order = {slug: i for i, slug in enumerate(sorted(slugs, key=lambda s: (-STATUSES.index(statuses()[s]), s)))}
    with request.app.state.database.read() as connection:
        named = dict(
            connection.execute(sa.select(papers.c.slug, papers.c.id).where(papers.c.slug.in_(slugs))).all()
        )
        shown = cards(connection, [named[s] for s in order if s in named][:_OWN])
    return page(
        request, "own.html.j2", title="Papers", cards=shown, more=max(len(named) - _OWN, 0), counts=_counts()
    )


def _counts() -> dict[str, int]:
    found = list(statuses().values())
    return {name: found.count(name) for name in reversed(STATUSES)}


def _title(first: dt.date, span: str) -> str:
    if span == "month":
        return f"{first:%B %Y}"
    return (
        f"Week {first.isocalendar().week}, {first.isocalendar().year}"
        if span == "week"
        else f"{first.day} {first:%B %Y}"
    )


def _at(when: dt.date | None, span: str) -> str:
    if when is None:
        return ""
    iso = when.isocalendar()
    return {"day": f"/day/{when}", "week": f"/week/{iso.year}-W{iso.week:02}", "month": f"/month/{when:%Y-%m}"}[
        span
    ]


def trending_page(request: Request) -> Response:
    """Show the papers that move, with the formula and each one's parts."""
    with request.app.state.database.read() as connection:
        found = trending(connection, today=dt.date.today())
        shown = cards(connection, [t.paper for t in found])
    parts = {t.paper: t for t in found}
    return page(request, "trending.html.j2", title="Trending", cards=shown, parts=parts, formula=FORMULA)


def search_page(request: Request) -> Response:
    """Search the papers, by words or meaning and by what their methods are for."""
    asked = request.query_params
    text = asked.get("q", "")[:10_000]
    try:  # an identifier leads straight to its paper, where the library has it
        key = arxiv_id(text).id
    except DataError:
        key = ""
    with request.app.state.database.read() as connection:
        if key and connection.execute(sa.select(papers.c.id).where(papers.c.key == key)).scalar() is not None:
            return RedirectResponse(paper_path(key), status_code=303)
        where = facets_where(asked)
        vectors = request.app.state.vectors
        words = request.app.state.words
        found = (
            search(connection, text, vectors=vectors, words=words, where=where, limit=_SEARCHED)
            if text.strip()
            else None
        )
        ids = found.ids if found else connection.execute(
            sa.select(papers.c.id).where(*where).order_by(papers.c.listed.desc(), papers.c.id.desc()).limit(_SEARCHED)
        ).scalars().all() if where else ()  # fmt: skip
        shown = cards(connection, ids)
    return page(request, "search.html.j2", title="Search", cards=shown, text=text, way=found.way if found else "",
                options=options(), can_mean=vectors is not None, searched=bool(found or where))  # fmt: skip


def paper(request: Request) -> Response:
    """Show a paper: what it says, what was measured of it here, and what can be run."""
    key = request.path_params["key"]
    with request.app.state.database.read() as connection:
        row = row_of(connection, key)
        if row.key != key:
            return RedirectResponse(paper_path(row.key), status_code=301)
        (card,) = cards(connection, [row.id])
        numbered = connection.execute(
            sa.select(versions).where(versions.c.paper_id == row.id).order_by(versions.c.number)
        ).all()
        mine, written = _mine(request, connection, row.id)
        past = connection.execute(
            sa.select(runs).where(runs.c.paper_id == row.id).order_by(runs.c.id.desc()).limit(10)
        ).all()
        vectors = request.app.state.vectors
        like = [i for i, _ in vectors.similar(row.id, limit=6)] if vectors else []
        way = "meaning" if like else "words"
        like = (
            like
            or [
                i for i in search(connection, row.title, words=request.app.state.words, limit=7).ids if i != row.id
            ][:6]
        )
        similar = cards(connection, like)
    return page(request, "paper.html.j2", title=row.title, row=row, card=card, versions=numbered, vote=mine, note=written,
                runs=past, similar=similar, way=way, evidence=measured(row.slug), own=index().get(row.slug),
                methods=[corrigible.card(m) for m in index()[row.slug].methods] if row.slug in index() else [])  # fmt: skip


def _mine(request: Request, connection: sa.Connection, paper: int) -> tuple[int, str]:
    """Return the vote and the note of who asks."""
    user = request.state.user
    if user is None:
        return 0, ""
    voted = sa.select(votes.c.value).where(votes.c.paper_id == paper, votes.c.user_id == user.id)
    noted = sa.select(notes.c.text).where(notes.c.paper_id == paper, notes.c.user_id == user.id)
    return connection.execute(voted).scalar() or 0, connection.execute(noted).scalar() or ""


def row_of(connection: sa.Connection, key: str) -> Any:
    """Return the row of a paper by its key, or by any form of its arXiv identifier, or by its slug."""
    names = [key, f"index:{key}"]
    try:
        names.append(arxiv_id(key).id)
    except DataError:
        pass
    slug = key.removeprefix("index:")
    row = connection.execute(sa.select(papers).where(papers.c.key.in_(names) | (papers.c.slug == slug))).first()
    if row is None:
        raise UnknownNameError(
            f"The library has no paper {key[:120]!r}. Ingest it: corrigible papers ingest --id {key[:40]}"
        )
    return row


def claims(request: Request) -> Response:
    """Show, paper by paper, what is claimed beside what was measured here."""
    status = request.query_params.get("status", "")
    shown = [r for r in results().values() if not status or r["status"] == status]
    return page(
        request, "claims.html.j2", title="Claim and measurement", results=shown, statuses=STATUSES, status=status
    )


def methods(request: Request) -> Response:
    """Show all methods, by room."""
    shown: dict[str, list[Any]] = {}
    for name in corrigible.list_methods():
        card = corrigible.card(name)
        shown.setdefault(card.room, []).append(card)
    return page(request, "methods.html.j2", title="Methods", rooms=shown)


def method(request: Request) -> Response:
    """Show one method: its card, its papers, its evidence."""
    card = corrigible.card(request.path_params["name"])
    found = [r for r in results().values() if card.name in r["methods"]]
    return page(
        request, "method.html.j2", title=card.obj, card=card, results=found, needs=sorted(needs(card.inputs))
    )


def run(request: Request) -> Response:
    """Show a run, while it goes on and when it has ended."""
    with request.app.state.database.read() as connection:
        row = connection.execute(sa.select(runs).where(runs.c.id == request.path_params["run"])).first()
        if row is None:
            raise UnknownNameError(f"There is no run {request.path_params['run']}.")
        of = connection.execute(sa.select(papers.c.key, papers.c.title).where(papers.c.id == row.paper_id)).first()
    template = "_run.html.j2" if request.headers.get("hx-request") else "run.html.j2"
    return page(request, template, title=f"Run of {row.name}", run=row, paper=of)


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else default
