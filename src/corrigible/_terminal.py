"""What the commands share: options, checks of what is typed, and how a result is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corrigible.errors import UnknownNameError, nearest

if TYPE_CHECKING:
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RoomName = Annotated[str | None, typer.Option("--room", help="Keep one room.")]
KindName = Annotated[str | None, typer.Option("--kind", help="Keep one kind.")]
Out = Annotated[str, typer.Option("--out", help="Folder to write.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")]


def say(line: str) -> None:
    """Print one line to standard error."""
    print(f"corrigible: {' '.join(line.split())}", file=sys.stderr)


def emit(value: Any) -> None:
    """Print a value as JSON to standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def text_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
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


def show(*parts: Any) -> None:
    """Print tables and lines of text; wide where there is no terminal, so that a row stays one line."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=220)
    for part in parts:
        console.print(part)


def counted(n: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def span(value: dict[str, float]) -> str:
    """Return a value with its interval."""
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def names_in(given: list[str] | None) -> tuple[str, ...]:
    """Return column names, given one an option or separated by commas."""
    return tuple(name for one in given or [] for name in one.split(",") if name)


def check_known(value: str | None, known: Iterable[str], what: str) -> None:
    """Refuse a filter's value that nothing has."""
    choices = sorted(set(known))
    if value is not None and value not in choices:
        hint = nearest(value, choices) or f" Known: {', '.join(choices)}."
        raise UnknownNameError(f"There is no {what} {value!r}.{hint}")


def check_out(out: str, marker: str, overwrite: bool) -> None:
    """Refuse an output folder before anything long has run."""
    from corrigible._utils.folders import check_folder

    check_folder(out, marker=marker, overwrite=overwrite)
