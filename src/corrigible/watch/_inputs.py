"""Rows as the methods take them: columns found and checked, values of one kind in every file and batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._utils.tables import check_column, is_nested
from corrigible.errors import DataError
from corrigible.models import Predictions
from corrigible.watch._settings import WatchSettings

Floats = NDArray[np.floating]
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Part:
    """Some rows.

    Parameters
    ----------
    p : ndarray of shape (n, k) or (n, 0)
        Probabilities; none for regression.
    predicted : ndarray of shape (n,)
        Predicted class numbers, or values.
    y : ndarray of shape (n,)
        Class numbers or values; NaN where the label has not arrived.
    X : DataFrame of shape (n, d)
        Inputs, where the method takes them.
    times : DatetimeIndex of length n, optional
        Times.
    """

    p: Floats
    predicted: NDArray[Any]
    y: Floats
    X: pd.DataFrame
    times: pd.DatetimeIndex | None = None

    def __len__(self) -> int:
        return len(self.predicted)

    def __getitem__(self, rows: Any) -> Self:
        """Return the rows that a slice, a mask or numbers choose."""
        times = None if self.times is None else self.times[rows]
        y = self.y[rows]
        X = self.X.iloc[rows] if self.X.shape[1] else pd.DataFrame(index=range(len(y)))
        return type(self)(self.p[rows], self.predicted[rows], y, X, times)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label."""
        return ~np.isnan(self.y)

    def digest(self, running: Any) -> None:
        """Feed what an estimate rests on, labels aside, to a hash; batches may fall anywhere."""
        columns = {f"p{j}": column for j, column in enumerate(self.p.T)} | {
            "predicted": self.predicted.astype(float)
        }
        frame = pd.DataFrame(columns)
        for name in self.X:
            frame[f"x_{name}"] = self.X[name].to_numpy()
        if self.times is not None:
            frame["t"] = self.times.asi8
        running.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())

    @staticmethod
    def joined(parts: Sequence[Part]) -> Part:
        """Return the rows of all parts in order."""
        if len(parts) == 1:
            return parts[0]
        times = [p.times for p in parts if p.times is not None]
        return Part(
            np.concatenate([p.p for p in parts]),
            np.concatenate([p.predicted for p in parts]),
            np.concatenate([p.y for p in parts]),
            pd.concat([p.X for p in parts], ignore_index=True),
            pd.DatetimeIndex(times[0].append(times[1:])) if times else None,
        )


@dataclass(frozen=True)
class Reader:
    """Turns raw rows into parts.

    Parameters
    ----------
    settings : WatchSettings
        Roles of the columns.
    classes : tuple
        Labels in the order of the probability columns; empty for regression.
    numeric : frozenset of str
        Inputs that are numbers in the reference.
    categories : dict of str to Index
        Values of each other input in the reference; the keys of both are all inputs, in order of `features`.
    features : tuple of str
        Inputs.
    """

    settings: WatchSettings
    classes: tuple[Any, ...]
    numeric: frozenset[str]
    categories: dict[str, pd.Index]
    features: tuple[str, ...]

    @classmethod
    def of_reference(cls, table: pd.DataFrame, settings: WatchSettings, features: Sequence[str]) -> Reader:
        """Learn classes and kinds of columns from the reference."""
        classes: tuple[Any, ...] = ()
        if settings.proba:
            labels = table.loc[table[settings.target].notna(), [settings.target, *settings.proba]]
            known = Predictions.from_frame(labels, target=settings.target, proba=settings.proba)
            classes = known.classes
        numeric = frozenset(c for c in features if _is_number(table[c]))
        categories = {c: pd.Index(_text(table[c]).dropna().unique()) for c in features if c not in numeric}
        return cls(settings, classes, numeric, categories, tuple(features))

    def columns(self, *, target: bool) -> list[str]:
        """Return the columns that are read."""
        s = self.settings
        single = [s.prediction, s.time, s.target if target else None]
        return list(dict.fromkeys([*s.proba, *(c for c in single if c), *self.features]))

    def part(self, frame: pd.DataFrame, *, by: str, where: str, first: int, reference: bool = False) -> Part:
        """Return checked rows.

        Parameters
        ----------
        frame : DataFrame
            Raw rows.
        by, where : str
            Whose rows and of which file, for messages.
        first : int
            Number of the first row in its file.
        reference : bool
            Whether every row needs a label, and categories need not be known.
        """
        place = _Place(by, where, first)
        s = self.settings
        p = self._probabilities(frame, place)
        if s.prediction is None:
            predicted: NDArray[Any] = (p[:, 1] > 0.5).astype(np.intp) if p.shape[1] == 2 else p.argmax(axis=1)
        elif self.classes:
            predicted = self._codes(frame[s.prediction], place, "prediction").astype(np.intp)
        else:
            predicted = _numbers(frame[s.prediction], place)
        return Part(
            p, predicted, self._labels(frame, place, reference), self._inputs(frame, place, reference),
            self._times(frame, place),
        )  # fmt: skip

    def _probabilities(self, frame: pd.DataFrame, place: _Place) -> Floats:
        names = list(self.settings.proba)
        if not names:
            return np.empty((len(frame), 0))
        p = np.column_stack([_numbers(frame[c], place) for c in names])
        outside = ((p < 0) | (p > 1)).any(axis=1)
        if outside.any():
            row = int(outside.argmax())
            column = int(((p[row] < 0) | (p[row] > 1)).argmax())
            raise DataError(
                f"Column {names[column]!r} of {place.by} must hold probabilities in [0, 1]. {place.row(row)} holds "
                f"{p[row, column]:.6g}."
            )
        if p.shape[1] == 1:
            return np.column_stack([1 - p[:, 0], p[:, 0]])
        off = np.abs(p.sum(axis=1) - 1)
        if off.size and off.max() > _SUM_TOLERANCE:
            row = int(off.argmax())
            raise DataError(
                f"The probability columns of {place.by} must sum to 1 within {_SUM_TOLERANCE:g}. {place.row(row)} sums "
                f"to {p[row].sum():.6g}."
            )
        return np.asarray(p)

    def _labels(self, frame: pd.DataFrame, place: _Place, every: bool) -> Floats:
        name = self.settings.target
        if name not in frame:
            return np.full(len(frame), np.nan)
        values = frame[name]
        y = np.full(len(frame), np.nan)
        there = values.notna().to_numpy()
        if every and not there.all():
            raise DataError(
                f"The target {name!r} of {place.by} must have values. {place.row(int((~there).argmax()))} has none."
            )
        if there.any():
            given = values[there]
            at = place.taking(np.flatnonzero(there))
            y[there] = self._codes(given, at, "label") if self.classes else _numbers(given, at)
        return y

    def _codes(self, values: pd.Series, place: _Place, what: str) -> Floats:
        codes = pd.Index(self.classes).get_indexer(pd.Index(values.to_numpy()))
        if (codes < 0).any():
            row = int((codes < 0).argmax())
            raise DataError(
                f"Column {values.name!r} of {place.by} has the {what} {values.iloc[row]!r} ({place.row(row)}), which is "
                f"no class of --reference. Its classes are {', '.join(map(str, self.classes[:8]))}."
            )
        return np.asarray(codes, dtype=np.float64)

    def _inputs(self, frame: pd.DataFrame, place: _Place, reference: bool) -> pd.DataFrame:
        columns: dict[str, Any] = {}
        for name in self.features:
            column = frame[name]
            if name in self.numeric:
                columns[name] = _numbers(column, place, missing=True)
                continue
            text = _text(column)
            if not reference and not self.settings.allow_new:
                self._check_known(text, place)
            columns[name] = text.astype(object).to_numpy()
        return pd.DataFrame(columns, index=range(len(frame)))

    def _check_known(self, text: pd.Series, place: _Place) -> None:
        new = text.notna().to_numpy() & ~text.isin(self.categories[str(text.name)]).to_numpy()
        if new.any():
            row = int(new.argmax())
            raise DataError(
                f"Column {text.name!r} of {place.by} has the value {text.iloc[row]!r} ({place.row(row)}), which "
                "--reference does not have. Add such rows to --reference, leave the column out with --drop, or add "
                "--allow-new-categories."
            )

    def _times(self, frame: pd.DataFrame, place: _Place) -> pd.DatetimeIndex | None:
        name = self.settings.time
        if name is None or name not in frame:
            return None
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column):
            raise DataError(f"Column {name!r} of {place.by} must hold dates such as 2024-03-31. It holds numbers.")
        if pd.api.types.is_datetime64_any_dtype(column):
            found = pd.to_datetime(column, utc=True)
        else:
            found = pd.to_datetime(column.astype("string"), utc=True, format="ISO8601", errors="coerce")
        bad = found.isna().to_numpy()
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"Column {name!r} of {place.by} must hold dates such as 2024-03-31 or 2024-03-31T16:00. "
                f"{place.row(row)} holds {column.iloc[row]!r}."
            )
        return pd.DatetimeIndex(found).tz_localize(None).as_unit("ns")


@dataclass(frozen=True)
class _Place:
    """Where rows come from, for messages."""

    by: str
    where: str
    first: int
    rows: NDArray[np.intp] | None = None

    def taking(self, rows: NDArray[np.intp]) -> _Place:
        return _Place(self.by, self.where, self.first, rows)

    def row(self, number: int) -> str:
        number = number if self.rows is None else int(self.rows[number])
        return f"Row {self.first + number}" + (f" of {self.where!r}" if self.where else "")


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _text(column: pd.Series) -> pd.Series:
    """Return values as text; whole numbers without the ``.0`` that a missing cell gives them."""
    text = column.astype("string")
    return text.str.replace(r"\.0$", "", regex=True) if pd.api.types.is_float_dtype(column) else text


def _numbers(column: pd.Series, place: _Place, *, missing: bool = False) -> Floats:
    """Return a column as floats; infinite ones are refused, and missing ones unless allowed."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    absent = column.isna().to_numpy()
    bad = np.isinf(values) | (np.isnan(values) & ~absent) | (absent & (not missing))
    if bad.any():
        row = int(bad.argmax())
        got = "is missing" if absent[row] else f"holds {column.iloc[row]!r}"
        raise DataError(f"Column {column.name!r} of {place.by} must hold finite numbers. {place.row(row)} {got}.")
    return values


def feature_columns(reference: pd.DataFrame, others: Sequence[str], settings: WatchSettings) -> list[str]:
    """Return the inputs: those named, or all that reference and production share and that have no other role."""
    if not settings.takes_features:
        return []
    if settings.features is not None:
        for name in settings.features:
            check_column(name, reference.columns, by="--reference")
            check_column(name, others, by="--production")
        return list(settings.features)
    for name in settings.drop:
        check_column(name, reference.columns, by="--reference, as --drop names it,")
    roles = {*settings.proba, settings.prediction, settings.target, settings.time, *settings.drop}
    found = [c for c in reference.columns if c in set(others) and c not in roles and not is_nested(reference[c])]
    if not found and settings.by != "direct_loss":
        raise DataError(
            f"--by {settings.by} needs inputs. --reference and --production share none beside the roles."
        )
    return found


def fingerprint(part: Part) -> str:
    """Return a hash of reference rows, labels included."""
    running = hashlib.sha256()
    part.digest(running)
    running.update(np.ascontiguousarray(part.y).tobytes())
    return running.hexdigest()
