"""Identifiers of arXiv papers, in every form that is met, and the one form papers are kept under."""

from __future__ import annotations

import re
from dataclasses import dataclass

from corrigible.errors import DataError

# Since April 2007 a number (four digits after the point until 2014, five since); before, an archive and seven digits.
_NEW = r"(?P<new>\d{2}(?:0[1-9]|1[0-2])\.\d{4,5})"
_OLD = r"(?P<archive>[a-z]+(?:-[a-z]+)?)(?:\.[A-Za-z-]{2,})?/(?P<old>\d{2}(?:0[1-9]|1[0-2])\d{3})"
_ID = re.compile(rf"(?:{_NEW}|{_OLD})(?:v(?P<version>[1-9]\d{{0,3}}))?")
# What may stand before an identifier: a resolver, a prefix, the name OAI-PMH gives it, its DOI.
_BEFORE = re.compile(
    r"(?:https?://(?:[a-z-]+\.)?arxiv\.org/(?:abs|pdf|html|format|e-print)/|https?://(?:www\.)?huggingface\.co/papers/"
    r"|(?:https?://(?:dx\.)?doi\.org/)?10\.48550/arxiv\.|oai:arxiv\.org:|arxiv:)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ArxivId:
    """An identifier without its version, and the version where one was named.

    Attributes
    ----------
    id : str
        ``2611.00001`` or ``math/0611800``: the form a paper is kept under. The subject class that old identifiers
        may carry (``math.CA/0611800``) names no other paper and is dropped.
    version : int or None
        The version named, or None.
    """

    id: str
    version: int | None = None

    def __str__(self) -> str:
        return self.id if self.version is None else f"{self.id}v{self.version}"


def arxiv_id(text: str) -> ArxivId:
    """Read an identifier from an id, a link, an OAI name or a DOI.

    Parameters
    ----------
    text : str
        Such as ``2611.00001v2``, ``arXiv:math.CA/0611800``, ``https://arxiv.org/pdf/2611.00001v1.pdf``.

    Raises
    ------
    DataError
        If it holds no identifier, or more than one thing.

    Examples
    --------
    >>> from corrigible.library import arxiv_id
    >>> arxiv_id("http://arxiv.org/abs/math.CA/0611800v2")
    ArxivId(id='math/0611800', version=2)
    """
    bare = text.strip()
    before = _BEFORE.match(bare)
    bare = bare[before.end() :] if before else bare
    bare = re.sub(r"(?:\.pdf)?(?:[?#].*)?$", "", bare, flags=re.IGNORECASE)
    found = _ID.fullmatch(bare)
    if found is None:
        raise DataError(
            f"An arXiv identifier must look like 2611.00001, 2611.00001v2 or math/0611800. Got {text[:80]!r}."
        )
    version = found["version"]
    name = found["new"] or f"{found['archive']}/{found['old']}"
    return ArxivId(name, None if version is None else int(version))
