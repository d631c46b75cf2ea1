"""The application: what stands at which address."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from corrigible._utils.optional import require

require("starlette", extra="web", by="corrigible serve")

from starlette.applications import Starlette  # noqa: E402  (after the sentence that tells how to install it)
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.gzip import GZipMiddleware  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402
from starlette.staticfiles import StaticFiles  # noqa: E402

from corrigible.library._database import Database  # noqa: E402
from corrigible.library._mail import Sender  # noqa: E402
from corrigible.library._mail_settings import LOCAL_SENDER  # noqa: E402
from corrigible.library._own_index import load_own_index  # noqa: E402
from corrigible.library._post import Outbox  # noqa: E402
from corrigible.library._vectors import Vectors  # noqa: E402
from corrigible.library._word_index import WordIndex  # noqa: E402
from corrigible.web import _actions as actions  # noqa: E402
from corrigible.web import _feeds as feeds  # noqa: E402
from corrigible.web import _login_pages as login  # noqa: E402
from corrigible.web import _mail_pages as mail  # noqa: E402
from corrigible.web import _openapi as openapi  # noqa: E402
from corrigible.web import _pages as pages  # noqa: E402
from corrigible.web import _subscription_pages as subscribed  # noqa: E402
from corrigible.web._door import Door  # noqa: E402
from corrigible.web._errors import HANDLERS  # noqa: E402
from corrigible.web._jobs import Worker  # noqa: E402
from corrigible.web._security import Guard  # noqa: E402

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def create_app(
    database: str | Database,
    *,
    vectors: Vectors | None = None,
    words: WordIndex | None = None,
    data: str | Path | None = None,
    office: mail.Office | None = None,
    hosts: tuple[str, ...] = LOOPBACK,
    accounts: bool = False,
    secure: bool = False,
) -> Starlette:
    """Return the web application.

    Parameters
    ----------
    database : str or Database
        The library; an address is opened, and made where there is none.
    vectors : Vectors, optional
        For search by meaning.
    words : WordIndex, optional
        For search by words in a very large library.
    data : path, optional
        Folder of real data, for evidence that is run.
    office : Office, optional
        Where mail goes; by default a folder ``outbox`` beside the database's file.
    hosts : tuple of str
        Names under which the pages may be asked for: a name that another site points here is refused.
    accounts : bool, default=False
        Let in only who logs in, or sends a token; without, all is done by the one user of the machine.
    secure : bool, default=False
        The pages are reached under https: cookies are sent no other way.

    Returns
    -------
    Starlette
        To be served by uvicorn; see `serve`.

    Raises
    ------
    DataError
        If the database cannot be opened.
    """
    store = Database(database) if isinstance(database, str) else database
    with store.write() as connection:
        load_own_index(connection)
    worker = Worker(store, data)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()
        store.close()

    static = StaticFiles(directory=str(resources.files("corrigible.web") / "static"))
    app = Starlette(
        routes=[*(_account_routes() if accounts else []), *_routes(), Mount("/static", static, name="static")],
        middleware=[
            Middleware(GZipMiddleware),
            Middleware(Guard, hosts=hosts, secret=secrets.token_bytes(32), secure=secure),
            Middleware(Door, database=store, accounts=accounts, secure=secure),
        ],
        exception_handlers=HANDLERS,
        lifespan=life,
    )
    if office is None and store.path is not None:
        office = mail.Office(Outbox(store.path.parent / "outbox"), Sender(LOCAL_SENDER))
    app.state.office = office
    app.state.secure = secure
    app.state.database, app.state.vectors, app.state.words, app.state.worker = store, vectors, words, worker
    return app


def _routes() -> list[Route]:
    read: list[tuple[str, Any, str]] = [
        ("/", pages.latest, "latest"),
        ("/day/{day}", pages.day, "day"),
        ("/week/{week}", pages.week, "week"),
        ("/month/{month}", pages.month, "month"),
        ("/trending", pages.trending_page, "trending"),
        ("/search", pages.search_page, "search"),
        ("/claims", pages.claims, "claims"),
        ("/methods", pages.methods, "methods"),
        ("/methods/{name}", pages.method, "method"),
        ("/runs/{run:int}", pages.run, "run"),
        ("/subscribe", mail.subscribe_page, "subscribe_page"),
        ("/subscriptions", subscribed.list_page, "subscriptions"),
        ("/subscriptions/{subscription:int}", subscribed.edit_page, "subscription"),
        ("/settings", login.settings_page, "settings"),
        ("/confirm/{token}", mail.confirm_page, "confirm_page"),
        ("/unsubscribe/{token}", mail.unsubscribe_page, "unsubscribe_page"),
        ("/feed.atom", feeds.atom, "atom"),
        ("/feed.json", feeds.json_feed, "json_feed"),
        ("/papers/{key:path}.bib", feeds.bibtex, "bibtex"),
        ("/papers/{key:path}.csl.json", feeds.csl, "csl"),
        ("/api/daily_papers", feeds.daily_papers, "api_daily"),
        ("/api/papers/search", feeds.api_search, "api_search"),
        ("/api/openapi.json", openapi.document, "api_description"),
        ("/api/papers/{key:path}", feeds.api_paper, "api_paper"),
        ("/api/trending", feeds.api_trending, "api_trending"),
        ("/health", feeds.health, "health"),
        ("/papers/{key:path}", pages.paper, "paper"),
    ]
    write: list[tuple[str, Any, str]] = [
        ("/papers/{key:path}/vote", actions.vote, "vote"),
        ("/papers/{key:path}/note", actions.note, "note"),
        ("/papers/{key:path}/run", actions.run, "start_run"),
        ("/subscribe", mail.subscribe, "subscribe"),
        ("/subscriptions/{subscription:int}", subscribed.edit, "edit_subscription"),
        ("/subscriptions/{subscription:int}/pause", subscribed.pause, "pause_subscription"),
        ("/subscriptions/{subscription:int}/resume", subscribed.resume, "resume_subscription"),
        ("/subscriptions/{subscription:int}/end", subscribed.end, "end_subscription"),
        ("/settings", login.save_settings, "save_settings"),
        ("/confirm/{token}", mail.confirm, "confirm"),
        ("/unsubscribe/{token}", mail.unsubscribe, "unsubscribe"),
        ("/runs/{run:int}/stop", actions.stop, "stop_run"),
    ]
    return [
        *(Route(path, call, name=name, methods=["POST"]) for path, call, name in write),
        *(Route(path, call, name=name, methods=["GET"]) for path, call, name in read),
    ]


def _account_routes() -> list[Route]:
    return [
        Route("/login", login.login_page, name="login_page", methods=["GET"]),
        Route("/login", login.login, name="login", methods=["POST"]),
        Route("/logout", login.logout, name="logout", methods=["POST"]),
        Route("/settings/password", login.change_password, name="change_password", methods=["POST"]),
        Route("/settings/tokens", login.make_token, name="make_token", methods=["POST"]),
        Route("/settings/tokens/{number:int}/revoke", login.revoke_token, name="revoke_token", methods=["POST"]),
    ]
