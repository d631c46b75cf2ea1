"""What an editor is asked: facts to change, with what must follow from them and what must not move."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from corrigible.errors import DataError, nearest


@dataclass(frozen=True)
class Probe:
    """A prompt, and the answer that belongs to it where one is known.

    Attributes
    ----------
    prompt : str
    answer : str or None
    """

    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class EditRequest:
    """One fact to change.

    Attributes
    ----------
    prompt : str
        Text that the target shall follow; holds the subject, or ``{}`` in its place.
    subject : str
        What the fact is about.
    target_new : str
        What the model shall say.
    target_true : str or None
        What it says, or should have said, before.
    paraphrases : tuple of str
        Other prompts that must get the new target.
    neighbours : tuple of Probe
        Prompts on other subjects, whose answers must not move.
    same_subject : tuple of Probe
        Prompts on other relations of this subject, whose answers must not move.
    portability : tuple of Probe
        Prompts whose answer follows from the new fact.
    """

    prompt: str
    subject: str
    target_new: str
    target_true: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[Probe, ...] = ()
    same_subject: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = field(default=())

    @property
    def text(self) -> str:
        """The prompt with the subject in it."""
        return self.prompt.replace("{}", self.subject)

    @property
    def answer(self) -> str:
        """The target as it follows the prompt: after a space, unless the prompt ends in white space."""
        return self.target_new if self.text[-1:].isspace() else f" {self.target_new.strip()}"

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON, without what is empty."""
        return {k: v for k, v in asdict(self).items() if v not in (None, (), [])}


_TEXTS = ("prompt", "subject", "target_new")
_LISTS = ("paraphrases", "neighbours", "same_subject", "portability")


def check_requests(requests: Any, *, by: str, alone: bool = False) -> list[EditRequest]:
    """Return requests, checked.

    Parameters
    ----------
    requests : EditRequest, mapping, or iterable of these
        What is asked.
    by : str
        Who is asked, for the messages.
    alone : bool
        Whether each is an edit of its own, so that two may want different answers to one prompt.

    Raises
    ------
    DataError
        If there is none, a key is missing or unknown, a text is empty, the subject does not occur in the prompt, or two
        requests want different answers to one prompt; the request is named.
    """
    single = isinstance(requests, EditRequest | Mapping)
    found = [_request(r, f"Request {n} of {by}") for n, r in enumerate([requests] if single else requests)]
    if not found:
        raise DataError(f"{by} needs at least one request. Got none.")
    first: dict[str, int] = {}
    for n, request in enumerate(found):
        m = first.setdefault(request.text, n)
        if not alone and found[m].answer != request.answer:
            raise DataError(
                f"Requests {m} and {n} of {by} conflict: to {request.text!r} one wants {found[m].target_new!r}, the "
                f"other {request.target_new!r}. Keep one."
            )
    return found


def read_requests(path: str | Path) -> list[EditRequest]:
    """Read requests from JSON Lines, one object a line.

    Parameters
    ----------
    path : str or Path
        The file. Keys are those of `EditRequest`; a probe is a string or ``{"prompt": ..., "answer": ...}``.

    Raises
    ------
    DataError
        If the file is absent, a line is no JSON object, or a request is not valid; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"Requests must be a JSON Lines file. There is none at {str(path)!r}.{nearest(path.name, near)}"
        )
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"The requests {str(path)!r} must be UTF-8 text ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(
                f"Line {number} of {str(path)!r} must be one JSON object. Got {line[:60]!r}."
            ) from error
    return check_requests(found, by=str(path))


def _request(given: Any, what: str) -> EditRequest:
    if isinstance(given, EditRequest):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise DataError(f"{what} must be an object with prompt, subject and target_new. Got {given!r}.")
    known = [f.name for f in fields(EditRequest)]
    for name in given:
        if name not in known:
            raise DataError(
                f"{what} has the unknown key {name!r}.{nearest(str(name), known)} Known: {', '.join(known)}."
            )
    for name in _TEXTS:
        if not isinstance(given.get(name), str) or not given[name].strip():
            raise DataError(
                f"{name!r} of {what[0].lower() + what[1:]} must be text that is not empty. Got {given.get(name)!r}."
            )
    if given["subject"] not in given["prompt"].replace("{}", given["subject"]):
        raise DataError(
            f"{what}: the subject {given['subject']!r} must occur in the prompt {given['prompt']!r}. Write it there, "
            "or {} in its place."
        )
    true = given.get("target_true")
    if not (true is None or isinstance(true, str)):
        raise DataError(f"'target_true' of {what[0].lower() + what[1:]} must be text. Got {true!r}.")
    lists = {name: _list(given.get(name, ()), f"{name!r} of {what[0].lower() + what[1:]}") for name in _LISTS}
    return EditRequest(
        prompt=given["prompt"],
        subject=given["subject"],
        target_new=given["target_new"],
        target_true=true,
        paraphrases=tuple(p.prompt for p in lists["paraphrases"]),
        neighbours=lists["neighbours"],
        same_subject=lists["same_subject"],
        portability=lists["portability"],
    )


def _list(values: Any, what: str) -> tuple[Probe, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise DataError(f"{what} must be a list. Got {values!r}.")
    return tuple(_probe(v, what) for v in values)


def _probe(value: Any, what: str) -> Probe:
    if isinstance(value, Probe):
        return value
    if isinstance(value, str) and value.strip():
        return Probe(value)
    if isinstance(value, Mapping) and isinstance(value.get("prompt"), str) and set(value) <= {"prompt", "answer"}:
        return Probe(value["prompt"], value.get("answer"))
    raise DataError(f"{what} must hold prompts or objects with prompt and answer. Got {value!r}.")
