"""The error budget: lines and rest that sum to the total loss, each with a paired-bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.bootstrap import percentile_interval
from corrigible.audit._chain import LineRecord
from corrigible.errors import UnknownNameError, nearest

Floats = NDArray[np.floating]
SCHEMA = 1
CONFIDENCE = 0.95

TITLES = {
    "label_errors": "Wrong training labels",
    "missing_values": "Missing values",
    "decision_rule": "Decision rule",
    "calibration": "Calibration",
    "groups": "Groups",
    "model_variance": "Model variance",
    "shift": "Shift from training to test",
    "data_size": "Too little data",
}
LINE_IDS = tuple(TITLES)


@dataclass(frozen=True)
class Line:
    """One line of a budget.

    Attributes
    ----------
    id, title : str
    points : float or None
        Loss put down to the line, in the loss's own unit; None where it does not apply.
    low, high : float or None
        95 % interval.
    basis : {"measured", "estimated", "not_applicable"}
    why, remedy : str
    rows : int or None
        Rows concerned.
    papers : tuple of str
        Slugs.
    """

    id: str
    title: str
    points: float | None
    low: float | None
    high: float | None
    basis: str
    why: str
    rows: int | None
    remedy: str
    papers: tuple[str, ...]
    kept: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the line as it stands in ``budget.json``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Budget:
    """A model's loss, split.

    Attributes
    ----------
    task, loss : str
    n_test : int
    total, rest : dict
        ``value``, ``low``, ``high``; the rest also ``aleatoric`` and ``epistemic``.
    lines : tuple of Line
        In chain order.
    forecast, previous : dict
    annotators : dict
        Suspected error rates of those who labelled the rows; empty where it is not known who did.
    grouped_leaks : list of dict
        Columns by whose values the rows should have been split.
    """

    task: str
    loss: str
    n_test: int
    total: dict[str, float]
    lines: tuple[Line, ...]
    rest: dict[str, Any]
    forecast: dict[str, Any] = field(default_factory=dict)
    previous: dict[str, Any] = field(default_factory=dict)
    annotators: dict[str, Any] = field(default_factory=dict)
    grouped_leaks: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, line: str) -> Line:
        for found in self.lines:
            if found.id == line:
                return found
        raise UnknownNameError(f"The budget has no line {line!r}.{nearest(line, LINE_IDS)}")

    def to_dict(self) -> dict[str, Any]:
        """Return what ``budget.json`` holds."""
        return {
            "schema": SCHEMA,
            "task": self.task,
            "loss": self.loss,
            "n_test": self.n_test,
            "total": self.total,
            "lines": [line.to_dict() for line in self.lines],
            "rest": self.rest,
            "forecast": self.forecast,
            "previous": self.previous,
            "annotators": self.annotators,
            "grouped_leaks": self.grouped_leaks,
        }


PAPERS = {
    "label_errors": ("num_errors",),
    "missing_values": ("missing_study",),
    "decision_rule": (),
    "calibration": (),
    "groups": (),
    "model_variance": ("selective_ens", "underspec"),
    "shift": ("mcbpe",),
    "data_size": ("learn_curve",),
}


@dataclass
class Draws:
    """Point values and bootstrap draws of the total and of every line, over the same resampled test rows.

    `upper` holds draws that only lift a line's upper end: of a remedy that was tried and not kept, or of what is
    estimated to be left of the cause after the remedy.
    """

    total: float
    total_draws: Floats
    points: dict[str, float]
    draws: dict[str, Floats]
    upper: dict[str, Floats]


def assemble(
    records: list[LineRecord], draws: Draws, *, task: str, loss: str, n_test: int, epistemic: float | None
) -> Budget:
    """Put the lines together; what is left is the rest, so that lines and rest sum to the total.

    Parameters
    ----------
    records : list of LineRecord
        In chain order.
    draws : Draws
        Values and bootstrap draws.
    task, loss : str
        Of the problem.
    n_test : int
        Number of test rows.
    epistemic : float or None
        Estimated part of the rest that models disagree on.
    """
    lines = [_line(r, draws) for r in records]
    rest = draws.total - sum(line.points or 0.0 for line in lines)
    rest_draws = draws.total_draws - sum(draws.draws.values(), start=np.zeros_like(draws.total_draws))
    part = None if epistemic is None else float(np.clip(epistemic, 0.0, max(rest, 0.0)))
    return Budget(
        task=task,
        loss=loss,
        n_test=n_test,
        total=_interval(draws.total, draws.total_draws),
        lines=tuple(lines),
        rest={
            **_interval(rest, rest_draws),
            "aleatoric": None if part is None else rest - part,
            "epistemic": part,
        },
    )


def _line(record: LineRecord, draws: Draws) -> Line:
    applies = record.basis != "not_applicable"
    points = low = high = None
    if applies:
        points = draws.points[record.id]
        low, high = (float(v) for v in percentile_interval(draws.draws[record.id]))
        low, high = min(low, points), max(high, points)
        if record.id in draws.upper:
            # A remedy that was not kept can be left out, so at worst it recovers nothing; at best, what trying it
            # may have hidden. One that was kept may leave a part of the cause.
            high = max(high, float(percentile_interval(draws.upper[record.id])[1]))
    remedy = record.remedy if record.kept or record.basis == "estimated" else ""
    return Line(
        record.id, TITLES[record.id], points, low, high, record.basis, record.why, record.rows, remedy,
        PAPERS[record.id], record.kept,
    )  # fmt: skip


def _interval(value: float, draws: Floats) -> dict[str, float]:
    low, high = percentile_interval(draws)
    return {"value": float(value), "low": float(low), "high": float(high)}
