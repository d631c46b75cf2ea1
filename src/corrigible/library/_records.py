"""What is known of a paper, from whichever door it came."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass, field

DOORS = ("oai", "rss", "atom", "huggingface", "bibtex", "index")


@dataclass(frozen=True)
class Author:
    """An author as the source writes the name, with an affiliation where it gives one."""

    name: str
    affiliation: str = ""


@dataclass(frozen=True)
class Version:
    """One version of a paper: its number, and when it was submitted (UTC) where that is known."""

    number: int
    submitted: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A paper as one source tells of it. What the source does not say is None or empty, never guessed.

    Attributes
    ----------
    key : str
        What the paper is kept under: its arXiv identifier without version, or ``index:<slug>``, ``bibtex:<key>``.
    title, abstract : str
        As plain text with TeX left in, white space joined.
    authors : tuple of Author
        In order.
    categories : tuple of str
        arXiv categories, the primary one first.
    published, updated : datetime or None
        First version and this version, UTC.
    announced : date or None
        The day a list announced it.
    versions : tuple of Version
        Those that the source tells of.
    withdrawn : bool or None
        Whether the source says that the paper was withdrawn; None where it cannot say.
    doi, journal, comment, license : str
        As given.
    links : tuple of (kind, url)
        ``code``, ``project``, ``doi``…; the arXiv pages follow from the identifier.
    organisation : str
        Badge of the daily list.
    counts : dict of str to int
        Numbers of other sites: ``upvotes``, ``comments``, ``stars``.
    keywords : tuple of str
        As given.
    door : str
        One of ``DOORS``.
    """

    key: str
    title: str
    door: str
    abstract: str = ""
    authors: tuple[Author, ...] = ()
    categories: tuple[str, ...] = ()
    published: dt.datetime | None = None
    updated: dt.datetime | None = None
    announced: dt.date | None = None
    versions: tuple[Version, ...] = ()
    withdrawn: bool | None = None
    doi: str = ""
    journal: str = ""
    comment: str = ""
    license: str = ""
    links: tuple[tuple[str, str], ...] = ()
    organisation: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()

    @property
    def arxiv(self) -> str | None:
        """The arXiv identifier, or None for a paper that came without one."""
        return None if ":" in self.key else self.key


_BLANK = re.compile(r"\s+")
# Code points that no XML or HTML document may hold: NUL and other controls, and halves of surrogate pairs.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean_text(text: str | None) -> str:
    """Return text with white space joined and without characters that no page may hold."""
    return _BLANK.sub(" ", _FORBIDDEN.sub("", text or "")).strip()


def clean_lines(text: str) -> str:
    """Return text that a person typed, its lines kept, without characters that no page may hold."""
    return _FORBIDDEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def safe_link(url: str | None) -> str:
    """Return a web address, or an empty string for anything that a browser would run or that leads elsewhere."""
    url = clean_text(url)
    return url if re.fullmatch(r"https?://[^\s<>\"'`\\]+", url, re.IGNORECASE) else ""


def says_withdrawn(*texts: str) -> bool:
    """Return whether a comment or an abstract of arXiv says that the paper was withdrawn."""
    return any(re.search(r"\bwithdrawn\b", t, re.IGNORECASE) and len(t) < 600 for t in texts)


def split_authors(text: str) -> tuple[Author, ...]:
    """Split the one string in which arXivRaw and RSS write authors.

    Names stand between commas or ``and``; an affiliation stands in parentheses behind its name, and may itself hold
    commas. Parentheses that do not close are taken as text.
    """
    parts, depth, start = [], 0, 0
    text = clean_text(text)
    if text.count("(") != text.count(")"):
        text = text.replace("(", " ").replace(")", " ")
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth <= 0 and (c == "," or text[i : i + 5] == " and "):
            parts.append(text[start:i])
            start = i + (1 if c == "," else 5)
    parts.append(text[start:])
    return tuple(author for part in parts if (author := _author(part)).name)


def _author(part: str) -> Author:
    name, _, rest = clean_text(re.sub(r"^\s*and\s+", "", part)).partition("(")
    return Author(plain_tex(name.strip(" ,;")), plain_tex(rest.rpartition(")")[0].strip()))


_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
            "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328", "r": "\u030a", "d": "\u0323",
            "b": "\u0331", "t": "\u0361"}  # fmt: skip
_LETTERS = {"ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "o": "ø", "O": "Ø",
            "l": "ł", "L": "Ł", "i": "ı", "j": "ȷ", "dh": "ð", "DH": "Ð", "th": "þ", "TH": "Þ"}  # fmt: skip
_BASE = r"(?:\{\s*(\\?[A-Za-z])\s*\}|(\\?[A-Za-z]))"  # the letter under an accent: e, {e}, \i
_ACCENT = re.compile(rf"\\(?:([\"'`^~=.])\s*|([uvHckrdbt])(?:\s+|(?=\{{)|(?=\\))){_BASE}")
_LETTER = re.compile(r"\\(" + "|".join(sorted(_LETTERS, key=len, reverse=True)) + r")(?![A-Za-z])\s?(?:\{\})?")


def plain_tex(text: str) -> str:
    r"""Return text with TeX's accents and escapes as letters: ``Jos\'e M\"uller`` becomes José Müller.

    Mathematics between dollar signs stays as it is.
    """
    if "\\" not in text and "{" not in text:
        return text
    parts = re.split(r"(?<!\\)(\$[^$]*\$)", text)
    return clean_text("".join(part if i % 2 else _letters(part) for i, part in enumerate(parts)))


def _letters(text: str) -> str:
    found = _ACCENT.sub(lambda m: (m[3] or m[4]).lstrip("\\") + _ACCENTS[m[1] or m[2]], text)
    found = _LETTER.sub(lambda m: _LETTERS[m[1]], found)
    found = re.sub(r"(?<!\\)[{}]", "", found)
    return unicodedata.normalize("NFC", re.sub(r"\\([&%$#_{}])", r"\1", found))
