"""`corrigible merge`: several models of one architecture become one."""

from __future__ import annotations

from typing import Annotated

import typer

from corrigible._terminal import check_out, emit, show


def merge(
    config: Annotated[str, typer.Argument(help="Recipe: YAML as mergekit reads it, with local models.")],
    out: Annotated[str, typer.Option("--out", help="Folder to write.")],
    threads: Annotated[int | None, typer.Option(help="Tensors merged at once; by default the cores.")] = None,
    shard_gb: Annotated[float, typer.Option("--shard-gb", help="Size of a file of weights.")] = 5.0,
    text: Annotated[str | None, typer.Option(help="File whose text perplexity is measured on.")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Load the result and measure its perplexity.")
    ] = True,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Read pickled .bin files, which can run code.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier merge in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Merge models by a recipe into a folder that loads as they do."""
    from corrigible.merging._folder import MARKER

    check_out(out, MARKER, overwrite)
    from corrigible.merging import merge_models

    report = merge_models(
        config, out, n_threads=threads, shard_bytes=int(shard_gb * 1e9), trust_pickle=trust_pickle, check=check,
        text=None if text is None else _text(text), overwrite=overwrite, rng=seed,
    )  # fmt: skip
    if as_json:
        return emit(report.to_dict())
    lines = [
        f"{report.method}: {report.n_tensors} tensors, {report.n_parameters:,} parameters in {report.seconds:.1f} s, "
        f"all finite. Merged: {report.out}"
    ]
    if report.perplexities:
        lines += [f"perplexity {value:10.3f}  {name}" for name, value in report.perplexities.items()]
    elif check:
        lines.append(f"Perplexity was not measured: {report.unchecked}.")
    show(*lines)


def _text(path: str) -> str:
    from pathlib import Path

    from corrigible.errors import DataError

    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The text {path!r} cannot be read ({type(error).__name__}).") from error
