"""Simple facts in words, each with paraphrases, neighbours and other relations: what editors are tried on."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corrigible._core.answers import names
from corrigible.models import EditRequest, Probe

_FILE = Path(__file__).parent / "data" / "facts.json"
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes
    ----------
    relation : str
        As ``"capital"``.
    request : EditRequest
        Asks for the true answer; neighbours and other relations carry theirs.
    aliases : tuple of str
        Further answers that are right, such as a family name alone.
    """

    relation: str
    request: EditRequest
    aliases: tuple[str, ...] = ()

    def is_right(self, said: str) -> bool:
        """Return whether a continuation gives the true answer."""
        return any(names(said, a) for a in (self.request.target_new, *self.aliases))


def load_facts(relation: str | None = None) -> list[Fact]:
    """Return the facts that ship with the package.

    They were written for it from common knowledge and are in the public domain (CC0). A neighbour of a fact is the
    same relation of the next subjects; other relations of the subject, and questions whose answer follows, are those
    that the list holds.

    Parameters
    ----------
    relation : str, optional
        Keep one relation.

    Returns
    -------
    list of Fact

    Examples
    --------
    >>> from corrigible.datasets import load_facts
    >>> fact = load_facts("capital")[0]
    >>> fact.request.text, fact.request.target_new
    ('The capital of France is', 'Paris')
    """
    held = json.loads(_FILE.read_text(encoding="utf-8"))
    relations, rows = held["relations"], held["facts"]
    of_relation: dict[str, list[Any]] = defaultdict(list)
    of_subject: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        of_relation[row[0]].append(row)
        of_subject[row[1]].append(row)
    found = []
    for name, same in of_relation.items():
        if relation not in (None, name):
            continue
        for i, row in enumerate(same):
            near = [same[(i + k) % len(same)] for k in range(1, _NEIGHBOURS + 1)]
            other = [r for r in of_subject[row[1]] if r[0] != name]
            found.append(_fact(row, near, other, relations))
    return found


def counterfactual(fact: Fact, facts: list[Fact], shift: int = 5) -> EditRequest:
    """Return a request that gives the fact the answer of another subject.

    Parameters
    ----------
    fact : Fact
        What is turned false.
    facts : list of Fact
        Where the other answer is taken from: the first different one of the relation, `shift` places on.
    shift : int
        Places.
    """
    same = [f for f in facts if f.relation == fact.relation]
    at, true = same.index(fact), fact.request.target_new
    later = [same[(at + shift + k) % len(same)].request.target_new for k in range(len(same))]
    other = next(a for a in later if a != true)
    return replace(fact.request, target_new=other, target_true=true, portability=())


def _fact(row: list[Any], near: list[Any], other: list[Any], relations: dict[str, Any]) -> Fact:
    name, subject, answer, *aliases = row
    said = relations[name]
    if said.get("person"):
        aliases = [*aliases, answer.split()[-1]]
    request = EditRequest(
        prompt=said["prompt"],
        subject=subject,
        target_new=answer,
        paraphrases=tuple(p.replace("{}", subject) for p in said["paraphrases"]),
        neighbours=tuple(Probe(relations[r[0]]["prompt"].replace("{}", r[1]), r[2]) for r in near),
        same_subject=tuple(Probe(relations[r[0]]["prompt"].replace("{}", r[1]), r[2]) for r in other),
        portability=tuple([Probe(said["follows"].replace("{}", answer), subject)] if "follows" in said else []),
    )
    return Fact(name, request, tuple(aliases))
