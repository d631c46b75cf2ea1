"""`corrigible clean`: the data part of an audit alone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from corrigible._terminal import check_out, names_in, show, text_table

_Columns = list[str] | None


def clean(
    file: Annotated[str, typer.Argument(help="Table: CSV, Parquet or Feather, path or glob.")],
    target: Annotated[
        str | None, typer.Option(help="Column to predict, whose labels or values are judged.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Column of the split; copies across splits are leaks.")] = None,
    group: Annotated[str | None, typer.Option(help="Column that says who or what a row is of.")] = None,
    drop: Annotated[
        _Columns, typer.Option(help="Column that is no feature, such as an identifier; repeat.")
    ] = None,
    annotator: Annotated[str | None, typer.Option(help="Column that says who labelled a row.")] = None,
    annotations: Annotated[
        _Columns, typer.Option(help="Column of one annotator's labels; repeat, or separate by commas.")
    ] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Drop rows equal to an earlier one; as --apply duplicate.")
    ] = False,
    apply: Annotated[_Columns, typer.Option(help="Kind of issue to act on; repeat, or separate by commas.")] = None,
    n_jobs: Annotated[int | None, typer.Option("--n-jobs", help="Parallel work; -1 is all cores.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "cleaned/",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """List what seems wrong in a table, row by row and cell by cell; change only what is asked."""
    check_out(out, "issues.parquet", overwrite)
    from corrigible._utils.tables import check_column, read_table
    from corrigible.audit._clean import KINDS
    from corrigible.audit._clean import clean as run

    table = read_table(file, by="FILE")
    for flag, name in (("--target", target), ("--split", split), ("--group", group)):
        if name is not None:
            check_column(name, table.columns, by=f"FILE, as {flag} names it,")
    kinds = [*(["duplicate"] if drop_duplicates else []), *names_in(apply)]
    report = run(
        table,
        target,
        split=split,
        group=group,
        drop=names_in(drop),
        annotator=annotator,
        annotations=names_in(annotations),
        apply=kinds,
        n_jobs=n_jobs,
        seed=seed,
        quiet=quiet,
    )
    report.settings = _settings(
        file=file,
        target=target,
        split=split,
        group=group,
        drop=names_in(drop),
        annotator=annotator,
        annotations=names_in(annotations),
        apply=kinds,
        seed=seed,
    )
    page = report.save(out, overwrite=overwrite)
    counts = report.summary["issues"]
    rows = [(kind, str(count), KINDS[kind][0]) for kind, count in counts.items()]
    dropped, changed = report.summary["rows_dropped"], report.summary["rows_changed"]
    done = (
        f"Applied: {', '.join(kinds)}; {dropped} rows dropped, {changed} changed." if kinds else "Nothing changed."
    )
    show(text_table(("kind", "issues", "meaning"), rows), done, f"Report: {page}")


def _settings(**given: Any) -> dict[str, Any]:
    """Return the settings, and the command that repeats them."""
    import shlex

    words = ["corrigible", "clean", given["file"]]
    for name in ("target", "split", "group", "annotator"):
        words += [f"--{name}", given[name]] if given[name] is not None else []
    for name in ("drop", "annotations", "apply"):
        words += [word for value in given[name] for word in (f"--{name}", value)]
    words += ["--seed", str(given["seed"])]
    shown = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v not in (None, (), [])}
    return {**shown, "title": f"Data audit of {given['file']}", "command": shlex.join(words)}
