"""Panels of judges: several models' votes pooled, their agreement with people, their cost, and who favours its own.

Paper: Replacing Judges with Juries: Evaluating LLM Generations with a Panel of Diverse Models (Verga et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_choice, check_count, check_number, check_vector
from corrigible.errors import DataError

CARD = Card(
    name="judge_panel",
    kind="estimator",
    obj="JudgePanel",
    also=("SelfPreference", "self_preference"),
    papers=("poll",),
    refs=("verga2024replacing",),
    source="",
    differs="Max voting and average pooling are the paper's. Ties of votes go to the judge that stands first; intervals, "
    "all smaller panels, and the estimate of self-preference (a difference of differences) are ours. Of the paper the "
    "abstract and summaries were read.",
    inputs="votes, people",
    stochastic=True,
    cost="O(n_resamples n m) for m judges and n items; 2^m small panels up to `max_panels`",
    use_when="Answers are judged by models, and some were judged by people as well.",
    avoid_when="The judges are versions of one model: they err alike, and more votes add little.",
    test_params=({}, {"pooling": "mean"}),
    excused={"check_sklearn": "fit takes judgements and people's, no matrix of features."},
)

Floats = NDArray[np.floating]
_BY = "JudgePanel"


class JudgePanel(BaseEstimator):
    """Pool the judgements of several judges, and compare the panel and each judge with people.

    Parameters
    ----------
    pooling : {"vote", "mean"}, default="vote"
        The most frequent judgement, or the mean of scores.
    n_resamples : int, default=1000
        Bootstrap draws of items, for the intervals.
    confidence : float, default=0.95
        Of the intervals.
    max_panels : int, default=200
        Smaller panels are compared too, if there are no more than this.
    random_state : None, int, Generator or RandomState
        Source of the bootstrap.

    Attributes
    ----------
    agreement_ : DataFrame
        A row a judge, and the panel's: ``agreement``, ``low``, ``high`` (Cohen's kappa with people for votes, Pearson's
        correlation for scores), ``cost``, and ``tau``, Kendall's rank correlation of the systems' mean scores with
        people's, if systems were given.
    gain_ : tuple of float
        Agreement of the panel less that of the best single judge, and its interval.
    panels_ : DataFrame
        All panels of the judges: ``judges``, ``agreement``, ``cost``, and whether none is both cheaper and better
        (``efficient``).

    Notes
    -----
    The best single judge is the best on these items: its agreement is an optimistic figure, so that the gain of the panel
    is a cautious one.

    References
    ----------
    .. [1] Verga, P. et al. (2024). Replacing Judges with Juries: Evaluating LLM Generations with a Panel of Diverse
       Models. arXiv:2404.18796.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import JudgePanel
    >>> rng = np.random.default_rng(0)
    >>> people = rng.integers(2, size=400)
    >>> votes = np.where(rng.uniform(size=(400, 3)) < 0.8, people[:, None], 1 - people[:, None])
    >>> panel = JudgePanel(random_state=0).fit(votes, people)
    >>> bool(panel.gain_[1] > 0), panel.predict([[1, 1, 0], [0, 0, 1]]).tolist()
    (True, [1, 0])
    """

    def __init__(
        self,
        *,
        pooling: str = "vote",
        n_resamples: int = 1000,
        confidence: float = 0.95,
        max_panels: int = 200,
        random_state: RandomState = None,
    ) -> None:
        self.pooling = pooling
        self.n_resamples = n_resamples
        self.confidence = confidence
        self.max_panels = max_panels
        self.random_state = random_state

    def fit(
        self,
        votes: ArrayLike,
        people: ArrayLike,
        *,
        judges: Sequence[str] | None = None,
        systems: ArrayLike | None = None,
        costs: ArrayLike | None = None,
    ) -> Self:
        """Compare judges and panels with people.

        Parameters
        ----------
        votes : array-like of shape (n_items, n_judges)
            Judgements: labels for votes, numbers for scores.
        people : array-like of shape (n_items,)
            People's judgements of the same items.
        judges : sequence of str, optional
            Names.
        systems : array-like of shape (n_items,), optional
            The system whose answer each item is; systems are then ranked.
        costs : array-like of shape (n_judges,), optional
            Cost of a judgement by each.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If shapes differ, a judgement is missing, or people judged all items alike.
        """
        check_choice(self.pooling, ("vote", "mean"), name="pooling", by=_BY)
        check_count(self.n_resamples, name="n_resamples", by=_BY)
        check_number(self.confidence, name="confidence", by=_BY, low=0.0, high=1.0, closed="neither")
        table, truth = self._coded(votes, people)
        n, m = table.shape
        names = [f"judge {j}" for j in range(m)] if judges is None else list(map(str, judges))
        if len(names) != m:
            raise DataError(f"'judges' of {_BY} must name {m} judges. Got {len(names)} names.")
        price = np.full(m, np.nan) if costs is None else check_vector(costs, name="costs", n=m, by=_BY)
        pooled = np.column_stack([table, _pool(table, self.pooling)])
        rng, tail = as_generator(self.random_state), (1 - self.confidence) / 2
        draws = np.array([
            _agreements(pooled[rows], truth[rows], self.pooling) for rows in rng.integers(n, size=(self.n_resamples, n))
        ])  # fmt: skip
        found = _agreements(pooled, truth, self.pooling)
        with np.errstate(all="ignore"):
            low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
            gains = np.nanquantile(draws[:, m] - draws[:, int(np.nanargmax(found[:m]))], [tail, 1 - tail])
        self.agreement_ = pd.DataFrame(
            {"agreement": found, "low": low, "high": high, "cost": np.r_[price, price.sum()]},
            index=[*names, "panel"],
        )
        if systems is not None:
            self.agreement_["tau"] = _taus(pooled, truth, np.asarray(systems))
        self.gain_ = (float(found[m] - np.nanmax(found[:m])), float(gains[0]), float(gains[1]))
        self.panels_ = self._panels(table, truth, names, price)
        return self

    def predict(self, votes: ArrayLike) -> NDArray[Any]:
        """Return the panel's judgements of further items.

        Parameters
        ----------
        votes : array-like of shape (n_items, n_judges)
            Judgements.

        Returns
        -------
        ndarray of shape (n_items,)
        """
        check_is_fitted(self)
        given = np.asarray(votes)
        if self.pooling == "mean":
            return _pool(given.astype(np.float64), "mean")
        codes, labels = pd.factorize(given.ravel())
        return np.asarray(np.asarray(labels)[_pool(codes.reshape(given.shape), "vote").astype(int)])

    def _coded(self, votes: ArrayLike, people: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        table, truth = np.asarray(votes), np.asarray(people)
        if table.ndim != 2 or 0 in table.shape or truth.shape != table.shape[:1]:
            raise DataError(
                f"{_BY} needs votes (n_items, n_judges) and people (n_items,). Got shapes {table.shape} and {truth.shape}."
            )
        if pd.isna(table).any() or pd.isna(truth).any():
            row = int((pd.isna(table).any(axis=1) | pd.isna(truth)).argmax())
            raise DataError(
                f"'votes' and 'people' of {_BY} must not be missing. Item {row} has a gap: leave it out."
            )
        if len(pd.unique(truth)) < 2:
            raise DataError(f"'people' of {_BY} must differ between items. All are {truth[0]!r}.")
        if self.pooling == "mean":
            return table.astype(np.float64), truth.astype(np.float64)
        codes = pd.factorize(np.concatenate([table.ravel(), truth]))[0]
        return codes[: table.size].reshape(table.shape), codes[table.size :]

    def _panels(self, table: NDArray[Any], truth: NDArray[Any], names: list[str], price: Floats) -> pd.DataFrame:
        m = table.shape[1]
        chosen = (
            [c for k in range(1, m + 1) for c in combinations(range(m), k)] if 2**m - 1 <= self.max_panels else []
        )
        rows = [
            {"judges": " + ".join(names[j] for j in c), "size": len(c), "cost": price[list(c)].sum(),
             "agreement": _agreements(_pool(table[:, c], self.pooling)[:, None], truth, self.pooling)[0]}
            for c in chosen
        ]  # fmt: skip
        found = pd.DataFrame(rows, columns=["judges", "size", "cost", "agreement"])
        cost = found["cost"].fillna(found["size"]).to_numpy(dtype=np.float64)
        value = found["agreement"].to_numpy(dtype=np.float64)
        beaten = [
            ((cost <= c) & (value >= v) & ((cost < c) | (value > v))).any()
            for c, v in zip(cost, value, strict=True)
        ]
        return found.assign(efficient=~np.array(beaten, dtype=bool)).sort_values(
            "agreement", ascending=False, kind="stable", ignore_index=True
        )


@dataclass(frozen=True)
class SelfPreference:
    """What a judge gives answers of its own family beyond what the other judges give them.

    Attributes
    ----------
    value, low, high : float
        Mean difference of differences, and its bootstrap interval, in units of the scores.
    n_own, n_other : int
        Items of the family, and others.
    """

    value: float
    low: float
    high: float
    n_own: int
    n_other: int


def self_preference(
    scores: ArrayLike,
    others: ArrayLike,
    own: ArrayLike,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    rng: RandomState = None,
) -> SelfPreference:
    """Measure whether a judge favours answers of its own family.

    Parameters
    ----------
    scores : array-like of shape (n_items,)
        The judge's scores.
    others : array-like of shape (n_items,) or (n_items, n_judges)
        Scores of judges of other families, or of people; averaged.
    own : array-like of bool of shape (n_items,)
        Whether the answer is of the judge's family.
    n_resamples : int, default=1000
        Bootstrap draws of items.
    confidence : float, default=0.95
        Of the interval.
    rng : None, int, Generator or RandomState
        Source of the bootstrap.

    Returns
    -------
    SelfPreference

    References
    ----------
    .. [1] Verga, P. et al. (2024). Replacing Judges with Juries. arXiv:2404.18796.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import self_preference
    >>> own = np.repeat([True, False], 50)
    >>> fair = np.tile([0.2, 0.8], 50)
    >>> round(self_preference(fair + 0.1 * own, fair, own, rng=0).value, 3)
    0.1
    """
    by = "self_preference"
    check_count(n_resamples, name="n_resamples", by=by)
    check_number(confidence, name="confidence", by=by, low=0.0, high=1.0, closed="neither")
    given = check_vector(scores, name="scores", by=by)
    rest = np.asarray(others, dtype=np.float64)
    rest = rest if rest.ndim == 1 else rest.mean(axis=1)
    mine = np.asarray(own, dtype=bool)
    if rest.shape != given.shape or mine.shape != given.shape or not np.isfinite(rest).all():
        raise DataError(f"'others' and 'own' of {by} must have {len(given)} finite entries, one an item.")
    if mine.all() or not mine.any():
        raise DataError(f"'own' of {by} must mark some items and not all: {int(mine.sum())} of {len(mine)} are.")
    gap, generator, tail = given - rest, as_generator(rng, by="rng"), (1 - confidence) / 2
    a, b = gap[mine], gap[~mine]
    draws = [
        a[generator.integers(len(a), size=len(a))].mean() - b[generator.integers(len(b), size=len(b))].mean()
        for _ in range(n_resamples)
    ]
    low, high = np.quantile(draws, [tail, 1 - tail])
    return SelfPreference(float(a.mean() - b.mean()), float(low), float(high), len(a), len(b))


def _pool(table: NDArray[Any], pooling: str) -> NDArray[Any]:
    if pooling == "mean":
        return np.asarray(table.mean(axis=1))
    # How many judges say what judge j says; the first of those with most has the panel's answer.
    support = (table[:, :, None] == table[:, None, :]).sum(axis=2)
    return np.asarray(table[np.arange(len(table)), support.argmax(axis=1)])


def _agreements(columns: NDArray[Any], truth: NDArray[Any], pooling: str) -> Floats:
    """Return Cohen's kappa, or Pearson's correlation, of each column with people; NaN where it is not defined."""
    if pooling == "mean":
        x, t = columns - columns.mean(axis=0), truth - truth.mean()
        size = np.sqrt((x**2).sum(axis=0) * (t @ t))
        return np.where(size > 0, t @ x / np.where(size > 0, size, 1.0), np.nan)
    k = int(max(columns.max(), truth.max())) + 1
    share = np.bincount(truth, minlength=k) / len(truth)
    chance = np.array([np.bincount(c, minlength=k) @ share / len(truth) for c in columns.T])
    seen = (columns == truth[:, None]).mean(axis=0)
    return np.where(chance < 1, (seen - chance) / np.where(chance < 1, 1 - chance, 1.0), np.nan)


def _taus(columns: NDArray[Any], truth: NDArray[Any], systems: NDArray[Any]) -> Floats:
    if systems.shape != truth.shape:
        raise DataError(
            f"'systems' of {_BY} must have {len(truth)} entries, one an item. Got shape {systems.shape}."
        )
    means = pd.DataFrame(np.column_stack([columns, truth])).groupby(systems).mean().to_numpy()
    return np.array([kendalltau(means[:, j], means[:, -1]).statistic for j in range(columns.shape[1])])
