"""Foreign text as HTML: escaped, its mathematics as MathML, and nothing of it ever executed."""

from __future__ import annotations

import functools
import re
from xml.etree.ElementTree import Element, tostring

from markupsafe import Markup, escape

# As Pandoc reads dollars: no blank behind the first or before the last, and no digit after it, so prices stay prices.
_MATH = re.compile(r"(?<!\\)\${1,2}(?=\S)([^$]{1,300}?)(?<=[^\s\\])\${1,2}(?!\d)|\\\((.{1,300}?)\\\)")
_TAGS = frozenset(
    "math mrow mi mn mo msub msup msubsup mfrac msqrt mroot mtext mspace mover munder munderover mtable mtr mtd "
    "mstyle mpadded mphantom menclose".split()
)
_ATTRIBUTES = frozenset(
    "display stretchy accent mathvariant linethickness columnalign fence form separator".split()
)
_NAMESPACE = "http://www.w3.org/1998/Math/MathML"


def with_math(text: str) -> Markup:
    """Return text with its TeX mathematics as MathML; what cannot be read as mathematics stands as it was typed."""
    parts, end = [], 0
    for found in _MATH.finditer(text):
        parts += [escape(text[end : found.start()]), _math(found[1] or found[2]) or escape(found[0])]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


@functools.lru_cache(maxsize=4096)
def _math(tex: str) -> Markup | None:
    from latex2mathml.converter import convert_to_element

    try:
        whole = convert_to_element(tex)
        kept = _kept(whole, 0)
    except Exception:  # a converter of foreign text may fail in any way: then the text itself is shown
        return None
    if kept is None:
        return None
    kept.set("xmlns", _NAMESPACE)
    return Markup(tostring(kept, encoding="unicode"))


def _kept(element: Element, depth: int) -> Element | None:
    """Return a copy that holds known elements and attributes alone: no link, no style, no class."""
    if element.tag not in _TAGS or depth > 60:
        return None
    copy = Element(element.tag, {k: v for k, v in element.attrib.items() if k in _ATTRIBUTES})
    # The converter writes some characters as entities, for a parser to read.
    copy.text = re.sub(r"&#x([0-9A-Fa-f]{1,6});", lambda m: chr(int(m[1], 16)), element.text or "")
    for child in element:
        inner = _kept(child, depth + 1)
        if inner is None:
            return None
        copy.append(inner)
    return copy
