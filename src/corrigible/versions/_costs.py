"""What two versions cost, where both are models: by several indicators, as one alone can name the dearer the cheaper."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from corrigible.compare import cost_report
from corrigible.errors import CorrigibleError
from corrigible.versions._inputs import Version

# Indicators of `cost_report`, by the words of the report.
_NAMES = {
    "parameters": "parameters", "flops": "operations a row", "megabytes": "megabytes in memory",
    "latency": "seconds of a single answer", "tail latency": "seconds of a slow single answer",
    "seconds a row": "seconds a row in batches", "rows a second": "rows a second in batches",
    "peak megabytes": "peak megabytes of a batch",
}  # fmt: skip


@dataclass
class Costs:
    """Costs by name, of ``old`` and ``new``, and the pairs of which one falls and the other rises."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    contradictions: list[dict[str, Any]] = field(default_factory=list)


def measured_costs(versions: Sequence[Version], n: int, *, more: bool, seed: int) -> Costs:
    """Return what an answer costs; nothing unless both versions are models.

    Parameters
    ----------
    versions : sequence of two Version
        Old and new, asked before.
    n : int
        Rows that they answered.
    more : bool
        Measure them by `cost_report`, beside the time as they were asked and their size on disk.
    seed : int
        Of the order in which they are asked.
    """
    if any(v.model is None for v in versions):
        return Costs()
    found = {"seconds a thousand rows": [1000 * v.seconds / n for v in versions]}
    sizes = [v.n_bytes for v in versions]
    if all(sizes):
        found["megabytes on disk"] = [size / 1e6 for size in sizes if size]
    costs = Costs({name: dict(zip(("old", "new"), values, strict=True)) for name, values in found.items()})
    if more:
        _add(costs, versions, seed)
    return costs


def _add(costs: Costs, versions: Sequence[Version], seed: int) -> None:
    names = ("old", "new")
    models = dict(zip(names, (v.model for v in versions), strict=True))
    rows = dict(zip(names, (getattr(v, "sample", None) for v in versions), strict=True))
    try:
        report = cost_report(
            models, rows, n_rounds=10, n_calls=3, n_warm_up=1, clock="processor", rng=np.random.default_rng(seed)
        )
    except (CorrigibleError, ValueError, TypeError, AttributeError, pickle.PicklingError):
        return  # a model that cannot be counted still has a time and a size
    for indicator, name in _NAMES.items():
        measured = report.table[indicator]
        old, new = (float(measured[m]) for m in names)
        if np.isfinite(old) and np.isfinite(new):
            costs.values[name] = {"old": old, "new": new}
    for row in report.contradictions.to_dict("records"):
        falls, rises = (row["indicator"], row["but"]) if row["cheaper"] == "new" else (row["but"], row["indicator"])
        ratio = {name: report.table.loc["new", name] / report.table.loc["old", name] for name in (falls, rises)}
        costs.contradictions.append({
            "falls": _NAMES[falls], "rises": _NAMES[rises], "fall": float(ratio[falls]), "rise": float(ratio[rises]),
        })  # fmt: skip
