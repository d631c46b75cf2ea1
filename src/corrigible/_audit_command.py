"""`corrigible audit`, `corrigible demo` and `corrigible fix`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from corrigible._terminal import (
    Out,
    Overwrite,
    Quiet,
    check_known,
    check_out,
    names_in,
    say,
    show,
    span,
    text_table,
)
from corrigible.errors import InvalidParameterError

_Columns = list[str] | None
File = str | None
FailOn = Annotated[
    _Columns,
    typer.Option("--fail-on", metavar="LINE=POINTS", help="Exit with 1 if a line has more points."),
]


def audit(
    train: Annotated[
        File, typer.Option(help="Labelled training rows: CSV, Parquet or Feather, path or glob.")
    ] = None,
    test: Annotated[File, typer.Option(help="Labelled test rows, whose loss is split.")] = None,
    target: Annotated[str | None, typer.Option(help="Column to predict.")] = None,
    production: Annotated[File, typer.Option(help="Unlabelled rows, whose loss is forecast.")] = None,
    model: Annotated[File, typer.Option(help="Fitted model on raw columns (skops).")] = None,
    proba_columns: Annotated[
        _Columns,
        typer.Option(help="Probability columns of the test file, in class order; no model needed."),
    ] = None,
    prediction_column: Annotated[
        str | None, typer.Option(help="Predicted label or value; no model needed.")
    ] = None,
    previous: Annotated[File, typer.Option(help="Earlier model, or a file with its predictions.")] = None,
    row_id: Annotated[
        str | None, typer.Option("--id", help="Column by which rows of --test and --previous are matched.")
    ] = None,
    group: Annotated[_Columns, typer.Option(help="Column whose groups are looked at; repeat.")] = None,
    drop: Annotated[_Columns, typer.Option(help="Column that is no feature; repeat.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Column that says who labelled a row.")] = None,
    annotations: Annotated[
        _Columns, typer.Option(help="Column of one annotator's labels; repeat, or separate by commas.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="zero_one, log, brier, squared or absolute.")] = None,
    seeds: Annotated[int, typer.Option(help="Refits behind the line of model variance.")] = 5,
    n_jobs: Annotated[int | None, typer.Option("--n-jobs", help="Parallel refits; -1 is all cores.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickle, which can run code.")
    ] = False,
    config: Annotated[
        File, typer.Option(help="An audit.toml to repeat, in place of all above but --n-jobs.")
    ] = None,
    fail_on: FailOn = None,
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "report/",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Split a model's loss into an error budget, and write the report."""
    limits = _limits(fail_on or [])
    check_out(out, "budget.json", overwrite)
    from corrigible.audit import AuditSettings

    if config is not None:
        settings = AuditSettings.from_toml(config)
        if n_jobs is not None:  # how many fits run side by side changes nothing but the time
            settings = replace(settings, n_jobs=n_jobs)
    else:
        for flag, value in (("--test", test), ("--target", target)):
            if value is None:
                raise InvalidParameterError(f"An audit needs {flag}. See corrigible audit --help.")
        assert test is not None
        assert target is not None
        settings = AuditSettings(
            test=test, target=target, train=train, production=production, model=model,
            proba_columns=names_in(proba_columns), prediction_column=prediction_column, previous=previous, id=row_id,
            groups=tuple(group or ()), drop=tuple(drop or ()), annotator=annotator,
            annotations=names_in(annotations), loss=loss, seeds=seeds, n_jobs=n_jobs, seed=seed,
            trust_pickle=trust_pickle,
        )  # fmt: skip
    run_and_tell(settings, out, overwrite, quiet, limits)


def _limits(given: list[str]) -> dict[str, float]:
    """Return line to points from ``LINE=POINTS``."""
    from corrigible.audit import LINE_IDS

    limits = {}
    for one in given:
        line, _, points = one.partition("=")
        check_known(line, (*LINE_IDS, "total", "rest"), "line")
        try:
            limits[line] = float(points)
        except ValueError:
            limits[line] = float("nan")
        if limits[line] != limits[line]:
            raise InvalidParameterError(f"--fail-on must be LINE=POINTS with a number. Got {one!r}.")
    return limits


def run_and_tell(settings: Any, out: str, overwrite: bool, quiet: bool, limits: dict[str, float]) -> None:
    """Audit, write the report, and print the budget. Exits with 1 where a line exceeds its limit."""
    from corrigible.audit import run_audit

    report = run_audit(settings, out=out, quiet=quiet)
    page = report.save(out, overwrite=overwrite)
    budget = report.budget
    rows = [(line.title, *_points(line), line.basis.replace("_", " ")) for line in budget.lines]
    rows = [("Total", span(budget.total), ""), *rows, ("Rest", span(budget.rest), "")]
    show(text_table((f"{budget.loss} loss", "points [95 %]", "basis"), rows))
    for warning in report.chain.problem.warnings:
        say(warning)
    if loss := budget.forecast.get("loss"):
        show(f"Production is expected to lose {span(loss)}, the test rows lost {budget.total['value']:.4f}.")
    show(f"Report: {page}")
    over = [(n, v, limits[n]) for n, v in _values(budget).items() if n in limits and v > limits[n]]
    for name, value, limit in over:
        say(f"{name} has {value:.4g} points, more than the {limit:g} of --fail-on.")
    if over:
        raise typer.Exit(1)


def _values(budget: Any) -> dict[str, float]:
    lines = {line.id: line.points for line in budget.lines if line.points is not None}
    return {**lines, "total": budget.total["value"], "rest": budget.rest["value"]}


def _points(line: Any) -> tuple[str]:

    return ("–" if line.points is None else span({"value": line.points, "low": line.low, "high": line.high}),)


def demo(out: Out = "demo-report/", overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Audit the bundled data."""
    check_out(out, "budget.json", overwrite)
    from corrigible.audit import AuditSettings
    from corrigible.datasets import demo_files

    run_and_tell(AuditSettings(**demo_files()), out, overwrite, quiet, {})


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
    check_out(out, "verification.json", overwrite)
    from corrigible.audit import fix_folder

    done = fix_folder(
        report, [r.strip() for r in remedies.split(",") if r.strip()], tolerance=tolerance, force=force, quiet=quiet
    )
    page = done.save(out, overwrite=overwrite)
    rows = [(r["id"], *(f"{r[k]['value']:.4f}" for k in ("before", "after")), span(r["change"]),
             r["negative_flips"], r["positive_flips"]) for r in done.verification["remedies"]]  # fmt: skip
    total = done.verification["total"]
    rows.append(("all", *(f"{total[k]['value']:.4f}" for k in ("before", "after")), span(total["change"]),
                 total["negative_flips"], total["positive_flips"]))  # fmt: skip
    show(
        text_table(("remedy", "before", "after", "change", "turned wrong", "turned right"), rows),
        f"Verified: {page}",
    )
