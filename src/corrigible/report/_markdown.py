"""A summary as Markdown: the same sentences and numbers as the page, charts as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from corrigible.report import _render as views
from corrigible.report import _words as words
from corrigible.report._block_charts import block_table
from corrigible.report._format import cell
from corrigible.report._summary import Summary, audit_summary, is_audit, verification_summary

# What begins markup inside a line. An underscore inside a word and a bracket that no "(" follows begin nothing.
_SPECIAL = re.compile(r"[\\`*|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=[(\[:])")
# What begins a list, a heading or a rule at the start of a line.
_LEADING = re.compile(r"^(\d*)([.)#=+-])(?=[\s#=-]|$)")


def to_markdown(summary: Mapping[str, Any]) -> str:
    """Return an audit or a verification as Markdown.

    Parameters
    ----------
    summary : mapping
        Either kind of summary; see `corrigible.report._summary`.

    Returns
    -------
    str
        Markdown with tables, as GitHub, GitLab and Pandoc read them. Text from data is escaped.

    Raises
    ------
    DataError
        If a required key is missing, or a loss, basis or block kind is unknown.

    Examples
    --------
    >>> from corrigible.report import to_markdown
    >>> print(to_markdown({"title": "Readmission", "loss": "log", "remedies": [], "total": {}}).splitlines()[0])
    # Verification: Readmission
    """
    if is_audit(summary):
        s = audit_summary(summary, by="to_markdown")
        parts = _audit(s)
    else:
        s = verification_summary(summary, by="to_markdown")
        parts = _verification(s)
    made = " ".join(x for x in ("Made", f"on {s['made']}" if s["made"] else "", "by Corrigible", s["version"]) if x)
    parts += [*_record("How this was made", s), f"{escaped(made)}."]
    text = "\n\n".join(p for p in parts if p) + "\n"
    return text.replace("\u00a0", " ")


def _audit(s: Summary) -> list[str]:
    budget, u = s["budget"], words.budget_unit(s["budget"])
    head = ["Line", u.heading[:1].upper() + u.heading[1:], "Interval", "Basis", "Rows"]
    lines = [views.line_view(s, line, "", u) for line in budget["lines"]]
    body = [[x["title"], x["number"], x["interval"], x["basis_name"], x["rows"]] for x in lines]
    for title, holder in (("Remains", budget["rest"]), ("Total", budget["total"])):
        body.append(
            [title, u.number(holder.get("value")), u.interval(holder.get("low"), holder.get("high")), "", ""]
        )
    parts = _head(s, "Error budget", words.headline(s), words.remarks(s))
    parts += [
        _list(s["warnings"], "Mind when reading"),
        "## Where the error comes from",
        markdown_table(head, body, (1, 4)),
    ]
    gap = words.sum_gap(budget)
    if gap is not None:
        parts.append(f"The lines and the rest do not sum to the total: {u.difference(gap)} are on no line.")
    parts.append("## Line by line")
    for line, view in zip(budget["lines"], lines, strict=True):
        parts += _line(s, line, view)
    for name, title, said in views.audit_parts(s):
        blocks = s["sections"].get(name) or []
        if said or blocks:
            parts += [f"## {title}", _prose(" ".join(said)), *_blocks(blocks)]
    if s["next_steps"]:
        parts.append("## What to do next")
        for number, step in enumerate(s["next_steps"], start=1):
            parts += [f"{number}. {_prose(step.get('text') or '')}", _code(step.get("command"), "sh", indent="   ")]
    return parts


def _line(s: Summary, line: Summary, view: dict[str, Any]) -> list[str]:
    figures = " ".join(x for x in (view["points"], view["interval"]) if x)
    parts = [f"### {_prose(view['title'])}", f"**{view['basis_name']}**{': ' if figures else ''}{escaped(figures)}"]
    parts += [_prose(p) for p in view["why"]]
    parts += [f"Remedy: {_prose(line['remedy'])}" if line.get("remedy") else "", _code(view["command"], "sh")]
    parts += _blocks(s["sections"].get(line["id"]) or [])
    return [*parts, f"Papers: {escaped('; '.join(view['papers']))}" if view["papers"] else ""]


def _verification(s: Summary) -> list[str]:
    u = words.verification_unit(s)
    head = ["Remedy", "Before", "After", "Change", "Interval", "Newly right", "Newly wrong", "Verdict"]
    keys = ("before", "after", "change", "interval", "positive", "negative")
    remedies = [views.remedy_view(r, "", u) for r in s["remedies"]]
    body = [[r["title"], *(r[k] for k in keys), r["verdict_name"]] for r in remedies]
    total = views.change_view(s["total"], u)
    body.append(["All kept remedies", *(total[k] for k in keys), ""])
    parts = _head(s, "Verification", words.verification_headline(s), words.verification_remarks(s))
    parts += [f"## What each remedy changed, {u.loss}{u.sign}", markdown_table(head, body, tuple(range(1, 7)))]
    for r, view in zip(s["remedies"], remedies, strict=True):
        detail = [*(_prose(p) for p in view["why"]), *_blocks(s["sections"].get(r["id"]) or [])]
        parts += [f"### {_prose(view['title'])}", *detail] if detail else []
    if s["groups"]:
        parts += ["## Group by group", *_blocks(s["groups"])]
    known = {r["id"] for r in s["remedies"]}
    for name, blocks in s["sections"].items():
        if name not in known and blocks:
            parts += [f"## {escaped(views.section_title(name))}", *_blocks(blocks)]
    files = views.file_rows(s)
    if files or s["load"]:
        parts += ["## What was written", markdown_table(["File", "What it holds"], files, ()) if files else ""]
        parts.append(_code(s["load"], "python"))
    return parts


def _head(s: Summary, kind: str, headline: str, remarks: list[str]) -> list[str]:
    return [f"# {escaped(views.heading(s['title'], kind))}", f"**{escaped(headline)}**", escaped(" ".join(remarks))]


def _record(title: str, s: Summary) -> list[str]:
    parts = [f"## {title}", _code(s["command"], "sh")]
    for name, key in (("Setting", "settings"), ("Package", "versions")):
        rows = [list(pair) for pair in views.flatten(s[key])]
        parts.append(markdown_table([name, "Value"], rows, ()) if rows else "")
    return parts if any(parts[1:]) else []


def _blocks(blocks: list[Summary]) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        if block["kind"] == "text":
            parts += [_prose(p) for p in views.paragraphs(block["text"])]
        elif block["kind"] == "metrics":
            items = [views.metric_view(m) for m in block["items"]]
            said = [
                f"{escaped(m['label'])}: {escaped(' '.join(x for x in (m['value'], m['interval']) if x))}"
                for m in items
            ]
            parts.append("\n".join(f"- {text}" for text in said))
        else:
            parts += _block_table(block if block["kind"] == "table" else block_table(block))
    return parts


def _block_table(block: Summary) -> list[str]:
    t = views.table_view(block, "")
    numeric = tuple(i for i, c in enumerate(t["columns"]) if "num" in c["css"])
    table = markdown_table([c["name"] for c in t["columns"]], t["rows"], numeric)
    return [f"**{escaped(t['title'])}**", table, _prose(t["note"])]


def _list(items: list[Any], title: str) -> str:
    return "\n".join([f"**{title}**", "", *(f"- {_prose(x)}" for x in items)]) if items else ""


def markdown_table(head: list[str], body: list[list[Any]], numeric: tuple[int, ...]) -> str:
    rule = ["---:" if i in numeric else "---" for i in range(len(head))]
    rows = [[escaped(cell(x)) for x in row] for row in body]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[escaped(h) for h in head], rule, *rows])


def _code(text: Any, language: str, indent: str = "") -> str:
    """Fence a text with more backticks than it holds in a row."""
    text = str(text or "")
    if not text:
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return "\n".join(indent + line for line in [f"{fence}{language}", *text.split("\n"), fence])


def escaped(text: Any) -> str:
    """Escape a text for the middle of a line or a cell of a table."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\g<0>", text)


def _prose(text: str) -> str:
    """Escape a text that begins a line, but for what stands between backticks."""
    parts = " ".join(str(text).split()).split("`")
    if len(parts) % 2 == 0:
        return _LEADING.sub(r"\1\\\2", escaped(text))
    out = ""
    for i, part in enumerate(parts):
        left, right = part[:1] == " ", part[-1:] == " " and bool(part.strip())
        out += f"`{part}`" if i % 2 else f"{' ' * left}{escaped(part)}{' ' * right}"
    return _LEADING.sub(r"\1\\\2", out.strip())
