"""Pages of mail: to subscribe, confirm and end. What a link in a mail opens only shows a page; a button acts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from corrigible.errors import UnknownNameError
from corrigible.library import _people as people
from corrigible.library import _subscriptions as mails
from corrigible.library._addresses import mail_address
from corrigible.library._mail import Sender
from corrigible.library._post import Outbox, Smtp
from corrigible.library._sending import subscribe as send_question
from corrigible.web._actions import form_of
from corrigible.web._cards import options
from corrigible.web._render import page


@dataclass(frozen=True)
class Office:
    """Where the pages post mail, and who sends it."""

    post: Outbox | Smtp
    sender: Sender


def subscribe_page(request: Request) -> Response:
    """Show the form."""
    chosen = request.query_params.getlist("room")
    search = request.query_params.get("search", "")[: mails.MAX_WISH]
    return page(request, "subscribe.html.j2", title="Papers by mail", rooms=options()["room"], chosen=chosen, search=search,
                can=request.app.state.office is not None)  # fmt: skip


async def subscribe(request: Request) -> Response:
    """Take the form. The answer is the same for every address, and goes out before the address is looked up."""
    form = await form_of(request, fields=80)
    office: Office | None = request.app.state.office
    if office is None:
        raise HTTPException(
            503, "Mail is not set up here: the library stands in no file beside which an outbox could be."
        )
    source = f"page, {request.client.host if request.client else 'unknown'}"
    wishes: dict[str, Any] = {**wishes_of(form), "source": source}
    address = mail_address(str(form.get("address", "")))
    user = request.state.user.id if request.state.user is not None else None
    mails.check_wishes(wishes["every"], wishes["rooms"], wishes["searches"], wishes["authors"])
    later = BackgroundTask(_ask, request.app.state.database, office, address, user, wishes)
    answer = page(request, "mail.html.j2", title="Look into your mail", done=True, words=(
        "If this address can be subscribed, a mail is on its way to it. The link in it holds for 48 hours; "
        "nothing else is sent before its button was pressed."))  # fmt: skip
    answer.background = later
    return answer


def wishes_of(form: FormData) -> dict[str, Any]:
    """Return the wishes of a form, as they were typed."""
    return {
        "every": str(form.get("every", "day")),
        "rooms": [str(room) for room in form.getlist("room")],
        "searches": str(form.get("searches", "")).splitlines(),
        "authors": str(form.get("authors", "")).splitlines(),
    }


def _ask(database: Any, office: Office, address: str, user: int | None, wishes: dict[str, Any]) -> None:
    try:
        if user is None:  # without accounts, and before the one user of the machine has done anything
            with database.write() as connection:
                user = people.local_user(connection)
        send_question(database, office.post, office.sender, address, user=user, **wishes)
    except Exception:  # the visitor has the answer already, and must not learn which addresses fail
        logging.getLogger(__name__).exception("A mail that asks for confirmation was not sent")


def confirm_page(request: Request) -> Response:
    """Show the button that confirms. Scanners of mail open links: this changes nothing."""
    with request.app.state.database.read() as connection:
        row = mails.waiting(connection, request.path_params["token"])
    return page(request, "mail.html.j2", title="Confirm your subscription", done=row.state != "pending", button="Confirm",
                words=f"Papers for {row.address}, every {row.every} that brings any.")  # fmt: skip


async def confirm(request: Request) -> Response:
    """Confirm a subscription."""
    await form_of(request)
    row = await run_in_threadpool(_confirm, request)
    return page(request, "mail.html.j2", title="Confirmed", done=True,
                words=f"Papers will come to {row.address}, every {row.every} that brings any.")  # fmt: skip


def _confirm(request: Request) -> Any:
    with request.app.state.database.write() as connection:
        return mails.confirm(connection, request.path_params["token"])


def unsubscribe_page(request: Request) -> Response:
    """Show the button that ends a subscription; this changes nothing."""
    with request.app.state.database.read() as connection:
        row = mails.by_token(connection, request.path_params["token"])
    if row is None:
        raise UnknownNameError("There is no subscription of this link.")
    return page(request, "mail.html.j2", title="End this mail?", done=row.state == "ended", button="End it",
                words=f"Papers for {row.address}, every {row.every}.")  # fmt: skip


async def unsubscribe(request: Request) -> Response:
    """End a subscription as RFC 8058 asks: by POST, whatever its body, without cookie, form token or redirect."""
    await run_in_threadpool(_end, request, request.path_params["token"])
    return page(request, "mail.html.j2", title="Ended", done=True, words="Nothing more comes of this subscription.")


def _end(request: Request, token: str) -> None:
    with request.app.state.database.write() as connection:
        row = mails.by_token(connection, token)
        if row is None:
            raise UnknownNameError("There is no subscription of this link.")
        mails.end(connection, row.id)
    withdraw(request, row.id)


def withdraw(request: Request, subscription: int) -> None:
    """Delete what waits in the outbox of these pages for a subscription that has ended or pauses."""
    office: Office | None = request.app.state.office
    if office is not None and isinstance(office.post, Outbox):
        office.post.withdraw(subscription)
