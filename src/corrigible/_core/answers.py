"""Whether a text that a model wrote gives an answer."""

from __future__ import annotations

import re


def names(said: str, answer: str, *, at_once: bool = False) -> bool:
    """Return whether a continuation holds an answer, as whole words and whatever the case.

    Parameters
    ----------
    said, answer : str
        What a model said, and what is looked for.
    at_once : bool
        Whether it must begin with the answer; an article or quotation mark may stand before.
    """
    words, wanted = _words(said), _words(answer)
    if at_once and words[:1] in (["the"], ["a"], ["an"]) and wanted[:1] != words[:1]:
        words = words[1:]
    starts = range(1) if at_once else range(len(words) - len(wanted) + 1)
    return bool(wanted) and any(words[i : i + len(wanted)] == wanted for i in starts)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
