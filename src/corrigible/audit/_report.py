"""What an audit returns: the budget, the rows, and how to save, show and fix."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._utils.files import atomic_path, write_text
from corrigible._utils.folders import new_folder
from corrigible._utils.versions import versions
from corrigible.audit._budget import CONFIDENCE, Budget, Line
from corrigible.audit._chain import Chain
from corrigible.audit._suspects import label_words

if TYPE_CHECKING:
    from corrigible.audit._fix import Fix

Floats = NDArray[np.floating]


@dataclass
class AuditReport:
    """The result of an audit.

    Attributes
    ----------
    budget : Budget
        Total, lines and rest.
    chain : Chain
        The corrected predictor and every line's record.
    sections : dict of str to list
        Evidence blocks by line.
    settings : dict
        What repeats the audit; filled by the command line.
    row_writer : callable, optional
        Writes the rows of a streamed audit, which are never in memory together.
    """

    budget: Budget
    chain: Chain
    total_losses: Floats
    sections: dict[str, list[dict[str, Any]]]
    settings: dict[str, Any] = field(default_factory=dict)
    row_writer: Callable[[Path], None] | None = None

    @property
    def lines(self) -> dict[str, Line]:
        """The budget's lines by id."""
        return {line.id: line for line in self.budget.lines}

    @property
    def rows(self) -> pd.DataFrame:
        """One row an input row: split, index, loss, every line's score and flag, and why it is suspect, in words.

        What a line does not have, and the words of a row that is not suspect, are missing.
        """
        problem = self.chain.problem
        parts = [self._rows("test", self.total_losses, "score", "flag")]
        if problem.y_train is not None and self.chain.fold is not None:
            assert self.chain.first_output is not None
            start = problem.row_loss(self.chain.first_output, problem.y_train)
            parts.insert(0, self._rows("train", start, "train_score", "train_flag"))
        return pd.concat(parts, ignore_index=True)

    def _rows(self, split: str, losses: Floats, score: str, flag: str) -> pd.DataFrame:
        columns: dict[str, Any] = {"split": split, "index": np.arange(len(losses)), "loss": losses}
        for record in self.chain.records:
            scores, flags = getattr(record, score), getattr(record, flag)
            columns[f"{record.id}_score"] = np.full(len(losses), np.nan) if scores is None else scores
            columns[f"{record.id}_flag"] = pd.array(
                [pd.NA] * len(losses) if flags is None else np.asarray(flags, dtype=bool), dtype="boolean"
            )
        columns["suspect"] = self._suspicions(split, len(losses))
        return pd.DataFrame(columns)

    def _suspicions(self, split: str, n: int) -> list[str | None]:
        """Return for each row why it is suspect, or None."""
        problem = self.chain.problem
        reasons: dict[int, list[str]] = {}
        if problem.findings is not None:
            reasons = {row: list(told) for row, told in problem.findings.of(split).items()}
        record = next(r for r in self.chain.records if r.id == "label_errors")
        flags = record.train_flag if split == "train" else record.flag
        rows = np.empty(0, dtype=np.intp) if flags is None else np.flatnonzero(flags)
        for row, words in zip(rows.tolist(), self._label_words(split, rows), strict=True):
            reasons.setdefault(row, []).append(words)
        return ["; ".join(reasons[row]) if row in reasons else None for row in range(n)]

    def _label_words(self, split: str, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        problem = self.chain.problem
        if split == "test":
            return label_words(problem, problem.y_test, problem.test_output, rows, unseen=False)
        assert problem.y_train is not None
        assert self.chain.first_output is not None
        return label_words(problem, problem.y_train, self.chain.first_output, rows, unseen=True)

    def summary(self) -> dict[str, Any]:
        """Return everything the report page shows, as plain values."""
        problem = self.chain.problem
        from corrigible.papers import index

        slugs = sorted({s for line in self.budget.lines for s in line.papers})
        return {
            "title": self.settings.get("title", "Error budget"),
            "made": datetime.date.today().isoformat(),
            "version": versions()["corrigible"],
            "command": self.settings.get("command", ""),
            "task": problem.task,
            "classes": [str(c) for c in problem.classes],
            "n_train": None if problem.y_train is None else len(problem.y_train),
            "n_test": len(problem.y_test),
            "n_production": None if problem.production_output is None else len(problem.production_output),
            "model": _model_name(problem.model),
            "budget": self._shown_budget(),
            "sections": self.sections,
            "next_steps": self.next_steps(),
            "warnings": problem.warnings,
            "papers": {s: index()[s].title for s in slugs},
            "settings": {k: v for k, v in self.settings.items() if k not in ("title", "command")},
            "versions": versions(),
        }

    def _shown_budget(self) -> dict[str, Any]:
        """Return the budget with what only the page needs: its level, and the command of each remedy that helps."""
        budget = self.budget.to_dict()
        where = self.settings.get("out", "report/")
        for line in budget["lines"]:
            if line["kept"] and (line["points"] or 0) > 0:
                line["command"] = f"corrigible fix {where} --remedies {line['id']} --out corrected/"
        return {**budget, "confidence_level": CONFIDENCE}

    def next_steps(self) -> list[dict[str, str]]:
        """Return what to do next, most points first, with the command to do it."""
        where = self.settings.get("out", "report/")
        fixable = [line for line in self.budget.lines if line.kept and (line.points or 0) > 0]
        steps = []
        if fixable:
            ids = ",".join(line.id for line in fixable)
            steps.append(
                {
                    "text": "Apply the remedies that recover loss, and verify them on the test rows.",
                    "command": f"corrigible fix {where} --remedies {ids} --out corrected/",
                }
            )
        for line in sorted(self.budget.lines, key=lambda a: -(a.points or 0)):
            if line.basis == "estimated" and (line.low or 0) > 0:
                steps.append({"text": f"{line.title}: {line.remedy}.", "command": ""})
        return steps

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``index.html``, ``budget.json``, ``rows.parquet``, ``audit.toml`` and what `fix` needs.

        Parameters
        ----------
        folder : str or Path
            A new or empty folder, or one that holds an earlier report.
        overwrite : bool
            Replace an earlier report of the same name.

        Returns
        -------
        Path
            The report page.
        """
        from corrigible.audit._settings import settings_toml
        from corrigible.report import render_audit

        with new_folder(folder, marker="budget.json", overwrite=overwrite) as made:
            write_text(made / "budget.json", json.dumps(self.budget.to_dict(), indent=1) + "\n")
            with atomic_path(made / "rows.parquet") as path:
                if self.row_writer is not None:
                    self.row_writer(path)
                else:
                    self.rows.to_parquet(path, index=False)
            write_text(made / "audit.toml", settings_toml(self.settings))
            write_text(made / "index.html", render_audit(self.summary()))
        return Path(folder) / "index.html"

    def fix(self, remedies: Sequence[str], *, tolerance: float = 0.002, force: bool = False) -> Fix:
        """Apply remedies in chain order and verify the corrected model; see `corrigible.audit.fix`."""
        from corrigible.audit._fix import fix

        return fix(self, remedies, tolerance=tolerance, force=force)

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        from corrigible.report import to_markdown

        return to_markdown(self.summary())

    def _repr_html_(self) -> str:
        from corrigible.report import notebook_html

        return notebook_html(self.summary())

    def __repr__(self) -> str:
        total, rest = self.budget.total, self.budget.rest
        out = [f"{self.budget.loss} loss {total['value']:.4g} [{total['low']:.4g}, {total['high']:.4g}]"]
        for line in self.budget.lines:
            if line.points is None:
                out.append(f"  {line.id:<15}       n/a")
            else:
                out.append(f"  {line.id:<15} {line.points:+9.4f} [{line.low:+.4f}, {line.high:+.4f}] {line.basis}")
        out.append(f"  {'rest':<15} {rest['value']:+9.4f} [{rest['low']:+.4f}, {rest['high']:+.4f}]")
        return "\n".join(out)


def _model_name(model: Any) -> str:
    if model is None:
        return "predictions only"
    steps = getattr(model, "steps", None)
    return " → ".join(type(s).__name__ for _, s in steps) if steps else type(model).__name__
