"""How the stream of production rows is cut: by time, by rows, or into a number of parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible.errors import InvalidParameterError

Ints = NDArray[np.int64]

# One letter a unit, as pandas names periods.
_UNITS = {"h": "h", "d": "D", "w": "W", "m": "M", "q": "Q", "y": "Y"}
_SPEC = re.compile(r"(?P<number>\d*)\s*(?P<unit>[a-zA-Z]*)")


@dataclass(frozen=True)
class Chunking:
    """A rule that gives every row the number of its chunk; numbers never fall along the stream.

    Parameters
    ----------
    kind : {"time", "rows", "count"}
        Periods of the calendar, so many rows, or so many parts of equal size.
    size : int
        Periods or rows a chunk, or the number of chunks.
    unit : str
        Unit of the calendar, as pandas names it; empty but for ``time``.
    """

    kind: str
    size: int
    unit: str = ""

    @classmethod
    def parse(cls, spec: Any) -> Chunking:
        """Read ``1D``, ``50000`` or ``12chunks``.

        Raises
        ------
        InvalidParameterError
            If it is none of these.
        """
        match = _SPEC.fullmatch(str(spec).strip())
        number, unit = (match["number"], match["unit"].lower()) if match else ("", "?")
        size = int(number or 1)
        if size >= 1 and not isinstance(spec, bool):
            if not unit and number:
                return cls("rows", size)
            if unit in ("chunk", "chunks") and number:
                return cls("count", size)
            if unit in _UNITS:
                return cls("time", size, _UNITS[unit])
        raise InvalidParameterError(
            "The 'chunk' parameter of watch must be a period (6h, 1D, 1W, 1M, 1Q, 1Y), a number of rows (50000) or of "
            f"parts (12chunks). Got {str(spec)!r}."
        )

    def __str__(self) -> str:
        return f"{self.size}{self.unit}" if self.kind != "count" else f"{self.size}chunks"

    def numbers(self, first: int, n: int, total: int, times: pd.DatetimeIndex | None) -> Ints:
        """Return the chunk of each of `n` rows.

        Parameters
        ----------
        first : int
            Rows of the stream before these.
        n : int
            Rows.
        total : int
            Rows of the whole stream; only parts ask for it.
        times : DatetimeIndex of length n, optional
            Their times; only periods ask for them.
        """
        if self.kind == "time":
            assert times is not None
            return np.asarray(times.to_period(self.unit).asi8 // self.size, dtype=np.int64)
        rows = np.arange(first, first + n, dtype=np.int64)
        return rows // self.size if self.kind == "rows" else rows * self.size // total

    def label(self, number: int, first: int, n: int) -> str:
        """Return a chunk's name: its period, or its rows counted from 1."""
        if self.kind != "time":
            return f"rows {first + 1}–{first + n}"
        start, end = (
            pd.Period(ordinal=o, freq=self.unit) for o in (number * self.size, (number + 1) * self.size - 1)
        )
        if self.unit == "W":
            return f"{start.start_time:%Y-%m-%d} to {end.end_time:%Y-%m-%d}"
        return str(start) if self.size == 1 else f"{start} to {end}"
