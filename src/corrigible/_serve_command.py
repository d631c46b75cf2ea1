"""`corrigible serve`: the papers page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8321,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback only with --users and --site.")
    ] = "127.0.0.1",
    users: Annotated[bool, typer.Option("--users", help="Let in only who logs in: see papers user.")] = False,
    site: Annotated[
        str | None, typer.Option(help="Where readers reach the pages: https://NAME of a proxy that speaks TLS.")
    ] = None,
    database: Annotated[
        str, typer.Option(help="Path of an SQLite file, or postgresql+psycopg://USER@HOST/NAME.")
    ] = "papers.db",
    encoder: Annotated[
        str | None, typer.Option(help="Folder of a sentence encoder, for search by meaning.")
    ] = None,
    tantivy: Annotated[
        bool, typer.Option("--tantivy", help="Search words through an index of tantivy: for very large libraries.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of real data, for evidence that is run.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve papers, claims beside measurements, and methods that run from a button."""
    from corrigible.web import serve as serve_pages

    serve_pages(
        database,
        port=port,
        host=host,
        users=users,
        site=site,
        data=data,
        encoder=encoder,
        tantivy=tantivy,
        open_page=open_page,
    )
