"""What a watch says of itself in words and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corrigible.watch._inputs import Part
from corrigible.watch._report import Chunk
from corrigible.watch._settings import WatchSettings

_ENOUGH, _SURPRISING, _OFTEN = 10, 0.8, 0.2


def summary(
    chunks: Sequence[Chunk], settings: WatchSettings, reference: Part, least: int, classes: Sequence[Any]
) -> dict[str, Any]:
    """Return counts, sizes, and how often realised values lay in their intervals.

    Parameters
    ----------
    chunks : sequence of Chunk
        All of them.
    settings : WatchSettings
        What was asked for.
    reference : Part
        Reference rows.
    least : int
        Fewest rows of a chunk that can be estimated.
    classes : sequence
        Labels; none for values.
    """
    held = total = 0
    for chunk in chunks:
        if chunk.labelled == chunk.rows:
            for name, reading in chunk.realised.items():
                estimate = chunk.estimated.get(name)
                if estimate is None or reading.value is None or estimate.low is None or estimate.high is None:
                    continue
                total += 1
                held += estimate.low <= reading.value <= estimate.high
    return {
        "task": settings.task,
        "classes": [c if isinstance(c, bool | int | float | str) else str(c) for c in classes],
        "by": settings.by,
        "alpha": settings.alpha,
        "chunks": len(chunks),
        "tested": sum(c.test > 0 for c in chunks),
        "labelled_chunks": sum(bool(c.realised) for c in chunks),
        "alerts": sum(len(c.alerts) for c in chunks),
        "chunks_with_alerts": sum(bool(c.alerts) for c in chunks),
        "rows": sum(c.rows for c in chunks),
        "reference_rows": len(reference),
        "least_rows": least,
        "intervals_held": held,
        "intervals": total,
    }


def warnings(chunks: Sequence[Chunk], settings: WatchSettings, told: dict[str, Any]) -> list[str]:
    """Return what to mind when reading."""
    found = []
    if few := [c for c in chunks if c.status == "few rows"]:
        found.append(
            f"{len(few)} of {len(chunks)} chunks have fewer than {told['least_rows']} rows and were not estimated, the "
            f"first of them {few[0].label}."
        )
    if any(0 < c.labelled < c.rows and c.realised for c in chunks):
        found.append(
            "Some chunks are labelled in part. Their realised values are of the labelled rows, which may differ from "
            "the rest: labels of one outcome often arrive sooner."
        )
    if settings.chunk.kind == "time" and (gaps := _gaps(chunks)):
        found.append(f"There are {gaps} periods without rows between the first chunk and the last.")
    if told["intervals"] >= _ENOUGH and told["intervals_held"] < _SURPRISING * told["intervals"]:
        found.append(
            f"Only {told['intervals_held']} of {told['intervals']} realised values lay in the 95 % interval of their "
            "estimate. The relation of label to inputs has moved, or rows of a chunk are not independent: trust the "
            "realised values, and renew the reference."
        )
    if settings.spread == "rows" and told["chunks_with_alerts"] > max(2, _OFTEN * told["tested"]):
        found.append(
            "Many chunks have alerts. The bands allow for the chance of drawing rows alone; if chunks always differ, by "
            "season or day of the week, a reference that covers that, or `--spread chunks`, asks whether they differ "
            "more than before."
        )
    if any(c.status == "open" for c in chunks):
        found.append(
            "The last chunk is open: later runs may add rows. It is shown, not tested. Add `--complete` once it is whole."
        )
    return found


def _gaps(chunks: Sequence[Chunk]) -> int:
    return chunks[-1].number - chunks[0].number + 1 - len(chunks)
