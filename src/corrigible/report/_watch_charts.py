"""The chart of a watched metric: estimates with intervals, realised values, the range that chance allows, alerts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from corrigible.report._charts import HARM, MEASURED, MUTED, PAPER, REST, SERIES, Chart, Spec, layer, plain, render
from corrigible.report._format import fixed, is_number
from corrigible.report._summary import Summary

_REALISED = SERIES[1]
_FITS = {"wide": (800, 230, 7), "narrow": (285, 210, 3)}
_MAX_RULES, _MAX_POINTS = 80, 150
_SHARES = {"accuracy", "roc_auc", "precision", "recall", "specificity", "f1"}


def watch_chart(chunks: Sequence[Summary], metric: str, reference: Any, ident: str, decimals: int) -> Chart:
    """Draw one metric over all chunks, once for a wide page and once for a narrow one.

    Parameters
    ----------
    chunks : sequence of dict
        As ``watch.json`` holds them, with ``x``, their place on the axis.
    metric : str
        Which.
    reference : float or None
        Its value on the reference.
    ident : str
        Id of the figure.
    decimals : int
        Of numbers in words and table.
    """
    rows = [_row(c, metric) for c in chunks]
    drawn = [r for r in rows if is_number(r["value"]) or is_number(r["seen"])]
    table = _table(rows, metric)
    if not drawn:
        return Chart(Markup(""), "Nothing to draw: no chunk could be estimated.", table, [])
    svgs = (render(_spec(rows, drawn, reference, css), ident, css) for css in _FITS)
    return Chart(Markup("").join(svgs), _alt(drawn, metric, reference, decimals), table, _legend(rows, reference))


def _row(chunk: Summary, metric: str) -> Summary:
    e, r = (_within(chunk[kind].get(metric) or {}, metric) for kind in ("estimated", "realised"))
    return {
        "x": chunk["x"], "label": chunk["label"], "rows": chunk["rows"], "value": e.get("value"), "low": e.get("low"),
        "high": e.get("high"), "band_low": e.get("band_low"), "band_high": e.get("band_high"),
        "alert": bool(e.get("alert")), "seen": r.get("value"), "seen_low": r.get("band_low"),
        "seen_high": r.get("band_high"), "seen_alert": bool(r.get("alert")),
    }  # fmt: skip


def _within(reading: Summary, metric: str) -> Summary:
    """End the range of chance where the metric ends: beyond, it would be drawn and mean nothing."""
    least = float("-inf") if metric == "business_value" else 0.0
    most = 1.0 if metric in _SHARES or metric.startswith("true_") else float("inf")
    ends = {k: min(max(reading[k], least), most) for k in ("band_low", "band_high") if is_number(reading.get(k))}
    return {**reading, **ends}


def _table(rows: Sequence[Summary], metric: str) -> Summary:
    names = ["Chunk", "Rows", "Estimate", "Interval from", "to", "Expected from", "to", "Alert", "Realised",
             "Expected from", "to", "Alert"]  # fmt: skip
    keys = ["label", "rows", "value", "low", "high", "band_low", "band_high", "alert", "seen", "seen_low", "seen_high",
            "seen_alert"]  # fmt: skip
    kept = list(range(len(names))) if any(is_number(r["seen"]) for r in rows) else list(range(8))
    body = [[("alert" if r[keys[i]] else "") if "alert" in keys[i] else r[keys[i]] for i in kept] for r in rows]
    return {"kind": "table", "title": metric, "columns": [names[i] for i in kept], "rows": body}


def _spec(rows: Sequence[Summary], drawn: Sequence[Summary], reference: Any, css: str) -> Spec:
    width, height, n_ticks = _FITS[css]
    x = _x_axis(rows, n_ticks)
    y = {"field": "value", "scale": {"zero": False, "nice": True}, "axis": {"title": None, "tickCount": 5,
         "domain": False, "ticks": False}}  # fmt: skip
    layers = _bands(rows, "band_low", "band_high", x, y, fill=REST, fillOpacity=0.42)
    layers += _edges(rows, x, y)
    if is_number(reference):
        ends = [{"x": rows[0]["x"] - 0.5, "x2": rows[-1]["x"] + 0.5, "value": reference}]
        layers.append(layer(ends, "rule", x=x, x2="x2", y=y, color=MUTED, strokeWidth=1, strokeDash=[6, 4]))
    known = [r for r in drawn if is_number(r["value"])]
    ranged = [r for r in known if is_number(r["low"]) and is_number(r["high"])]
    if len(ranged) <= _MAX_RULES:
        low = {**y, "field": "low"}
        layers.append(
            layer(ranged, "rule", x=x, y=low, y2="high", color=MEASURED, strokeWidth=1.5, strokeOpacity=0.55)
        )
    else:
        layers += _bands(ranged, "low", "high", x, y, fill=MEASURED, fillOpacity=0.14)
    layers += [layer(run, "line", x=x, y=y, color=MEASURED, strokeWidth=2) for run in _runs(rows, "value")]
    seen = [{**r, "value": r["seen"]} for r in drawn if is_number(r["seen"])]
    if len(known) <= _MAX_POINTS:
        layers.append(
            layer(known, "point", x=x, y=y, size=34, fill=MEASURED, stroke=MEASURED, strokeWidth=0, opacity=1)
        )
    size = 46 if len(seen) <= _MAX_RULES else 18
    look = {"shape": "diamond", "fill": PAPER, "stroke": _REALISED, "strokeWidth": 1.8, "opacity": 1}
    layers += [layer(seen, "point", x=x, y=y, size=size, **look)] if seen else []
    layers += _alerts([r for r in known if r["alert"]], [r for r in seen if r["seen_alert"]], x, y)
    return {"layer": layers, "width": width, "height": height}


def _x_axis(rows: Sequence[Summary], n_ticks: int) -> Spec:
    """Return the axis: chunks at equal steps, some of them named."""
    step = max(1, -(-len(rows) // n_ticks))
    named = rows[::step]
    at, labels = [r["x"] for r in named], [_short(r["label"]) for r in named]
    axis = {
        "title": "first row of the chunk" if rows[0]["label"].startswith("rows ") else None,
        "grid": False, "domain": False, "values": at, "labelOverlap": True, "labelFlush": False,
        "labelExpr": f"{json.dumps(labels)}[indexof({json.dumps(at)}, datum.value)]",
    }  # fmt: skip
    domain = [rows[0]["x"] - 0.5, rows[-1]["x"] + 0.5]
    return {"field": "x", "type": "quantitative", "scale": {"domain": domain, "nice": False}, "axis": axis}


def _short(label: str) -> str:
    """Return a chunk's name as it fits under an axis: a range by its beginning."""
    start = label.removeprefix("rows ").split("–")[0].split(" to ")[0]
    return plain(start)


def _runs(rows: Sequence[Summary], key: str) -> list[list[Summary]]:
    """Return the runs of neighbours that have a value."""
    found: list[list[Summary]] = []
    last = None
    for row in rows:
        if is_number(row[key]):
            if last is None or row["x"] != last + 1:
                found.append([])
            found[-1].append(row)
            last = row["x"]
        else:
            last = None
    return found


def _steps(run: Sequence[Summary]) -> list[Summary]:
    return [{**r, "x": r["x"] + side} for r in run for side in (-0.5, 0.5)]


def _bands(rows: Sequence[Summary], low: str, high: str, x: Spec, y: Spec, **look: Any) -> list[Spec]:
    return [layer(_steps(run), "area", x=x, y={**y, "field": low}, y2=high, **look) for run in _runs(rows, low)]


def _edges(rows: Sequence[Summary], x: Spec, y: Spec) -> list[Spec]:
    """Draw the range of realised values as dotted lines: it is wider than that of estimates."""
    return [
        layer(
            _steps(run), "line", x=x, y={**y, "field": key}, color=_REALISED, strokeWidth=1.2, strokeDash=[1.5, 3]
        )
        for key in ("seen_low", "seen_high")
        for run in _runs(rows, key)
    ]


def _alerts(estimated: Sequence[Summary], seen: Sequence[Summary], x: Spec, y: Spec) -> list[Spec]:
    """Ring the values, and mark their chunks at the top."""
    layers = []
    for rows, shape, size in ((estimated, "circle", 130), (seen, "diamond", 170)):
        if rows:
            look = {"shape": shape, "fill": "transparent", "stroke": HARM, "strokeWidth": 2, "opacity": 1}
            layers.append(layer(rows, "point", x=x, y=y, size=size, **look))
    marked = {r["x"]: r for r in (*estimated, *seen)}
    if marked:
        look = {"shape": "triangle-down", "fill": HARM, "stroke": HARM, "strokeWidth": 0, "opacity": 1}
        layers.append(layer(list(marked.values()), "point", x=x, y={"value": 5}, size=60, **look))
    return layers


def _alt(drawn: Sequence[Summary], metric: str, reference: Any, decimals: int) -> str:
    parts = [f"{metric} of {len(drawn)} chunks, from {drawn[0]['label']} to {drawn[-1]['label']}"]
    if is_number(reference):
        parts[0] += f"; the reference has {fixed(reference, decimals)}"
    for key, name, alert in (("value", "Estimates", "alert"), ("seen", "Realised values", "seen_alert")):
        rows = [r for r in drawn if is_number(r[key])]
        if rows:
            low, high = min(rows, key=_by(key)), max(rows, key=_by(key))
            said = (
                f"{name} lie between {fixed(low[key], decimals)} ({low['label']}) and {fixed(high[key], decimals)} "
                f"({high['label']})"
            )
            alerts = [r["label"] for r in rows if r[alert]]
            said += (
                f"; alerts: {', '.join(alerts[:8])}{', …' if len(alerts) > 8 else ''}" if alerts else "; no alerts"
            )
            parts.append(said)
    return ". ".join(parts) + "."


def _by(key: str) -> Callable[[Summary], float]:
    return lambda row: float(row[key])


def _legend(rows: Sequence[Summary], reference: Any) -> list[tuple[Markup, str]]:
    svg = Markup('<svg class="swatch" viewBox="0 0 30 14" width="30" height="14" aria-hidden="true">{}</svg>')
    blue, orange, red = "var(--c-measured,#0b5cad)", "var(--c-s2,#a8480c)", "var(--c-harm,#b3261e)"
    one = Markup('<path d="M1 7H29M15 1V13" stroke="{}" stroke-width="2" fill="none"/><circle cx="15" cy="7" r="3.4" '
                 'fill="{}"/>')  # fmt: skip
    legend = [(svg.format(one.format(blue, blue)), "estimate without labels, 95 % interval")]
    band = Markup('<rect x="1" y="2" width="28" height="10" fill="var(--c-rest,#c3cad3)" fill-opacity=".42"/>')
    dashed = Markup('<path d="M1 7H29" stroke="var(--c-muted,#57616d)" stroke-dasharray="6 4" fill="none"/>')
    if any(is_number(r["band_low"]) for r in rows):
        both = band + dashed if is_number(reference) else band
        legend.append((svg.format(both), "reference, and where estimates lie if nothing changed"))
    if any(is_number(r["seen"]) for r in rows):
        diamond = Markup('<path d="M15 1l6 6-6 6-6-6Z" fill="none" stroke="{}" stroke-width="1.8"/>').format(orange)
        legend.append((svg.format(diamond), "realised value"))
        dotted = Markup('<path d="M1 3H29M1 11H29" stroke="{}" stroke-dasharray="1.5 3" fill="none"/>').format(
            orange
        )
        legend.append((svg.format(dotted), "where realised values lie if nothing changed"))
    if any(r["alert"] or r["seen_alert"] for r in rows):
        ring = Markup('<circle cx="8" cy="7" r="5" fill="none" stroke="{}" stroke-width="2"/><path d="M18 3h8l-4 8Z" '
                      'fill="{}"/>').format(red, red)  # fmt: skip
        legend.append((svg.format(ring), "alert"))
    return legend
