"""A paper as a list shows it, and the facets by which papers are found."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

import corrigible
from corrigible.errors import DataError
from corrigible.library._schema import papers, votes
from corrigible.library._search import listed_between
from corrigible.papers import STATUSES, index
from corrigible.web._kinds import DATA, ERRORS, data_of, errors_of
from corrigible.web._measured import results, statuses

# The four questions, and the rooms whose methods answer them.
STAGES = {
    "find": ("data", "compare", "fairness", "explain"),
    "foresee": ("uncertainty", "shift", "scaling"),
    "fix": ("editing", "merging", "decoding", "reasoning", "hallucination", "prompting"),
    "prevent": ("training", "continual", "recommend"),
}


# What a method takes, as its card names it, in words to choose by. "no labels" is a need too: the hardest to meet.
_NEEDS = {
    "labels": r"y|y_true|y classes|labels|label matrix|token labels|correct",
    "probabilities": r"\w*proba|token probabilities|pred_a|pred_b",
    "scores or predictions": r"scores?|prediction|quantiles|loss(es)?|old|new|decisions|performance",
    "the model": r"(estimators?|models?|editors?)( .*)?",
    "its weights": r"tensors|base|recipe",
    "groups": r"groups|attributes?|domain|treatment",
    "several annotators": r"annotations|votes",
}
NEEDS = (*_NEEDS, "no labels")


@functools.cache
def needs(inputs: str) -> frozenset[str]:
    """Return what a method needs, from the inputs of its card."""
    parts = [part.strip() for part in inputs.split(",")]
    found = {need for need, words in _NEEDS.items() if any(re.fullmatch(words, part) for part in parts)}
    return frozenset(found if "labels" in found else {*found, "no labels"})


def cards(connection: sa.Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return what a list shows of each paper, in the order asked for."""
    if not ids:
        return []
    rows = {r.id: r for r in connection.execute(sa.select(papers).where(papers.c.id.in_(ids)))}
    counted = (
        sa.select(votes.c.paper_id, sa.func.sum(votes.c.value))
        .where(votes.c.paper_id.in_(ids))
        .group_by(votes.c.paper_id)
    )
    voted = dict(connection.execute(counted).all())
    known = statuses()
    return [_card(rows[i], int(voted.get(i, 0)), known) for i in ids if i in rows]


def _card(row: Any, voted: int, known: Mapping[str, str]) -> dict[str, Any]:
    own = index().get(row.slug) if row.slug else None
    return {
        "id": row.id, "key": row.key, "title": row.title, "abstract": row.abstract, "authors": row.authors,
        "organisation": row.organisation, "listed": row.listed, "withdrawn": row.withdrawn, "counts": row.counts,
        "categories": row.categories, "votes": voted, "room": own.room if own else "",
        "status": known[row.slug] if own else "", "methods": own.methods if own else [],
        "ingested": not row.key.startswith("index:"),
    }  # fmt: skip


def measured(slug: str | None) -> list[dict[str, Any]]:
    """Return the results of evidence that stand for a paper."""
    return [r for r in results().values() if slug and slug in r["papers"]]


def options() -> dict[str, list[str]]:
    """Return the choices of each facet."""
    return {
        "stage": list(STAGES),
        "room": sorted({p.room for p in index().values()}),
        "status": list(STATUSES),
        "kind": sorted({p.kind for p in index().values()}),
        "needs": list(NEEDS),
        "error": list(ERRORS),
        "data": list(DATA),
    }


def facets_where(asked: Mapping[str, str], *, strict: bool = False) -> list[sa.ColumnElement[bool]]:
    """Return conditions on papers from the facets of a query; with `strict`, what is not understood is an error.

    On a page an unknown choice is as if it was not made.
    """
    known = options()
    chosen = {name: value for name in known if (value := asked.get(name, "")) in known[name]}
    ends = [_day(asked.get(name)) for name in ("since", "until")]
    if strict:
        _refuse_unknown(asked, chosen, dict(zip(("since", "until"), ends, strict=True)))
    where = listed_between(*ends)
    if chosen:
        where.append(papers.c.slug.in_(_slugs(chosen)))
    return where


def _refuse_unknown(
    asked: Mapping[str, str], chosen: Mapping[str, str], ends: Mapping[str, dt.date | None]
) -> None:
    for name, choices in options().items():
        if asked.get(name) and name not in chosen:
            raise DataError(f"{name!r} must be one of {', '.join(choices)}. Got {asked[name][:40]!r}.")
    for name, day in ends.items():
        if asked.get(name) and day is None:
            raise DataError(f"{name!r} must look like 2026-11-22. Got {asked[name][:40]!r}.")


def _slugs(chosen: Mapping[str, str]) -> list[str]:
    found = statuses() if "status" in chosen else {}
    return [
        slug
        for slug, p in index().items()
        if p.room in (STAGES[chosen["stage"]] if "stage" in chosen else (p.room,))
        and chosen.get("room", p.room) == p.room
        and chosen.get("kind", p.kind) == p.kind
        and ("needs" not in chosen or any(chosen["needs"] in needs(corrigible.card(m).inputs) for m in p.methods))
        and ("error" not in chosen or chosen["error"] in errors_of(slug))
        and ("data" not in chosen or chosen["data"] in data_of(slug))
        and chosen.get("status", found.get(slug)) == found.get(slug)
    ]


def _day(text: str | None) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text or "")
    except ValueError:
        return None
