"""What stands between a browser and the pages: host, origin, token of forms, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import re
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 * 1024
_HEADERS = {
    # No script, style or frame but our own files; nothing inline, nothing from elsewhere.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_COOKIE = "corrigible"
# One click in a mail program comes from anywhere, knows no cookie, and shall get none (RFC 8058).
_ONE_CLICK = re.compile(r"/unsubscribe/[A-Za-z2-7]{22}")


class Guard:
    """Refuse what did not come from these pages, and put headers on what goes out.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    hosts : tuple of str
        Host names that may be asked for, so that no other site's name can be pointed here (DNS rebinding).
    secret : bytes
        Of this process; a form's token is its keyed hash of the visitor's cookie.
    secure : bool
        Whether the pages are reached under https: cookies go no other way then, and browsers are told so.
    """

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], secret: bytes, secure: bool = False) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.secure = secure
        self.headers = _HEADERS | ({"strict-transport-security": "max-age=31536000"} if secure else {})
        self.secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visitor, known = self._visitor(headers)
        scope.setdefault("state", {})
        scope["state"] |= {"visitor": visitor, "token": self._token(visitor)}

        one_click = scope["method"] == "POST" and _ONE_CLICK.fullmatch(scope["path"]) is not None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    out[name] = value
                if not known and not one_click:
                    out.append(
                        "set-cookie",
                        f"{_COOKIE}={visitor}; Path=/; HttpOnly; SameSite=Strict{'; Secure' * self.secure}",
                    )
            await send(message)

        if refused := self._refusal(scope, headers, one_click):
            await PlainTextResponse(refused[1], status_code=refused[0])(scope, receive, answer)
            return
        await self.app(scope, _bounded(receive), answer)

    def _refusal(self, scope: Scope, headers: Headers, one_click: bool) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            return 421, f"These pages are not served under the name {host[:100]!r}.\n"
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        if not headers.get("content-length", "0").isdigit() or int(headers.get("content-length", "0")) > MAX_BODY:
            return 413, f"A request must have at most {MAX_BODY} bytes.\n"
        if one_click:
            return None
        origin = headers.get("origin")
        if origin not in (None, "null") and urlsplit(origin or "").netloc != host:
            return 403, "The request came from another site.\n"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "The request came from another site.\n"
        return None

    def _visitor(self, headers: Headers) -> tuple[str, bool]:
        import secrets

        try:
            found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            found = None
        if found is not None and len(found.value) == 43 and found.value.replace("-", "").replace("_", "").isalnum():
            return found.value, True
        return secrets.token_urlsafe(32), False

    def _token(self, visitor: str) -> str:
        return hmac.new(self.secret, visitor.encode(), hashlib.sha256).hexdigest()


def same_token(given: Any, expected: str) -> bool:
    """Return whether a form's token is the visitor's, in constant time."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())


def _name(host: str) -> str:
    return host.lower() if host.endswith("]") else host.lower().rsplit(":", 1)[0] if ":" in host else host.lower()


def _bounded(receive: Receive) -> Receive:
    """Stop reading a body that grows beyond the bound, whatever its header said."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > MAX_BODY else message

    return bounded
