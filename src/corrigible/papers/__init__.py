"""The papers that the methods come from, what was measured of their claims, and the status that follows."""

from corrigible.papers._evidence import (
    Evidence,
    Measurement,
    check,
    load_evidence,
    results,
    reword_evidence,
    reworded,
    run_evidence,
    stale,
)
from corrigible.papers._index import STATUSES, Paper, index, paper, search, status, statuses

__all__ = [
    "STATUSES",
    "Evidence",
    "Measurement",
    "Paper",
    "check",
    "index",
    "load_evidence",
    "paper",
    "results",
    "reword_evidence",
    "reworded",
    "run_evidence",
    "search",
    "stale",
    "status",
    "statuses",
]
