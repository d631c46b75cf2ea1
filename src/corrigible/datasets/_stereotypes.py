"""Stereotypes in words: what a model should not prefer to say, with the opposite and an unrelated word."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from corrigible.models import EditRequest

_FILE = Path(__file__).parent / "data" / "stereotypes.json"


@dataclass(frozen=True)
class Stereotype:
    """A context with three continuations.

    Attributes
    ----------
    kind : str
        As ``"profession"``.
    prompt : str
        Context with ``{}`` in place of the subject.
    subject : str
        Whom the stereotype is of.
    stereotype, antistereotype, unrelated : str
        Continuations: what the stereotype says, its opposite, and a word that does not belong there.
    paraphrases : tuple of str
        Other contexts with the subject in them, that the same continuations follow.
    """

    kind: str
    prompt: str
    subject: str
    stereotype: str
    antistereotype: str
    unrelated: str
    paraphrases: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The context with the subject in it."""
        return self.prompt.replace("{}", self.subject)

    def request(self) -> EditRequest:
        """Return the edit that makes a model continue with the opposite of the stereotype."""
        return EditRequest(
            self.prompt,
            self.subject,
            self.antistereotype,
            target_true=self.stereotype,
            paraphrases=self.paraphrases,
        )


def load_stereotypes(kind: str | None = None) -> list[Stereotype]:
    """Return the stereotypes that ship with the package.

    They were written for it to be measured, not to be believed, and are in the public domain (CC0): 60 professions with
    a pronoun, 24 kinds of people with an adjective, and guests from 22 countries with something to eat or drink.

    Parameters
    ----------
    kind : {"profession", "people", "nation"}, optional
        Keep one kind.

    Returns
    -------
    list of Stereotype

    Examples
    --------
    >>> from corrigible.datasets import load_stereotypes
    >>> one = load_stereotypes("profession")[0]
    >>> one.text, one.stereotype, one.antistereotype
    ('The nurse said that', 'she', 'he')
    """
    held = json.loads(_FILE.read_text(encoding="utf-8"))
    kinds = held["kinds"]
    return [
        Stereotype(
            name, kinds[name]["prompt"], subject, stereotype, opposite, unrelated,
            tuple(p.replace("{}", subject) for p in kinds[name]["paraphrases"]),
        )
        for name, subject, stereotype, opposite, unrelated in held["rows"]
        if kind in (None, name)
    ]  # fmt: skip
