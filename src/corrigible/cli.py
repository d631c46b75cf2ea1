"""The command line: parse, call, print. What a command needs is imported when it runs, so that help is quick.

A new command is one function under ``@app.command()``. It prints its result to standard output (`_emit` for
``--json``), and lets a `CorrigibleError` pass: `_Commands` turns it into one line and an exit code.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from corrigible._audit_command import audit, run_and_tell
from corrigible._clean_command import clean
from corrigible._compare_command import compare
from corrigible._digest_command import bounces, digest
from corrigible._edit_command import ask, edit, unedit
from corrigible._ingest_command import backup, export, ingest, take_in
from corrigible._merge_command import merge
from corrigible._serve_command import serve
from corrigible._update_command import update
from corrigible._user_command import users_app
from corrigible._watch_command import watch
from corrigible.errors import CorrigibleError, InvalidParameterError, RemedyRefusedError, UnknownNameError, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from corrigible.papers import Paper

_FAILED, _REFUSED, _INTERRUPTED, _PIPE_CLOSED = 2, 3, 130, 141


class _Commands(TyperGroup):
    """A group whose commands end in one line on standard error and an exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()  # so that a closed pipe shows here, not at the interpreter's end
            return value
        except CorrigibleError as error:
            _say(str(error))
            raise typer.Exit(_REFUSED if isinstance(error, RemedyRefusedError) else _FAILED) from error
        except KeyboardInterrupt:
            _say("interrupted")
            raise typer.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_PIPE_CLOSED) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
papers_app = typer.Typer(invoke_without_command=True, help="The papers that the methods come from.")
evidence_app = typer.Typer(no_args_is_help=True, help="What was measured of the papers' claims.")
app.add_typer(papers_app, name="papers")
papers_app.add_typer(users_app, name="user")
app.add_typer(evidence_app, name="evidence")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RoomName = Annotated[str | None, typer.Option("--room", help="Keep one room.")]
KindName = Annotated[str | None, typer.Option("--kind", help="Keep one kind.")]


def main() -> None:
    """Run the command line."""
    app(prog_name="corrigible")


def _say(line: str) -> None:
    """Print one line to standard error."""
    print(f"corrigible: {' '.join(line.split())}", file=sys.stderr)


def _emit(value: Any) -> None:
    """Print a value as JSON to standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
    """Return a table of plain text: brackets in a cell are no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def _show(*parts: Any) -> None:
    """Print tables and lines of text; wide where there is no terminal, so that a row stays one line."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=220)
    for part in parts:
        console.print(part)


def _one_of(value: str | None, known: Iterable[str], what: str) -> None:
    """Refuse a filter's value that nothing has."""
    choices = sorted(set(known))
    if value is not None and value not in choices:
        hint = nearest(value, choices) or f" Known: {', '.join(choices)}."
        raise UnknownNameError(f"There is no {what} {value!r}.{hint}")


def _version(wanted: bool) -> None:
    if wanted:
        from corrigible import __version__

        print(f"corrigible {__version__}")
        raise typer.Exit


@app.callback()
def corrigible(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find, foresee, fix and prevent the errors of trained models."""


# --- papers -----------------------------------------------------------------------------------------------


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
        _one_of(value, (getattr(p, name) for p in found), name)
    _one_of(status, STATUSES, "status")
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
        return _emit({**found.to_dict(), "status": computed, "results": measured})
    rows = (
        ("tier", found.tier),
        ("kind", found.kind),
        ("room", found.room),
        ("status", computed),
        ("what", found.build),
        ("must show", found.evidence),
        ("methods", ", ".join(found.methods) or "none yet"),
    )
    _show(f"\n{found.title}\n", _table(("", slug), rows), *(_measurements(r) for r in measured))


def _list_papers(found: list[Paper], as_json: bool) -> None:
    from corrigible.papers import statuses

    computed = statuses()
    if as_json:
        return _emit([{**p.to_dict(), "status": computed[p.slug]} for p in found])
    rows = [(p.slug, p.tier, p.kind, p.room, computed[p.slug], p.title) for p in found]
    _show(_table(("slug", "tier", "kind", "room", "status", "title"), rows), _count(len(rows), "paper"))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


# --- methods ----------------------------------------------------------------------------------------------


@app.command()
def methods(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a shell pattern such as '*_curve'.")] = "*",
    room: RoomName = None,
    kind: KindName = None,
    as_json: AsJson = False,
) -> None:
    """List the methods, with what each computes."""
    from corrigible import card, list_methods
    from corrigible._card import KINDS
    from corrigible._registry import method_rooms

    _one_of(kind, KINDS, "kind")
    _one_of(room, method_rooms(), "room")
    if not set(pattern) & set("*?["):
        pattern = f"*{pattern}*"
    cards = [card(name) for name in list_methods(pattern, kind=kind, room=room)]
    if as_json:
        return _emit([c.to_dict() for c in cards])
    rows = [(c.name, c.room, c.kind, c.obj, c.summary) for c in cards]
    _show(_table(("name", "room", "kind", "object", "what it does"), rows), _count(len(rows), "method"))


@app.command()
def cite(name: str) -> None:
    """Print the BibTeX entries that a method rests on."""
    from corrigible import cite as entries

    print(entries(name))


# --- evidence ---------------------------------------------------------------------------------------------


@evidence_app.command("run")
def evidence_run(
    names: Annotated[list[str] | None, typer.Argument(help="Names of scripts: see `evidence list`.")] = None,
    run_all: Annotated[bool, typer.Option("--all", help="Run every script whose data are there.")] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Run the stale ones whose data are there; take over new words.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of real data; else $CORRIGIBLE_DATA.")] = None,
) -> None:
    """Run evidence scripts and write their results. Exits with 1 when a bar is missed and not acknowledged."""
    from corrigible._utils.progress import progress
    from corrigible.papers._evidence import (
        data_folder,
        load_evidence,
        reword_evidence,
        reworded,
        run_evidence,
        stale,
        unmet,
    )
    from corrigible.papers._evidence import names as all_names

    if (bool(names), run_all, changed).count(True) != 1:
        raise InvalidParameterError("Say which evidence to run: names, or --all, or --changed; one of the three.")
    chosen = names or (all_names() if run_all else stale())
    scripts = [load_evidence(name) for name in chosen]  # an unknown name stops before anything has run
    problems: list[str] = []
    with progress(len(scripts)) as bar:
        for script in scripts:
            bar.step(script.name)
            if not names and (absent := script.absent(data_folder(data))):
                print(f"{script.name}: data absent ({', '.join(absent)}), skipped")
                continue
            result = run_evidence(script.name, data=data)
            print(f"{script.name}: {result['status']} in {result['seconds']} s")
            problems += unmet(result)
    for name in reworded() if changed or run_all else ():
        problems += unmet(reword_evidence(name))
        print(f"{name}: words taken over, nothing measured")
    _end_with(problems)


@evidence_app.command("check")
def evidence_check() -> None:
    """Say what is stale, missing or unmet, a line each. Exits with 1 when there is any."""
    from corrigible.papers import check

    _end_with(check())


def _end_with(problems: list[str]) -> None:
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)


@evidence_app.command("list")
def evidence_list(as_json: AsJson = False) -> None:
    """List the evidence: status, methods, measurements met, cost and age."""
    from corrigible.papers import results, stale
    from corrigible.papers._evidence import SCRIPTS

    old, found = set(stale()) if SCRIPTS.is_dir() else set(), results()
    if as_json:
        return _emit([{**r, "stale": n in old} for n, r in found.items()])
    rows = [_evidence_row(r, n in old) for n, r in found.items()]
    rows += [(n, "never run", "", "", "", "") for n in sorted(old - set(found))]
    _show(_table(("name", "status", "met", "seconds", "date", "methods"), rows), _count(len(rows), "script"))


def _evidence_row(result: dict[str, Any], old: bool) -> tuple[str, ...]:
    barred = [bool(m["met"]) for m in result["measurements"] if m["kind"] != "note"]
    return (
        result["name"],
        result["status"] + (" (stale)" if old else ""),
        f"{sum(barred)}/{len(barred)}",
        str(result["seconds"]),
        result["date"],
        ", ".join(result["methods"]),
    )


def _measurements(result: dict[str, Any]) -> Table:
    """Return the table of one result's measurements."""
    from corrigible.papers._evidence import bar

    rows = []
    for m in result["measurements"]:
        span = "" if m["low"] is None or m["high"] is None else f" [{m['low']:.4g}, {m['high']:.4g}]"
        met = "" if m["kind"] == "note" else "yes" if m["met"] else "no"
        rows.append((m["name"], m["kind"], f"{m['value']:.4g}{span}", bar(m), met, m["detail"]))
    title = f"{result['name']}: {result['status']}, measured {result['date']}"
    return _table(("measured", "kind", "value", "bar", "met", "detail"), rows, title=title)


# --- audit and fix ----------------------------------------------------------------------------------------

Out = Annotated[str, typer.Option("--out", help="Folder to write.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")]


@app.command()
def demo(out: Out = "demo-report/", overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Audit the bundled data."""
    _check_out(out, "budget.json", overwrite)
    from corrigible.audit import AuditSettings
    from corrigible.datasets import demo_files

    run_and_tell(AuditSettings(**demo_files()), out, overwrite, quiet, {})


@app.command()
def fix(
    report: Annotated[Path, typer.Argument(help="Folder of a report.")],
    remedies: Annotated[str, typer.Option(help="Line ids, separated by commas.")],
    tolerance: Annotated[
        float, typer.Option(help="Harm, in the loss's unit, up to which a remedy is kept.")
    ] = 0.002,
    force: Annotated[bool, typer.Option("--force", help="Accept harm beyond the tolerance.")] = False,
    out: Out = "corrected/",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Apply remedies in chain order, and prove on the test rows that they do no harm."""
    _check_out(out, "verification.json", overwrite)
    from corrigible.audit import fix_folder

    done = fix_folder(
        report, [r.strip() for r in remedies.split(",") if r.strip()], tolerance=tolerance, force=force, quiet=quiet
    )
    page = done.save(out, overwrite=overwrite)
    rows = [(r["id"], *(f"{r[k]['value']:.4f}" for k in ("before", "after")), _span(r["change"]),
             r["negative_flips"], r["positive_flips"]) for r in done.verification["remedies"]]  # fmt: skip
    total = done.verification["total"]
    rows.append(("all", *(f"{total[k]['value']:.4f}" for k in ("before", "after")), _span(total["change"]),
                 total["negative_flips"], total["positive_flips"]))  # fmt: skip
    _show(
        _table(("remedy", "before", "after", "change", "turned wrong", "turned right"), rows), f"Verified: {page}"
    )


_COMMANDS: tuple[Callable[..., None], ...] = (ask, audit, clean, compare, edit, merge, serve, unedit, update, watch)
_OF_PAPERS: tuple[Callable[..., None], ...] = (backup, bounces, digest, export, ingest)
for _command in _COMMANDS:
    app.command()(_command)
for _command in _OF_PAPERS:
    papers_app.command()(_command)
papers_app.command("import")(take_in)


def _check_out(out: str, marker: str, overwrite: bool) -> None:
    """Refuse an output folder before anything long has run."""
    from corrigible._utils.folders import check_folder

    check_folder(out, marker=marker, overwrite=overwrite)


def _names(given: list[str] | None) -> tuple[str, ...]:
    """Return column names, given one an option or separated by commas."""
    return tuple(name for one in given or [] for name in one.split(",") if name)


def _span(value: dict[str, float]) -> str:
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
