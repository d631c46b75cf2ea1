"""`corrigible compare`: two versions on the same rows, and a verdict."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from corrigible._terminal import check_out, emit, names_in, show, text_table

_Columns = list[str] | None
_REFUSED = 1


def compare(
    old: Annotated[
        str,
        typer.Argument(
            help="Old version: model (skops), file of predictions, or columns of --test separated by commas."
        ),
    ],
    new: Annotated[str, typer.Argument(help="New version, in any of these forms.")],
    test: Annotated[str, typer.Option(help="Labelled rows: CSV, Parquet or Feather, path or glob.")],
    target: Annotated[str, typer.Option(help="Column of labels or values.")],
    row_id: Annotated[
        str | None, typer.Option("--id", help="Column by which rows of --test and of prediction files are matched.")
    ] = None,
    group: Annotated[_Columns, typer.Option(help="Column whose groups are looked at; repeat.")] = None,
    drop: Annotated[_Columns, typer.Option(help="Column that is no feature; repeat.")] = None,
    prediction_column: Annotated[
        str | None, typer.Option(help="Column of prediction files with labels or values.")
    ] = None,
    proba_columns: Annotated[
        _Columns, typer.Option(help="Columns of prediction files with probabilities, in class order.")
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="A single column holds the probability of the second class.")
    ] = False,
    loss: Annotated[str | None, typer.Option(help="zero_one, log, brier, squared or absolute.")] = None,
    match: Annotated[
        str, typer.Option(help="How answers in text are compared: exact, normalised, or graded by token_f1.")
    ] = "exact",
    tolerance: Annotated[float, typer.Option(help="Rise of the mean loss that is no harm.")] = 0.0,
    fail_on: Annotated[
        _Columns,
        typer.Option(
            "--fail-on", metavar="MEASURE=LIMIT", help="Refuse if exceeded, as negative_flips=0.01; repeat."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse also where the rows cannot tell.")] = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickle, which can run code.")
    ] = False,
    costs: Annotated[bool, typer.Option(help="Measure what models cost.")] = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    out: Annotated[str | None, typer.Option("--out", help="Folder to write.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two versions on the same rows: what turned wrong, where, and a verdict. Exits with 1 if it is refused."""
    if out is not None:
        check_out(out, "compare.json", overwrite)
    limits = _limits(fail_on or [])
    from corrigible.versions import compare_versions

    report = compare_versions(
        old, new, test, target=target, id=row_id, groups=names_in(group), drop=names_in(drop),
        prediction_column=prediction_column, proba_columns=names_in(proba_columns), proba=proba, loss=loss,
        match=match, tolerance=tolerance, limits=limits, costs=costs, trust_pickle=trust_pickle, seed=seed,
    )  # fmt: skip
    report.settings = {
        "old": old, "new": new, "test": test, "target": target, "id": row_id, "groups": list(names_in(group)),
        "tolerance": tolerance, "loss": report.loss, "match": match, "limits": limits, "seed": seed, "strict": strict,
        "shown": {"title": f"{new} after {old}", "command": _command()},
    }  # fmt: skip
    page = report.save(out, overwrite=overwrite) if out is not None else None
    if as_json:
        emit(report.to_dict())
    else:
        _print(report, page)
    if not report.accepted or (strict and report.verdict == "open"):
        raise typer.Exit(_REFUSED)


def _command() -> str:
    import shlex
    import sys

    return shlex.join(["corrigible", *sys.argv[1:]])


def _limits(given: list[str]) -> dict[str, float]:
    from corrigible.errors import InvalidParameterError

    limits = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            limits[name] = float(value)
        except ValueError:
            raise InvalidParameterError(
                f"--fail-on must be MEASURE=LIMIT with a number, such as negative_flips=0.01. Got {one!r}."
            ) from None
    return limits


def _print(report: Any, page: Any) -> None:
    from corrigible.report._versions_page import LOSS_NAMES
    from corrigible.versions._verdict import VERDICTS

    rows = [
        (LOSS_NAMES[name], f"{c['old']:.4f}", f"{c['new']:.4f}", f"{c['change']:+.4f}",
         f"{c['low']:+.4f} to {c['high']:+.4f}")
        for name, c in report.changes.items()
    ]  # fmt: skip
    f = report.flips
    words = ("wrong", "right") if report.task == "classification" else ("worse", "better")
    low, high = f.negative_interval
    ratios = {n: c["new"] / c["old"] for n, c in report.costs.items() if c["old"]}
    costs = ", ".join(f"{n} {r:.3g}" for n, r in ratios.items())
    lines = [
        f"{f.n_negative} of {report.n} rows turned {words[0]} ({f.negative_rate:.2%}, {low:.2%} to {high:.2%}), "
        f"{f.n_positive} turned {words[1]}.",
        *([f"Costs, new over old: {costs}."] if costs else []),
        *(f"{c['falls'].capitalize()} fell, but {c['rises']} rose." for c in report.contradictions[:3]),
        *report.warnings,
        *(f"{name} is {value:.4g}, above the limit {limit:g}." for name, (value, limit) in report.exceeded.items()),
        f"Verdict: {report.verdict}. {VERDICTS[report.verdict]}"
        + (" The update exceeds a limit." if report.exceeded else ""),
        *([f"Report: {page}"] if page else []),
    ]
    show(text_table(("", "old", "new", "change", "95 % interval"), rows), *lines)
