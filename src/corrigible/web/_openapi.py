"""What the API takes and gives, as OpenAPI: a test holds every address of it to this, and the other way round."""

from __future__ import annotations

import functools
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import corrigible
from corrigible.library._search import WAYS
from corrigible.papers import STATUSES
from corrigible.web._cards import options

_DAY = {"type": "string", "format": "date"}
_WEEK = {"type": "string", "pattern": r"^(?!0000)\d{4}-W(0[1-9]|[1-4]\d|5[0-3])$"}
_MONTH = {"type": "string", "pattern": r"^(?!0000)\d{4}-(0[1-9]|1[0-2])$"}
_COUNT = {"type": "integer", "minimum": 0}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$"}
_TEXT = {"type": "string"}


def document(request: Request) -> Response:
    """Return the description of the API."""
    described = _described()
    if request.state.accounts:
        scheme = {"token": {"type": "http", "scheme": "bearer"}}
        described = described | {"components": described["components"] | {"securitySchemes": scheme},
                                 "security": [{"token": []}]}  # fmt: skip
    return JSONResponse(described)


@functools.cache
def _described() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "Corrigible: papers", "version": corrigible.__version__},
        "paths": {
            "/api/daily_papers": {"get": _daily()},
            "/api/papers/search": {"get": _search()},
            "/api/papers/{key}": {"get": _paper()},
            "/api/trending": {"get": _trending()},
            "/api/openapi.json": {"get": _operation("openapi", "This description.", {"type": "object"}, [])},
        },
        "components": {"schemas": _schemas()},
    }  # fmt: skip


def _operation(
    name: str, summary: str, schema: dict[str, Any], parameters: list[dict[str, Any]], *failures: int
) -> Any:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    said = {
        400: "A parameter is not understood.",
        404: "There is no such paper.",
        401: "With accounts: no token that holds.",
    }
    return {
        "operationId": name, "summary": summary, "parameters": parameters,
        "responses": {
            "200": {"description": "Found.", "content": {"application/json": {"schema": schema}}},
            **{str(code): {"description": said[code], "content": error} for code in (401, *failures)},
        },
    }  # fmt: skip


def _parameter(name: str, schema: dict[str, Any], words: str, *, place: str = "query") -> dict[str, Any]:
    if place == "query" and schema != _TEXT:  # forms send what is not filled in, too
        schema = {"anyOf": [schema, {"const": ""}]}
    return {"name": name, "in": place, "required": place == "path", "description": words, "schema": schema}


def _whole(low: int, high: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "default": default}


def _daily() -> Any:
    parameters = [
        _parameter("date", _DAY, "The day; without day, week and month the newest that has papers."),
        _parameter("week", _WEEK, "A week, where no day is given."),
        _parameter("month", _MONTH, "A month, where neither is given."),
        _parameter("limit", _whole(1, 100, 50), "Papers on a page."),
        _parameter("p", _whole(0, 10_000, 0), "Page, from 0."),
    ]
    schema = {"type": "array", "items": {"$ref": "#/components/schemas/DailyPaper"}}
    return _operation("daily_papers", "Papers of a day, week or month, newest first.", schema, parameters, 400)


def _search() -> Any:
    facets = [
        _parameter(n, {"type": "string", "enum": values}, f"Only papers of this {n}.")
        for n, values in options().items()
    ]
    parameters = [
        _parameter("q", _TEXT, "A failure in words; its first 10,000 characters are read."),
        _parameter("limit", _whole(1, 120, 20), "At most so many."),
        *facets,
        _parameter("since", _DAY, "Only papers of this day or later."),
        _parameter("until", _DAY, "Only papers of this day or earlier."),
    ]
    return _operation(
        "search", "Papers that answer a query, best first.", {"$ref": "#/components/schemas/Found"}, parameters, 400
    )


def _paper() -> Any:
    key = _parameter(
        "key", _TEXT, "arXiv identifier in any form, slashes as they are, or a slug of the index.", place="path"
    )
    return _operation("paper", "One paper.", {"$ref": "#/components/schemas/Paper"}, [key], 404)


def _trending() -> Any:
    return _operation(
        "trending",
        "Papers that move, with the parts of their scores.",
        {"$ref": "#/components/schemas/Trending"},
        [],
    )


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "additionalProperties": False,
            "properties": {**required, **(optional or {})}}  # fmt: skip


def _schemas() -> dict[str, Any]:
    author = _object({"name": _TEXT, "hidden": {"const": False}})
    own = _object({"slug": {"type": ["string", "null"]}, "room": _TEXT, "status": {"enum": ["", *STATUSES]},
                   "methods": {"type": "array", "items": _TEXT}})  # fmt: skip
    paper = _object(
        {"id": _TEXT, "title": _TEXT, "summary": _TEXT, "authors": {"type": "array", "items": author},
         "upvotes": {"type": "integer"}, "ai_keywords": {"type": "array", "items": _TEXT}, "corrigible": own},
        {"publishedAt": _TIME, "githubRepo": {"type": "string", "format": "uri"}, "withdrawnAt": _TIME},
    )  # fmt: skip
    papers = {"$ref": "#/components/schemas/Paper"}
    daily = _object(
        {"title": _TEXT, "summary": _TEXT, "publishedAt": _TIME, "numComments": _COUNT, "paper": papers}
    )
    score = {"type": "number"}
    moving = _object({"paper": _COUNT, "id": _TEXT, "score": score, "votes": {"type": "integer"}, "runs": _COUNT,
                      "elsewhere": score, "age": _COUNT})  # fmt: skip
    return {
        "Paper": paper,
        "DailyPaper": daily,
        "Found": _object(
            {"way": {"enum": [w for w in WAYS if w != "auto"]}, "papers": {"type": "array", "items": papers}}
        ),
        "Trending": _object({"formula": _TEXT, "papers": {"type": "array", "items": moving}}),
        "Error": _object({"error": _TEXT}),
    }
