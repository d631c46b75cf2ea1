"""The command line: what `corrigible` offers. What a command needs is imported when it runs, so that help is quick.

A command is one function in a module ``_<name>_command.py``. It prints its result to standard output
(`corrigible._terminal`), and lets a `CorrigibleError` pass: `_Commands` turns it into one line and an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from corrigible._audit_command import audit, demo, fix
from corrigible._clean_command import clean
from corrigible._compare_command import compare
from corrigible._digest_command import bounces, digest
from corrigible._edit_command import ask, edit, unedit
from corrigible._evidence_command import evidence_app
from corrigible._ingest_command import backup, export, ingest, take_in
from corrigible._merge_command import merge
from corrigible._methods_command import cite, methods
from corrigible._papers_command import papers_app
from corrigible._serve_command import serve
from corrigible._terminal import say
from corrigible._update_command import update
from corrigible._user_command import users_app
from corrigible._watch_command import watch
from corrigible.errors import CorrigibleError, RemedyRefusedError

_FAILED, _REFUSED, _INTERRUPTED, _PIPE_CLOSED = 2, 3, 130, 141


class _Commands(TyperGroup):
    """A group whose commands end in one line on standard error and an exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()  # so that a closed pipe shows here, not at the interpreter's end
            return value
        except CorrigibleError as error:
            say(str(error))
            raise typer.Exit(_REFUSED if isinstance(error, RemedyRefusedError) else _FAILED) from error
        except KeyboardInterrupt:
            say("interrupted")
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


_COMMANDS: tuple[Callable[..., None], ...] = (
    ask, audit, cite, clean, compare, demo, edit, fix, merge, methods, serve, unedit, update, watch,
)  # fmt: skip
_OF_PAPERS: tuple[Callable[..., None], ...] = (backup, bounces, digest, export, ingest)
for _command in _COMMANDS:
    app.command()(_command)
for _command in _OF_PAPERS:
    papers_app.command()(_command)
papers_app.command("import")(take_in)
papers_app.add_typer(users_app, name="user")
app.add_typer(papers_app, name="papers")
app.add_typer(evidence_app, name="evidence")


def main() -> None:
    """Run the command line."""
    app(prog_name="corrigible")
