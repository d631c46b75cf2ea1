"""The command `corrigible audit`, apart from the others for the length of their file."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

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
    from corrigible.cli import _check_out, _names

    limits = _limits(fail_on or [])
    _check_out(out, "budget.json", overwrite)
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
            proba_columns=_names(proba_columns), prediction_column=prediction_column, previous=previous, id=row_id,
            groups=tuple(group or ()), drop=tuple(drop or ()), annotator=annotator,
            annotations=_names(annotations), loss=loss, seeds=seeds, n_jobs=n_jobs, seed=seed,
            trust_pickle=trust_pickle,
        )  # fmt: skip
    run_and_tell(settings, out, overwrite, quiet, limits)


def _limits(given: list[str]) -> dict[str, float]:
    """Return line to points from ``LINE=POINTS``."""
    from corrigible.audit import LINE_IDS
    from corrigible.cli import _one_of

    limits = {}
    for one in given:
        line, _, points = one.partition("=")
        _one_of(line, (*LINE_IDS, "total", "rest"), "line")
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
    from corrigible.cli import _say, _show, _span, _table

    report = run_audit(settings, out=out, quiet=quiet)
    page = report.save(out, overwrite=overwrite)
    budget = report.budget
    rows = [(line.title, *_points(line), line.basis.replace("_", " ")) for line in budget.lines]
    rows = [("Total", _span(budget.total), ""), *rows, ("Rest", _span(budget.rest), "")]
    _show(_table((f"{budget.loss} loss", "points [95 %]", "basis"), rows))
    for warning in report.chain.problem.warnings:
        _say(warning)
    if loss := budget.forecast.get("loss"):
        _show(f"Production is expected to lose {_span(loss)}, the test rows lost {budget.total['value']:.4f}.")
    _show(f"Report: {page}")
    over = [(n, v, limits[n]) for n, v in _values(budget).items() if n in limits and v > limits[n]]
    for name, value, limit in over:
        _say(f"{name} has {value:.4g} points, more than the {limit:g} of --fail-on.")
    if over:
        raise typer.Exit(1)


def _values(budget: Any) -> dict[str, float]:
    lines = {line.id: line.points for line in budget.lines if line.points is not None}
    return {**lines, "total": budget.total["value"], "rest": budget.rest["value"]}


def _points(line: Any) -> tuple[str]:
    from corrigible.cli import _span

    return ("–" if line.points is None else _span({"value": line.points, "low": line.low, "high": line.high}),)
