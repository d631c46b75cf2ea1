"""Which columns moved between two tables, by how much, and what each movement does to a model's loss.

Paper: Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift (Rabanser, Günnemann, Lipton,
NeurIPS 2019) for tests a column with a correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogorov, ndtri
from scipy.stats import chi2, ks_2samp

from corrigible._card import Card
from corrigible._core.any_table import as_pandas
from corrigible._core.multiple_tests import corrected
from corrigible._core.sorted_distances import sorted_distances
from corrigible._utils.validation import check_count, check_number, check_vector
from corrigible.errors import DataError
from corrigible.shift._expected_metrics import chunk_rows

CARD = Card(
    name="univariate_drift",
    kind="measure",
    obj="univariate_drift",
    papers=(),
    refs=("rabanser2019failing",),
    source="",
    differs="Holm's correction over all columns and chunks in place of Bonferroni's, which is never stricter. The effect "
    "on the loss is not in the paper.",
    inputs="reference, production",
    stochastic=False,
    cost="one sort a column and table, O(n log n); memory of a column at a time",
    use_when="To see what changed in the inputs, and which change matters: with the reference rows' losses each column "
    "has the loss that its movement alone is expected to add.",
    avoid_when="Columns moved together and their marginals did not: DensityRatio sees that. The labels' relation to the "
    "inputs moved: no look at inputs sees that.",
    also=("DriftReport",),
)

Floats = NDArray[np.floating]
_BY = "univariate_drift"
_FEW_VALUES = 10  # whole numbers of so few values are categories
_EXACT_BELOW = 10_000  # product of the two numbers of rows; the asymptotic law is close above
_EXPECTED_AT_LEAST = 5.0


@dataclass(frozen=True, eq=False)
class DriftReport:
    """What moved.

    Attributes
    ----------
    table : DataFrame
        A row a column (and chunk): ``column``, ``chunk`` (if asked for), ``kind``; ``distance`` (numbers:
        Kolmogorov-Smirnov, categories: total variation, of what is not missing); ``wasserstein`` (numbers, in
        standard deviations of the reference); ``jensen_shannon`` (square root of the divergence to base 2, missing
        values and new categories included); ``missing_before``, ``missing_now`` and ``new_values`` (shares);
        ``p_value``, ``p_corrected`` and ``drifted``; and with losses ``effect``, ``effect_low`` and ``effect_high``.
    alpha : float
        Chance of any false ``drifted`` in the table, at most.
    """

    table: pd.DataFrame
    alpha: float

    @property
    def drifted(self) -> list[str]:
        """Columns that moved, those of the largest effect (else distance) first."""
        found = self.table[self.table["drifted"]]
        size = found["effect"].abs() if "effect" in found else found["jensen_shannon"]
        return list(dict.fromkeys(found.loc[size.sort_values(ascending=False).index, "column"]))


def univariate_drift(
    reference: Any,
    production: Any,
    *,
    loss: ArrayLike | None = None,
    chunks: int | ArrayLike | None = None,
    alpha: float = 0.05,
    n_bins: int = 20,
    confidence: float = 0.95,
) -> DriftReport:
    r"""Compare each column of two tables.

    Numbers are compared by the two-sample Kolmogorov-Smirnov test, categories (and whole numbers of at most 10
    values) by chi-squared with rare ones pooled; the share of missing values has a test of its own, and a column's
    p-value is twice the smaller. p-values are corrected by Holm's method over all columns and chunks.

    Parameters
    ----------
    reference, production : dataframe or array-like of shapes (n_reference, d) and (n_production, d)
        Tables of the same columns; numbers, dates, categories, and missing values.
    loss : array-like of shape (n_reference,), optional
        The model's loss on each row of the reference.
    chunks : int or array-like of shape (n_production,), optional
        Rows a chunk, in order, or an id a row. By default all rows are one.
    alpha : float, default=0.05
        Chance of any false alarm in the whole table.
    n_bins : int, default=20
        Quantile bins of numbers, for ``jensen_shannon`` and ``effect``.
    confidence : float, default=0.95
        Of the interval of the effect.

    Returns
    -------
    DriftReport

    Raises
    ------
    DataError
        If a column of the reference is absent from production, or a table has no rows.

    See Also
    --------
    DensityRatio : Whether the tables can be told apart by all columns together.
    CBPE : The performance itself, from the model's probabilities.

    Notes
    -----
    With r_b and q_b the shares of bin b of a column before and now, and l_b the mean loss of the reference's rows in
    it, the effect of the column is :math:`\sum_b (q_b - r_b)\, l_b`: the change of the mean loss if rows within a bin
    stay as they were. It is not additive over columns that move together. Values that the reference has none of are
    given its mean loss. The interval is of the finite rows of both tables, by the delta method.

    References
    ----------
    .. [1] Rabanser, S., Günnemann, S. and Lipton, Z. C. (2019). Failing Loudly: An Empirical Study of Methods for
       Detecting Dataset Shift. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import univariate_drift
    >>> rng = np.random.default_rng(0)
    >>> X, Z = rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2)) + [1.0, 0.0]
    >>> report = univariate_drift(X, Z, loss=np.abs(X[:, 1]))  # column 0 moves most and does not matter
    >>> report.drifted
    ['0']
    >>> report.table.round(2)[["column", "distance", "effect", "effect_low", "effect_high"]].values.tolist()[0]
    ['0', 0.37, -0.01, -0.05, 0.03]
    """
    check_number(alpha, name="alpha", by=_BY, low=0, high=1, closed="neither")
    check_number(confidence, name="confidence", by=_BY, low=0, high=1, closed="neither")
    check_count(n_bins, name="n_bins", by=_BY, low=2)
    before, now = _tables(reference, production)
    lost = None if loss is None else check_vector(loss, name="loss", by=_BY)
    if lost is not None and len(lost) != len(before):
        raise DataError(f"'loss' of {_BY} must have a value a reference row, {len(before)}. Got {len(lost)}.")
    parts = chunk_rows(chunks, len(now), by=_BY)
    rows = []
    for name in before:
        column = _column(before[name], lost, n_bins)
        values = now[name]
        for chunk, part in enumerate([slice(None)] if parts is None else parts):
            found = column.compared(values.iloc[part], confidence)
            rows.append({"column": str(name), "chunk": chunk, **found})
    table = pd.DataFrame(rows)
    table["p_corrected"] = corrected(table["p_value"].to_numpy(), "holm")
    table["drifted"] = table["p_corrected"] <= alpha
    return DriftReport(table.drop(columns="chunk") if parts is None else table, alpha)


def _tables(reference: Any, production: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    before, now = as_pandas(reference), as_pandas(production)
    for name, table in (("reference", before), ("production", now)):
        if table.empty:
            raise DataError(f"'{name}' of {_BY} must have rows and columns. Got shape {table.shape}.")
    if lost := [str(c) for c in before if c not in now]:
        raise DataError(f"'production' of {_BY} must have the columns of 'reference'. Absent: {', '.join(lost)}.")
    return before, now


def _column(values: pd.Series, loss: Floats | None, n_bins: int) -> _Column:
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if pd.api.types.is_datetime64_any_dtype(values):
        return _Numbers(values, loss, n_bins)
    if numeric and not (pd.api.types.is_integer_dtype(values) and values.nunique() <= _FEW_VALUES):
        return _Numbers(values, loss, n_bins)
    return _Categories(values, loss)


class _Column:
    """A column of the reference, prepared once for any number of chunks; the last bin holds missing values."""

    kind: str

    def __init__(self, codes: NDArray[np.intp], n_codes: int, loss: Floats | None) -> None:
        self.n = len(codes)
        self.counts = np.bincount(codes, minlength=n_codes).astype(float)
        self.loss = None if loss is None else _BinLoss(codes, n_codes, loss)

    def compared(self, values: pd.Series, confidence: float) -> dict[str, Any]:
        """Return a row of the report."""
        raise NotImplementedError

    def _common(self, counts: Floats, p_value: float, confidence: float) -> dict[str, Any]:
        before, now = self.counts / self.n, counts / counts.sum()
        missing = self.counts[-1], counts[-1]
        if sum(missing) > 0:
            table = np.array([self.counts, counts])
            p_missing = _chi_squared(np.column_stack([table[:, :-1].sum(axis=1), table[:, -1]]))
            p_value = min(1.0, 2 * min(p_value, p_missing))
        row = {
            "kind": self.kind,
            "jensen_shannon": _jensen_shannon(before, now),
            "missing_before": before[-1],
            "missing_now": now[-1],
            "p_value": p_value,
        }
        return row if self.loss is None else row | self.loss.effect(now, int(counts.sum()), confidence)


class _Numbers(_Column):
    kind = "number"

    def __init__(self, values: pd.Series, loss: Floats | None, n_bins: int) -> None:
        x = _floats(values)
        self.sorted = known = _known(x)
        at = (np.arange(1, n_bins) * len(known)) // n_bins
        self.edges = np.unique(known[at]) if len(known) else np.empty(0)
        # Infinite values stand at the ends of what is sorted.
        finite = known[np.searchsorted(known, -np.inf, side="right") : np.searchsorted(known, np.inf)]
        self.spread = float(finite.std()) if len(finite) else 0.0
        codes = self._codes(x) if loss is not None else None
        n_codes = len(self.edges) + 2
        if codes is None:  # counts from the sorted values are a hundred times cheaper
            self.n, self.loss, self.counts = len(x), None, self._counts(known, len(x) - len(known))
        else:
            super().__init__(codes, n_codes, loss)

    def _codes(self, x: Floats) -> NDArray[np.intp]:
        codes = np.searchsorted(self.edges, x, side="right")
        codes[np.isnan(x)] = len(self.edges) + 1
        return codes

    def _counts(self, ordered: Floats, n_missing: int) -> Floats:
        below = np.searchsorted(ordered, self.edges, side="left")
        return np.append(np.diff(np.r_[0, below, len(ordered)]), n_missing).astype(float)

    def compared(self, values: pd.Series, confidence: float) -> dict[str, Any]:
        x = _floats(values)
        ordered = _known(x)
        counts = self._counts(ordered, len(x) - len(ordered))
        distance, transport = sorted_distances(self.sorted, ordered)
        p_value = _ks_p_value(self.sorted, ordered, distance)
        return {
            "distance": distance,
            "wasserstein": transport / self.spread if self.spread else np.nan,
            "new_values": 0.0,
        } | self._common(counts, p_value, confidence)


class _Categories(_Column):
    kind = "category"

    def __init__(self, values: pd.Series, loss: Floats | None) -> None:
        codes, self.known = pd.factorize(values)
        k = len(self.known)
        super().__init__(np.where(codes < 0, k + 1, codes), k + 2, loss)  # known, new, missing

    def compared(self, values: pd.Series, confidence: float) -> dict[str, Any]:
        k = len(self.known)
        uniques_codes, uniques = pd.factorize(values)
        place = pd.Index(self.known).get_indexer(pd.Index(uniques))
        lookup = np.append(np.where(place < 0, k, place), k + 1)  # -1, missing, is the last
        counts = np.bincount(lookup[uniques_codes], minlength=k + 2).astype(float)
        # Each new value is a column of its own: together, values so rare that one sample has none of them would look
        # like a change.
        fresh = np.bincount(uniques_codes[uniques_codes >= 0], minlength=len(uniques))[place < 0]
        table = np.array([np.append(self.counts[:k], 0.0 * fresh), np.append(counts[:k], fresh)])
        sums = table.sum(axis=1, keepdims=True)
        shares = table / np.where(sums > 0, sums, 1)
        return {
            "distance": float(np.abs(shares[0] - shares[1]).sum() / 2) if (sums > 0).all() else np.nan,
            "wasserstein": np.nan,
            "new_values": counts[k] / counts.sum(),
        } | self._common(counts, _chi_squared(table), confidence)


class _BinLoss:
    """Mean loss a bin, and what moving shares between bins does to it."""

    def __init__(self, codes: NDArray[np.intp], n_codes: int, loss: Floats) -> None:
        count = np.bincount(codes, minlength=n_codes)
        safe = np.maximum(count, 1)
        mean = np.bincount(codes, weights=loss, minlength=n_codes) / safe
        square = np.bincount(codes, weights=(loss - mean[codes]) ** 2, minlength=n_codes) / safe
        self.n, self.share = len(codes), count / len(codes)
        self.mean = np.where(count > 0, mean, loss.mean())
        self.variance_of_mean = square / safe

    def effect(self, now: Floats, m: int, confidence: float) -> dict[str, float]:
        moved = now - self.share
        value = float(moved @ self.mean)
        spread = [float(s @ self.mean**2 - (s @ self.mean) ** 2) for s in (now, self.share)]
        variance = float(moved**2 @ self.variance_of_mean) + max(spread[0], 0.0) / m + max(spread[1], 0.0) / self.n
        half = float(ndtri(0.5 + confidence / 2) * np.sqrt(variance))
        return {"effect": value, "effect_low": value - half, "effect_high": value + half}


def _floats(values: pd.Series) -> Floats:
    """Return numbers, or dates as nanoseconds, as floats; missing is NaN."""
    if pd.api.types.is_datetime64_any_dtype(values):
        found = values.to_numpy(dtype="datetime64[ns]")
        return np.where(np.isnat(found), np.nan, found.astype(np.int64).astype(float))
    if not pd.api.types.is_numeric_dtype(values):
        raise DataError(
            f"Column {values.name!r} of {_BY} must hold numbers as in the reference. Got {values.dtype}."
        )
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _known(x: Floats) -> Floats:
    """Return what is not NaN, sorted; NaN sorts last."""
    ordered = np.sort(x)
    return ordered[: np.searchsorted(ordered, np.nan)]


def _ks_p_value(a: Floats, b: Floats, distance: float) -> float:
    if np.isnan(distance):
        return 1.0
    if len(a) * len(b) <= _EXACT_BELOW:
        return float(ks_2samp(a, b, method="exact").pvalue)
    return float(kolmogorov(np.sqrt(len(a) * len(b) / (len(a) + len(b))) * distance))


def _chi_squared(table: Floats) -> float:
    """Return the p-value of equal shares in two rows of counts; columns with few expected are pooled."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if (rows == 0).any():
        return 1.0
    rare = rows.min() * columns / rows.sum() < _EXPECTED_AT_LEAST
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    if pooled.shape[1] < 2:
        return 1.0
    expected = np.outer(rows, pooled.sum(axis=0)) / rows.sum()
    return float(chi2.sf(((pooled - expected) ** 2 / expected).sum(), pooled.shape[1] - 1))


def _jensen_shannon(p: Floats, q: Floats) -> float:
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(a > 0, a * np.log2(a / middle), 0.0).sum() for a in (p, q)]
    return float(np.sqrt(max(0.0, sum(parts) / 2)))
