"""Templates, filled: every value is escaped unless it is markup already."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from corrigible.web._text import with_math


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("corrigible.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"math": with_math, "day": _day, "figure": _figure, "cut": _cut, "address": paper_path}
    return found


def page(request: Request, template: str, *, status_code: int = 200, **values: Any) -> Response:
    """Return a filled template.

    Parameters
    ----------
    request : Request
        The visitor's; a template knows its path and the token of its forms.
    template : str
        Name of the template.
    status_code : int, default=200
        Of the answer.
    **values
        For the template.
    """
    state = request.state
    text = (
        _environment()
        .get_template(template)
        .render(
            **values,
            token=state.token,
            path=request.url.path,
            asked=request.query_params,
            today=dt.date.today(),
            theme=setting(request, "theme", "system"),
            user=state.user,
            accounts=state.accounts,
        )
    )
    return HTMLResponse(text, status_code=status_code, headers={"cache-control": "private, no-cache"})


def setting(request: Request, name: str, default: Any) -> Any:
    """Return what who asks has set, or the default."""
    user = request.state.user
    return default if user is None else (user.settings or {}).get(name, default)


def paper_path(key: str) -> str:
    """Return the address of a paper's page."""
    from urllib.parse import quote

    return f"/papers/{quote(key, safe='/:')}"


def _day(when: dt.date | dt.datetime | None) -> str:
    return "" if when is None else f"{when.day} {when:%B %Y}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cut(text: str, length: int = 420) -> str:
    return text if len(text) <= length else f"{text[:length].rsplit(' ', 1)[0]} …"
