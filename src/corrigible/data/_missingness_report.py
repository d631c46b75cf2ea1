"""What is missing in a table, what is hidden, and what the missing cells depend on.

Paper: A Test of Missing Completely at Random for Multivariate Data with Missing Values (Little, JASA 1988).
Also: The Problem of Disguised Missing Data (Pearson, SIGKDD Explorations 2006).
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2_contingency, ttest_ind

from corrigible._card import Card
from corrigible._core.amputation import missing_cells, punch
from corrigible._core.any_table import as_pandas, emptied
from corrigible._core.hidden_codes import HiddenCode as HiddenCode
from corrigible._core.hidden_codes import find_hidden_codes
from corrigible._core.little import LittleTest as LittleTest
from corrigible._core.little import little_test
from corrigible._core.multiple_tests import corrected
from corrigible._utils.tables import check_column
from corrigible._utils.validation import check_number
from corrigible.errors import DataError

CARD = Card(
    name="missingness_report",
    kind="measure",
    obj="missingness_report",
    papers=(),
    refs=("little1988test", "pearson2006disguised"),
    source="",
    differs="Little's covariance is the maximum likelihood one, as in the R packages. What a column's missing cells "
    "depend on is tested pair by pair (Welch's t, chi-square) with Holm's correction, which Little does not do. "
    "Pearson names disguised missing values; the evidence and its weights here are this library's own.",
    inputs="X",
    stochastic=False,
    cost="O(n d^2) for the pairs, O(d^3) a pattern and step of EM; memory 8 n d bytes",
    use_when="A table is new, before it is cleaned, imputed or modelled.",
    avoid_when="It must be proven that cells are missing at random: no test can, as the values are not seen.",
    also=("MissingnessReport", "HiddenCode", "LittleTest", "hidden_codes"),
    excused={"check_pure": "takes a table of any kind; the sample inputs hold none"},
)

_LEVELS = 20
_MIN_CELLS = 5


def hidden_codes(X: Any, *, threshold: float = 0.75) -> list[HiddenCode]:
    """Return values that seem to stand for missing, each with a score and a reason.

    Parameters
    ----------
    X : dataframe or array-like of shape (n_samples, n_features)
        The table.
    threshold : float, default=0.75
        Smallest score that is returned.

    Returns
    -------
    list of HiddenCode
        In the order of the columns.

    Examples
    --------
    >>> from corrigible.data import hidden_codes
    >>> hidden_codes([["12"], ["7"], ["?"], ["3"]])[0].reason
    "'?' (1 cells) is a usual word for missing and is text among numbers."
    """
    check_number(threshold, name="threshold", by="hidden_codes", low=0.0, high=1.0)
    return find_hidden_codes(_frame(X, by="hidden_codes"), threshold=threshold)


@dataclass(frozen=True, kw_only=True)
class MissingnessReport:
    """What is missing in a table, what is hidden, and what the missing cells depend on.

    Attributes
    ----------
    columns : DataFrame
        A row a column: ``missing`` and ``hidden`` (shares), ``codes``, ``depends_on`` (columns whose values differ
        where this one is missing), ``p_value`` (smallest, corrected) and ``tells_target`` (corrected p-value, NaN
        without target).
    patterns : DataFrame
        Sets of columns missing together (``columns``, ``rows``), most frequent first.
    together : DataFrame
        Correlation of the missingness of each two columns that have missing cells.
    dependence : DataFrame
        All tests: ``missing`` (column), ``on`` (column or target), ``test``, ``statistic``, ``p_value``,
        ``corrected``.
    little : LittleTest or None
        Over the numeric columns; None where it cannot be computed.
    little_note : str
        Why there is no Little's test; empty if there is one.
    codes : tuple of HiddenCode
        Suspected codes.
    alpha : float
        Level below which a corrected p-value counts.
    """

    columns: pd.DataFrame
    patterns: pd.DataFrame
    together: pd.DataFrame
    dependence: pd.DataFrame
    little: LittleTest | None
    little_note: str
    codes: tuple[HiddenCode, ...]
    alpha: float

    def to_frame(self) -> pd.DataFrame:
        """Return a row a column: shares, codes and what the missing cells depend on."""
        return self.columns.copy()

    def decode(self, X: Any, *, kinds: tuple[str, ...] = ("word", "number", "date")) -> Any:
        """Return a table with the suspected codes as missing.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table reported on, or one with the same columns.
        kinds : tuple of str, default=("word", "number", "date")
            Kinds of codes to empty; caps are left, as their cells say that the value is high.

        Returns
        -------
        dataframe or ndarray of shape (n_samples, n_features)
            Of the kind given; text that stood between numbers stays text.

        Raises
        ------
        UnknownNameError
            If a column that holds codes is not in the table.
        """
        by_column: dict[Any, list[Any]] = {}
        for code in self.codes:
            if code.kind in kinds:
                by_column.setdefault(code.column, []).append(code.value)
        frame = _frame(X, by="decode")
        holes = np.zeros(frame.shape, dtype=bool)
        for name, values in by_column.items():
            check_column(name, frame.columns, by="'X' of decode")
            holes[:, _at(frame, name)] = frame[name].isin(values)
        return emptied(X, holes)

    def to_markdown(self) -> str:
        """Return the report as Markdown; text from the table is escaped."""
        lines = [
            self._headline(),
            "",
            "| column | missing | hidden | codes | depends on |",
            "|---|---|---|---|---|",
        ]
        for name, row in self.columns.iterrows():
            cells = (
                name, f"{row['missing']:.1%}", f"{row['hidden']:.1%}", ", ".join(repr(v) for v in row["codes"]),
                ", ".join(map(str, row["depends_on"])),
            )  # fmt: skip
            lines.append("| " + " | ".join(_escaped(c) for c in cells) + " |")
        lines += ["", *(f"- {_escaped(c.column)}: {_escaped(c.reason)}" for c in self.codes)]
        return "\n".join(lines).rstrip() + "\n"

    def _repr_html_(self) -> str:
        shown = self.columns.assign(
            codes=[", ".join(repr(v) for v in c) for c in self.columns["codes"]],
            depends_on=[", ".join(map(str, d)) for d in self.columns["depends_on"]],
        )
        items = "".join(f"<li>{html.escape(f'{c.column}: {c.reason}')}</li>" for c in self.codes)
        table = shown.to_html(escape=True, float_format="{:.3g}".format)
        return f"<p>{html.escape(self._headline())}</p>{table}<ul>{items}</ul>"

    def _headline(self) -> str:
        if self.little is None:
            return f"Little's test: none ({self.little_note})."
        test = self.little
        verdict = "not missing completely at random" if test.p_value < self.alpha else "no evidence against MCAR"
        doubt = "" if test.converged else " (EM did not converge)"
        return (
            f"Little's test: {test.statistic:.4g} on {test.df} degrees, p = {test.p_value:.2g}{doubt}: {verdict}."
        )


def missingness_report(
    X: Any, *, y: ArrayLike | None = None, threshold: float = 0.75, alpha: float = 0.05, decode: bool = True
) -> MissingnessReport:
    """Report what is missing in a table, what is hidden, and what the missing cells depend on.

    Little's statistic sums, over patterns j of n_j rows,
    ``n_j (mean_j - mu_j)' S_j^-1 (mean_j - mu_j)`` with mu and S the maximum likelihood mean and covariance
    (by EM) of the columns that the pattern has; under MCAR it is chi-square. Each column with at least 5 missing
    and 5 present cells is tested against each other column and the target: Welch's t for numbers, chi-square for
    text, with Holm's correction over all tests.

    Parameters
    ----------
    X : dataframe or array-like of shape (n_samples, n_features)
        The table; any dataframe that narwhals knows (pandas, polars, pyarrow, …).
    y : array-like of shape (n_samples,), optional
        Target; missingness that tells it is found.
    threshold : float, default=0.75
        Smallest score of a hidden code.
    alpha : float, default=0.05
        Level of the tests.
    decode : bool, default=True
        Let suspected codes (not caps) count as missing in patterns and tests. ``missing`` never counts them.

    Returns
    -------
    MissingnessReport

    Raises
    ------
    DataError
        If the table is empty or the target has another length.

    References
    ----------
    .. [1] Little, R. J. A. (1988). A Test of Missing Completely at Random for Multivariate Data with Missing
       Values. Journal of the American Statistical Association 83(404).
    .. [2] Pearson, R. K. (2006). The Problem of Disguised Missing Data. SIGKDD Explorations 8(1).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from corrigible.data import missingness_report
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"age": rng.uniform(20, 60, 300).round(), "pay": rng.uniform(30, 90, 300)})
    >>> table.loc[table["age"] > 45, "pay"] = -999
    >>> found = missingness_report(table)
    >>> found.codes[0].value, found.columns.loc["pay", "depends_on"]
    (-999.0, ('age',))
    """
    check_number(threshold, name="threshold", by="missingness_report", low=0.0, high=1.0)
    check_number(alpha, name="alpha", by="missingness_report", low=0.0, high=1.0)
    given = _frame(X, by="missingness_report")
    target = None if y is None else pd.Series(np.asarray(y), name="target")
    if target is not None and len(target) != len(given):
        raise DataError(f"'y' of missingness_report must have a value a row ({len(given)}). Got {len(target)}.")
    codes = tuple(find_hidden_codes(given, threshold=threshold))
    hidden = np.zeros(given.shape, dtype=bool)
    for code in codes:
        if code.kind != "cap":
            hidden[:, _at(given, code.column)] |= given[code.column].eq(code.value).to_numpy(dtype=bool)
    frame = punch(given, hidden) if decode and hidden.any() else given
    cells = missing_cells(frame)
    dependence = _dependence(frame, cells, target)
    little, note = _little(frame)
    return MissingnessReport(
        columns=_columns(given, hidden, codes, dependence, alpha), patterns=_patterns(frame, cells),
        together=_together(frame, cells), dependence=dependence, little=little, little_note=note, codes=codes,
        alpha=alpha,
    )  # fmt: skip


def _frame(X: Any, *, by: str) -> pd.DataFrame:
    frame = as_pandas(X)
    if frame.empty:
        raise DataError(f"'X' of {by} must have at least one row and one column.")
    if not frame.columns.is_unique:
        raise DataError(f"'X' of {by} must have each column once; rename those that recur.")
    return frame


def _at(frame: pd.DataFrame, name: Any) -> int:
    return int(frame.columns.get_loc(name))  # type: ignore[arg-type]


def _columns(
    frame: pd.DataFrame,
    hidden: NDArray[np.bool_],
    codes: tuple[HiddenCode, ...],
    dependence: pd.DataFrame,
    alpha: float,
) -> pd.DataFrame:
    missing, rows = missing_cells(frame), []
    for j, name in enumerate(frame.columns):
        tests = dependence[dependence["missing"] == name]
        others = tests[~tests["is_target"]]
        rows.append(
            {
                "column": name, "missing": float(missing[:, j].mean()), "hidden": float(hidden[:, j].mean()),
                "codes": tuple(c.value for c in codes if c.column == name),
                "depends_on": tuple(others.loc[others["corrected"] < alpha, "on"]),
                "p_value": float(others["corrected"].min()) if len(others) else float("nan"),
                "tells_target": float(tests.loc[tests["is_target"], "corrected"].min()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("column")


def _patterns(frame: pd.DataFrame, cells: NDArray[np.bool_]) -> pd.DataFrame:
    kinds, counts = np.unique(cells, axis=0, return_counts=True)
    sets = [tuple(frame.columns[kind]) for kind in kinds]
    table = pd.DataFrame({"columns": pd.Series(sets, dtype=object), "rows": counts})
    return table.sort_values("rows", ascending=False, kind="stable", ignore_index=True)


def _together(frame: pd.DataFrame, cells: NDArray[np.bool_]) -> pd.DataFrame:
    some = cells.any(axis=0) & ~cells.all(axis=0)
    names = [c for c, kept in zip(frame.columns, np.asarray(some), strict=True) if kept]
    return pd.DataFrame(cells[:, some].astype(float), columns=names).corr() if names else pd.DataFrame()


def _little(frame: pd.DataFrame) -> tuple[LittleTest | None, str]:
    """Return Little's test over the numeric columns that vary, or why there is none."""
    numeric = frame.select_dtypes("number").to_numpy(dtype=float, na_value=np.nan)
    numeric = np.where(np.isfinite(numeric), numeric, np.nan)
    kept = [j for j in range(numeric.shape[1]) if len(np.unique(numeric[~np.isnan(numeric[:, j]), j])) > 1]
    if len(kept) < 2 or not np.isnan(numeric[:, kept]).any():
        return None, "fewer than two numeric columns that vary, or nothing missing in them"
    try:
        return little_test(numeric[:, kept], tol=1e-6, max_iter=500), ""
    except (DataError, np.linalg.LinAlgError):
        return None, "the numeric columns are collinear"


def _dependence(frame: pd.DataFrame, cells: NDArray[np.bool_], target: pd.Series[Any] | None) -> pd.DataFrame:
    """Return all tests of a column's missingness against the other columns and the target, Holm-corrected."""
    names = ("missing", "on", "is_target", "test", "statistic", "p_value")
    rows = []
    for j, name in enumerate(frame.columns):
        gone = cells[:, j]
        if min(gone.sum(), (~gone).sum()) < _MIN_CELLS:
            continue
        others = [(c, False, frame.iloc[:, k]) for k, c in enumerate(frame.columns) if k != j]
        for other, is_target, column in [*others, *([] if target is None else [("target", True, target)])]:
            if tested := _test(gone, column):
                rows.append((name, other, is_target, *tested))
    table = pd.DataFrame(rows, columns=list(names))
    return table.assign(
        corrected=corrected(table["p_value"].to_numpy(dtype=float), "holm"), is_target=table["is_target"].eq(True)
    )


def _test(gone: NDArray[np.bool_], column: pd.Series[Any]) -> tuple[str, float, float] | None:
    """Test whether a column's values differ between rows where another is missing and where it is not."""
    known = column.notna().to_numpy()
    gone, values = gone[known], column[known]
    if min(gone.sum(), (~gone).sum()) < _MIN_CELLS:
        return None
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    x = values.to_numpy(dtype=float) if numeric else np.empty(0)
    if numeric and not np.isfinite(x).all():
        return None
    # A group of equal numbers has no spread to compare with: such numbers are taken as levels.
    if numeric and np.ptp(x[gone]) > 0 and np.ptp(x[~gone]) > 0 and values.nunique() > 2:
        result = ttest_ind(x[gone], x[~gone], equal_var=False)
        return "welch", float(result.statistic), float(result.pvalue)
    levels = pd.factorize(values.astype(str))[0]
    frequent = np.argsort(-np.bincount(levels), kind="stable")[: _LEVELS - 1]
    levels = np.where(np.isin(levels, frequent), levels, -1)
    counts = pd.crosstab(levels, gone).to_numpy()
    if counts.shape[0] < 2 or len(values) / counts.shape[0] < _MIN_CELLS:
        return None
    result = chi2_contingency(counts, correction=False)
    return "chi-square", float(result.statistic), float(result.pvalue)


def _escaped(text: Any) -> str:
    plain = html.escape(str(text), quote=False).replace("\\", "\\\\")
    for mark in "|*_`[]":
        plain = plain.replace(mark, "\\" + mark)
    return " ".join(plain.split())
