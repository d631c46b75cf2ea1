"""`corrigible papers`: the papers that the methods come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from corrigible._terminal import AsJson, KindName, RoomName, check_known, counted, emit, show, text_table

if TYPE_CHECKING:
    from rich.table import Table

    from corrigible.papers import Paper

papers_app = typer.Typer(invoke_without_command=True, help="The papers that the methods come from.")


@papers_app.callback()
def papers(
    ctx: typer.Context,
    room: RoomName = None,
    kind: KindName = None,
    tier: Annotated[str | None, typer.Option(help="Keep one tier: A, B, C or D.")] = None,
    status: Annotated[str | None, typer.Option(help="Keep one status: planned, draft, checked…")] = None,
    as_json: AsJson = False,
) -> None:
    """List the papers, their rooms and what was measured of them."""
    if ctx.invoked_subcommand is not None:
        return
    from corrigible.papers import STATUSES, index, statuses

    found, computed = list(index().values()), statuses()
    wanted = {"room": room, "kind": kind, "tier": tier and tier.upper()}
    for name, value in wanted.items():
        check_known(value, (getattr(p, name) for p in found), name)
    check_known(status, STATUSES, "status")
    kept = [p for p in found if all(v in (None, getattr(p, name)) for name, v in wanted.items())]
    _list_papers([p for p in kept if status in (None, computed[p.slug])], as_json)


@papers_app.command("search")
def papers_search(
    words: Annotated[list[str], typer.Argument(help="All of them must occur in the row.")], as_json: AsJson = False
) -> None:
    """List the papers whose row holds all the words."""
    from corrigible.papers import search

    _list_papers(search(" ".join(words)), as_json)


@papers_app.command("show")
def papers_show(slug: str, as_json: AsJson = False) -> None:
    """Show one paper: what is built of it, what must be shown, what was measured."""
    from corrigible.papers import paper, results, status

    found, computed = paper(slug), status(slug)
    measured = [r for r in results().values() if slug in r["papers"]]
    if as_json:
        return emit({**found.to_dict(), "status": computed, "results": measured})
    rows = (
        ("tier", found.tier),
        ("kind", found.kind),
        ("room", found.room),
        ("status", computed),
        ("what", found.build),
        ("must show", found.evidence),
        ("methods", ", ".join(found.methods) or "none yet"),
    )
    show(f"\n{found.title}\n", text_table(("", slug), rows), *(_measurements(r) for r in measured))


def _list_papers(found: list[Paper], as_json: bool) -> None:
    from corrigible.papers import statuses

    computed = statuses()
    if as_json:
        return emit([{**p.to_dict(), "status": computed[p.slug]} for p in found])
    rows = [(p.slug, p.tier, p.kind, p.room, computed[p.slug], p.title) for p in found]
    show(text_table(("slug", "tier", "kind", "room", "status", "title"), rows), counted(len(rows), "paper"))


def _measurements(result: dict[str, Any]) -> Table:
    """Return the table of one result's measurements."""
    from corrigible.papers._evidence import bar

    rows = []
    for m in result["measurements"]:
        span = "" if m["low"] is None or m["high"] is None else f" [{m['low']:.4g}, {m['high']:.4g}]"
        met = "" if m["kind"] == "note" else "yes" if m["met"] else "no"
        rows.append((m["name"], m["kind"], f"{m['value']:.4g}{span}", bar(m), met, m["detail"]))
    title = f"{result['name']}: {result['status']}, measured {result['date']}"
    return text_table(("measured", "kind", "value", "bar", "met", "detail"), rows, title=title)
