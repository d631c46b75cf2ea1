"""`Predictions`: what a model said of which rows, carried through audit, compare, watch and fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corrigible._utils.files import atomic_path
from corrigible._utils.tables import check_column, check_names, expand, group_labels, read_table
from corrigible._utils.validation import check_pred_proba, check_sample_weight, check_vector
from corrigible.errors import DataError

_OWNER = "Predictions"


@dataclass(frozen=True)
class Predictions:
    """A table of predictions with the role of each column; backed by Arrow, so slices copy nothing.

    Use `from_frame`, `from_file`, `scan` or `from_model`.

    Parameters
    ----------
    table : pyarrow.Table
        All columns.
    target : str, optional
        Column of true labels or values.
    proba : tuple of str
        Probability columns, one a class, in the order of `classes`; one column means the second of two classes.
    prediction : str, optional
        Column of predicted labels or values.
    classes : tuple
        Class labels in column order; empty for regression.
    groups : tuple of str
        Columns that name groups.
    weight, time, split, id : str, optional
        Columns of row weights, times, split names and row ids.
    others : tuple of str
        Further columns to keep, such as who labelled a row.

    Examples
    --------
    >>> import pandas as pd
    >>> from corrigible.models import Predictions
    >>> day = pd.DataFrame({"y": ["no", "yes", "no"], "p_no": [0.9, 0.2, 0.4], "p_yes": [0.1, 0.8, 0.6]})
    >>> p = Predictions.from_frame(day, target="y", proba=["p_no", "p_yes"])
    >>> p.classes, p.y.tolist(), len(p + p[:2])
    (('no', 'yes'), [0, 1, 0], 5)
    """

    table: pa.Table
    target: str | None = None
    proba: tuple[str, ...] = ()
    prediction: str | None = None
    classes: tuple[Any, ...] = ()
    groups: tuple[str, ...] = ()
    weight: str | None = None
    time: str | None = None
    split: str | None = None
    id: str | None = None
    others: tuple[str, ...] = ()

    @classmethod
    def from_frame(cls, frame: Any, **roles: Any) -> Self:
        """Make predictions from any dataframe that narwhals knows (pandas, polars, pyarrow, …).

        Parameters
        ----------
        frame : dataframe
            One row a prediction.
        **roles
            ``target``, ``proba``, ``prediction``, ``groups``, ``weight``, ``time``, ``split``, ``id``,
            ``others``: column names; ``classes``: labels in the order of ``proba``.

        Raises
        ------
        UnknownNameError
            If a role names no column.
        DataError
            If the number of classes and of probability columns differ.
        """
        table = _arrow(frame)
        roles = {k: tuple(v) if isinstance(v, list) else v for k, v in roles.items()}
        made = cls(table, **roles)
        made._check_columns(table.column_names)
        return made._with_classes()

    @classmethod
    def from_file(cls, pattern: str | Path, **roles: Any) -> Self:
        """Make predictions from CSV, Parquet or Feather files; `pattern` may be a glob."""
        return cls.from_frame(read_table(pattern, by=f"{pattern}"), **roles)

    @classmethod
    def from_model(cls, model: Any, X: pd.DataFrame, y: Any = None, *, groups: Sequence[str] = ()) -> Self:
        """Make predictions by asking a scikit-learn model.

        Parameters
        ----------
        model : estimator
            With ``predict_proba`` and ``classes_``, or ``predict`` for a regressor.
        X : DataFrame of shape (n, d)
            Raw columns; kept in the table.
        y : array-like of shape (n,), optional
            True labels or values.
        groups : sequence of str
            Columns of `X` that name groups.
        """
        columns: dict[str, Any] = {}
        names: tuple[str, ...] = ()
        if hasattr(model, "predict_proba"):
            p = model.predict_proba(X)
            names = tuple(f"proba_{c}" for c in model.classes_)
            columns |= dict(zip(names, p.T, strict=True))
        else:
            columns["prediction"] = model.predict(X)
        if y is not None:
            columns["target"] = np.asarray(y)
        frame = pd.concat([X.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
        return cls.from_frame(
            frame,
            target=None if y is None else "target",
            proba=names,
            prediction=None if names else "prediction",
            classes=tuple(np.asarray(model.classes_).tolist()) if names else (),
            groups=tuple(groups),
        )

    @classmethod
    def scan(cls, pattern: str | Path, *, batch_size: int = 262_144, **roles: Any) -> Iterator[Self]:
        """Stream predictions from Parquet files larger than memory, reading only the columns with a role.

        Parameters
        ----------
        pattern : str or Path
            Path or glob of Parquet files.
        batch_size : int
            Rows a batch at most.
        **roles
            As in `from_frame`; ``classes`` must be given, since a batch may lack one.

        Yields
        ------
        Predictions
            One a batch.
        """
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in roles.items()}
        template = cls(pa.table({}), **known)
        for path in expand(pattern, by=_OWNER):
            file = pq.ParquetFile(path)
            check_names(file.schema_arrow.names, template._columns(), path, str(path))
            for batch in file.iter_batches(batch_size=batch_size, columns=template._columns()):
                yield replace(template, table=pa.Table.from_batches([batch]))._with_classes()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, rows: Any) -> Self:
        """Return a slice (no copy), a masked or an indexed part."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return replace(self, table=self.table.slice(start, max(0, stop - start)))
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        if rows.dtype == bool:
            return replace(self, table=self.table.filter(pa.array(rows)))
        return replace(self, table=self.table.take(pa.array(rows)))

    def __add__(self, other: Self) -> Self:
        """Return the rows of both; roles and classes must agree."""
        mine, theirs = replace(self, table=pa.table({})), replace(other, table=pa.table({}))
        if mine != theirs:
            raise DataError("Predictions can be joined only if their roles and classes agree.")
        columns = [c for c in self.table.column_names if c in other.table.column_names]
        joined = pa.concat_tables([self.table.select(columns), other.table.select(columns)])
        return replace(self, table=joined)

    @property
    def y(self) -> NDArray[Any]:
        """True labels as class numbers (n,), or values for regression.

        Raises
        ------
        DataError
            If there is no target, it has missing values, or it holds a class without a column.
        """
        if self.target is None:
            raise DataError("Predictions need a target column for this. Pass target=….")
        values = self._column(self.target)
        missing = pd.isna(values)
        if missing.any():
            raise DataError(f"Target column {self.target!r} must not be missing. Row {int(missing.argmax())} is.")
        return self._codes(values) if self.classes else _finite(values, self.target)

    @property
    def pred_proba(self) -> NDArray[np.floating]:
        """Probabilities (n, k), checked."""
        p = np.column_stack([self._numbers(c) for c in self.proba])
        return check_pred_proba(p[:, 0] if p.shape[1] == 1 else p, by=_OWNER, name="pred_proba")

    @property
    def predicted(self) -> NDArray[Any]:
        """Predicted class numbers (n,), or values for regression; the most probable class if not given."""
        if self.prediction is None:
            return self.pred_proba.argmax(axis=1)
        values = self._column(self.prediction)
        return self._codes(values) if self.classes else _finite(values, self.prediction)

    @property
    def group_frame(self) -> pd.DataFrame:
        """Group columns as text; missing values are a group of their own."""
        return group_labels(self.table.select(list(self.groups)).to_pandas())

    @property
    def sample_weight(self) -> NDArray[np.floating] | None:
        """Row weights (n,), or None."""
        if self.weight is None:
            return None
        return check_sample_weight(self._column(self.weight), len(self), by=_OWNER)

    @property
    def ids(self) -> pd.Series | None:
        """Row ids (n,), or None."""
        return None if self.id is None else self._column(self.id).rename(self.id)

    def to_pandas(self) -> pd.DataFrame:
        """Return the whole table as pandas."""
        return self.table.to_pandas()

    def write_parquet(self, path: str | Path) -> None:
        """Write the table, atomically."""
        with atomic_path(path) as temporary:
            pq.write_table(self.table, temporary, compression="zstd")

    def _column(self, name: str) -> pd.Series:
        return self.table.column(name).to_pandas()

    def _numbers(self, name: str) -> NDArray[np.floating]:
        values = self._column(name)
        if not pd.api.types.is_numeric_dtype(values):
            raise DataError(f"Column {name!r} of {_OWNER} must be numeric. It is {values.dtype}.")
        return values.to_numpy(dtype=np.float64, na_value=np.nan)

    def _codes(self, values: pd.Series) -> NDArray[np.intp]:
        codes = pd.Index(self.classes).get_indexer(pd.Index(values))
        if (codes < 0).any():
            row = int((codes < 0).argmax())
            raise DataError(
                f"Label {values.iloc[row]!r} of row {row} has no probability column. Classes are {list(self.classes)}."
            )
        return codes.astype(np.intp)

    def _columns(self) -> list[str]:
        single = [self.target, self.prediction, self.weight, self.time, self.split, self.id]
        return list(dict.fromkeys([*self.proba, *self.groups, *(c for c in single if c), *self.others]))

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in self._columns():
            check_column(name, names, by="The table of predictions")

    def _with_classes(self) -> Self:
        """Infer the class labels from the target where they are not given, and check their number."""
        if not self.proba:
            return self
        n_columns = max(2, len(self.proba))
        classes = self.classes or self._inferred_classes(n_columns)
        if len(classes) != n_columns:
            raise DataError(
                f"Predictions must have one probability column a class, in the order of the classes. Got "
                f"{len(self.proba)} columns and {len(classes)} classes {list(classes)[:8]}; pass classes=…."
            )
        return replace(self, classes=tuple(classes))

    def _inferred_classes(self, n_columns: int) -> tuple[Any, ...]:
        if self.target is None:
            return tuple(range(n_columns))
        found = sorted(self._column(self.target).dropna().unique().tolist(), key=lambda v: (str(type(v)), v))
        by_name = [v for c in self.proba for v in found if c.endswith(str(v))]
        if len(self.proba) == 1 and len(found) == 2 and len(by_name) == 1:
            return tuple(sorted(found, key=lambda v: v == by_name[0]))  # the one column says which is the second
        return tuple(by_name) if len(by_name) == n_columns == len(set(by_name)) else tuple(found)


def _finite(values: pd.Series, name: str) -> NDArray[np.floating]:
    """Return a column of finite numbers."""
    return check_vector(values, name=name, by=_OWNER).astype(np.float64, copy=False)


def _arrow(frame: Any) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame
    native = nw.from_native(frame, eager_only=True)
    names = native.columns
    if len(set(names)) != len(names):
        check_names(names, None, "table", "The table of predictions")
    return native.to_arrow()
