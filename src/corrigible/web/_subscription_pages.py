"""The subscriptions of who asks: listed, changed, paused and ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from corrigible.errors import UnknownNameError
from corrigible.library import _subscriptions as mails
from corrigible.library._schema import subscriptions
from corrigible.web._actions import form_of
from corrigible.web._cards import options
from corrigible.web._door import sees_all
from corrigible.web._mail_pages import wishes_of, withdraw
from corrigible.web._render import page


def _own(request: Request) -> list[sa.ColumnElement[bool]]:
    """Return the condition on subscriptions that who asks may see: an admin sees those of all."""
    there = [subscriptions.c.state != "ended"]
    return there if sees_all(request) else [*there, subscriptions.c.user_id == request.state.user.id]


def _row(request: Request, connection: sa.Connection) -> Any:
    number = request.path_params["subscription"]
    row = connection.execute(sa.select(subscriptions).where(subscriptions.c.id == number, *_own(request))).first()
    if row is None:  # the same sentence for one of another user: that it is there is not told
        raise UnknownNameError(f"There is no subscription {number}.")
    return row


def list_page(request: Request) -> Response:
    """Show the subscriptions."""
    with request.app.state.database.read() as connection:
        rows = connection.execute(sa.select(subscriptions).where(*_own(request)).order_by(subscriptions.c.id)).all()
    return page(request, "subscriptions.html.j2", title="Papers by mail", rows=rows)


def edit_page(request: Request) -> Response:
    """Show the wishes of a subscription, to change them."""
    with request.app.state.database.read() as connection:
        row = _row(request, connection)
    return page(request, "subscription.html.j2", title="Papers by mail", row=row, rooms=options()["room"])


async def edit(request: Request) -> Response:
    """Keep other wishes. Where mail goes cannot be changed: an address confirms for itself."""
    wishes = wishes_of(await form_of(request, fields=80))
    return await _change(request, lambda connection, row: mails.change(connection, row.id, **wishes))


async def pause(request: Request) -> Response:
    """Send nothing until it goes on."""
    await form_of(request)
    answer = await _change(request, lambda connection, row: mails.pause(connection, row.id))
    withdraw(request, request.path_params["subscription"])
    return answer


async def resume(request: Request) -> Response:
    """Let a subscription that pauses go on."""
    await form_of(request)
    return await _change(request, lambda connection, row: mails.resume(connection, row.id))


async def end(request: Request) -> Response:
    """End a subscription."""
    await form_of(request)
    answer = await _change(request, lambda connection, row: mails.end(connection, row.id))
    withdraw(request, request.path_params["subscription"])
    return answer


async def _change(request: Request, change: Callable[[sa.Connection, Any], None]) -> Response:
    def within() -> None:
        with request.app.state.database.write() as connection:
            change(connection, _row(request, connection))

    await run_in_threadpool(within)
    return RedirectResponse("/subscriptions", status_code=303)
