"""Serving the pages."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError
from corrigible.library._database import Database
from corrigible.library._mail_settings import from_environment
from corrigible.library._schema import users as users_
from corrigible.library._vectors import Vectors
from corrigible.library._word_index import WordIndex
from corrigible.web._app import LOOPBACK, create_app
from corrigible.web._mail_pages import Office


def serve(
    database: str,
    *,
    port: int = 8321,
    host: str = "127.0.0.1",
    users: bool = False,
    site: str | None = None,
    data: str | Path | None = None,
    encoder: str | None = None,
    tantivy: bool = False,
    open_page: bool = False,
) -> None:
    """Serve the library until interrupted: on loopback to who is at this machine, with accounts also to others.

    Parameters
    ----------
    database : str
        Path or address of the library.
    port : int, default=8321
        Port to listen on.
    host : str, default="127.0.0.1"
        Address to listen on; beyond loopback only with `users` and a `site` under https.
    users : bool, default=False
        Let in only who logs in. Accounts are made with ``corrigible papers user add``.
    site : str, optional
        Under what readers reach the pages, as ``https://papers.example.org``: a proxy that speaks TLS passes them on.
    data : path, optional
        Folder of real data, for evidence that is run.
    encoder : str, optional
        Folder of a sentence encoder, for search by meaning; vectors stand beside the database.
    tantivy : bool, default=False
        Search words through an index of tantivy, which stands beside the database: for very large libraries.
    open_page : bool, default=False
        Open the page in the browser.

    Raises
    ------
    InvalidParameterError
        If port, host or site is none, others could come in without an account or read along, or an encoder or tantivy is
        asked for with a database that stands on no file.
    MissingDependencyError
        If tantivy is asked for and not installed.
    DataError
        If the port is in use, the database cannot be opened, or there is no account.
    """
    uvicorn = require("uvicorn", extra="web", by="corrigible serve")
    family = _check(port, host, users, site)
    # Named as TCP, for only then asyncio sends at once: else the second part of an answer waits 40 ms for a receipt.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise DataError(f"Port {port} cannot be used: {error.strerror}. Choose another with --port.") from None
        store = Database(database)
        if users:
            _check_accounts(store)
        names = (*LOOPBACK, urlsplit(site).hostname or "") if site else LOOPBACK
        app = create_app(
            store, vectors=_vectors(store, encoder), words=_words(store, tantivy), data=data, office=_office(store, site),
            hosts=names, accounts=users, secure=bool(site and site.startswith("https://")),
        )  # fmt: skip
        listener.listen(2048)  # who comes when it says so waits for a moment and is not turned away
        local = f"http://{host if ':' not in host else f'[{host}]'}:{port}/"
        print(f"Serving {store.shown} at {site or local} (Ctrl-C ends)", flush=True)
        if open_page:
            import webbrowser

            webbrowser.open(site or local)
        # A connection must not be closed at the moment a reader, after some seconds of reading, asks for the next page.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, timeout_keep_alive=75)
        uvicorn.Server(config).run(sockets=[listener])


def _check(port: int, host: str, users: bool, site: str | None) -> socket.AddressFamily:
    """Return the family of the host's address, or say what would let others in or read along."""
    if not 1 <= port <= 65535:
        raise InvalidParameterError(f"The port must be between 1 and 65535. Got {port}.")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise InvalidParameterError(
            f"The host must be an address of this machine, as 127.0.0.1. Got {host[:60]!r}."
        ) from None
    parts = urlsplit(site or "")
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if site is not None and not (parts.scheme in ("http", "https") and parts.hostname and plain):
        raise InvalidParameterError(f"The site must look like https://papers.example.org. Got {site[:100]!r}.")
    beyond = not address.is_loopback
    foreign = site is not None and parts.hostname not in ("localhost", "127.0.0.1", "::1")
    if (beyond or foreign) and not users:
        raise InvalidParameterError(
            "Without accounts whoever reaches the pages is the one user of this machine and can run its methods, so they "
            "are served on loopback alone. Use --users."
        )
    if (beyond or foreign) and parts.scheme != "https":
        raise InvalidParameterError(
            "Beyond loopback passwords must not travel in the clear. Let a proxy speak TLS, and name its address: --site "
            "https://papers.example.org"
        )
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def _check_accounts(store: Database) -> None:
    with store.read() as connection:
        if not connection.execute(sa.select(users_.c.id).where(users_.c.password.is_not(None)).limit(1)).first():
            raise DataError(
                f"The library {store.shown} has no account yet. Make one: corrigible papers user add NAME --role admin"
            )


def _office(store: Database, site: str | None) -> Office | None:
    values = {"CORRIGIBLE_SITE": site, **os.environ} if site else os.environ
    found = from_environment(values, store.path.parent / "outbox" if store.path else None)
    return Office(*found) if found else None


def _vectors(store: Database, encoder: str | None) -> Vectors | None:
    if encoder is None:
        return None
    if store.path is None:
        raise InvalidParameterError("An encoder needs a library in a file: its vectors stand beside it.")
    from corrigible.data import TextEncoder

    found = Vectors(store, store.path.parent, TextEncoder(encoder), model=Path(encoder).name)
    found.update()
    return found


def _words(store: Database, tantivy: bool) -> WordIndex | None:
    if not tantivy:
        return None
    if store.path is None:
        raise InvalidParameterError("An index of tantivy needs a library in a file: it stands beside it.")
    found = WordIndex(store, store.path.parent)
    found.update()
    return found
