"""The page of a data audit: counts by kind, and the rows and cells with their reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corrigible.report._format import count
from corrigible.report._render import _shell, block_views, environment
from corrigible.report._summary import Summary
from corrigible.report._summary import clean as plain

_CELLS = ["Row", "Column", "Score", "Value", "Reason", "Suggestion"]


def render_clean(summary: Mapping[str, Any]) -> str:
    """Return a data audit as one HTML page.

    Parameters
    ----------
    summary : mapping
        ``title, made, version, command, summary, kinds, issues, settings, versions``, as `CleanReport.page` gives.

    Returns
    -------
    str
        A whole HTML document; what cells and names hold is escaped.
    """
    s: Summary = plain(dict(summary))
    s["warnings"] = _warnings(s["summary"])
    told = s["summary"]
    total = sum(told["issues"].values())
    parts = [_kind(s, kind, number) for kind, number in told["issues"].items()]
    context = {
        "headline": f"{count(total)} issues in {count(told['rows'])} rows of {count(told['columns'])} columns.",
        "remarks": [_applied(told)],
        "facts": [(n, v) for n, v in (("Target", told.get("target")), ("Task", told.get("task"))) if v],
        "toc": [
            ("kinds", "What was found"),
            *((p["id"], p["title"]) for p in parts),
            ("made", "How this was made"),
        ],
        "blocks": block_views(_overview(s), "kinds"),
        "parts": parts,
    }
    return environment().get_template("clean.html.j2").render(**_shell(s, "Data audit"), **context)


def _applied(told: Summary) -> str:
    if not told["applied"]:
        return "Nothing was changed."
    kinds = ", ".join(told["applied"])
    return f"Applied: {kinds}; {count(told['rows_dropped'])} rows dropped, {count(told['rows_changed'])} changed."


def _warnings(told: Summary) -> list[str]:
    found = [told["target_note"]] if told.get("target_note") else []
    if (order := told.get("order")) and order["pvalue"] < 0.05:
        found.append(
            f"Rows that are alike stand close together (p = {order['pvalue']:.2g}): the table is sorted, drifts, or "
            "comes from several sources. Shuffle before splitting, or split by time or source."
        )
    if told.get("group_leaks"):
        found.append(f"{count(len(told['group_leaks']))} groups have rows, or copies of rows, in several splits.")
    return found


def _overview(s: Summary) -> list[dict[str, Any]]:
    told = s["summary"]
    rows = [[kind, number, s["kinds"].get(kind, "")] for kind, number in told["issues"].items()]
    blocks: list[dict[str, Any]] = [
        {"kind": "table", "title": "Issues by kind", "columns": ["Kind", "Issues", "Meaning"], "rows": rows}
    ]
    if missing := told.get("missing_cells"):
        body = sorted(([c, k] for c, k in missing.items()), key=lambda r: -r[1])
        blocks.append({"kind": "table", "title": "Empty cells", "columns": ["Column", "Empty cells"], "rows": body})
    if labels := told.get("labels"):
        low, high = labels["interval"]
        items = [{"label": "Estimated wrong labels", "value": labels["estimated_errors"], "low": low, "high": high}]
        blocks.append({"kind": "metrics", "items": items})
    blocks += told.get("annotator_blocks", [])
    if groups := told.get("groups"):
        body = [[g["group"], g["rows"], g["confidence"], g["ratio"], g["pvalue"]] for g in groups[:10]]
        names = ["Group", "Rows", "Mean confidence", "Ratio", "p-value"]
        blocks.append({"kind": "table", "title": "Groups served worst", "columns": names, "rows": body})
    return blocks


def _kind(s: Summary, kind: str, number: int) -> dict[str, Any]:
    found = s["issues"].get(kind, [])
    rows = [[r["row"], r["column"], r["score"], r["value"], r["reason"], r["suggestion"]] for r in found]
    title = kind.replace("_", " ").capitalize()
    note = f"The first {len(rows)} of {number} are shown; issues.parquet holds all." if len(rows) < number else ""
    block = {"kind": "table", "title": f"{title}: {s['kinds'].get(kind, '')}", "columns": _CELLS, "rows": rows,
             "note": note}  # fmt: skip
    return {"id": f"kind-{kind}", "title": title, "blocks": block_views([block], f"kind-{kind}")}
