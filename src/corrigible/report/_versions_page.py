"""The page of a comparison of two versions: the verdict, what turned and where, and what else changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corrigible.report._format import bracket, count, fixed, is_number, significant, width_decimals
from corrigible.report._render import _shell, block_views, environment
from corrigible.report._summary import Summary
from corrigible.report._summary import clean as plain

LOSS_NAMES = {
    "zero_one": "Share of wrong rows", "log": "Log loss", "brier": "Brier score", "squared": "Squared error",
    "absolute": "Absolute error", "token_f1": "One minus token F1",
}  # fmt: skip
MEASURE_NAMES = {
    "negative_flips": "Share of rows that turned wrong",
    "relative_negative_flips": "The same, over what chance gives two independent models",
    "inconsistent": "Share of rows wrong in both, with different answers",
    "loss_increase": "Rise of the mean loss",
    "calibration_increase": "Rise of the calibration error",
    "group_negative_flips": "Largest share that turned wrong in a group",
    "group_loss_increase": "Largest fall of a group's accuracy",
    "slowdown": "How many times as long an answer takes",
    "score_fall": "Mean over the rows of how far the score falls",
}
_AGREEMENT = {
    "agreement": ("Same answers", "Share of rows with one answer."),
    "kappa": ("Cohen's kappa", "The same, beyond what the frequencies of the answers give by chance."),
    "error_consistency": ("Error consistency", "Kappa of being right: 0 if the versions err independently."),
    "error_overlap": ("Error overlap", "Rows wrong in both, over rows wrong in any."),
    "capa": ("CAPA", "Agreement beyond that of two models of these accuracies, by probabilities."),
}
_MAX_GROUPS = 60


def render_versions(summary: Mapping[str, Any]) -> str:
    """Return a comparison as one HTML page.

    Parameters
    ----------
    summary : mapping
        As `corrigible.versions.VersionReport.page` gives it.

    Returns
    -------
    str
        A whole HTML document; what cells and names hold is escaped.
    """
    s: Summary = plain(dict(summary))
    parts = [(ident, title, blocks) for ident, title, blocks in _parts(s) if blocks]
    context = {
        "headline": headline(s),
        "remarks": _remarks(s),
        "facts": _facts(s),
        "toc": [*((ident, title) for ident, title, _ in parts), ("made", "How this was made")],
        "parts": [{"id": i, "title": t, "blocks": block_views(b, i)} for i, t, b in parts],
    }
    return environment().get_template("versions.html.j2").render(**_shell(s, "Comparison of versions"), **context)


def headline(s: Summary) -> str:
    """Return the verdict in a sentence or two."""
    said = str(s["said"])
    if s["exceeded"]:
        said += f" It exceeds {count(len(s['exceeded']))} of the limits set."
    return said


def _remarks(s: Summary) -> list[str]:
    c, f = s["changes"][s["loss"]], s["flips"]
    digits = width_decimals(c["high"] - c["low"])
    name = LOSS_NAMES[s["loss"]]
    return [
        f"{name}: {fixed(c['old'], digits)} before, {fixed(c['new'], digits)} now, a change of "
        f"{fixed(c['change'], digits)} {bracket(c['low'], c['high'], digits)}.",
        f"{count(f['n_negative'])} rows turned {_worse(s)}, {count(f['n_positive'])} {_better(s)}.",
    ]


def _worse(s: Summary) -> str:
    return "wrong" if s["task"] == "classification" else "worse"


def _better(s: Summary) -> str:
    return "right" if s["task"] == "classification" else "better"


def _facts(s: Summary) -> list[tuple[str, str]]:
    facts = [("Rows", count(s["n"])), ("Loss", s["loss"]), ("Tolerance", significant(s["tolerance"]))]
    facts += [("Verdict", s["verdict"]), ("Update", "accepted" if s["accepted"] else "refused")]
    return facts


def _parts(s: Summary) -> list[tuple[str, str, list[dict[str, Any]]]]:
    return [
        ("change", "What changed", [_losses(s), *_limits(s)]),
        ("flips", "What turned", _flips(s)),
        ("groups", "Groups", _groups(s)),
        ("alike", "How alike the versions are", [*_alike(s), *_costs(s)]),
        ("rows", f"Rows that turned {_worse(s)}", _listed(s)),
    ]


def _losses(s: Summary) -> dict[str, Any]:
    body = [[LOSS_NAMES[n], c["old"], c["new"], c["change"], c["low"], c["high"]] for n, c in s["changes"].items()]
    if s["calibration"]:
        old, new = s["calibration"]["old"], s["calibration"]["new"]
        body.append(["Calibration error", old, new, new - old, None, None])
    columns = ["", "Old", "New", "Change", "95 % interval from", "to"]
    note = "Intervals are of the change, by resampling rows; both versions answer the same ones."
    return {"kind": "table", "title": "Mean over the rows", "columns": columns, "rows": body, "note": note}


def _limits(s: Summary) -> list[dict[str, Any]]:
    if not s["limits"]:
        return []
    body = [
        [MEASURE_NAMES[n], s["measures"].get(n), limit, "exceeded" if n in s["exceeded"] else "kept"]
        for n, limit in s["limits"].items()
    ]
    columns = ["Measure", "Measured", "Limit", ""]
    return [{"kind": "table", "title": "Limits", "columns": columns, "rows": body}]


def _flips(s: Summary) -> list[dict[str, Any]]:
    f = s["flips"]
    low, high = f["negative_interval"]
    items = [
        {"label": f"Turned {_worse(s)}", "value": f["negative_rate"], "low": low, "high": high, "format": "percent"},
        {"label": f"Turned {_better(s)}", "value": f["positive_rate"], "low": f["positive_interval"][0],
         "high": f["positive_interval"][1], "format": "percent"},
    ]  # fmt: skip
    blocks: list[dict[str, Any]] = [{"kind": "metrics", "items": items}]
    if s["score_change"]:
        items += [{"label": f"Mean {k} of the score", "value": v} for k, v in s["score_change"].items()]
    if s["task"] == "classification":
        items.append({"label": "Wrong in both, differently", "value": f["inconsistent_rate"], "format": "percent"})
        if is_number(f["relative_negative_rate"]):
            items.append({"label": "Turned wrong, over chance", "value": f["relative_negative_rate"]})
        table = [["right", f["n_both_right"], f["n_negative"]], ["wrong", f["n_positive"], f["n_both_wrong"]]]
        blocks.append({
            "kind": "table", "title": "Rows by right and wrong", "columns": ["Old version", "New right", "New wrong"],
            "rows": table, "note": f"McNemar's exact test that as many turn wrong as right: p = {f['p_value']:.2g}.",
        })  # fmt: skip
    if s["confidence"]:
        blocks.append(_by_confidence(s))
    return blocks


def _by_confidence(s: Summary) -> dict[str, Any]:
    rows = s["confidence"]
    intervals = [c["flips"]["negative_interval"] for c in rows]
    return {
        "kind": "bars",
        "title": "Share that turned wrong, by the old version's confidence",
        "x_label": "share of the rows of that confidence",
        "labels": [f"{c['low']:.2f} to {c['high']:.2f}" for c in rows],
        "values": [c["flips"]["negative_rate"] for c in rows],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
        "x_format": "percent",
    }


def _groups(s: Summary) -> list[dict[str, Any]]:
    rows = s["group_rows"]
    if not rows:
        return []
    body = [
        [r["column"], r["group"], r["rows"], r["turned_wrong"], r["turned_right"], r["negative_rate"], r["low"],
         r["high"], r["old_accuracy"], r["new_accuracy"], r["p_value"]]
        for r in rows[:_MAX_GROUPS]
    ]  # fmt: skip
    columns = ["Column", "Group", "Rows", f"Turned {_worse(s)}", f"Turned {_better(s)}", "Share", "from", "to",
               "Accuracy before", "now", "p"]  # fmt: skip
    if s["task"] != "classification":
        body = [[*r[:8], r[10]] for r in body]
        columns = [*columns[:8], "p"]
    note = "Shares with exact 95 % intervals; p of McNemar's test, corrected for the number of groups (Holm)."
    return [{"kind": "table", "title": f"Groups, by the share that turned {_worse(s)}", "columns": columns,
             "rows": body, "note": note}]  # fmt: skip


def _alike(s: Summary) -> list[dict[str, Any]]:
    if not s["agreement"]:
        return []
    body = [[*_AGREEMENT[n][:1], v, _AGREEMENT[n][1]] for n, v in s["agreement"].items()]
    columns = ["Measure", "Value", "Meaning"]
    return [{"kind": "table", "title": "Agreement of the versions", "columns": columns, "rows": body}]


def _costs(s: Summary) -> list[dict[str, Any]]:
    body = [[name.capitalize(), c["old"], c["new"]] for name, c in s["costs"].items()]
    if not body:
        return []
    note = _contradiction(s)
    return [{"kind": "table", "title": "Costs", "columns": ["", "Old", "New"], "rows": body, "note": note}]


def _contradiction(s: Summary) -> str:
    """Say which costs fall while others rise: no single one of them tells which version is cheaper."""
    pairs = s["contradictions"]
    if not pairs:
        return ""
    less = {c["falls"]: c["fall"] for c in pairs}
    more = {c["rises"]: c["rise"] for c in pairs}
    fell, rose = (", ".join(f"{n} (times {significant(r)})" for n, r in found.items()) for found in (less, more))
    return f"These contradict each other, beyond their intervals: {fell} fell, {rose} rose."


def _listed(s: Summary) -> list[dict[str, Any]]:
    rows = s["turned_wrong"]
    if not rows:
        return []
    names = {"row": "Row", "id": "Id", "label": "Label", "old": "Old", "old_confidence": "Old confidence",
             "new": "New", "new_confidence": "New confidence"}  # fmt: skip
    kept = [n for n in names if n in rows[0]]
    left = s["flips"]["n_negative"] - len(rows)
    note = f"The {count(len(rows))} on which the old version was surest; " if "old_confidence" in kept else ""
    note += f"turned.parquet holds all {count(s['flips']['n_negative'])}." if left > 0 else ""
    title = "Right before, wrong now" if s["task"] == "classification" else "Answers whose score fell"
    return [{"kind": "table", "title": title, "columns": [names[n] for n in kept],
             "rows": [[r[n] for n in kept] for r in rows], "note": note if left > 0 else ""}]  # fmt: skip
