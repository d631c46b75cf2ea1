"""What a comparison found, and the files and page that show it."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from corrigible._core.multiple_tests import corrected
from corrigible._utils.files import atomic_path, write_text
from corrigible._utils.folders import new_folder
from corrigible._utils.versions import versions
from corrigible.compare import Flips
from corrigible.report._summary import clean as plain
from corrigible.versions._verdict import VERDICTS

MARKER = "compare.json"
# Groups with fewer rows are shown, but do not trip a limit: one row would be a share of a few percent.
_MIN_GROUP = 30


@dataclass
class VersionReport:
    """Outcome of `compare_versions`.

    Attributes
    ----------
    n : int
        Rows that both versions answered.
    task : str
        ``classification``, ``regression`` or ``generation`` (graded texts).
    loss : str
        Loss of the verdict.
    tolerance : float
        Rise of it that is no harm.
    verdict : str
        ``better``, ``not worse``, ``open`` or ``worse``, from the 95 % interval of the change.
    changes : dict
        By loss: ``old``, ``new``, ``change``, and its paired bootstrap interval ``low``, ``high``.
    flips : Flips
        Rows that turned; for values, rows whose absolute error rose (negative) or fell (positive); for
        graded texts, rows whose score fell or rose.
    groups : dict of dict of Flips
        By column and group.
    confidence : list of dict
        Flips by the old version's confidence: ``low``, ``high``, ``flips``.
    agreement : dict
        ``agreement``, ``kappa``, ``error_consistency`` (Cohen's kappa of being right) and ``error_overlap`` (rows wrong
        in both over rows wrong in any).
    calibration : dict
        Debiased expected calibration error of ``old`` and ``new``, top label, 15 bins.
    costs : dict
        ``old`` and ``new`` of what an answer costs, for models: time as they were asked, size on disk, and the
        indicators of `corrigible.compare.cost_report`.
    contradictions : list of dict
        Pairs of costs of which one falls and the other rises beyond their intervals: ``falls``, ``rises``, and how many
        times the old version's each is, ``fall``, ``rise``.
    score_change : dict
        Of graded texts, the mean over rows of how far the score falls (``fall``) and rises (``rise``).
    turned : DataFrame
        The rows that turned.
    warnings : list of str
        What to mind.
    limits : dict
        What must not be exceeded.
    exceeded : dict
        Measured value and limit of those that are.
    settings : dict
        How it was made.
    """

    n: int
    task: str
    loss: str
    tolerance: float
    verdict: str
    changes: dict[str, dict[str, float]]
    flips: Flips
    groups: dict[str, dict[str, Flips]]
    confidence: list[dict[str, Any]]
    agreement: dict[str, float]
    calibration: dict[str, float]
    costs: dict[str, dict[str, float]]
    turned: pd.DataFrame
    contradictions: list[dict[str, Any]] = field(default_factory=list)
    score_change: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    exceeded: dict[str, tuple[float, float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the version is not shown to be worse and keeps all limits."""
        return self.verdict != "worse" and not self.exceeded

    @property
    def measures(self) -> dict[str, float]:
        """What can be limited: shares of rows, rises of the mean loss, and how many times slower."""
        change = self.changes[self.loss]
        found = {
            "negative_flips": self.flips.negative_rate,
            "relative_negative_flips": self.flips.relative_negative_rate,
            "inconsistent": self.flips.inconsistent_rate,
            "loss_increase": change["change"],
        }
        if self.task != "classification":
            found = {k: found[k] for k in ("negative_flips", "loss_increase")}
        if self.score_change:
            found["score_fall"] = self.score_change["fall"]
        if self.calibration:
            found["calibration_increase"] = self.calibration["new"] - self.calibration["old"]
        large = [f for column in self.groups.values() for f in column.values() if f.n >= _MIN_GROUP]
        if large:
            found["group_negative_flips"] = max(f.negative_rate for f in large)
            if self.task == "classification":
                found["group_loss_increase"] = max(f.old_accuracy - f.new_accuracy for f in large)
        # As they were asked, the old version comes first and pays for what a process loads once.
        if time := self.costs.get("seconds a row in batches", self.costs.get("seconds a thousand rows")):
            found["slowdown"] = time["new"] / max(time["old"], 1e-12)
        return found

    def group_table(self) -> pd.DataFrame:
        """Return a row a group: rows, flips with intervals, accuracies, and the corrected p-value of McNemar's test."""
        rows = [
            {"column": column, "group": name, "rows": f.n, "turned_wrong": f.n_negative, "turned_right": f.n_positive,
             "negative_rate": f.negative_rate, "low": f.negative_interval[0], "high": f.negative_interval[1],
             "old_accuracy": f.old_accuracy, "new_accuracy": f.new_accuracy, "p_value": f.p_value}
            for column, found in self.groups.items() for name, f in found.items()
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        if len(table):
            table["p_value"] = corrected(table["p_value"].to_numpy(dtype=np.float64), "holm")
            table = table.sort_values("negative_rate", ascending=False, kind="stable", ignore_index=True)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``compare.json`` holds them."""
        beyond = {name: {"value": value, "limit": limit} for name, (value, limit) in self.exceeded.items()}
        return dict(plain({
            "n": self.n, "task": self.task, "loss": self.loss, "tolerance": self.tolerance, "verdict": self.verdict,
            "accepted": self.accepted, "exceeded": beyond, "limits": self.limits, "measures": self.measures,
            "changes": self.changes, "flips": _flips(self.flips),
            "groups": {c: {g: _flips(f) for g, f in found.items()} for c, found in self.groups.items()},
            "confidence": [{**c, "flips": _flips(c["flips"])} for c in self.confidence],
            "agreement": self.agreement, "calibration": self.calibration, "costs": self.costs,
            "contradictions": self.contradictions, "score_change": self.score_change,
            "warnings": self.warnings, "settings": self.settings, "versions": versions(),
        }))  # fmt: skip

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``index.html``, ``compare.json`` and ``turned.parquet``.

        Parameters
        ----------
        folder : str or Path
            A new or empty folder, or one that holds an earlier output.
        overwrite : bool
            Replace an earlier output.

        Returns
        -------
        Path
            The page.
        """
        from corrigible.report._versions_page import render_versions

        with new_folder(folder, marker=MARKER, overwrite=overwrite) as made:
            write_text(made / MARKER, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
            with atomic_path(made / "turned.parquet") as path:
                self.turned.to_parquet(path, index=False)
            write_text(made / "index.html", render_versions(self.page()))
        return Path(folder) / "index.html"

    def page(self) -> dict[str, Any]:
        """Return what the page shows, as plain values."""
        wrong = self.turned[self.turned["kind"] == "turned wrong"] if len(self.turned) else self.turned
        if "old_confidence" in wrong:
            wrong = wrong.sort_values("old_confidence", ascending=False, kind="stable")
        return {
            "title": "", "command": "", **self.to_dict(), **self.settings.get("shown", {}),
            "said": VERDICTS[self.verdict],
            "group_rows": self.group_table().to_dict("records"),
            "turned_wrong": wrong.head(200).to_dict("records"),
            "made": datetime.date.today().isoformat(), "version": versions()["corrigible"],
        }  # fmt: skip

    def __repr__(self) -> str:
        change = self.changes[self.loss]
        return (
            f"VersionReport: {self.verdict}; {self.loss} loss {change['old']:.4g} to {change['new']:.4g} "
            f"(change {change['change']:+.4g}, 95 % interval {change['low']:+.4g} to {change['high']:+.4g}); "
            f"{self.flips.n_negative} of {self.n} rows turned wrong, {self.flips.n_positive} right"
        )


def _flips(flips: Flips) -> dict[str, Any]:
    return {k: v for k, v in asdict(flips).items() if k not in ("negative", "positive", "inconsistent", "groups")}
