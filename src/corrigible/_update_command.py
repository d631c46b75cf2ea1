"""`corrigible update`: the mixture of two versions that turns fewest right answers wrong."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from corrigible._terminal import emit, names_in, show, text_table


def update(
    old: Annotated[str, typer.Argument(help="Old model: skops file, or folder of a text classifier.")],
    new: Annotated[str, typer.Argument(help="New model, trained further from the old one.")],
    validation: Annotated[str, typer.Option(help="Labelled rows neither was trained on, to choose by.")],
    target: Annotated[str, typer.Option(help="Column of labels.")],
    out: Annotated[str, typer.Option("--out", help="Skops file or folder to write, as the models are.")],
    test: Annotated[str | None, typer.Option(help="Further labelled rows, to measure what was chosen.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of texts, for text classifiers.")] = "text",
    drop: Annotated[list[str] | None, typer.Option(help="Column that is no feature; repeat.")] = None,
    fisher: Annotated[
        bool, typer.Option("--fisher", help="Weigh weights by their Fisher information (linear models).")
    ] = False,
    tolerance: Annotated[float, typer.Option(help="Accuracy that may be lost against the new model.")] = 0.0,
    alphas: Annotated[int, typer.Option(help="Shares of the old model that are tried.")] = 21,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickle, which can run code.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Interpolate an old and a new classifier so that the fewest right answers turn wrong, at no loss of accuracy."""
    from corrigible.merging._update import update_files

    report = update_files(
        old, new, validation, out, target=target, test=test, text_column=text_column, drop=names_in(drop), fisher=fisher,
        tolerance=tolerance, n_alphas=alphas, trust_pickle=trust_pickle,
    )  # fmt: skip
    if as_json:
        return emit(report)
    rows = [(name, *(_percent(r[k]) for k in ("accuracy", "accuracy_new", "negative_flips", "negative_flips_new")))
            for name, r in report["rows"].items()]  # fmt: skip
    columns = ("rows", "accuracy", "of the new model", "turned wrong", "with the new model")
    show(text_table(columns, rows), f"Share of the old model: {report['alpha']:.2f}. Written: {report['out']}")


def _percent(value: Any) -> str:
    return f"{value:.2%}"
