"""What a visitor sees when something is not there or not right: one sentence."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from corrigible.errors import CorrigibleError, UnknownNameError
from corrigible.web._render import page


def _shown(request: Request, code: int, words: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": words}, status_code=code)
    title = {404: "Not found", 400: "Not understood", 403: "Refused"}.get(code, "Something is wrong")
    return page(request, "error.html.j2", status_code=code, title=title, words=words)


def _http(request: Request, error: Any) -> Response:
    words = (
        error.detail if error.detail not in ("Not Found", "") else f"There is no page at {request.url.path[:200]}."
    )
    return _shown(request, error.status_code, words)


def _ours(request: Request, error: Any) -> Response:
    return _shown(request, 404 if isinstance(error, UnknownNameError) else 400, str(error))


HANDLERS = {HTTPException: _http, CorrigibleError: _ours}
