"""What a watch found: chunks with their metrics, alerts, and the files and page that show them."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from corrigible._utils.files import atomic_path, write_text
from corrigible._utils.folders import new_folder
from corrigible._utils.versions import versions
from corrigible.watch._methods import HIGHER_IS_BETTER, is_better

MARKER = "watch.json"


@dataclass(frozen=True)
class Reading:
    """One metric of one chunk, estimated or realised.

    Attributes
    ----------
    value : float or None
        None where it is not defined.
    low, high : float or None
        95 % interval of what the labels would give; None for a realised value.
    band_low, band_high : float or None
        Where it lies if nothing changed; None where it was not tested.
    alert : bool
        Whether it lay outside when it was tested.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    band_low: float | None = None
    band_high: float | None = None
    alert: bool = False


@dataclass(frozen=True)
class Chunk:
    """A chunk of production rows.

    Attributes
    ----------
    number : int
        Its number by the chunking: rows from the start, or periods since 1970.
    label : str
        Its period, or its rows counted from 1.
    start, end : str or None
        First and last time.
    rows, labelled : int
        Rows, and those with a label.
    status : str
        ``watched``; ``partial`` (the last, with fewer rows than asked); ``open`` (not yet whole: shown, not tested);
        ``few rows`` (fewer than can be estimated).
    test : int
        Place among the tested chunks, from 1; 0 if it was not.
    estimated, realised : dict of str to Reading
        By metric.
    digest : str
        Hash of the rows, labels aside.
    look : int
        How often its labels were looked at.
    """

    number: int
    label: str
    start: str | None
    end: str | None
    rows: int
    labelled: int
    status: str
    test: int
    digest: str
    estimated: dict[str, Reading] = field(default_factory=dict)
    realised: dict[str, Reading] = field(default_factory=dict)
    look: int = 0

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """Kind and metric of each alert."""
        kinds = (("estimated", self.estimated), ("realised", self.realised))
        return [(kind, name) for kind, found in kinds for name, reading in found.items() if reading.alert]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Chunk:
        """Return the chunk of a line of the state."""
        kept = {k: v for k, v in values.items() if k != "kind"}
        for kind in ("estimated", "realised"):
            kept[kind] = {name: Reading(**reading) for name, reading in kept.get(kind, {}).items()}
        return cls(**kept)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; what is not finite is None."""
        return dict(plain(asdict(self)))


@dataclass(frozen=True)
class WatchReport:
    """What `watch` found.

    Attributes
    ----------
    chunks : tuple of Chunk
        In order of the stream, earlier runs included.
    reference : dict of str to float
        Realised metrics of the reference.
    settings : dict
        What was asked for.
    summary : dict
        Counts, task, sizes, and the share of realised values that their intervals held.
    warnings : tuple of str
        What to mind when reading.
    earlier : frozenset
        Alerts that an earlier run has told: number of the chunk, kind and metric.
    shown : dict
        Title and commands of the page; filled by the command line.
    """

    chunks: tuple[Chunk, ...]
    reference: dict[str, float]
    settings: dict[str, Any]
    summary: dict[str, Any]
    warnings: tuple[str, ...] = ()
    earlier: frozenset[tuple[int, str, str]] = frozenset()
    shown: dict[str, str] = field(default_factory=dict)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Every alert: chunk, metric, kind, value, band, whether it is for the worse, and whether this run found it."""
        found = []
        for chunk in self.chunks:
            for kind, metric in chunk.alerts:
                reading = (chunk.estimated if kind == "estimated" else chunk.realised)[metric]
                value, low, high = (float(v or 0.0) for v in (reading.value, reading.band_low, reading.band_high))
                better = is_better(metric, value - (low + high) / 2)
                found.append({"chunk": chunk.label, "metric": metric, "kind": kind, "value": value, "band_low": low,
                              "band_high": high, "worse": None if better is None else not better,
                              "new": (chunk.number, kind, metric) not in self.earlier})  # fmt: skip
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``watch.json`` holds them."""
        return dict(
            plain(
                {
                    "summary": self.summary,
                    "reference": self.reference,
                    "alerts": self.alerts,
                    "chunks": [c.to_dict() for c in self.chunks],
                    "warnings": list(self.warnings),
                    "settings": self.settings,
                    "versions": versions(),
                }
            )
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a row a chunk and metric, as ``chunks.parquet`` holds them."""
        rows = []
        for i, chunk in enumerate(self.chunks):
            for metric in self.reference:
                row: dict[str, Any] = {"chunk": i, "label": chunk.label, "start": chunk.start, "end": chunk.end,
                                       "rows": chunk.rows, "labelled": chunk.labelled, "status": chunk.status,
                                       "metric": metric, "reference": self.reference[metric]}  # fmt: skip
                for kind, found in (("estimated", chunk.estimated), ("realised", chunk.realised)):
                    reading = found.get(metric, Reading(None))
                    row |= {kind if k == "value" else f"{kind}_{k}": v for k, v in asdict(reading).items()}
                rows.append(row)
        frame = pd.DataFrame(rows).drop(columns=["realised_low", "realised_high"])
        names = map(str, frame.columns)
        numbers = [c for c in names if c.startswith(("estimated", "realised")) and not c.endswith("alert")]
        return frame.astype({c: "float64" for c in [*numbers, "reference"]} | {"start": "string", "end": "string"})

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``index.html``, ``watch.json`` and ``chunks.parquet``.

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

        Raises
        ------
        DataError
            If the folder holds something else, or cannot be written.
        """
        from corrigible.report._watch_page import render_watch

        with new_folder(folder, marker=MARKER, overwrite=overwrite) as made:
            write_text(made / MARKER, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
            with atomic_path(made / "chunks.parquet") as path:
                self.to_frame().to_parquet(path, index=False)
            write_text(made / "index.html", render_watch(self.page()))
        return Path(folder) / "index.html"

    def page(self) -> dict[str, Any]:
        """Return what the page shows, as plain values."""
        return {
            **self.to_dict(),
            "title": "",
            "command": "",
            **self.shown,
            "made": datetime.date.today().isoformat(),
            "version": versions()["corrigible"],
            "higher_is_better": sorted(HIGHER_IS_BETTER),
        }

    def __repr__(self) -> str:
        n = len(self.alerts)
        return f"WatchReport: {len(self.chunks)} chunks, {n} alert{'' if n == 1 else 's'}"


def plain(value: Any) -> Any:
    """Return dicts, lists, texts and numbers only; what is not finite is None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
