"""Splits along axes: trained on some times, sources or topics and tested on others, against a split by chance.

Paper: Yesterday's News: Benchmarking Multi-Dimensional Out-of-Distribution Generalisation of Misinformation Detection
Models (Verhoeven, Mishra, Shutova, 2024).
Original: https://github.com/ioverho/misinfo-general
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.metrics import check_scoring

from corrigible._card import Card
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError

CARD = Card(
    name="axis_report",
    kind="measure",
    obj="axis_report",
    also=("AxisReport", "AxisSplit"),
    papers=("misinfo",),
    refs=("verhoeven2024yesterday",),
    source="https://github.com/ioverho/misinfo-general",
    differs="Axes are any columns: ordered ones are cut in time, others by whole values. Every split along an axis has "
    "beside it a split by chance of the same sizes, scored by the same measure; the paper's axes (time, event, topic, "
    "publisher, political bias, misinformation type) are columns of its own data, which are not part of this. Of the paper "
    "the abstract was read, of the code its list of splits.",
    inputs="estimator, X, y, axes",
    stochastic=True,
    cost="2 n_splits fits an axis",
    use_when="A score by chance is too good: it shows the model the same weeks, sources and topics that it is tested on.",
    avoid_when="In use the model meets the values that it was trained on.",
)

Floats = NDArray[np.floating]
KINDS = ("ordered", "values")


class AxisSplit:
    """Split along an axis, so that test rows have values of it that no training row has.

    Parameters
    ----------
    kind : {"ordered", "values"}, default="values"
        Whether the axis is cut in order, the past to train and the next part to test (time), or whole values are held
        out (sources, topics, places).
    n_splits : int, default=5
        Splits. Of values: at most as many as there are.
    test_size : float, default=0.2
        Share of the rows to test on, about, of whole values.
    random_state : None, int, Generator or RandomState
        Which values are held out together.

    References
    ----------
    .. [1] Verhoeven, I., Mishra, P. and Shutova, E. (2024). Yesterday's News: Benchmarking Multi-Dimensional
       Out-of-Distribution Generalisation of Misinformation Detection Models. arXiv:2410.18122.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import AxisSplit
    >>> year = np.repeat([2019, 2020, 2021], 10)
    >>> for train, test in AxisSplit("ordered", n_splits=2).split(year, groups=year):
    ...     print(np.unique(year[train]), np.unique(year[test]))
    [2019] [2020]
    [2019 2020] [2021]
    """

    def __init__(
        self,
        kind: str = "values",
        *,
        n_splits: int = 5,
        test_size: float = 0.2,
        random_state: RandomState = None,
    ) -> None:
        self.kind = kind
        self.n_splits = n_splits
        self.test_size = test_size
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the rows to train on and those to test on.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Not looked at, nor is `y`.
        groups : array-like of shape (n,)
            The axis: times or numbers to be ordered, or values.

        Raises
        ------
        DataError
            If the axis is missing or has fewer than two values.
        """
        by = "AxisSplit"
        check_choice(self.kind, KINDS, name="kind", by=by)
        check_count(self.n_splits, name="n_splits", by=by)
        check_number(self.test_size, name="test_size", by=by, low=0.0, high=1.0, closed="neither")
        if groups is None:
            raise DataError(f"{by}.split needs the axis: pass it as 'groups'.")
        axis = pd.Series(np.asarray(groups))
        if axis.isna().any():
            raise DataError(f"The axis of {by} must have values. Row {int(axis.isna().argmax())} has none.")
        codes, values = pd.factorize(axis, sort=True)
        if len(values) < 2:
            raise DataError(f"The axis of {by} must have at least two values. Got {len(values)}.")
        parts = self._ordered(codes) if self.kind == "ordered" else self._values(codes, len(values))
        for train, test in parts:
            yield np.flatnonzero(train), np.flatnonzero(test)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits."""
        if groups is None or self.kind == "ordered":
            return self.n_splits
        return min(self.n_splits, len(pd.unique(np.asarray(groups))))

    def _ordered(self, codes: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Cut the ordered values into parts of nearly equal rows; train on all before the one tested on."""
        counts = np.cumsum(np.bincount(codes))
        parts = min(self.n_splits + 1, len(counts))
        # A value goes to the part that holds the middle of its rows; each part has one at least.
        middle = (counts - np.diff(counts, prepend=0) / 2) / counts[-1]
        part = np.minimum((middle * parts).astype(int), parts - 1)
        part = np.unique(part, return_inverse=True)[1]
        for k in range(1, part.max() + 1):
            yield part[codes] < k, part[codes] == k

    def _values(
        self, codes: NDArray[np.intp], n_values: int
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Hold out values in a random order, each once, as many at a time as make up the test size."""
        rng, sizes = as_generator(self.random_state), np.bincount(codes)
        n_splits = min(self.n_splits, n_values)
        order = rng.permutation(n_values).tolist()
        held: list[list[int]] = []
        wanted = max(self.test_size, 1 / n_values / 2) * len(codes)
        while order and len(held) < n_splits:
            chosen = [order.pop(0)]
            while order and sizes[chosen].sum() + sizes[order[0]] / 2 < wanted and len(chosen) < n_values - 1:
                chosen.append(order.pop(0))
            held.append(chosen)
        for chosen in held:
            test = np.isin(codes, chosen)
            yield ~test, test


@dataclass(frozen=True, eq=False)
class AxisReport:
    """What each axis costs.

    Attributes
    ----------
    table : DataFrame
        A row an axis: ``splits``, ``score`` along it, ``by_chance``, ``drop`` (by chance less along the axis) with
        ``low`` and ``high``, a t interval over splits, and ``share`` of the splits in which the score drops.
    scores : DataFrame
        A row a split: ``axis``, ``split``, ``train`` and ``test`` (rows), ``score``, ``by_chance``.
    """

    table: pd.DataFrame
    scores: pd.DataFrame


def axis_report(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    axes: Mapping[str, ArrayLike],
    *,
    ordered: tuple[str, ...] = (),
    scoring: Any = None,
    n_splits: int = 5,
    test_size: float = 0.2,
    confidence: float = 0.95,
    n_jobs: int | None = None,
    rng: RandomState = None,
) -> AxisReport:
    """Measure how much of a score by chance is left where test rows have other values of an axis.

    Parameters
    ----------
    estimator : estimator
        Fitted anew for each split.
    X : DataFrame or array-like of shape (n, d)
        Features; leave the axes out if the model shall not see them.
    y : array-like of shape (n,)
        Target.
    axes : mapping of str to array-like of shape (n,)
        Name to values: times, sources, topics.
    ordered : tuple of str
        Names of the axes that are cut in order.
    scoring : str or callable, optional
        As in scikit-learn; higher is better.
    n_splits, test_size
        As in `AxisSplit`.
    confidence : float, default=0.95
        Of the intervals.
    n_jobs : int, optional
        Fits at once.
    rng : None, int, Generator or RandomState
        Source of splits and seeds.

    Returns
    -------
    AxisReport

    Raises
    ------
    DataError
        If an axis has another length, or fewer than two values.

    References
    ----------
    .. [1] Verhoeven, I., Mishra, P. and Shutova, E. (2024). Yesterday's News: Benchmarking Multi-Dimensional
       Out-of-Distribution Generalisation of Misinformation Detection Models. arXiv:2410.18122.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from corrigible.shift import axis_report
    >>> draw = np.random.default_rng(0)
    >>> source = draw.integers(10, size=400)
    >>> X = np.column_stack([source, draw.normal(size=400)])
    >>> y = draw.integers(2, size=10)[source]  # each source has its own label
    >>> report = axis_report(KNeighborsClassifier(1), X, y, {"source": source}, rng=0)
    >>> bool(report.table.loc["source", "by_chance"] > 0.95), bool(report.table.loc["source", "low"] > 0)
    (True, True)
    """
    by = "axis_report"
    check_number(confidence, name="confidence", by=by, low=0.0, high=1.0, closed="neither")
    generator, target = as_generator(rng, by="rng"), np.asarray(y)
    if unknown := [name for name in ordered if name not in axes]:
        raise DataError(f"'ordered' of {by} must name axes. {unknown[0]!r} is none of {', '.join(axes)}.")
    tasks, rows = [], []
    for name, values in axes.items():
        column = np.asarray(values)
        if column.shape != target.shape:
            raise DataError(f"The axis {name!r} of {by} must have {len(target)} entries. Got shape {column.shape}.")
        splits = AxisSplit("ordered" if name in ordered else "values", n_splits=n_splits, test_size=test_size,
                           random_state=generator)  # fmt: skip
        for k, (train, test) in enumerate(splits.split(X, groups=column)):
            # The same numbers of rows to train and to test, drawn from all that the split uses.
            mixed = generator.permutation(np.r_[train, test])
            seed = integer_seed(generator)
            tasks += [(estimator, X, target, train, test, scoring, seed)]
            tasks += [(estimator, X, target, mixed[: len(train)], mixed[len(train) :], scoring, seed)]
            rows.append({"axis": name, "split": k, "train": len(train), "test": len(test)})
    found = np.array(parallel_map(_score, tasks, n_jobs=n_jobs)).reshape(-1, 2)
    scores = pd.DataFrame(rows).assign(score=found[:, 0], by_chance=found[:, 1])
    return AxisReport(_summary(scores, confidence), scores)


def _score(
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    scoring: Any,
    seed: int,
) -> float:
    rows = X.iloc if hasattr(X, "iloc") else np.asarray(X)
    model = seed_estimator(clone(estimator), seed).fit(rows[train], y[train])
    return float(check_scoring(model, scoring=scoring)(model, rows[test], y[test]))


def _summary(scores: pd.DataFrame, confidence: float) -> pd.DataFrame:
    found = {}
    for axis, part in scores.groupby("axis", sort=False):
        drop = (part["by_chance"] - part["score"]).to_numpy()
        n = len(drop)
        half = float(student.ppf((1 + confidence) / 2, n - 1) * drop.std(ddof=1) / np.sqrt(n)) if n > 1 else np.inf
        found[axis] = {"splits": n, "score": part["score"].mean(), "by_chance": part["by_chance"].mean(),
                       "drop": drop.mean(), "low": drop.mean() - half, "high": drop.mean() + half,
                       "share": float((drop > 0).mean())}  # fmt: skip
    return pd.DataFrame(found).T.astype({"splits": int})
