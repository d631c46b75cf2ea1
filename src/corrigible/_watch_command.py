"""`corrigible watch`: a model in production, chunk by chunk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from corrigible._terminal import check_out, counted, names_in, show, text_table
from corrigible.errors import InvalidParameterError

_Names = list[str] | None
_ALERT, _LISTED = 3, 20


def watch(
    files: Annotated[_Names, typer.Argument(help="Further production files, in order.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Labelled rows the model was not trained on: CSV, Parquet or Feather.")
    ] = None,
    production: Annotated[_Names, typer.Option(help="Rows to watch, in order: path or glob; repeat.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Column of labels; production may lack it, or have it in part.")
    ] = None,
    proba_columns: Annotated[_Names, typer.Option(help="Probability columns, in class order.")] = None,
    prediction_column: Annotated[str | None, typer.Option(help="Predicted label, or value.")] = None,
    metrics: Annotated[
        _Names, typer.Option(help="accuracy, roc_auc, f1, precision, recall, …; mae, rmse, …")
    ] = None,
    by: Annotated[str | None, typer.Option(help="cbpe, mcbpe, importance or direct_loss.")] = None,
    chunk: Annotated[
        str, typer.Option(help="Period (6h, 1D, 1W, 1M), rows (50000) or parts (12chunks).")
    ] = "10chunks",
    time: Annotated[str | None, typer.Option(help="Column that dates the rows; it must not fall.")] = None,
    features: Annotated[_Names, typer.Option(help="Inputs, for all but cbpe; by default all columns.")] = None,
    drop: Annotated[_Names, typer.Option(help="Column that is no input; repeat.")] = None,
    alpha: Annotated[float, typer.Option(help="Chance of any false alert, over all chunks.")] = 0.05,
    spread: Annotated[
        str, typer.Option(help="rows, or chunks: what the reference's own chunks differ by.")
    ] = "rows",
    business_value: Annotated[
        str | None,
        typer.Option(metavar="'0,-1;-5,2'", help="Value of a row: a row a label, a column a prediction."),
    ] = None,
    allow_new_categories: Annotated[
        bool, typer.Option("--allow-new-categories", help="Take categories that the reference does not have.")
    ] = False,
    state: Annotated[str | None, typer.Option(help="File that remembers closed chunks between runs.")] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="With --state: the last chunk is whole, close it.")
    ] = False,
    fail_on_alert: Annotated[
        bool, typer.Option("--fail-on-alert", help="Exit with 3 if this run finds an alert.")
    ] = False,
    n_jobs: Annotated[int | None, typer.Option("--n-jobs", help="Parallel fits; -1 is all cores.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "watch/",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Estimate a model's performance over time, with or without labels, and alert where it moved."""
    given = [*(production or []), *(files or [])]
    for flag, value in (("--reference", reference), ("--production", given), ("--target", target)):
        if not value:
            raise InvalidParameterError(f"A watch needs {flag}. See corrigible watch --help.")
    assert reference is not None
    assert target is not None
    check_out(out, "watch.json", overwrite)
    if state is not None and Path(out).absolute() in Path(state).absolute().parents:
        raise InvalidParameterError("--state must stand outside of --out, which is replaced as a whole.")
    from corrigible.watch import watch as run

    report = run(
        reference, given, target=target, proba_columns=names_in(proba_columns), prediction_column=prediction_column,
        metrics=names_in(metrics) or None, by=by, chunk=chunk, time=time, features=names_in(features) or None,
        drop=names_in(drop), alpha=alpha, spread=spread, business_value=_matrix(business_value),
        allow_new_categories=allow_new_categories, state=state, complete=complete, n_jobs=n_jobs, seed=seed,
        quiet=quiet,
    )  # fmt: skip
    report.shown.update(_shown(report.settings, reference, given, state, out))
    page = report.save(out, overwrite=overwrite)
    show(_listed(report), *report.warnings, f"Report: {page}")
    fresh = [a for a in report.alerts if a["new"]]
    if fail_on_alert and fresh:
        raise typer.Exit(_ALERT)


def _listed(report: Any) -> Any:
    """Return the alerts as a table, or the words that there is none."""
    n, alerts = report.summary["tested"], report.alerts
    if not alerts:
        return f"No alert in {counted(n, 'tested chunk')}."
    said = {True: "worse", False: "better", None: "moved"}
    rows = [(a["chunk"], a["metric"], a["kind"], f"{a['value']:.4g}", f"{a['band_low']:.4g} to {a['band_high']:.4g}",
             said[a["worse"]]) for a in alerts[-_LISTED:]]  # fmt: skip
    last = f"; the last {_LISTED}" if len(alerts) > _LISTED else ""
    title = f"{counted(len(alerts), 'alert')} in {counted(n, 'tested chunk')}{last}"
    return text_table(("chunk", "metric", "kind", "value", "expected", "change"), rows, title=title)


def _matrix(text: str | None) -> Any:
    """Return the numbers of ``0,-1;-5,2``; what cannot be read is left for the check of the parameter."""
    if text is None:
        return None
    try:
        return [[float(cell) for cell in row.split(",")] for row in text.split(";")]
    except ValueError:
        return text


def _shown(
    settings: dict[str, Any], reference: str, production: list[str], state: str | None, out: str
) -> dict[str, str]:
    """Return the page's title, the command that repeats the run, and those that it proposes."""
    words = ["corrigible", "watch", "--reference", reference]
    words += [w for file in production for w in ("--production", file)]
    for name, value in settings.items():
        if value in (None, [], False):
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif name == "business_value":
            words += [flag, ";".join(",".join(f"{v:g}" for v in row) for row in value)]
        else:
            words += [flag, ",".join(value) if isinstance(value, list) else str(value)]
    words += ["--state", state] if state is not None else []
    words += ["--out", out]
    audit = ["corrigible", "audit", "--test", reference, "--target", settings["target"]]
    if settings["proba_columns"]:
        audit += ["--proba-columns", ",".join(settings["proba_columns"])]
    else:
        audit += ["--prediction-column", str(settings["prediction_column"])]
    audit += ["--production", production[-1]]
    text = (
        "Run the same command as rows come, with all files from the first on: closed chunks are not computed again, and "
        "late labels are taken in."
        if state is not None
        else "To go on as rows come, add a state: it keeps the chance of a false alert over all runs together."
    )
    again = [*words, *([] if state is not None else ["--state", "watch.jsonl"]), "--overwrite"]
    return {
        "title": Path(production[-1]).name,
        "command": shlex.join(words),
        "audit_command": shlex.join(audit),
        "continue_text": text,
        "continue_command": "" if settings["chunk"].endswith("chunks") else shlex.join(again),
    }
