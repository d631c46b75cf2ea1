"""The paper index: a row a paper, its status computed from evidence."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from corrigible._registry import card, list_methods
from corrigible.errors import UnknownNameError, nearest

STATUSES = ("planned", "draft", "checked", "reproduced", "not reproduced")


@dataclass(frozen=True)
class Paper:
    """A paper of the index.

    Attributes
    ----------
    slug : str
        Short name.
    tier : {"A", "B", "C", "D"}
        A the product rests on it, B verified on small real models, C scaled down, D survey.
    kind : str
        method, measure, bench, recipe, finding or survey.
    room : str
        Where its method stands.
    title : str
        Title.
    build : str
        What is built of it here.
    evidence : str
        What must be shown.
    """

    slug: str
    tier: str
    kind: str
    room: str
    title: str
    build: str
    evidence: str

    @property
    def methods(self) -> list[str]:
        """Names of the methods that implement it."""
        return list(_methods().get(self.slug, ()))

    @property
    def status(self) -> str:
        """Computed status; see `status`. For many papers use `statuses`, which reads the results once."""
        return status(self.slug)

    def to_dict(self) -> dict[str, Any]:
        """Return the row, with the names of its methods, as a JSON-ready dict."""
        return {**asdict(self), "methods": self.methods}


@functools.lru_cache(maxsize=1)
def _methods() -> dict[str, list[str]]:
    """Return the names of methods by paper, in one pass over the cards."""
    found: dict[str, list[str]] = {}
    for name in list_methods():
        for slug in card(name).papers:
            found.setdefault(slug, []).append(name)
    return found


@functools.lru_cache(maxsize=1)
def index() -> dict[str, Paper]:
    """Return all papers by slug."""
    text = resources.files("corrigible.papers").joinpath("index.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["slug"]: Paper(**row) for row in rows}


def paper(slug: str) -> Paper:
    """Return one paper.

    Parameters
    ----------
    slug : str
        Short name of the paper.

    Raises
    ------
    UnknownNameError
        If there is no such slug.
    """
    if slug not in index():
        raise UnknownNameError(f"There is no paper {slug!r} in the index.{nearest(slug, index())}")
    return index()[slug]


def search(words: str) -> list[Paper]:
    """Return the papers whose row holds all the words, in any case.

    Parameters
    ----------
    words : str
        Words, separated by blanks.

    Examples
    --------
    >>> from corrigible.papers import search
    >>> [p.slug for p in search("numerical response")]
    ['num_errors']
    """
    wanted = words.lower().split()
    return [p for p in index().values() if all(w in " ".join(_fields(p)).lower() for w in wanted)]


def _fields(p: Paper) -> tuple[str, ...]:
    return (p.slug, p.kind, p.room, p.title, p.build, p.evidence)


def status(slug: str) -> str:
    """Return the status of a paper, from what was measured.

    Parameters
    ----------
    slug : str
        Short name of the paper.

    Returns
    -------
    str
        ``planned`` (no method yet), ``draft`` (contracts pass), ``checked`` (an independent reference agrees),
        ``reproduced`` or ``not reproduced`` (the paper's claim, measured here).

    Raises
    ------
    UnknownNameError
        If there is no such slug.
    """
    return _computed([paper(slug)])[slug]


def statuses() -> dict[str, str]:
    """Return the status of every paper by slug, reading the results once."""
    return _computed(index().values())


def _computed(papers: Iterable[Paper]) -> dict[str, str]:
    from corrigible.papers._evidence import results

    measured: dict[str, set[str]] = {}
    for result in results().values():
        for slug in result["papers"]:
            measured.setdefault(slug, set()).add(result["status"])
    return {p.slug: _worst(measured.get(p.slug)) or ("draft" if p.methods else "planned") for p in papers}


def _worst(found: set[str] | None) -> str:
    """Return the status that several results give: a claim that failed anywhere is not hidden."""
    return next((value for value in reversed(STATUSES) if value in (found or ())), "")
