"""Answers in free text: one form of those that say the same, and a graded match of tokens."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_ARTICLES = {"a", "an", "the"}
_NUMBERS = dict(
    zip("zero one two three four five six seven eight nine ten".split(), map(str, range(11)), strict=True)
)
# Read as plain digits, ten squared would be 102 and three and a half 31/2.
_KEPT = ("<super>", "<sub>", "<fraction>")
_MINUS = str.maketrans({"\u2212": "-", "\u2010": "-", "\u2011": "-"})
_CURRENCY = "$\u00a3\u20ac\u00a5"
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
# Only whole groups of three are thousands: in "1,2,345" commas part numbers.
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d]|,\d)")
# A sign, points and what follows them belong to a number; a single letter makes it a name, as in 1a. Whatever else is
# neither letter, digit nor mark parts words.
_TOKEN = re.compile(
    rf"(?:(?<![\w)])-[{_CURRENCY}]?)?(?:\d+(?:\.\d+)*|(?<![\w.])\.\d+)(?!\d|[^\W\d_](?![^\W_]))"
    rf"|[^\s.,{_CURRENCY}-]+"
)
_DECIMAL = re.compile(r"-?\d*\.?\d+")


def tokens(text: object) -> list[str]:
    """Return the words of a text without case, punctuation and articles, numbers in one form.

    Numbers lose separators of thousands, signs of currency, leading and trailing zeros; zero to ten are read as words
    too. A text of nothing but articles and single letters keeps them: ``A, C`` may answer a question of choice.
    """
    plain = _APOSTROPHE.sub("", _one_form(str(text)))
    plain = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), plain)
    found = [_number(t) for t in _TOKEN.findall("".join(c if _is_part(c) else " " for c in plain))]
    rest = [t for t in found if t not in _ARTICLES]
    if any(len(t) > 1 or not t.isalpha() for t in rest):
        return rest
    return [t for t in found if t == "a" or t in rest] or found


def normalised(text: object) -> str:
    """Return the tokens of a text, joined by blanks; of a text without any, the text itself without outer blanks."""
    return " ".join(tokens(text)) or str(text).strip()


def token_f1(reference: object, answer: object) -> float:
    """Return the harmonic mean of the shares of the answer's and of the reference's tokens that the other one has."""
    a, b = Counter(tokens(reference)), Counter(tokens(answer))
    if not a or not b:
        return float(normalised(reference) == normalised(answer))
    return 2 * (a & b).total() / (a.total() + b.total())


def _one_form(text: str) -> str:
    """Return a text in lower case, each character in one form, without those that only steer its display."""
    if text.isascii():
        return text.lower()
    folded = "".join(map(_compatible, text)).casefold()  # which can give characters of more than one form again
    shown = (c for c in "".join(map(_compatible, folded)) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", "".join(shown)).translate(_MINUS)


def _compatible(c: str) -> str:
    digit = unicodedata.decimal(c, None)
    if digit is not None:
        return str(digit)
    return c if unicodedata.decomposition(c).startswith(_KEPT) else unicodedata.normalize("NFKC", c)


def _is_part(c: str) -> bool:
    """Whether a character can be part of a token: vowels of many scripts are marks, no letters of their own."""
    return c.isalnum() or c in ".,-" or c in _CURRENCY or unicodedata.category(c)[0] == "M"


def _number(token: str) -> str:
    if token in _NUMBERS:
        return _NUMBERS[token]
    token = token.translate({ord(c): None for c in _CURRENCY})
    if not _DECIMAL.fullmatch(token):
        return token
    sign, digits = ("-", token[1:]) if token.startswith("-") else ("", token)
    whole, _, part = digits.partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    return ("" if whole == "0" and not part else sign) + whole + (f".{part}" if part else "")
