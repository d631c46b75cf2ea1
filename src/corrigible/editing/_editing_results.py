"""What an `EditingBenchmark` found: means, intervals over requests, curves over numbers of edits, a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from corrigible._utils.files import write_text
from corrigible._utils.validation import check_choice
from corrigible.errors import DataError

# Field, title and number of decimals, in the order of the tables.
SHOWN = (
    ("efficacy", "efficacy", 2),
    ("efficacy_prefixed", "behind a prefix", 2),
    ("paraphrase", "paraphrases", 2),
    ("portability", "portability", 2),
    ("neighbour_right", "other subjects right", 2),
    ("same_subject_right", "same subject right", 2),
    ("kl", "divergence [nats]", 4),
    ("perplexity_ratio", "perplexity ratio", 3),
    ("fluency", "fluency [bits]", 2),
    ("ability", "small tasks right", 2),
    ("seconds", "seconds an edit", 1),
)
TITLES = {
    "single": "One edit at a time",
    "batch": "{n} edits together",
    "sequential": "{n} edits one after another",
}
CURVES = ("efficacy", "neighbour_right", "perplexity_ratio", "ability")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Editors compared</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color-scheme: light dark; }}
.scroll {{ overflow-x: auto; }} table {{ border-collapse: collapse; }} svg {{ max-width: 100%; background: #fff; }}
th, td {{ padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8886; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
</style></head><body>
{body}
</body></html>
"""


@dataclass(frozen=True, eq=False)
class EditingResults:
    """Outcome of `EditingBenchmark`.

    Attributes
    ----------
    each : DataFrame
        A row a measurement: editor, mode, n, and the scores of `EditScores`, of ``seconds`` an edit and of ``ability``,
        the mean over the small tasks. Mode ``"single"`` has a row a request.
    """

    each: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """Means: a row an editor, mode and number of requests."""
        return self.each.groupby(["editor", "mode", "n"], sort=False).mean(numeric_only=True).reset_index()

    def interval(
        self, score: str = "efficacy", *, n_resamples: int = 2000, seed: int = 0
    ) -> dict[str, tuple[float, float, float]]:
        """Return mean and 95 % bootstrap interval over requests edited one at a time, by editor.

        Parameters
        ----------
        score : str
            A column of `each`.
        n_resamples, seed : int
            Of the bootstrap.

        Raises
        ------
        DataError
            If nothing was measured in mode ``"single"``.
        """
        check_choice(score, tuple(self.each.columns), name="score", by="EditingResults.interval")
        single = self.each[self.each["mode"] == "single"]
        if single.empty:
            raise DataError("EditingResults.interval needs the mode 'single'. Got none; run the benchmark with it.")
        found = {}
        for editor, rows in single.groupby("editor", sort=False):
            values = rows[score].dropna().to_numpy(dtype=float)
            if not len(values):
                found[str(editor)] = (math.nan,) * 3
                continue
            drawn = np.random.default_rng(seed).choice(values, (n_resamples, len(values))).mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            found[str(editor)] = (float(values.mean()), float(low), float(high))
        return found

    def shown(self, mode: str, n: int) -> pd.DataFrame:
        """Return one mode and number of requests as people read it: a row an editor.

        Parameters
        ----------
        mode : {"single", "batch", "sequential"}
        n : int
            Number of requests.
        """
        rows = self.table[(self.table["mode"] == mode) & (self.table["n"] == n)]
        columns: dict[str, list[str]] = {"editor": [str(name) for name in rows["editor"]]}
        for name, title, decimals in SHOWN:
            if name not in rows or rows[name].isna().all():
                continue
            spans = self.interval(name) if mode == "single" and decimals == 2 and name != "fluency" else {}
            columns[title] = [
                _number(value, decimals, spans.get(editor))
                for editor, value in zip(columns["editor"], rows[name], strict=True)
            ]
        return pd.DataFrame(columns)

    def parts(self) -> list[tuple[str, pd.DataFrame]]:
        """Return title and table of every mode and number of requests."""
        cells = dict.fromkeys(zip(self.each["mode"], self.each["n"], strict=True))
        return [(TITLES[mode].format(n=n), self.shown(mode, n)) for mode, n in cells]

    def spec(self, scores: Sequence[str] = CURVES) -> dict[str, Any]:
        """Return the curves over edits made one after another as a Vega-Lite specification, a panel a score.

        Parameters
        ----------
        scores : sequence of str
            Columns of `table`.
        """
        rows = self.table[self.table["mode"] == "sequential"]
        values = [
            {"editor": r["editor"], "edits": int(r["n"]), "score": name, "value": float(r[name])}
            for name in scores
            if name in rows
            for _, r in rows.iterrows()
            if np.isfinite(r[name])
        ]
        titles = {name: title for name, title, _ in SHOWN}
        panel = {
            "mark": {"type": "line", "point": True},
            "width": 260,
            "height": 180,
            "encoding": {
                "x": {"field": "edits", "type": "quantitative", "title": "edits"},
                "color": {"field": "editor", "type": "nominal", "title": None, "sort": None},
                "strokeDash": {"field": "editor", "type": "nominal", "title": None, "sort": None},
            },
        }
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "data": {"values": values},
            "columns": 2,
            "concat": [
                panel
                | {
                    "title": titles.get(name, name),
                    "transform": [{"filter": {"field": "score", "equal": name}}],
                    "encoding": panel["encoding"]  # type: ignore[operator]
                    | {"y": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}}},
                }
                for name in scores
            ],
        }

    def to_svg(self) -> str:
        """Return the curves as SVG."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.spec()))

    def save(self, path: str | Path) -> Path:
        """Write tables and curves as one self-contained HTML page; return its path.

        Parameters
        ----------
        path : str or Path
            File to write.
        """
        parts = ["<h1>Editors compared</h1>"]
        for title, table in self.parts():
            label, html = escape(title), table.to_html(index=False, border=0)
            parts.append(
                f'<h2>{label}</h2><div class="scroll" role="region" tabindex="0" aria-label="{label}">{html}</div>'
            )
        if self._has_curves():
            parts.append(f'<h2>Curves</h2><div role="img" aria-label="Scores over edits">{self.to_svg()}</div>')
        write_text(path, _PAGE.format(body="\n".join(parts)))
        return Path(path)

    def to_rst(self) -> str:
        """Return the tables of `save` as reStructuredText, a section each."""
        lines: list[str] = []
        for title, table in self.parts():
            lines += [title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1", ""]
            for row in [list(table.columns), *table.to_numpy().tolist()]:
                lines += [f"   {' ' if i else '*'} - {cell}" for i, cell in enumerate(row)]
            lines.append("")
        return "\n".join(lines)

    def _has_curves(self) -> bool:
        return bool(self.each.loc[self.each["mode"] == "sequential", "n"].nunique() > 1)


def _number(value: float, decimals: int, span: tuple[float, float, float] | None) -> str:
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return text if span is None else f"{text} [{span[1]:.{decimals}f}, {span[2]:.{decimals}f}]"
