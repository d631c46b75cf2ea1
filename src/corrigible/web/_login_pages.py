"""Logging in and out, and what a user sets."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from corrigible.errors import InvalidParameterError
from corrigible.library import _accounts as accounts
from corrigible.library._schema import api_tokens, users
from corrigible.web._actions import form_of
from corrigible.web._door import session_cookie, user_of
from corrigible.web._render import page

THEMES = ("system", "light", "dark")
LENGTHS = (25, 50, 100)


def login_page(request: Request) -> Response:
    """Show the form, or go on where someone is logged in already."""
    where = _inside(request.query_params.get("next", "/"))
    if request.state.user is not None:
        return RedirectResponse(where, status_code=303)
    return page(request, "login.html.j2", title="Log in", where=where, wrong="", name="")


async def login(request: Request) -> Response:
    """Take the form. What is wrong is not said: name or password."""
    form = await form_of(request)
    name, where = str(form.get("name", "")).strip().lower(), _inside(str(form.get("next", "/")))
    address = request.client.host if request.client else "unknown"
    try:
        session = await run_in_threadpool(_login, request, name, str(form.get("password", "")), address)
    except accounts.TooManyAttemptsError as error:
        answer = page(
            request, "login.html.j2", status_code=429, title="Log in", where=where, wrong=str(error), name=name[:40]
        )
        answer.headers["retry-after"] = str(int(accounts.WINDOW.total_seconds()))
        return answer
    if session is None:
        return page(request, "login.html.j2", status_code=403, title="Log in", where=where, name=name[:40],
                    wrong="The name or the password is wrong.")  # fmt: skip
    answer = RedirectResponse(where, status_code=303)
    secure = request.app.state.secure
    answer.set_cookie(session_cookie(secure), session, max_age=int(accounts.SESSION.total_seconds()), path="/",
                      httponly=True, samesite="lax", secure=secure)  # fmt: skip
    return answer


def _login(request: Request, name: str, password: str, address: str) -> str | None:
    database = request.app.state.database
    with database.write() as connection:
        accounts.attempt(connection, name, address)
        row = connection.execute(sa.select(users).where(users.c.name == name)).first()
    if not accounts.check_password(row.password if row else None, password):
        return None
    with database.write() as connection:
        accounts.succeeded(connection, row.id, name, address, password)
        if request.state.session:  # one browser, one session: what it had before ends, and is never taken over
            accounts.close_session(connection, request.state.session)
        return accounts.open_session(connection, row.id)


async def logout(request: Request) -> Response:
    """End the session."""
    await form_of(request)
    await run_in_threadpool(_logout, request)
    answer = RedirectResponse("/login", status_code=303)
    secure = request.app.state.secure
    answer.delete_cookie(session_cookie(secure), path="/", httponly=True, samesite="lax", secure=secure)
    return answer


def _logout(request: Request) -> None:
    if request.state.session:
        with request.app.state.database.write() as connection:
            accounts.close_session(connection, request.state.session)


def _inside(where: str) -> str:
    """Return a path of these pages, never an address elsewhere, however it is written."""
    good = (
        where.startswith("/") and not where.startswith(("//", "/\\")) and where.isprintable() and "\\" not in where
    )
    return where[:2000] if good and not where.startswith(("/login", "/logout")) else "/"


# --- settings ---------------------------------------------------------------------------------------------


def settings_page(request: Request) -> Response:
    """Show what a user sets."""
    return _settings(request)


def _settings(request: Request, *, token: str = "", said: str = "") -> Response:
    rows: Any = []
    if request.state.accounts:
        with request.app.state.database.read() as connection:
            mine = api_tokens.c.user_id == request.state.user.id
            rows = connection.execute(sa.select(api_tokens).where(mine).order_by(api_tokens.c.id)).all()
    return page(
        request,
        "settings.html.j2",
        title="Settings",
        themes=THEMES,
        lengths=LENGTHS,
        tokens=rows,
        made=token,
        said=said,
    )


async def save_settings(request: Request) -> Response:
    """Keep how pages shall look."""
    form = await form_of(request)
    theme, length = str(form.get("theme")), str(form.get("length"))
    if theme not in THEMES or length not in map(str, LENGTHS):
        raise InvalidParameterError(f"The theme must be one of {', '.join(THEMES)}, and the length of a list one of "
                                    f"{', '.join(map(str, LENGTHS))}.")  # fmt: skip
    await run_in_threadpool(_save, request, {"theme": theme, "length": int(length)})
    return RedirectResponse("/settings", status_code=303)


def _save(request: Request, values: dict[str, Any]) -> None:
    with request.app.state.database.write() as connection:
        me = users.c.id == user_of(request, connection)
        connection.execute(sa.update(users).where(me).values(settings=values))


async def change_password(request: Request) -> Response:
    """Take a new password, for the old one; all sessions end, and this browser gets a new one."""
    form = await form_of(request)
    _no_program(request)
    if form.get("new") != form.get("again"):
        raise InvalidParameterError("The new password must be the same twice.")
    old, new = str(form.get("old", "")), str(form.get("new", ""))
    address = request.client.host if request.client else "unknown"
    session = await run_in_threadpool(_change, request, old, new, address)
    answer = _settings(request, said="The password was changed; all other sessions have ended.")
    secure = request.app.state.secure
    answer.set_cookie(session_cookie(secure), session, max_age=int(accounts.SESSION.total_seconds()), path="/",
                      httponly=True, samesite="lax", secure=secure)  # fmt: skip
    return answer


def _change(request: Request, old: str, new: str, address: str) -> str:
    user, database = request.state.user, request.app.state.database
    with database.write() as connection:
        accounts.attempt(connection, user.name, address)
        known = connection.execute(sa.select(users.c.password).where(users.c.id == user.id)).scalar_one()
    if not accounts.check_password(known, old):
        raise HTTPException(403, "The password is wrong.")
    with database.write() as connection:
        accounts.succeeded(connection, user.id, user.name, address, old)
        accounts.set_password(connection, user.id, new)
        session = accounts.open_session(connection, user.id)
        request.state.token = accounts.session_of(connection, session).csrf  # the page shown next has its forms
    return session


async def make_token(request: Request) -> Response:
    """Make a token for a program, and show it this once."""
    form = await form_of(request)
    _no_program(request)
    days = str(form.get("days", "90"))
    if not days.isdigit() or len(days) > 4:
        raise InvalidParameterError("A token must hold between 1 and 3650 days.")
    token = await run_in_threadpool(_make_token, request, str(form.get("label", "")), int(days))
    answer = _settings(request, token=token)
    answer.headers["cache-control"] = "no-store"
    return answer


def _make_token(request: Request, label: str, days: int) -> str:
    with request.app.state.database.write() as connection:
        return accounts.add_token(connection, request.state.user.id, label, days=days)


async def revoke_token(request: Request) -> Response:
    """Take a token back."""
    await form_of(request)
    _no_program(request)
    await run_in_threadpool(_revoke, request, request.path_params["number"])
    return RedirectResponse("/settings", status_code=303)


def _revoke(request: Request, number: int) -> None:
    with request.app.state.database.write() as connection:
        accounts.revoke_token(connection, request.state.user.id, number)


def _no_program(request: Request) -> None:
    """A token that leaked must not make others of its kind, nor lock its owner out."""
    if request.state.bearer:
        raise HTTPException(403, "A program cannot do this; log in.")
