r"""How far a metric of a chunk may lie from the reference by chance, and how the false-alarm rate is kept.

**The null hypothesis** is that a chunk's rows are further draws of what the reference was drawn from.

**Spread.** Chunks are drawn from the reference itself: :math:`R` random sets of :math:`m` of its :math:`N` rows, and
the statistic, estimated or realised, is computed for each as for a real chunk. By default :math:`m` is the power of
two nearest to the chunk's :math:`n` rows, at most :math:`N/2`. A mean of :math:`m` rows drawn without replacement
varies around that of all by :math:`\sigma^2 (1/m - 1/N)`; a chunk of new rows and a reference of :math:`N` rows differ
by :math:`\sigma^2 (1/n + 1/N)`: the drawn standard deviation is scaled by the root of the ratio. Estimators that learn
the reference closely (density ratios, models of the loss) are refitted without the drawn rows, so that the draws hold
the noise of the fit; then the ratio's denominator is :math:`1/m + 1/(N-m)`. With ``spread="chunks"`` the draws are the
reference's own consecutive chunks in time, unscaled: their spread holds whatever differs from day to day besides
chance.

**Band.** The next chunk lies with probability :math:`1 - a` within mean :math:`\pm\, t_{R-1}(1 - a/2)\, s\,\sqrt{1 +
1/R}`: the prediction interval of a normal quantity from :math:`R` draws. If the draws are clearly skewed (beyond two
standard errors), the side of the long tail is widened by the Cornish-Fisher term :math:`(z^2 - 1)\gamma/6`, with
:math:`\gamma` falling as :math:`n^{-1/2}`; no side is ever narrowed.

**Rate.** By the union bound the chance of any false alarm is at most the sum of the levels of all tests, whatever
their dependence (overlapping metrics, one reference for all chunks). If all chunks are known, each of the :math:`T`
tests has :math:`\alpha/T`. A watch that continues does not know how many chunks will come; the :math:`t`-th tested
chunk has

.. math:: \alpha_t = \alpha\,\frac{\ln 30.5}{(t + 30)\,\ln^2 (t + 30)}, \qquad \sum_{t \ge 1} \alpha_t \le \alpha,

since :math:`1/(s \ln^2 s)` is convex and so at most its integral over :math:`[s - 1/2, s + 1/2]`, and :math:`\int_{30.5}
^\infty ds/(s \ln^2 s) = 1/\ln 30.5`. It falls slowly: a year of daily chunks is tested at levels from 0.9 % down to
0.02 % of :math:`\alpha` (1/T would be 0.27 %). A chunk's level is shared equally by its metrics, and of each half goes
to the estimate and half to the realised value. Labels may arrive bit by bit: the :math:`k`-th look at a chunk's has
:math:`2^{-k}` of that half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew
from scipy.stats import t as student

from corrigible._utils.random import as_generator
from corrigible.watch._methods import Method, Values, realised

Floats = NDArray[np.floating]

_DRAWS, _REFITS, _OFFSET = 400, 20, 30.0
_DEFINED, _ROUNDING = 0.9, 1e-9
MIN_CHUNKS = 8  # of the reference, for the spread between chunks


def spent(t: int) -> float:
    """Return the share of alpha that the t-th tested chunk of an endless watch has, for t from 1 on."""
    s = t + _OFFSET
    return float(np.log(_OFFSET + 0.5) / (s * np.log(s) ** 2))


@dataclass(frozen=True)
class Band:
    """Where a statistic of a chunk lies if nothing changed.

    Parameters
    ----------
    low, high : float
        Ends.
    centre : float
        What is expected.
    """

    low: float
    high: float
    centre: float

    def excludes(self, value: float) -> bool:
        """Whether a value is outside; one that is not defined is not."""
        return bool(value < self.low or value > self.high)


@dataclass(frozen=True)
class Draws:
    """Statistics of chunks drawn under the null.

    Parameters
    ----------
    names : tuple of str
        Metrics.
    values : ndarray of shape (R, n_metrics)
        Differences from the reference.
    rows : int
        Rows of a draw.
    variance : float
        Variance of a draw in units of one row's; 0 where draws are not to be scaled.
    """

    names: tuple[str, ...]
    values: Floats
    rows: int
    variance: float

    def bands(self, n: int, n_reference: int, level: float, centre: Values) -> dict[str, Band]:
        """Return the band of each metric for a chunk of n rows; metrics that the draws cannot tell are left out."""
        scale = 1.0 if self.variance == 0 else np.sqrt((1 / n + 1 / n_reference) / self.variance)
        lean = 1.0 if self.variance == 0 else np.sqrt(self.rows / n)
        found = {}
        for name, (count, mean, spread, longer) in self._moments.items():
            if not np.isfinite(centre[name]):
                continue
            width = float(student.isf(level / 2, count - 1)) * np.sqrt(1 + 1 / count)
            extra = (width**2 - 1) * longer * lean / 6
            middle = centre[name] + mean
            slack = _ROUNDING * max(1.0, abs(middle))  # a metric without any spread may still differ by a bit
            low = middle - spread * scale * (width + max(-extra, 0.0)) - slack
            high = middle + spread * scale * (width + max(extra, 0.0)) + slack
            found[name] = Band(float(low), float(high), float(middle))
        return found

    @cached_property
    def _moments(self) -> dict[str, tuple[int, float, float, float]]:
        """Number, mean, standard deviation and skewness of the draws of each metric that is mostly defined."""
        found = {}
        for name, column in zip(self.names, self.values.T, strict=True):
            known = column[np.isfinite(column)]
            if len(known) >= max(_DEFINED * len(column), 3):
                found[name] = (len(known), float(known.mean()), float(known.std(ddof=1)), _skewness(known))
        return found


def _skewness(values: Floats) -> float:
    """Return the skewness if it is clear of chance, else 0."""
    if values.std() <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return 0.0
    found = float(skew(values))
    return found if abs(found) > 2 * np.sqrt(6 / len(values)) else 0.0


@dataclass
class Null:
    """Bands of estimates and of realised values, for chunks of any size.

    Parameters
    ----------
    method : Method
        Fitted estimator.
    chunks : list of ndarray, optional
        Rows of each of the reference's own chunks; their spread is then taken.
    """

    method: Method
    chunks: list[NDArray[np.intp]] | None = None
    reference: Values = field(init=False)
    _kept: dict[tuple[str, int], Draws] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reference = realised(self.method.reference, self.method.settings)

    def bands(self, kind: str, n: int, level: float) -> dict[str, Band]:
        """Return the bands of a chunk.

        Parameters
        ----------
        kind : {"estimate", "realised"}
            Which statistic.
        n : int
            Rows of the chunk.
        level : float
            Chance of a false alarm, for each metric.
        """
        n_reference = len(self.method.reference)
        size = 0 if self.chunks else int(np.clip(2 ** round(np.log2(n)), 2, max(n_reference // 2, 2)))
        if (kind, size) not in self._kept:
            make = self._of_chunks if self.chunks else self._of_rows
            self._kept[kind, size] = make(kind, size)
        return self._kept[kind, size].bands(n, n_reference, level, self.reference)

    def _of_rows(self, kind: str, size: int) -> Draws:
        total = len(self.method.reference)
        refit = kind == "estimate" and self.method.refits
        # The seed depends on what is drawn alone, so that a continued watch has the bands of an unbroken one.
        rng = as_generator(np.random.default_rng([self.method.settings.seed, size, kind == "estimate"]))
        rows = [rng.permutation(total)[:size] for _ in range(_REFITS if refit else _DRAWS)]
        variance = 1 / size + 1 / (total - size) if refit else 1 / size - 1 / total
        return self._draws(kind, rows, refit, size, variance)

    def _of_chunks(self, kind: str, size: int) -> Draws:
        assert self.chunks is not None
        return self._draws(kind, self.chunks, kind == "estimate" and self.method.refits, size, 0.0)

    def _draws(self, kind: str, rows: list[NDArray[np.intp]], refit: bool, size: int, variance: float) -> Draws:
        statistic = self._apart if refit else self._within(kind)
        found = [statistic(r) for r in rows]
        names = tuple(found[0])
        return Draws(names, np.array([[f[name] for name in names] for f in found]), size, variance)

    def _apart(self, rows: NDArray[np.intp]) -> Values:
        estimated, rest = self.method.estimate_apart(rows)
        return {name: value - rest[name] for name, value in estimated.items()}

    def _within(self, kind: str) -> Callable[[NDArray[np.intp]], Values]:
        method, whole = self.method, self.reference

        def statistic(rows: NDArray[np.intp]) -> Values:
            part = method.reference[rows]
            if kind == "realised":
                found = realised(part, method.settings)
            else:
                found = {name: e.value for name, e in method.estimate(part).items()}
            return {name: value - whole[name] for name, value in found.items()}

        return statistic
