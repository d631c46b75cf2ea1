"""Small tasks that any language model can be asked, to see what an edit has cost: choices, scored by probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrigible.models import LanguageModel

_ANIMALS = ("cat", "dog", "horse", "bird", "fish", "cow", "sheep", "mouse", "lion", "bear", "duck", "frog")
_PLURALS = (
    ("The keys to the house", "are", "is"),
    ("The key to the houses", "is", "are"),
    ("The boy near the cars", "was", "were"),
    ("The boys near the car", "were", "was"),
    ("The author of the books", "is", "are"),
    ("The authors of the book", "are", "is"),
    ("The picture of the women", "was", "were"),
    ("The pictures of the woman", "were", "was"),
    ("The dogs in the yard", "are", "is"),
    ("The dog in the yards", "is", "are"),
    ("The teacher of the pupils", "has", "have"),
    ("The teachers of the pupil", "have", "has"),
)
_SENTIMENT = (
    ("I loved every minute of it.", True), ("What a waste of time.", False), ("The food was delicious.", True),
    ("The service was terrible.", False), ("An absolute delight.", True), ("I want my money back.", False),
    ("The acting was superb.", True), ("It broke after one day.", False), ("Best holiday we ever had.", True),
    ("The room was dirty and cold.", False), ("She is a wonderful singer.", True), ("The plot made no sense.", False),
)  # fmt: skip
_OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("day", "night"), ("fast", "slow"), ("old", "new"), ("rich", "poor"),
    ("wet", "dry"), ("open", "closed"), ("left", "right"), ("early", "late"), ("strong", "weak"),
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A prompt and its options, the right one first.

    Attributes
    ----------
    prompt : str
    options : tuple of str
    """

    prompt: str
    options: tuple[str, ...]


def ability_tasks() -> dict[str, list[Choice]]:
    """Return the tasks: twelve choices each of arithmetic, agreement, induction, opposites and sentiment."""
    sums = [(a, b) for a in (1, 2, 3, 5) for b in (2, 4, 6)]
    return {
        "arithmetic": [
            Choice(f"1 + 1 = 2\n2 + 3 = 5\n{a} + {b} =", tuple(f" {n}" for n in (a + b, a + b + 1, a + b - 1, a + b + 3)))
            for a, b in sums
        ],
        "agreement": [Choice(p, (f" {good}", f" {bad}")) for p, good, bad in _PLURALS],
        "induction": [
            Choice(f"{a} {b} {c} {a} {b} {c} {a} {b}", (f" {c}", f" {a}", f" {b}"))
            for a, b, c in zip(_ANIMALS, np.roll(_ANIMALS, 3), np.roll(_ANIMALS, 7), strict=True)
        ],
        "opposites": [
            Choice(f"The opposite of good is bad. The opposite of {a} is", (f" {b}", f" {a}", f" {_OPPOSITES[i - 1][1]}"))
            for i, (a, b) in enumerate(_OPPOSITES)
        ],
        "sentiment": [
            Choice(f"Review: Great film! Sentiment: good\nReview: Boring. Sentiment: bad\nReview: {text} Sentiment:",
                   (" good", " bad") if good else (" bad", " good"))
            for text, good in _SENTIMENT
        ],
    }  # fmt: skip


def choose(model: LanguageModel, choices: Sequence[Choice]) -> NDArray[np.bool_]:
    """Return, for each choice, whether the right option has the largest mean log probability a token."""
    asked = [(c.prompt, o) for c in choices for o in c.options]
    means = iter([float(p.mean()) for p in model.log_probs([p for p, _ in asked], [o for _, o in asked])])
    return np.array([int(np.argmax([next(means) for _ in c.options])) == 0 for c in choices])
