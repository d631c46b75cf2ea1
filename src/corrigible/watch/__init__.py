"""Watching a deployed model: its performance chunk by chunk, with or without labels, and alerts that can be trusted."""

from corrigible.watch._report import Chunk, Reading, WatchReport
from corrigible.watch._watch import watch

__all__ = ["Chunk", "Reading", "WatchReport", "watch"]
