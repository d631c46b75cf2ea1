"""Splits that should have been by group: values of a column in training and test whose rows give each other away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata
from scipy.stats import t as student

from corrigible._core.table_matrix import table_matrix
from corrigible._utils.tables import group_labels, is_nested
from corrigible.audit import _evidence as evidence
from corrigible.audit._chain import N_FOLDS, Chain
from corrigible.audit._problem import Problem
from corrigible.audit._refits import out_of_fold
from corrigible.errors import DataError

Floats = NDArray[np.floating]

# A column of groups has many values, none of which holds many rows: sex or country is no such column.
_MIN_VALUES, _MAX_SHARE = 30, 0.05
# Fewer test rows than this, or than this share, are no matter of the split.
_MIN_ROWS, _MIN_SHARED = 20, 0.02
_ALPHA = 0.01
_MAX_PAIRS, _PARTNERS = 20_000, 4
_MAX_REFITTED = 3
# A rise of the loss by less than this share is harmless, however sure.
_HARM = 0.02


@dataclass(frozen=True)
class Contrast:
    """Two mean losses and what the second is above the first, with a 95 % interval that takes groups as units."""

    first: float
    second: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupLeak:
    """A column by whose values the rows should have been split.

    Attributes
    ----------
    column : str
    rows : int
        Test rows whose value is in training.
    share : float
        Of all test rows.
    values : int
        Values in both.
    p_value : float
        Of rows of one value being no more alike than others, corrected for the number of columns.
    cross_validated : Contrast or None
        Loss by folds of rows, and by folds of values; None where nothing can be refitted.
    tested : Contrast or None
        Loss of test rows whose value is in training, and of those whose is not; None where those are few.
    """

    column: str
    rows: int
    share: float
    values: int
    p_value: float
    cross_validated: Contrast | None
    tested: Contrast | None

    def to_dict(self) -> dict[str, Any]:
        """Return the leak as it stands in ``budget.json``."""
        return asdict(self)


@dataclass(frozen=True)
class _Column:
    """A candidate: the value number of each training and test row, -1 where it is missing; equal where values are."""

    name: str
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    ordered: bool

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Which test rows have a value that is in training."""
        return np.isin(self.test, self.train[self.train >= 0])


def group_leaks(chain: Chain) -> list[GroupLeak]:
    """Return the columns whose values leak from training into test rows, those that cost most first.

    A column is asked whether a test row is more like training rows of its own value than like others (of the next
    value, where values have an order), in label or features. If it is, the model is cross-validated again by folds of
    values: the leak is what the loss rises by against folds of rows. Where the model cannot be refitted, test rows
    whose value is in training are compared with the others.
    """
    problem = chain.problem
    if problem.table_train is None or problem.table_test is None or problem.y_train is None:
        return []
    columns = _candidates(problem)
    alike = [(p, c) for c in columns if (p := _alike(problem, c, chain.seed) * len(columns)) < _ALPHA]
    alike = sorted(alike, key=lambda found: found[0])[:_MAX_REFITTED]
    leaks = []
    for p, column in alike:
        again, tested = _cross_validated(chain, column), _tested(problem, column)
        sure = again if again is not None else tested
        if sure is not None and _harms(sure, len(alike)):
            shared = column.shared
            values = len(np.unique(column.test[shared]))
            leaks.append(GroupLeak(column.name, int(shared.sum()), float(shared.mean()), values, p, again, tested))
    return sorted(leaks, key=lambda leak: -(leak.cross_validated or leak.tested).value)  # type: ignore[union-attr]


def _harms(found: Contrast, tried: int) -> bool:
    """Whether the rise is above nothing, sure over all columns tried together, and more than a trifle."""
    error = (found.high - found.low) / (2 * ndtri(0.975))
    sure = found.value > ndtri(1 - 0.025 / tried) * error
    return bool(sure and found.value > _HARM * abs(found.first))


def _candidates(problem: Problem) -> list[_Column]:
    train, test = problem.table_train, problem.table_test
    assert train is not None
    assert test is not None
    found = []
    for name in train.columns:
        if name not in test.columns or name == problem.target:
            continue
        column = _column(str(name), train[name], test[name])
        if column is not None:
            found.append(column)
    return found


def _column(name: str, train: pd.Series, test: pd.Series) -> _Column | None:
    both = pd.concat([train, test], ignore_index=True)
    if is_nested(both) or pd.api.types.is_bool_dtype(both):
        return None
    ordered = pd.api.types.is_numeric_dtype(both) or pd.api.types.is_datetime64_any_dtype(both)
    if pd.api.types.is_float_dtype(both) and (both.dropna() % 1 != 0).any():
        return None
    text = both if ordered else group_labels(both.to_frame()).iloc[:, 0].where(both.notna().to_numpy())
    codes, values = pd.factorize(text, sort=ordered)
    counts = np.bincount(codes[codes >= 0], minlength=1)
    if len(values) < _MIN_VALUES or counts.max() > _MAX_SHARE * len(both):
        return None
    column = _Column(name, codes[: len(train)], codes[len(train) :], bool(ordered))
    shared = int(column.shared.sum())
    return column if shared >= max(_MIN_ROWS, _MIN_SHARED * len(test)) else None


def _alike(problem: Problem, column: _Column, seed: int) -> float:
    """Return the p-value of test rows being no more like training rows of their value than like other ones.

    A test row, training rows of its value, and as many of another: the differences of their distances have mean 0 if
    the value says nothing. They are averaged over the rows of a value, and the values are the units of a t-test, in
    labels and in features; the lesser of the two p-values counts, twice.
    """
    assert problem.y_train is not None
    assert problem.X_train is not None
    rng = np.random.default_rng(seed)
    order = np.argsort(column.train, kind="stable")
    known = order[column.train[order] >= 0]
    values, start, count = np.unique(column.train[known], return_index=True, return_counts=True)
    if len(values) < 2:
        return 1.0
    rows = rng.permutation(np.flatnonzero(column.shared))[:_MAX_PAIRS]
    at = np.searchsorted(values, column.test[rows])
    if column.ordered:
        step = np.where(at == 0, 1, np.where(at == len(values) - 1, -1, rng.choice([-1, 1], len(at))))
    else:
        step = rng.integers(1, len(values), size=len(at))
    other = (at + step) % len(values)
    both = pd.concat([problem.X_train, problem.X_test], ignore_index=True)
    both = both.drop(columns=[c for c in both.columns if str(c) == column.name])
    points = table_matrix(both, by="audit").points if both.shape[1] else np.zeros((len(both), 1), dtype=np.float32)
    y = np.concatenate([problem.y_train, problem.y_test])
    y = y if problem.is_classification else rankdata(y)
    n = len(problem.y_train)
    gaps = np.zeros((2, len(rows)))
    for sign, of in ((-1, at), (1, other)):
        for _ in range(_PARTNERS):
            partner = known[start[of] + rng.integers(count[of])]
            a, b = y[rows + n], y[partner]
            gaps[0] += sign * (np.abs(a - b) if not problem.is_classification else a != b)
            gaps[1] += sign * np.minimum(np.abs(points[rows + n] - points[partner]), 3.0).mean(axis=1)
    return min(1.0, 2 * min(_greater(gap, at) for gap in gaps))


def _greater(gap: Floats, group: NDArray[np.intp]) -> float:
    """Return the p-value of the mean over groups being no greater than 0."""
    sizes = np.bincount(group)
    means = np.bincount(group, gap)[sizes > 0] / sizes[sizes > 0]
    if len(means) < 3 or np.ptp(means) == 0:
        return 1.0
    return float(student.sf(means.mean() / (means.std(ddof=1) / np.sqrt(len(means))), len(means) - 1))


def _cross_validated(chain: Chain, column: _Column) -> Contrast | None:
    """Return the loss of the training rows by folds of rows, and by folds of values."""
    problem = chain.problem
    if chain.template is None or chain.first_output is None:
        return None
    assert problem.X_train is not None
    assert problem.y_train is not None
    rng = np.random.default_rng([chain.seed, 3])
    unit = _units(column.train)
    fold = (rng.permutation(int(unit.max()) + 1) % N_FOLDS)[unit]
    try:
        output = out_of_fold(
            chain.template, problem.X_train, chain.raw_labels(), fold, problem.classes, seed=chain.seed,
            n_jobs=chain.n_jobs,
        )  # fmt: skip
    except DataError:  # a fold of values may lack what the model needs
        return None
    by_rows, by_values = (problem.row_loss(o, problem.y_train) for o in (chain.first_output, output))
    rise = by_values - by_rows
    error = _error_of_mean(rise, unit)
    return _contrast(by_rows.mean(), by_values.mean(), error)


def _tested(problem: Problem, column: _Column) -> Contrast | None:
    """Return the loss of test rows whose value is in training, and of the others."""
    shared = column.shared
    if min(shared.sum(), (~shared).sum()) < _MIN_ROWS:
        return None
    loss, unit = problem.row_loss(problem.test_output, problem.y_test), _units(column.test)
    known, new = (_error_of_mean(loss[part], unit[part]) for part in (shared, ~shared))
    return _contrast(loss[shared].mean(), loss[~shared].mean(), float(np.hypot(known, new)))


def _units(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of each row's group; a row without a value is one of its own."""
    alone = codes < 0
    numbered = np.where(alone, codes.max(initial=0) + np.cumsum(alone), codes)
    return np.asarray(np.unique(numbered, return_inverse=True)[1], dtype=np.intp)


def _error_of_mean(values: Floats, unit: NDArray[np.intp]) -> float:
    """Return the standard error of a mean over rows that come in groups."""
    sums = np.bincount(unit, values - values.mean())
    return float(np.sqrt((sums**2).sum()) / len(values))


def _contrast(first: float, second: float, error: float) -> Contrast:
    value, half = float(second - first), float(ndtri(0.975) * error)
    return Contrast(float(first), float(second), value, value - half, value + half)


def tell(problem: Problem, leaks: Sequence[GroupLeak]) -> None:
    """Put the leaks into the warnings, the evidence, and the reasons why test rows are suspect."""
    findings = problem.findings
    if not leaks or findings is None:
        return
    rows = []
    for leak in leaks:
        name = leak.column
        said = (
            f"{leak.rows} of {len(problem.y_test)} test rows ({leak.share:.1%}) have a value of {name!r} that is in "
            f"training, and rows of one value are alike: the test tells the loss of known values of {name!r}"
        )
        if (again := leak.cross_validated) is not None:
            said += f". Cross-validated by {name!r} it is {again.second:.4g}, by rows {again.first:.4g}"
            rows.append((name, "training rows, cross-validated by rows and by values", *_cells(again)))
        if (tested := leak.tested) is not None:
            rows.append((name, "test rows whose value is in training, and others", *_cells(tested)))
        problem.warnings.append(f"{said}. If new rows will have new values, split by {name!r}.")
    names = ["column", "compared", "loss of known values", "loss of new values", "rise", "from", "to"]
    note = "Intervals are at 95 %, with the values as units. What an audit measures on such test rows is for known values."
    frame = pd.DataFrame(rows, columns=names)
    findings.blocks.append(evidence.table("Columns by which the rows should have been split", frame, note))
    _mark(problem, leaks)


def _cells(found: Contrast) -> tuple[float, ...]:
    return found.first, found.second, found.value, found.low, found.high


def _mark(problem: Problem, leaks: Sequence[GroupLeak]) -> None:
    assert problem.findings is not None
    assert problem.table_train is not None
    assert problem.table_test is not None
    for leak in leaks:
        column = problem.table_test[leak.column]
        known = column.isin(problem.table_train[leak.column].dropna()).to_numpy()
        for row in np.flatnonzero(known):
            problem.findings.test[int(row)].append(f"its {leak.column} {column.iloc[row]!s} is in training too")
