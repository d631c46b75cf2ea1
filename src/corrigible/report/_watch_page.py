"""The page of a watch: what moved in plain words, a chart a metric, alerts, chunks, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corrigible.report._format import ABSENT, count, fixed, is_number, rows, width_decimals
from corrigible.report._render import _shell, environment, table_view
from corrigible.report._summary import Summary
from corrigible.report._summary import clean as plain
from corrigible.report._watch_charts import watch_chart

METRIC_NAMES = {
    "accuracy": "Accuracy", "roc_auc": "ROC AUC", "precision": "Precision", "recall": "Recall",
    "specificity": "Specificity", "f1": "F1", "log_loss": "Log loss", "brier": "Brier score",
    "business_value": "Value a row", "mae": "Mean absolute error", "mse": "Mean squared error",
    "rmse": "Root mean squared error", "mape": "Mean absolute percentage error",
    "msle": "Mean squared log error", "rmsle": "Root mean squared log error",
}  # fmt: skip
METHOD_NAMES = {
    "cbpe": "calibrated confidences (CBPE)",
    "mcbpe": "confidences calibrated anew for each chunk (M-CBPE)",
    "importance": "importance weighting",
    "direct_loss": "direct loss estimation",
}
_TOLD = {
    "cbpe": "the model's probabilities, calibrated on the reference, say how often it is right",
    "mcbpe": "the reference is weighted to look like each chunk, and the probabilities are calibrated on it",
    "importance": "the reference is weighted to look like each chunk, and its own performance taken",
    "direct_loss": "a model of the loss, learned on the reference, says how large it is for each row",
}
_UNITS = {"": "row", "h": "hour", "D": "day", "W": "week", "M": "month", "Q": "quarter", "Y": "year"}
_MAX_LISTED = 300


def render_watch(summary: Mapping[str, Any]) -> str:
    """Return a watch as one HTML page.

    Parameters
    ----------
    summary : mapping
        As `corrigible.watch.WatchReport.page` gives it.

    Returns
    -------
    str
        A whole HTML document; what cells and names hold is escaped.
    """
    s: Summary = plain(dict(summary))
    _place(s["chunks"])
    classes = s["summary"].get("classes") or []
    titles = {name: metric_name(name, classes) for name in s["reference"]}
    digits = {name: _decimals(s, name) for name in s["reference"]}
    figures = [_figure(s, name, titles[name], digits[name], i) for i, name in enumerate(s["reference"], start=1)]
    context = {
        "headline": headline(s, titles),
        "remarks": _remarks(s, titles, digits),
        "facts": _facts(s),
        "toc": _toc(s),
        "overview": table_view(_overview(s, titles, digits), "overview-table"),
        "figures": figures,
        "legend": _legend([f["chart"].legend for f in figures]),
        "how": _how(s),
        "alerts": table_view(_alerts(s, titles, digits), "alerts-table") if s["alerts"] else None,
        "listed": table_view(_chunks(s, titles, digits), "chunks-table"),
        "steps": next_steps(s),
    }
    return environment().get_template("watch.html.j2").render(**_shell(s, "Performance watch"), **context)


def metric_name(name: str, classes: Sequence[Any] = ()) -> str:
    """Return a metric in words; a cell of the confusion matrix by its classes."""
    if not name.startswith("true_"):
        return METRIC_NAMES.get(name, name)
    _, label, _, prediction = name.split("_")
    label, prediction = (str(classes[int(c)]) if int(c) < len(classes) else c for c in (label, prediction))
    return f"Label {label}, predicted {prediction}: share of rows"


def _place(chunks: list[Summary]) -> None:
    """Give each chunk its place on the axis: its number, so that periods without rows leave a gap."""
    first = chunks[0]["number"] if chunks else 0
    span = chunks[-1]["number"] - first + 1 if chunks else 0
    for i, chunk in enumerate(chunks):
        chunk["x"] = chunk["number"] - first if span <= 3 * len(chunks) else i


def _decimals(s: Summary, name: str) -> int:
    """Return the decimals that the width of the typical range asks for."""
    found = []
    for chunk in s["chunks"]:
        e = chunk["estimated"].get(name) or {}
        if is_number(e.get("band_low")) and is_number(e.get("band_high")):
            found.append(e["band_high"] - e["band_low"])
    widths = sorted(found)
    return width_decimals(widths[len(widths) // 2]) if widths else 3


def _figure(s: Summary, name: str, title: str, digits: int, number: int) -> Summary:
    ident = f"metric-{number}"
    chart = watch_chart(s["chunks"], name, s["reference"][name], ident, digits)
    chart.table["title"] = title
    chart.table["rows"] = [[_cell(v, digits) for v in row] for row in chart.table["rows"]]
    return {
        "id": ident,
        "title": _titled(s, name, title),
        "chart": chart,
        "table": table_view(chart.table, f"{ident}-t"),
    }


def _legend(all_of: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the legend of all charts together: they share it."""
    return list({name: (swatch, name) for legend in all_of for swatch, name in legend}.values())


def _titled(s: Summary, name: str, title: str) -> str:
    """Return a metric's title with the direction that is better."""
    if name.startswith("true_"):
        return title
    return f"{title} ({'higher' if name in s['higher_is_better'] else 'lower'} is better)"


def _cell(value: Any, digits: int) -> Any:
    return fixed(value, digits) if isinstance(value, float) else value


# --- words --------------------------------------------------------------------------------------------------------


def headline(s: Summary, titles: Mapping[str, str]) -> str:
    """Return the one sentence that a reader takes away."""
    told, alerts = s["summary"], s["alerts"]
    n = told["tested"]
    if not n:
        return "No chunk could be tested yet."
    if not alerts:
        return f"Nothing moved beyond chance in {_number(n, 'chunk')}."
    chosen = [a for a in alerts if a["worse"]] or alerts
    names = list(dict.fromkeys(a["metric"] for a in chosen))
    chunks = {name: list(dict.fromkeys(a["chunk"] for a in chosen if a["metric"] == name)) for name in names}
    name = max(names, key=lambda m: len(chunks[m]))
    how = (
        "worse than" if chosen[0]["worse"] else "better than" if chosen[0]["worse"] is False else "outside of what"
    )
    where = chunks[name]
    first = f"first in {where[0]}" if len(where) > 1 else f"in {where[0]}"
    rest = len(names) - 1
    others = (
        "" if not rest else " One other metric moved too." if rest == 1 else f" {rest} other metrics moved too."
    )
    share = f"{count(len(where))} of {_number(n, 'chunk')}"
    return f"{titles[name]} was {how} chance allows in {share}, {first}.{others}"


def _number(n: int, noun: str) -> str:
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def _remarks(s: Summary, titles: Mapping[str, str], digits: Mapping[str, int]) -> list[str]:
    told = s["summary"]
    found = []
    shown = [c for c in s["chunks"] if c["estimated"]]
    if shown:
        last, name = shown[-1], next(iter(s["reference"]))
        e, d = last["estimated"][name], digits[name]
        if is_number(e["value"]):
            interval = (
                f" (95 % interval {fixed(e['low'], d)} to {fixed(e['high'], d)})" if is_number(e["low"]) else ""
            )
            found.append(
                f"In the last chunk, {last['label']}, {_lower(titles[name])} is estimated at "
                f"{fixed(e['value'], d)}{interval}; the reference had {fixed(s['reference'][name], d)}."
            )
    if told["labelled_chunks"]:
        text = f"Labels are there for {_number(told['labelled_chunks'], 'chunk')}"
        if told["intervals"]:
            text += f"; the intervals held {count(told['intervals_held'])} of {count(told['intervals'])} realised values"
        found.append(text + ".")
    else:
        found.append("No labels have come: all values are estimates.")
    found.append(
        f"If nothing had changed, the chance of any alert at all would be at most {_percent(told['alpha'])}."
    )
    return found


def _lower(title: str) -> str:
    return title if title[:2].isupper() or title == "F1" else title[:1].lower() + title[1:]


def _percent(share: float) -> str:
    return f"{share * 100:.3g}\u00a0%"


def _facts(s: Summary) -> list[tuple[str, str]]:
    told, settings = s["summary"], s["settings"]
    return [
        ("Rows", count(told["rows"])),
        ("Chunks", _chunking(told["chunks"], str(settings["chunk"]))),
        ("Reference", rows(told["reference_rows"])),
        ("Estimated by", METHOD_NAMES.get(told["by"], told["by"])),
    ]


def _chunking(n: int, rule: str) -> str:
    """Return "12", "39 of 1,000 rows" or "52 of 1 week"."""
    if rule.endswith("chunks"):
        return count(n)
    size, unit = int(rule.rstrip("hDWMQY")), rule.lstrip("0123456789")
    name = _UNITS[unit]
    return f"{count(n)} of {count(size)}\u00a0{name if size == 1 else name + 's'}"


def _how(s: Summary) -> str:
    told = s["summary"]
    bands = (
        "what the reference's own chunks differ by" if s["settings"]["spread"] == "chunks" else "the chance of drawing "
        "so many rows from the reference"
    )  # fmt: skip
    return (
        f"Without labels, {_TOLD.get(told['by'], 'performance is estimated')}. That holds as long as the target depends "
        "on the columns as before; a concept that has changed shows in realised values alone. A value is an alert if it "
        f"lies outside of {bands}, with a level shared over all chunks and metrics, estimated and realised."
    )


def next_steps(s: Summary) -> list[dict[str, str]]:
    """Return what a reader can do, with commands where they are known."""
    told, alerts = s["summary"], s["alerts"]
    worse = [a for a in alerts if a["worse"] is not False]
    steps = []
    if worse:
        first = next(a for a in worse)
        only = (
            "" if first["kind"] == "realised" else " It is an estimate: label some hundred rows of it and compare."
        )
        steps.append({"text": f"Begin with {first['chunk']}, the first chunk with an alert.{only}"})
        text = "See which columns moved, and what the loss is made of, with an audit of the reference beside these rows."
        steps.append({"text": text, "command": s.get("audit_command") or ""})
        steps.append({"text": "If labels confirm it: recalibrate or refit on rows of the new kind, with `corrigible fix` "
                      "to prove that nothing else breaks, and take new reference rows."})  # fmt: skip
    elif alerts:
        steps.append({"text": f"Look at {alerts[0]['chunk']} all the same: a model that suddenly does better often "
                      "means easier rows, a leak, or labels that come late for one outcome."})  # fmt: skip
    if not told["labelled_chunks"]:
        steps.append({"text": "Have some hundred rows of a recent chunk labelled now and then. No estimate without "
                      "labels sees that the target has come to mean something else."})  # fmt: skip
    steps.append({"text": s.get("continue_text") or "Run this again as rows come.",
                  "command": s.get("continue_command") or ""})  # fmt: skip
    return [{"command": "", **step} for step in steps]


def _toc(s: Summary) -> list[tuple[str, str]]:
    toc = [("metrics", "Metric by metric")]
    toc += [("alerts", "Alerts")] if s["alerts"] else []
    return [*toc, ("chunks", "Chunks"), ("next", "What to do next"), ("made", "How this was made")]


# --- tables -------------------------------------------------------------------------------------------------------


def _overview(s: Summary, titles: Mapping[str, str], digits: Mapping[str, int]) -> Summary:
    """Compare the reference, the chunks and the last chunk, a metric a row."""
    seen = bool(s["summary"]["labelled_chunks"])
    body = []
    for name, title in titles.items():
        d = digits[name]
        values = [v for c in s["chunks"] if is_number(v := (c["estimated"].get(name) or {}).get("value"))]
        real = [v for c in s["chunks"] if is_number(v := (c["realised"].get(name) or {}).get("value"))]
        alerts = len({a["chunk"] for a in s["alerts"] if a["metric"] == name})
        row = [title, fixed(s["reference"][name], d), fixed(values[-1], d) if values else ABSENT, _range(values, d)]
        body.append([*row, *([_range(real, d)] if seen else []), count(alerts)])
    columns = ["Metric", "Reference", "Last estimate", "All estimates", *(["Realised"] if seen else [])]
    return {
        "kind": "table",
        "title": "Metrics at a glance",
        "columns": [*columns, "Chunks with alerts"],
        "rows": body,
    }


def _range(values: Sequence[float], digits: int) -> str:
    return f"{fixed(min(values), digits)} to {fixed(max(values), digits)}" if values else ABSENT


def _alerts(s: Summary, titles: Mapping[str, str], digits: Mapping[str, int]) -> Summary:
    """List alerts by runs: neighbouring chunks in which a metric moved the same way are one row."""
    place = {c["label"]: i for i, c in enumerate(s["chunks"])}
    runs: dict[tuple[str, str, Any], list[list[Summary]]] = {}
    for a in s["alerts"]:
        parts = runs.setdefault((a["metric"], a["kind"], a["worse"]), [])
        if not parts or place[a["chunk"]] != place[parts[-1][-1]["chunk"]] + 1:
            parts.append([])
        parts[-1].append(a)
    found = sorted((run for parts in runs.values() for run in parts), key=lambda run: place[run[0]["chunk"]])
    body = []
    for run in found[:_MAX_LISTED]:
        d = digits[run[0]["metric"]]
        worst = max(run, key=lambda a: max(a["value"] - a["band_high"], a["band_low"] - a["value"]))
        change = {True: "worse", False: "better", None: "moved"}[worst["worse"]]
        expected = f"{fixed(worst['band_low'], d)} to {fixed(worst['band_high'], d)}"
        last = run[-1]["chunk"] if len(run) > 1 else ""
        body.append([run[0]["chunk"], last, len(run), titles[worst["metric"]], worst["kind"], change,
                     fixed(worst["value"], d), expected])  # fmt: skip
    left = len(found) - len(body)
    note = f"{count(left)} more are in watch.json." if left > 0 else ""
    columns = [
        "First chunk",
        "Last chunk",
        "Chunks",
        "Metric",
        "Kind",
        "Change",
        "Farthest value",
        "Expected there",
    ]
    return {"kind": "table", "title": "Values beyond chance", "columns": columns, "rows": body, "note": note}


def _chunks(s: Summary, titles: Mapping[str, str], digits: Mapping[str, int]) -> Summary:
    names = [n for n in titles if not n.startswith("true_")] or list(titles)
    body = []
    for c in s["chunks"]:
        marks = {a for kind in ("estimated", "realised") for a, r in c[kind].items() if r["alert"]}
        said = c["status"] if c["status"] != "watched" else "alert" if marks else "within range"
        row = [c["label"], c["rows"], c["labelled"], said]
        for name in names:
            value = (c["estimated"].get(name) or {}).get("value")
            row.append(fixed(value, digits[name]) + (" !" if name in marks else ""))
        body.append(row)
    columns = ["Chunk", "Rows", "Labelled", "State", *(titles[n] for n in names)]
    note = "Estimates; an exclamation mark stands by a metric whose estimate or realised value is an alert."
    return {"kind": "table", "title": "All chunks", "columns": columns, "rows": body, "note": note}
