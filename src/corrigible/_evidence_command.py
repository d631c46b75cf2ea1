"""`corrigible evidence`: what was measured of the papers' claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from corrigible._terminal import AsJson, counted, emit, show, text_table
from corrigible.errors import InvalidParameterError

evidence_app = typer.Typer(no_args_is_help=True, help="What was measured of the papers' claims.")


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
        return emit([{**r, "stale": n in old} for n, r in found.items()])
    rows = [_evidence_row(r, n in old) for n, r in found.items()]
    rows += [(n, "never run", "", "", "", "") for n in sorted(old - set(found))]
    show(text_table(("name", "status", "met", "seconds", "date", "methods"), rows), counted(len(rows), "script"))


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
