"""Who asks: the one user of the machine, or with accounts the user of a session or of a program's token."""

from __future__ import annotations

import re
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from corrigible.library import _accounts as accounts
from corrigible.library._database import Database
from corrigible.library._people import LOCAL, local_user
from corrigible.library._schema import users

# What is open without an account: the way in, the links of mails, which carry a secret of their own, and the files.
_OPEN = re.compile(r"/login|/health|/static/.*|/(confirm|unsubscribe)/[^/]+")
_MACHINE = re.compile(r"/api/.*|/feed\.\w+|.*\.(bib|csl\.json)")


def session_cookie(secure: bool) -> str:
    """Return the name of the cookie: under https one that no other host and no path can set."""
    return "__Host-corrigible-session" if secure else "corrigible-session"


class Door:
    """Find who asks, and with accounts let nobody else in.

    Parameters
    ----------
    app : ASGI application
        What is behind.
    database : Database
        Where users stand.
    accounts : bool
        Whether there are accounts; without, all is done by the one user of the machine.
    secure : bool
        Whether the pages are reached under https.
    """

    def __init__(self, app: ASGIApp, *, database: Database, accounts: bool, secure: bool) -> None:
        self.app = app
        self.database = database
        self.accounts = accounts
        self.cookie = session_cookie(secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or show it the way to the login."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope["state"]
        state |= {"user": None, "session": None, "bearer": False, "accounts": self.accounts}
        if not scope["path"].startswith("/static/"):
            await run_in_threadpool(self._recognise, Headers(scope=scope), state)
        if self.accounts and state["user"] is None and not _OPEN.fullmatch(scope["path"]):
            await _refusal(scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _recognise(self, headers: Headers, state: dict[str, Any]) -> None:
        if not self.accounts:
            with self.database.read() as connection:
                state["user"] = connection.execute(sa.select(users).where(users.c.name == LOCAL)).first()
            return
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            state["user"], state["bearer"] = self._program(token.strip()), True
            return
        if session := self._session(headers):
            with self.database.read() as connection:
                found = accounts.session_of(connection, session)
            if found is not None:
                state |= {"user": found, "session": session, "token": found.csrf}

    def _program(self, token: str) -> Any:
        with self.database.read() as connection:
            found = accounts.token_user(connection, token)
        if found is not None and accounts.stale_use(found.used):
            with self.database.write() as connection:
                accounts.note_use(connection, found.token)
        return found

    def _session(self, headers: Headers) -> str | None:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return found.value if found else None


def _refusal(scope: Scope) -> Response:
    if _MACHINE.fullmatch(scope["path"]):
        words = {"error": "This needs an account. Send a token: Authorization: Bearer corr_…"}
        return JSONResponse(words, status_code=401, headers={"www-authenticate": "Bearer"})
    if scope["method"] not in ("GET", "HEAD"):
        return PlainTextResponse("Log in first.\n", status_code=401, headers={"www-authenticate": "Bearer"})
    query = scope["query_string"].decode("latin-1")
    came = scope["path"] + (f"?{query}" if query else "")
    where = "" if came == "/" else f"?next={quote(came, safe='/')}"
    return RedirectResponse(f"/login{where}", status_code=303)


def user_of(request: Request, connection: sa.Connection) -> int:
    """Return the number of who asks; the one user of the machine is made when first needed."""
    return int(request.state.user.id) if request.state.user is not None else local_user(connection)


def need(request: Request, role: str) -> None:
    """Refuse a user who has less than a role; the one user of a machine has every."""
    user = request.state.user
    if user is not None and accounts.ROLES.index(user.role) < accounts.ROLES.index(role):
        raise HTTPException(403, f"This needs the role of {role}; {user.name} is {user.role}.")


def sees_all(request: Request) -> bool:
    """Return whether who asks may see what others subscribed."""
    return request.state.user is None or request.state.user.role == "admin"
