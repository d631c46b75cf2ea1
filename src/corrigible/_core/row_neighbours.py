"""The nearest other rows of every row, whoever searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.nearest_rows import nearest_rows
from corrigible._core.table_matrix import TableMatrix, table_matrix
from corrigible.errors import DataError

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class RowNeighbours:
    """Nearest other rows, nearest first.

    A detector that is given one in place of a table does not search again.

    Parameters
    ----------
    distances : ndarray of shape (n, k)
    indices : ndarray of shape (n, k)
    table : TableMatrix
        The points that were searched.
    """

    distances: Floats
    indices: NDArray[np.integer]
    table: TableMatrix

    def __len__(self) -> int:
        return len(self.indices)


def row_neighbours(X: Any, k: int, *, n_jobs: int | None = None, by: str) -> RowNeighbours:
    """Return the `k` nearest other rows of each row by Euclidean distance.

    Parameters
    ----------
    X : DataFrame, array-like of shape (n, d), or RowNeighbours
        Encoded by `table_matrix`; neighbours that are known are returned as they are, cut to `k`.
    k : int
        Neighbours a row; n - 1 if there are fewer.
    n_jobs : int, optional
        Threads, as in joblib; None takes as many as the linear algebra does.
    by : str
        Who asks, for messages.

    Raises
    ------
    DataError
        If there is one row only, or known neighbours are fewer than `k`.
    """
    if isinstance(X, RowNeighbours):
        k = min(k, len(X) - 1)
        if X.indices.shape[1] < k:
            raise DataError(f"{by} needs {k} neighbours a row. It was given {X.indices.shape[1]}; search for more.")
        return RowNeighbours(X.distances[:, :k], X.indices[:, :k], X.table)
    table = table_matrix(X, by=by)
    n = len(table.points)
    if n < 2:
        raise DataError(f"'X' of {by} must have at least two rows. Got {n}.")
    k = min(k, n - 1)
    # Squares of float32 leave its range beyond these; distances go with the scale.
    size = float(np.abs(table.points).max())
    scale = size if size > 1e15 or 0 < size < 1e-15 else 1.0
    points = table.points if scale == 1.0 else (table.points / np.float64(scale)).astype(np.float32)
    distances, indices = nearest_rows(points, k, n_jobs=n_jobs)
    return RowNeighbours(distances * np.float64(scale), indices, table)
