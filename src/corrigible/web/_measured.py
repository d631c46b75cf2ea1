"""What was measured, read once and again when a result has changed."""

from __future__ import annotations

import functools
import time
from typing import Any

from corrigible.papers import results as read_results
from corrigible.papers import statuses as compute_statuses
from corrigible.papers._evidence import RESULTS

_looked: tuple[float, tuple[tuple[str, int], ...]] = (-1e9, ())
_AGAIN = 1.0  # seconds: to look at a hundred files takes longer than the rest of a small page


def _stamp() -> tuple[tuple[str, int], ...]:
    global _looked
    if time.monotonic() - _looked[0] > _AGAIN:
        _looked = (time.monotonic(), _read_stamp())
    return _looked[1]


def _read_stamp() -> tuple[tuple[str, int], ...]:
    return tuple((p.name, p.stat().st_mtime_ns) for p in sorted(RESULTS.glob("*.json")))


@functools.lru_cache(maxsize=2)
def _read(_: tuple[tuple[str, int], ...]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    return read_results(), compute_statuses()


def results() -> dict[str, dict[str, Any]]:
    """Return all written results by name; not to be changed."""
    return _read(_stamp())[0]


def statuses() -> dict[str, str]:
    """Return the status of every paper of the index by slug; not to be changed."""
    return _read(_stamp())[1]
