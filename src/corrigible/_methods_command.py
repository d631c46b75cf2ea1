"""`corrigible methods` and `corrigible cite`: what the library can do, and what it rests on."""

from __future__ import annotations

from typing import Annotated

import typer

from corrigible._terminal import AsJson, KindName, RoomName, check_known, counted, emit, show, text_table


def methods(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a shell pattern such as '*_curve'.")] = "*",
    room: RoomName = None,
    kind: KindName = None,
    as_json: AsJson = False,
) -> None:
    """List the methods, with what each computes."""
    from corrigible import card, list_methods
    from corrigible._card import KINDS
    from corrigible._registry import method_rooms

    check_known(kind, KINDS, "kind")
    check_known(room, method_rooms(), "room")
    if not set(pattern) & set("*?["):
        pattern = f"*{pattern}*"
    cards = [card(name) for name in list_methods(pattern, kind=kind, room=room)]
    if as_json:
        return emit([c.to_dict() for c in cards])
    rows = [(c.name, c.room, c.kind, c.obj, c.summary) for c in cards]
    show(text_table(("name", "room", "kind", "object", "what it does"), rows), counted(len(rows), "method"))


def cite(name: str) -> None:
    """Print the BibTeX entries that a method rests on."""
    from corrigible import cite as entries

    print(entries(name))
