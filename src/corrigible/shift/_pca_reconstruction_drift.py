"""Rows that no longer lie where the reference's columns go together: drift of the error of reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ttest_ind
from sklearn.decomposition import PCA

from corrigible._card import Card
from corrigible._core.multiple_tests import corrected
from corrigible._core.table_matrix import as_frame, table_matrix
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_number
from corrigible.errors import DataError
from corrigible.shift._expected_metrics import chunk_rows

CARD = Card(
    name="pca_reconstruction_drift",
    kind="measure",
    obj="pca_reconstruction_drift",
    also=("ReconstructionDrift",),
    papers=(),
    refs=("rabanser2019failing",),
    source="",
    differs="Welch's test of reconstruction errors, corrected for the number of chunks, in place of limits at three "
    "standard deviations of the chunks' means. Components are learnt from half of the reference, the other half is what "
    "chunks are compared with.",
    inputs="reference, production",
    stochastic=True,
    cost="one principal component analysis, O(n d^2), and a product a chunk",
    use_when="Chunk by chunk, cheaply: do columns still go together as they did?",
    avoid_when="Rows may move within the space that the components span, as all means together: mmd_test sees that.",
    test_params=({"rng": 0},),
)

Floats = NDArray[np.floating]
_BY = "pca_reconstruction_drift"
_MIN_ROWS = 20


@dataclass(frozen=True, eq=False)
class ReconstructionDrift:
    """What was found.

    Attributes
    ----------
    table : DataFrame
        A row a chunk: ``rows``, ``error`` (mean error of reconstruction), ``ratio`` to the reference's, ``p_value``,
        ``p_corrected`` and ``drifted``.
    reference_error : float
        Mean error on the half of the reference that the components were not learnt from.
    n_components : int
        Components kept.
    row_errors : ndarray of shape (n_production,)
        Error of each production row: high where columns do not go together as in the reference.
    """

    table: pd.DataFrame
    reference_error: float
    n_components: int
    row_errors: Floats


def pca_reconstruction_drift(
    reference: Any,
    production: Any,
    *,
    chunks: int | ArrayLike | None = None,
    variance: float = 0.65,
    alpha: float = 0.05,
    rng: RandomState = None,
) -> ReconstructionDrift:
    r"""Test whether production rows are reconstructed from the reference's principal components as well as its own are.

    Parameters
    ----------
    reference, production : DataFrame or array-like of shapes (n_reference, d) and (n_production, d)
        Tables of the same columns, of any type.
    chunks : int or array-like of shape (n_production,), optional
        Rows a chunk, in order, or an id a row. By default all rows are one.
    variance : float, default=0.65
        Share of the variance that the components keep.
    alpha : float, default=0.05
        Chance of any false alarm over all chunks.
    rng : None, int, Generator or RandomState
        Halves the reference.

    Returns
    -------
    ReconstructionDrift

    Raises
    ------
    DataError
        If columns differ or the reference has fewer than 40 rows.

    See Also
    --------
    univariate_drift : Which columns moved, each alone.
    mmd_test : Any joint movement.

    Notes
    -----
    With x a row of unit-variance columns and V the kept components, the error is :math:`\|x - V V^T x\|`. Columns that
    the reference does not vary are left out.

    References
    ----------
    .. [1] Rabanser, S., Günnemann, S. and Lipton, Z. C. (2019). Failing Loudly: An Empirical Study of Methods for
       Detecting Dataset Shift. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import pca_reconstruction_drift
    >>> rng = np.random.default_rng(0)
    >>> x, z, a, b = rng.normal(size=(4, 500))
    >>> before, now = np.column_stack([x, x + 0.2 * z]), np.column_stack([a, b])  # each column as before
    >>> found = pca_reconstruction_drift(before, now, chunks=250, rng=0)
    >>> found.table["drifted"].tolist(), bool(found.table["ratio"].min() > 2)
    ([True, True], True)
    """
    check_number(variance, name="variance", by=_BY, low=0.0, high=1.0, closed="neither")
    check_number(alpha, name="alpha", by=_BY, low=0.0, high=1.0, closed="neither")
    before, now = _points(reference, production)
    halves = np.array_split(as_generator(rng, by="rng").permutation(len(before)), 2)
    learnt = before[halves[0]].astype(np.float64)
    spread = learnt.std(axis=0)
    varies = spread > 1e-12 * max(float(np.abs(learnt).max()), 1.0)
    if not varies.any():
        raise DataError(f"'reference' of {_BY} must have a column that varies. All are constant.")
    centre, scale = learnt[:, varies].mean(axis=0), spread[varies]
    known, held, new = ((x[:, varies] - centre) / scale for x in (learnt, before[halves[1]], now))
    # A number between 0 and 1 asks for that share of the variance; one component at least is left out if there are two.
    model = PCA(variance, svd_solver="full").fit(known)
    basis = model.components_[: max(1, min(model.n_components_, known.shape[1] - 1))]
    usual, errors = (np.sqrt(((x - x @ basis.T @ basis) ** 2).sum(axis=1)) for x in (held, new))
    parts = chunk_rows(chunks, len(now), by=_BY)
    rows = [_compared(usual, errors[part]) for part in ([slice(None)] if parts is None else parts)]
    table = pd.DataFrame(rows)
    table["p_corrected"] = corrected(table["p_value"].to_numpy(dtype=np.float64), "holm")
    table["drifted"] = table["p_corrected"] <= alpha
    return ReconstructionDrift(table, float(usual.mean()), len(basis), errors)


def _points(reference: Any, production: Any) -> tuple[Floats, Floats]:
    """Return both tables as points of one space."""
    before, now = (as_frame(X, by=_BY) for X in (reference, production))
    if lost := [str(c) for c in before if c not in now]:
        raise DataError(f"'production' of {_BY} must have the columns of 'reference'. Absent: {', '.join(lost)}.")
    if len(before) < 2 * _MIN_ROWS or len(now) < 2:
        raise DataError(
            f"{_BY} needs {2 * _MIN_ROWS} reference rows and 2 production rows. Got {len(before)} and {len(now)}."
        )
    both = table_matrix(pd.concat([before, now[list(before)]], ignore_index=True), by=_BY).points
    return both[: len(before)], both[len(before) :]


def _compared(usual: Floats, errors: Floats) -> dict[str, float]:
    mean, own = float(errors.mean()), float(usual.mean())
    same = errors.std() == 0 and usual.std() == 0
    if same or len(errors) < 2:
        p_value = 1.0 if len(errors) < 2 or np.isclose(mean, own) else 0.0
    else:
        p_value = float(ttest_ind(errors, usual, equal_var=False).pvalue)
    return {"rows": len(errors), "error": mean, "ratio": mean / own if own > 0 else np.nan, "p_value": p_value}
