"""Pages made from cards, papers and results when the documentation is built, and what autodoc leaves out."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import changelog  # tools/changelog.py
import corrigible
from corrigible._card import Card
from corrigible._registry import method_rooms
from corrigible.papers import STATUSES, index, results, statuses
from corrigible.papers._evidence import bar

TITLES = {
    "compare": "Comparing versions and models",
    "data": "Errors in data",
    "editing": "Editing a network's weights",
    "fairness": "Between groups",
    "merging": "Merging weights",
    "scaling": "More data, more scale",
    "shift": "Shift, and no labels",
    "uncertainty": "Calibration and uncertainty",
}
# Public modules that hold no methods, in the order in which a reader meets them.
MODULES = ("audit", "watch", "models", "datasets", "report", "papers", "library", "web", "testing", "errors")


def write_pages(app: Any) -> None:
    """Write every generated page; a page that did not change is left alone, so that Sphinx need not read it."""
    source = Path(app.srcdir)
    cards = [corrigible.card(name) for name in corrigible.list_methods()]
    pages = {f"rooms/{room}.rst": room_page(room, [c for c in cards if c.room == room]) for room in method_rooms()}
    pages |= {f"rooms/methods/{c.name}.rst": method_page(c) for c in cards}
    pages |= {f"generated/{page_of(name)}.rst": module_page(name) for name in MODULES}
    pages["generated/corrigible.rst"] = top_page()
    pages["generated/papers.rst"] = papers_page()
    pages["generated/evidence.rst"] = evidence_page()
    root = source.parent
    pages["generated/contributing.md"] = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pages["generated/changelog.md"] = changelog_page(root)
    for name, text in pages.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in (source / "rooms").rglob("*.rst"):  # a method that was renamed leaves no page behind
        if path.relative_to(source).as_posix() not in pages:
            path.unlink()


# --- reStructuredText -----------------------------------------------------------------------------------------


def heading(text: str, mark: str = "=") -> str:
    return f"{text}\n{mark * max(len(text), 3)}\n"


def escape(text: Any) -> str:
    """Return plain text: nothing in it is markup, but for the `code` that cards and claims may hold."""
    text = re.sub(r"([\\*|_])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r"`+([^`]*)`+", lambda m: "``" + m.group(1).replace("\\", "") + "``", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    """Return a list table; cells are reStructuredText already."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in [columns, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def documented(path: str, obj: Any) -> str:
    """Return the directive that documents a class, a function or a constant."""
    if inspect.isclass(obj):
        return f".. autoclass:: {path}\n   :members:\n"
    if callable(obj):
        return f".. autofunction:: {path}\n"
    return f".. autodata:: {path}\n"


# --- methods --------------------------------------------------------------------------------------------------


def room_page(room: str, cards: list[Card]) -> str:
    """Return the page of a room: what it is for, how to choose, its methods."""
    doc = (importlib.import_module(f"corrigible.{room}").__doc__ or "").strip()
    parts = [heading(TITLES.get(room, room.capitalize())), f"``corrigible.{room}``: {escape(doc)}\n"]
    if not cards:
        return "\n".join([*parts, "No methods yet.\n"])
    rows = [(f":doc:`methods/{c.name}`", escape(c.use_when), escape(c.avoid_when), escape(c.cost)) for c in cards]
    parts += [
        heading("How to choose", "-"),
        table(("method", "use when", "avoid when", "cost"), rows, (20, 32, 32, 16)),
    ]
    parts += [
        heading("Summary", "-"),
        f".. currentmodule:: corrigible.{room}\n",
        ".. autosummary::\n   :nosignatures:\n",
    ]
    parts += [*(f"   {name}" for c in cards for name in (c.obj, *c.also)), ""]
    parts += [".. toctree::\n   :hidden:\n", *(f"   methods/{c.name}" for c in cards), ""]
    return "\n".join(parts)


def method_page(card: Card) -> str:
    """Return the page of a method: its card, documentation, evidence and examples."""
    papers = ", ".join(f"{escape(index()[s].title)} (``{s}``)" for s in card.papers) or "see References"
    source = f"`{card.source} <{card.source}>`__" if card.source else "none known"
    facts = [
        ("what", card.kind.replace("_", " ")),
        ("papers", papers),
        ("authors' code", source),
        ("differs from the paper", escape(card.differs) or "no"),
        ("takes", escape(card.inputs)),
        ("cost", escape(card.cost)),
        ("random", "yes" if card.stochastic else "no"),
        ("extras", ", ".join(card.requires) or "none"),
        ("measured claims", ", ".join(f"``{c}``" for c in card.claims) or "those of its kind"),
        ("use when", escape(card.use_when)),
        ("avoid when", escape(card.avoid_when)),
    ]
    room = importlib.import_module(f"corrigible.{card.room}")
    parts = [heading(card.obj), table(("card", f"``{card.name}``"), facts, (22, 78))]
    for name in (card.obj, *card.also):
        parts.append(documented(f"corrigible.{card.room}.{name}", getattr(room, name)))
    parts.append(heading("Evidence", "-"))
    measured = [r for r in results().values() if card.name in r["methods"]]
    parts += [evidence_of(r) for r in measured] or ["None yet.\n"]
    parts += [heading("Examples that use it", "-")] if has_examples(card) else []
    parts += [f".. minigallery:: corrigible.{card.room}.{card.obj}\n"] if has_examples(card) else []
    return "\n".join(parts)


def has_examples(card: Card) -> bool:
    """Return whether an example of the gallery imports the method."""
    folder = Path(__file__).parents[2] / "examples"
    pattern = re.compile(rf"from corrigible\.{card.room} import [^\n]*\b{card.obj}\b")
    return any(pattern.search(p.read_text(encoding="utf-8")) for p in folder.glob("plot_*.py"))


def module_page(name: str) -> str:
    """Return the page of a public module that holds no methods."""
    module = importlib.import_module(f"corrigible.{name}")
    doc = inspect.getdoc(module) or ""
    public = getattr(module, "__all__", None) or [
        n for n, obj in vars(module).items() if inspect.isclass(obj) and obj.__module__ == module.__name__
    ]
    parts = [heading(f"corrigible.{name}"), doc + "\n", f".. currentmodule:: corrigible.{name}\n"]
    parts += [documented(f"corrigible.{name}.{n}", getattr(module, n)) for n in public]
    return "\n".join(parts)


def page_of(name: str) -> str:
    return "papers_module" if name == "papers" else name  # generated/papers is the list of papers


def top_page() -> str:
    """Return the page of what ``import corrigible`` offers."""
    functions = [n for n in corrigible.__all__ if n not in corrigible._ROOMS and callable(getattr(corrigible, n))]
    parts = [heading("corrigible"), (corrigible.__doc__ or "") + "\n", ".. currentmodule:: corrigible\n"]
    return "\n".join(parts + [f".. autofunction:: corrigible.{n}\n" for n in functions])


# --- papers and evidence --------------------------------------------------------------------------------------


def papers_page() -> str:
    """Return the paper index by room, with computed status."""
    computed = statuses()
    counts = Counter(computed.values())
    told = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    parts = [
        heading("Papers"),
        f"The methods come from {len(index())} papers: {told}. A status is computed from what was measured, never "
        "typed: *planned* (no method yet), *draft* (the contract tests pass), *checked* (an independent reference "
        "agrees), *reproduced* or *not reproduced* (the paper's claim, measured here). The same list is printed by "
        "``corrigible papers``, one paper by ``corrigible papers show SLUG``.\n",
    ]
    for room in sorted({p.room for p in index().values()}):
        papers = [p for p in index().values() if p.room == room]
        rows = [
            (f"``{p.slug}``", escape(p.title), p.tier, p.kind, computed[p.slug], ", ".join(map(link, p.methods)))
            for p in papers
        ]
        parts += [heading(room.capitalize(), "-")]
        parts += [table(("slug", "title", "tier", "kind", "status", "methods"), rows, (14, 42, 6, 10, 12, 16))]
    return "\n".join(parts)


def link(method: str) -> str:
    return f":doc:`/rooms/methods/{method}`"


def evidence_page() -> str:
    """Return all evidence: an overview, then each claim with what was measured."""
    found = results()
    parts = [
        heading("Evidence"),
        "What was measured of the claims that the methods rest on. A script in ``evidence/`` states the claim, the "
        "protocol and the bar, and writes its measurements with hashes of the sources that they belong to. Checks "
        "fail when a result is older than its method. A claim that did not hold is shown with its numbers.\n",
    ]
    rows = [
        (f"`{name}`_", r["status"], ", ".join(map(link, r["methods"])), f"{r['seconds']} s", r["date"])
        for name, r in found.items()
    ]
    parts += [table(("evidence", "status", "methods", "took", "measured"), rows, (24, 16, 36, 10, 14))]
    for name, result in found.items():
        parts += [f".. _{name}:\n", heading(name, "-"), evidence_of(result)]
    return "\n".join(parts)


def evidence_of(result: dict[str, Any]) -> str:
    """Return claim, protocol and measurements of one result."""
    missed = result["not_reproduced"]
    rows = []
    for m in result["measurements"]:
        span = (
            f"{number(m['low'])} to {number(m['high'])}" if m["low"] is not None and m["high"] is not None else ""
        )
        met = "" if m["kind"] == "note" else "yes" if m["met"] else "**no**"
        detail = "; ".join(filter(None, (m["detail"], missed.get(m["name"], ""))))
        rows.append((escape(m["name"]), m["kind"], number(m["value"]), span, bar(m), met, escape(detail)))
    columns = ("measured", "kind", "value", "interval", "bar", "met", "detail")
    return "\n".join(
        [
            f"**{escape(result['claim'])}** Status: *{result['status']}*.\n",
            escape(result["protocol"]) + "\n",
            table(columns, rows, (24, 9, 9, 14, 13, 6, 25)),
        ]
    )


def changelog_page(root: Path) -> str:
    """Return the changelog, with the notes that wait for a release on top."""
    written = (root / "CHANGELOG.md").read_text(encoding="utf-8").removeprefix(changelog.TITLE)
    notes = changelog.read_notes(root / "changes")
    waiting = changelog.section(notes, "Unreleased") if any(notes.values()) else ""
    return f"{changelog.TITLE}\n{waiting}\n{written}"


# --- autodoc --------------------------------------------------------------------------------------------------


def leave_out(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn adds to every estimator for metadata routing."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Any) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", write_pages, priority=100)  # before the gallery looks for files
    app.connect("autodoc-skip-member", leave_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
