"""What a visitor does: each a POST with the token of its form."""

from __future__ import annotations

from urllib.parse import urlsplit

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

import corrigible
from corrigible.errors import InvalidParameterError
from corrigible.library import _people as people
from corrigible.library._schema import votes
from corrigible.papers import index
from corrigible.web._door import need, user_of
from corrigible.web._measured import results
from corrigible.web._pages import row_of
from corrigible.web._render import page, paper_path
from corrigible.web._security import same_token


async def form_of(request: Request, *, fields: int = 20) -> FormData:
    """Return the fields of a form that carries the visitor's token."""
    form = await request.form(max_files=0, max_fields=fields)
    # A program's token comes with a header that no other site can make a browser send.
    if not request.state.bearer and not same_token(form.get("token"), request.state.token):
        raise HTTPException(403, "The form is out of date. Reload the page and send it again.")
    return form


async def vote(request: Request) -> Response:
    """Vote on a paper."""
    form = await form_of(request)
    value = {"up": 1, "down": -1, "none": 0}.get(str(form.get("vote")))
    if value is None:
        raise InvalidParameterError("A vote must be up, down or none.")
    key, voted = await run_in_threadpool(_vote, request, value)
    if request.headers.get("hx-request"):
        return page(request, "_vote.html.j2", key=key, votes=voted, vote=value)
    return RedirectResponse(_back(request, key), status_code=303)


def _vote(request: Request, value: int) -> tuple[str, int]:
    with request.app.state.database.write() as connection:
        row = row_of(connection, request.path_params["key"])
        people.vote(connection, user_of(request, connection), row.id, value)
        total = sa.select(sa.func.coalesce(sa.func.sum(votes.c.value), 0)).where(votes.c.paper_id == row.id)
        return row.key, int(connection.execute(total).scalar_one())


async def note(request: Request) -> Response:
    """Write a note on a paper."""
    form = await form_of(request)
    key = await run_in_threadpool(_note, request, str(form.get("note", "")))
    return RedirectResponse(f"{paper_path(key)}#note", status_code=303)


def _note(request: Request, text: str) -> str:
    with request.app.state.database.write() as connection:
        row = row_of(connection, request.path_params["key"])
        people.note(connection, user_of(request, connection), row.id, text)
        return str(row.key)


async def run(request: Request) -> Response:
    """Start a method's example or a paper's evidence: registered names alone, never text from a request."""
    form = await form_of(request)
    need(request, "editor")
    started = await run_in_threadpool(_run, request, str(form.get("kind")), str(form.get("name")))
    return RedirectResponse(f"/runs/{started}", status_code=303)


def _run(request: Request, kind: str, name: str) -> int:
    with request.app.state.database.write() as connection:
        row = row_of(connection, request.path_params["key"])
        methods = index()[row.slug].methods if row.slug in index() else []
        scripts = [n for n, r in results().items() if row.slug and row.slug in r["papers"]]
        known = {"example": methods, "evidence": scripts}.get(kind)
        if known is None or name not in known:
            raise InvalidParameterError(f"The paper has no {kind[:20]!r} named {name[:60]!r} that could be run.")
        started: int = request.app.state.worker.ask(
            connection, kind=kind, name=name, paper=row.id, user=user_of(request, connection),
            version=corrigible.__version__,
        )  # fmt: skip
    request.app.state.worker.wake()
    return started


async def stop(request: Request) -> Response:
    """Stop a run."""
    await form_of(request)
    need(request, "editor")
    await run_in_threadpool(request.app.state.worker.cancel, request.path_params["run"])
    return RedirectResponse(f"/runs/{request.path_params['run']}", status_code=303)


def _back(request: Request, key: str) -> str:
    """Return the page the form stood on, if it is one of these, else the paper's."""
    came = urlsplit(request.headers.get("referer", ""))
    here = came.netloc == request.headers.get("host") and came.path.startswith("/")
    return (
        came.path + (f"?{came.query}" if came.query else "") if here and came.path[1:2] != "/" else paper_path(key)
    )
