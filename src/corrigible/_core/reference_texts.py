"""English prose that is on every machine: Python's own documentation, which the interpreter carries.

Language models need text of no particular subject to take statistics of, and other text to be measured on. Taking it
from the standard library needs no file and no download.
"""

from __future__ import annotations

import functools
import re


@functools.lru_cache(maxsize=1)
def _passages() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    found = []
    for name in sorted(topics):
        for piece in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(piece.split())
            # Sentences, not headings, tables, grammars or listings.
            if 200 <= len(text) <= 1200 and text[0].isupper() and text[-1] == "." and "::=" not in text:
                found.append(text)
    return tuple(dict.fromkeys(found))


def reference_texts(n: int, *, held_out: bool = False) -> list[str]:
    """Return passages of English prose of 200 to 1200 characters.

    Parameters
    ----------
    n : int
        Passages at most.
    held_out : bool
        Take every fifth passage, which the others do not hold.
    """
    every = _passages()
    chosen = every[4::5] if held_out else [t for i, t in enumerate(every) if i % 5 != 4]
    # Neighbouring passages are of one topic: strides mix topics.
    step = max(len(chosen) // max(n, 1), 1)
    return list(chosen[::step][:n])
