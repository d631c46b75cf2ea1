"""Charts as inline SVG: drawn by Vega, coloured by the page's own style sheet, readable without colour.

Vega draws with placeholder colours; these become CSS variables, so that one drawing serves light, dark and print.
Meaning never rests on colour alone: estimates are hatched, series differ in dash and marker, and every chart comes
with a sentence and a table that say the same.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

import vl_convert
from markupsafe import Markup

from corrigible.report._format import cell
from corrigible.report._summary import Summary

Spec = dict[str, Any]

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

# Placeholder -> (CSS variable, what it is where no style sheet is left).
COLOURS = {
    "#000001": ("--c-ink", "#1b2129"),
    "#000002": ("--c-muted", "#57616d"),
    "#000003": ("--c-grid", "#dde2e8"),
    "#000004": ("--c-measured", "#0b5cad"),
    "#000005": ("--c-estimated", "#0b5cad"),
    "#000006": ("--c-rest", "#c3cad3"),
    "#000007": ("--c-harm", "#b3261e"),
    "#000008": ("--c-paper", "#ffffff"),
    "#00000b": ("--c-total", "#3a444f"),
    "#000011": ("--c-s1", "#0b5cad"),
    "#000012": ("--c-s2", "#a8480c"),
    "#000013": ("--c-s3", "#19734a"),
    "#000014": ("--c-s4", "#7b3fa0"),
    "#000015": ("--c-s5", "#8a6100"),
    "#000016": ("--c-s6", "#57616d"),
}
INK, MUTED, GRID, MEASURED, ESTIMATED, REST, HARM, PAPER, TOTAL = list(COLOURS)[:9]
SERIES = list(COLOURS)[9:]
HATCH, HATCH_HARM = "#00000e", "#00000f"
_KEPT = (
    "d x y x1 x2 y1 y2 width height transform fill fill-opacity stroke stroke-width stroke-dasharray "
    "stroke-opacity text-anchor font-size font-weight viewBox"
).split()
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_MAX_LABEL = 48


@dataclass(frozen=True)
class Chart:
    """A chart ready for the page.

    Attributes
    ----------
    svg : Markup
        One drawing, or two of which the style sheet shows the one that fits.
    alt : str
        What is to be seen, in words.
    table : dict
        A table block with the numbers drawn.
    legend : list of (Markup, str)
        Swatch and name.
    note : str
        What was left out of the drawing, if anything.
    """

    svg: Markup
    alt: str
    table: Summary
    legend: list[tuple[Markup, str]]
    note: str = ""


def render(spec: Spec, ident: str, css: str = "") -> Markup:
    """Turn a Vega-Lite chart into inline SVG that refers to the figure's caption and description by id.

    Where there are two drawings of one figure, `css` is the class that the style sheet knows this one by.
    """
    axis = {
        "domainColor": GRID, "tickColor": GRID, "gridColor": GRID, "labelColor": MUTED, "titleColor": MUTED,
        "titleFontWeight": "normal", "labelFontSize": 13, "titleFontSize": 13, "titlePadding": 8, "labelPadding": 5,
        "tickSize": 4, "labelFont": FONT, "titleFont": FONT,
    }  # fmt: skip
    config = {"aria": False, "font": FONT, "axis": axis, "view": {"stroke": None}}
    text = vl_convert.vegalite_to_svg({**spec, "padding": 2, "config": config}, allowed_base_urls=[])
    return _adopt(text, ident, css)


def start_engine() -> None:
    """Start the chart engine in a thread: it takes a second, which can pass beside other work."""
    # Waited for at exit: a thread that is killed inside the engine ends the process badly.
    Thread(target=lambda: vl_convert.vegalite_to_svg({"mark": "bar"}, allowed_base_urls=[])).start()


def _adopt(text: str, ident: str, css: str) -> Markup:
    root = ET.fromstring(text)
    hatches: set[str] = set()
    for element in list(root.iter()):
        element.tag = element.tag.removeprefix(_SVG)  # inline in HTML, SVG needs no namespace
        _strip(element, f"{ident}{css}", hatches)
    for parent in list(root.iter()):
        for child in list(parent):
            empty = child.tag in ("path", "g") and not child.get("d") and not len(child)
            if empty or (parent is root and child.tag == "rect"):
                parent.remove(child)
    for number, harm in enumerate(sorted(hatches)):
        root.insert(number, pattern(f"{ident}{css}-{harm}", "--c-harm" if harm == "harm" else "--c-estimated"))
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "class": f"chart {css}".strip(),
        "style": f"max-width:{root.get('width')}px",
        "role": "img",
        "aria-labelledby": f"{ident}-cap",
        "aria-describedby": f"{ident}-alt",
    }
    return Markup(ET.tostring(root, encoding="unicode"))


def _strip(element: ET.Element, ident: str, hatches: set[str]) -> None:
    """Keep what draws; replace placeholder colours; let links point into the page only."""
    link = element.get(_XLINK)
    kept = {k: v for k, v in element.attrib.items() if k in _KEPT}
    if element.tag == "svg":
        kept["width"] = element.get("width", "")
    if kept.get("transform") in ("translate(0,0)", "translate(0.5,0.5)"):
        del kept["transform"]
    for key in ("fill", "stroke"):
        colour = kept.get(key)
        if colour in (HATCH, HATCH_HARM):
            name = "harm" if colour == HATCH_HARM else "est"
            hatches.add(name)
            kept[key] = f"url(#{ident}-{name})"
        elif colour in COLOURS:
            kept[key] = "var({},{})".format(*COLOURS[colour])
    for key, value in kept.items():
        if key in ("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height"):
            kept[key] = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), value)
    element.attrib = kept
    if link is not None:
        # Not a tab stop: the table beside the chart has the same links, in order and with names.
        element.set("href", "#" + link.rpartition("#")[2])
        element.set("tabindex", "-1")


def pattern(ident: str, variable: str) -> ET.Element:
    """Return the hatching named `ident`, in the colour of a CSS variable, to be inserted beside what it fills."""
    size = {"id": ident, "width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
    root = ET.Element("pattern", {**size, "patternTransform": "rotate(45)"})
    ET.SubElement(root, "rect", {"width": "6", "height": "6", "fill": "var(--c-paper,#fff)"})
    ET.SubElement(root, "rect", {"width": "2.4", "height": "6", "fill": f"var({variable},#0b5cad)"})
    return root


def layer(rows: Sequence[dict[str, Any]], kind: str, *, x: Any, y: Any, **rest: Any) -> Spec:
    """Return one Vega-Lite layer: rows, a mark, and what of a row goes where.

    Parameters
    ----------
    rows : sequence of dict
        The data.
    kind : str
        Vega-Lite's mark.
    x, y : str or dict
        A field's name, or a channel in full. A field's y has no axis, because rows are laid out by number.
    **rest : Any
        ``x2``, ``y2``, ``text`` and ``href`` name fields; all else is the mark's look.
    """
    encoding = {"x": {"field": x} if isinstance(x, str) else x, "y": {"field": y} if isinstance(y, str) else y}
    for channel in ("x", "y"):
        if "field" in encoding[channel]:
            no_axis = {"axis": None} if channel == "y" else {}
            encoding[channel] = {"type": "quantitative", **no_axis, **encoding[channel]}
    for channel in ("x2", "y2", "text", "href"):
        if channel in rest:
            nominal = {"type": "nominal"} if channel in ("text", "href") else {}
            encoding[channel] = {"field": rest.pop(channel), **nominal}
    return {"data": {"values": list(rows)}, "mark": {"type": kind, **rest}, "encoding": encoding}


def x_axis(title: str) -> Spec:
    """Return the horizontal axis of bars: a title and grid lines, no line of its own."""
    return {"title": title, "tickCount": 5, "domain": False, "ticks": False}


def whiskers(rows: list[dict[str, Any]], half: float) -> list[Spec]:
    """Draw intervals along x, at height `m`, as ink on a paper-coloured edge so that they show on any fill."""
    rows = [{**r, "c1": r["m"] - half, "c2": r["m"] + half} for r in rows]
    layers = [layer(rows, "rule", x="low", x2="high", y="m", color=PAPER, strokeWidth=4)]
    layers.append(layer(rows, "rule", x="low", x2="high", y="m", color=INK, strokeWidth=1.5))
    layers += [layer(rows, "rule", x=end, y="c1", y2="c2", color=INK, strokeWidth=1.5) for end in ("low", "high")]
    return layers if rows else []


def vertical(rows: list[dict[str, Any]], x: Spec, height: int, **look: Any) -> Spec:
    """Draw lines from top to bottom."""
    drawn = layer(rows, "rule", x=x, y={"value": 0}, **look)
    drawn["encoding"]["y2"] = {"value": height}
    return drawn


def plain(text: Any) -> str:
    """Return a text as a chart takes it: no backticks, and short, because Vega measures a cut letter by letter."""
    return cell(str(text).replace("`", ""), _MAX_LABEL)
