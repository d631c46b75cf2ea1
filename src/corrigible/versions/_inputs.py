"""The rows that both versions answered: models asked, columns taken, prediction files matched."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_regressor

from corrigible._core.simplex import row_maxima
from corrigible._utils.fitting import first_line
from corrigible._utils.scan import column_names, scan
from corrigible._utils.tables import check_column, check_same_columns, expand, read_table
from corrigible.errors import DataError, nearest
from corrigible.models import Predictions, load_model
from corrigible.models._ask import ask

Floats = NDArray[np.floating]
_TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq", ".feather", ".arrow")
_SUM_TOLERANCE = 1e-3
BATCH_ROWS = 131_072
SAMPLE_ROWS = 200  # of a model's rows, on which its costs are measured


@dataclass(frozen=True)
class Roles:
    """What the columns are, beside the two versions."""

    target: str
    id: str | None = None
    groups: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    prediction: str | None = None
    proba: tuple[str, ...] = ()
    as_proba: bool = False


@dataclass(frozen=True)
class Answers:
    """What one version says of some rows: labels or values (n,), or probabilities (n, k) of classes.

    Columns of probabilities are contiguous, so that what is summed over a row's few classes takes whole columns.
    """

    label: NDArray[Any] | pd.Categorical[Any]
    p: Floats | None = None
    confidence: Floats | None = None

    @classmethod
    def of_proba(cls, p: Floats, classes: tuple[Any, ...]) -> Answers:
        """Return answers that are the likeliest classes, the first of equals."""
        p = np.asfortranarray(p, dtype=np.float64)
        best, top = row_maxima(p)
        return cls(pd.Categorical.from_codes(best, dtype=pd.CategoricalDtype(list(classes))), p, top)


class Version(Protocol):
    """A version of a model, however it is given."""

    name: str
    model: Any
    seconds: float
    n_bytes: int | None

    def columns(self) -> list[str]:
        """Return the columns of the test rows that it needs."""

    def known(self, frame: pd.DataFrame, first: int) -> NDArray[np.bool_]:
        """Return which rows it has an answer for."""

    def answer(self, frame: pd.DataFrame, numbers: NDArray[np.intp], classes: tuple[Any, ...]) -> Answers:
        """Return its answers to rows, whose numbers in the test data are given."""


class TestRows:
    """Test rows from files, batch by batch, or from a dataframe."""

    __test__ = False  # no test case

    def __init__(self, source: Any, *, by: str = "--test") -> None:
        self.by = by
        self._frame = source.reset_index(drop=True) if isinstance(source, pd.DataFrame) else None
        self._files = [] if self._frame is not None else expand(source, by=by)
        self.names = list(self._frame.columns) if self._frame is not None else column_names(self._files[0], by=by)
        for path in self._files[1:]:
            empty = [pd.DataFrame(columns=c) for c in (self.names, column_names(path, by=by))]
            check_same_columns(*empty, first=str(self._files[0]), second=str(path), by=by)

    def batches(self, columns: Sequence[str], *, coded: Sequence[str] = ()) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield the number of the first row of each batch, and the batch; text of coded columns may be categories."""
        first = 0
        if self._frame is not None:
            parts: Iterator[pd.DataFrame] = iter([self._frame[list(columns)]])
        else:
            parts = (
                b for f in self._files for b in scan(f, columns, batch_rows=BATCH_ROWS, by=self.by, coded=coded)
            )
        for part in parts:
            yield first, part
            first += len(part)
        if first == 0:
            raise DataError(f"{self.by} must hold at least one row. It holds none.")

    def column(self, name: str) -> pd.Series:
        """Return one column whole."""
        return pd.concat([part[name] for _, part in self.batches([name])], ignore_index=True)

    def distinct(self, name: str) -> pd.Series:
        """Return the values of a column, each once, in the order in which they are met.

        Raises
        ------
        DataError
            If one is missing.
        """
        found = []
        for first, part in self.batches([name], coded=[name]):
            values = part[name]
            if values.hasnans:
                row = first + int(values.isna().to_numpy().argmax())
                raise DataError(f"The target {name!r} of {self.by} must have values. Row {row} has none.")
            found.append(pd.Series(values.unique()))
        return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)


@dataclass
class ModelVersion:
    """A fitted scikit-learn model, asked."""

    name: str
    model: Any
    features: list[str]
    n_bytes: int | None = None
    seconds: float = 0.0
    sample: pd.DataFrame | None = field(default=None, repr=False)

    def columns(self) -> list[str]:
        """Return its features."""
        return self.features

    def known(self, frame: pd.DataFrame, first: int) -> NDArray[np.bool_]:
        """Return true for all rows."""
        return np.ones(len(frame), dtype=bool)

    def answer(self, frame: pd.DataFrame, numbers: NDArray[np.intp], classes: tuple[Any, ...]) -> Answers:
        """Ask the model."""
        X, started = frame[self.features], time.perf_counter()
        if self.sample is None:
            self.sample = X.head(SAMPLE_ROWS)
        try:
            if classes and hasattr(self.model, "predict_proba"):
                answers = Answers.of_proba(ask(self.model, X, np.asarray(classes, dtype=object)), classes)
            else:
                answers = Answers(np.asarray(self.model.predict(X)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.name} cannot predict the rows of --test: {first_line(error)}") from error
        self.seconds += time.perf_counter() - started
        return answers


@dataclass
class ColumnVersion:
    """Columns of the test rows: one of labels or values, or one a class of probabilities."""

    name: str
    given: tuple[str, ...]
    is_proba: bool
    model: Any = None
    seconds: float = 0.0
    n_bytes: int | None = None

    def columns(self) -> list[str]:
        """Return them."""
        return list(self.given)

    def known(self, frame: pd.DataFrame, first: int) -> NDArray[np.bool_]:
        """Return true for all rows."""
        return np.ones(len(frame), dtype=bool)

    def answer(self, frame: pd.DataFrame, numbers: NDArray[np.intp], classes: tuple[Any, ...]) -> Answers:
        """Take the columns."""
        return _taken(frame[list(self.given)], self.is_proba, classes, self.name, numbers)


@dataclass
class FileVersion:
    """A table of predictions, matched to the test rows by id, or by order."""

    name: str
    given: tuple[str, ...]
    is_proba: bool
    table: pd.DataFrame = field(repr=False)
    id: str | None = None
    model: Any = None
    seconds: float = 0.0
    n_bytes: int | None = None

    def __post_init__(self) -> None:
        self._index = None if self.id is None else pd.Index(self.table[self.id])

    def columns(self) -> list[str]:
        """Return nothing: answers are in the file."""
        return []

    def known(self, frame: pd.DataFrame, first: int) -> NDArray[np.bool_]:
        """Return which rows have an answer."""
        if self._index is None:
            return np.ones(len(frame), dtype=bool)
        return np.asarray(self._index.get_indexer(pd.Index(frame[self.id])) >= 0)

    def answer(self, frame: pd.DataFrame, numbers: NDArray[np.intp], classes: tuple[Any, ...]) -> Answers:
        """Look the rows up."""
        at = numbers if self._index is None else self._index.get_indexer(pd.Index(frame[self.id]))
        return _taken(self.table.iloc[at][list(self.given)], self.is_proba, classes, self.name, numbers)


def open_version(given: Any, name: str, test: TestRows, roles: Roles, *, trust_pickle: bool) -> Version:
    """Return a version from what the user gave: a model, a model file, a prediction file, or columns of the test rows.

    Parameters
    ----------
    given : estimator, path or str
        Columns are separated by commas.
    name : str
        OLD or NEW, for messages.
    test : TestRows
        The test rows.
    roles : Roles
        What the columns are.
    trust_pickle : bool
        Allow a pickled model.
    """
    if hasattr(given, "predict"):
        return _model_version(given, name, test, roles)
    text = str(given)
    path = Path(text)
    if path.is_file() and not path.name.lower().endswith(_TABLES):
        loaded = load_model(path, trust_pickle=trust_pickle)
        return replace(_model_version(loaded, name, test, roles), n_bytes=path.stat().st_size)
    columns = tuple(part.strip() for part in text.split(",") if part.strip())
    if columns and all(c in test.names for c in columns) and not path.is_file():
        return ColumnVersion(name, columns, roles.as_proba or len(columns) > 1)
    if not path.is_file() and not any(c in text for c in "*?[") and not text.lower().endswith(_TABLES):
        known = [*test.names, *(p.name for p in Path().iterdir())]
        raise DataError(
            f"{name} must be a model file, a file of predictions, or columns of --test separated by commas. "
            f"{text!r} is neither a file nor a column.{nearest(text, known)}"
        )
    return _file_version(text, name, test, roles)


def _model_version(model: Any, name: str, test: TestRows, roles: Roles) -> ModelVersion:
    expected = getattr(model, "feature_names_in_", None)
    if expected is None:
        roles_of = {roles.target, roles.id, *roles.drop}
        return ModelVersion(name, model, [c for c in test.names if c not in roles_of])
    if missing := [c for c in expected if c not in test.names]:
        raise DataError(
            f"{name} expects the column {missing[0]!r}, which --test does not have ({len(missing)} such columns)."
            f"{nearest(missing[0], test.names)}"
        )
    return ModelVersion(name, model, list(expected))


def _file_version(pattern: str, name: str, test: TestRows, roles: Roles) -> FileVersion:
    by = f"{name} ({pattern})"
    columns = column_names(expand(pattern, by=by)[0], by=by)
    if roles.id is not None:
        check_column(roles.id, columns, by=f"{by}, as --id names it,")
    given = roles.proba or ((roles.prediction,) if roles.prediction else _answer_columns(columns, test, roles, by))
    for column in given:
        check_column(column, columns, by=by)
    proof = [roles.target] if roles.id is None and roles.target in columns and roles.target not in given else []
    read = list(dict.fromkeys([*given, *([roles.id] if roles.id else []), *proof]))
    table = read_table(pattern, columns=read, by=by)
    if roles.id is not None:
        twice = table[roles.id].duplicated().to_numpy()
        if twice.any():
            raise DataError(
                f"Column {roles.id!r} of {by} must name each row once. It has {table[roles.id].iloc[twice.argmax()]!r} "
                "twice."
            )
    else:
        _check_order(table, test, roles, by, proof=bool(proof))
    return FileVersion(name, tuple(given), bool(roles.proba) or roles.as_proba, table, roles.id)


def _answer_columns(columns: Sequence[str], test: TestRows, roles: Roles, by: str) -> tuple[str, ...]:
    others = [c for c in columns if c not in {roles.id, roles.target}]
    left = [c for c in others if c not in test.names] or others
    if len(left) == 1:
        return (left[0],)
    raise DataError(
        f"{by} must say which column holds the answers: it may be any of {len(left)} ({', '.join(left[:6]) or 'none'}). "
        "Name it with --prediction-column, or several with --proba-columns."
    )


def _check_order(table: pd.DataFrame, test: TestRows, roles: Roles, by: str, *, proof: bool) -> None:
    target = test.column(roles.target)
    if len(table) != len(target):
        raise DataError(
            f"{by} must have a row for each of --test, in the same order. It has {len(table)} rows, --test has "
            f"{len(target)}. Name a column that both have and that tells rows apart with --id."
        )
    if proof and not (same := table[roles.target].to_numpy() == target.to_numpy()).all():
        row = int((~same).argmax())
        raise DataError(
            f"{by} must have the rows of --test in the same order: in row {row} its {roles.target!r} is "
            f"{table[roles.target].iloc[row]!r}, that of --test {target.iloc[row]!r}. Match them with --id."
        )


def _taken(
    table: pd.DataFrame, is_proba: bool, classes: tuple[Any, ...], name: str, numbers: NDArray[np.intp]
) -> Answers:
    if not is_proba:
        values = table.iloc[:, 0].array
        return Answers(values if isinstance(values, pd.Categorical) else table.iloc[:, 0].to_numpy())
    for column in table:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise DataError(f"Column {column!r} of {name} must hold probabilities. It is {table[column].dtype}.")
    p = np.empty((len(table), max(2, table.shape[1])), order="F")
    for j, column in enumerate(table):
        p[:, j] = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    if table.shape[1] == 1:
        p[:, 0], p[:, 1] = 1 - p[:, 0], p[:, 0].copy()
    _check_proba(p, name, numbers)
    return Answers.of_proba(p, classes)


def _check_proba(p: Floats, name: str, numbers: NDArray[np.intp]) -> None:
    right = (p.min(axis=1) >= 0) & (p.max(axis=1) <= 1) & (np.abs(p.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    if right.all():
        return
    missing = np.asarray(np.isnan(p).any(axis=1))
    if missing.any():
        raise no_answer(name, numbers, missing)
    row = int((~right).argmax())
    raise DataError(
        f"The probabilities of {name} must lie in [0, 1] and sum to 1. Row {int(numbers[row])} has "
        f"{', '.join(f'{v:.6g}' for v in p[row][:6])}."
    )


def no_answer(name: str, numbers: NDArray[np.intp], missing: NDArray[np.bool_]) -> DataError:
    """Return the error that a version has no answer to some of the rows with these numbers."""
    return DataError(f"{name} must have an answer to each row. Row {int(numbers[missing.argmax()])} has none.")


def classes_of(versions: Sequence[Version], target: pd.Series, roles: Roles) -> tuple[Any, ...]:
    """Return the classes in the order of probability columns; with models, all that they or the target know."""
    found = [c for c in versions if isinstance(c, ColumnVersion | FileVersion) and c.is_proba]
    orders = {
        v.name: Predictions.from_frame(
            pd.DataFrame({roles.target: target.dropna().unique()}).assign(**dict.fromkeys(v.given, np.nan)),
            target=roles.target, proba=list(v.given),
        ).classes
        for v in found
    }  # fmt: skip
    if len(set(orders.values())) > 1:
        raise DataError(
            "The probability columns of OLD and NEW must be of the same classes in the same order. Got "
            f"{' and '.join(str(list(o)) for o in orders.values())}."
        )
    if orders:
        return next(iter(orders.values()))
    known = set(target.dropna().unique().tolist())
    for version in versions:
        known |= set(np.asarray(getattr(version.model, "classes_", [])).tolist())
    return tuple(sorted(known, key=lambda v: (str(type(v)), v)))


def is_regression(versions: Sequence[Version], target: pd.Series) -> bool:
    """Whether a version is a regressor, or, without models, the target is numbers that are no classes."""
    for version in versions:
        if version.model is not None:
            return bool(is_regressor(version.model))
    if any(getattr(v, "is_proba", False) for v in versions) or not pd.api.types.is_numeric_dtype(target):
        return False
    values = target.dropna()
    return bool(values.nunique() > 20 or (values != values.round()).any())
