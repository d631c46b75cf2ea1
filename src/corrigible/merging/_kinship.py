"""Model kinship: how alike two models' changes from their base are, and merging that heeds it.

Paper: Exploring Model Kinship for Merging Large Language Models (Hu, Yao, Zhang, Deng, Chen, 2024).
Original: https://github.com/zjunlp/ModelKinship
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from corrigible._card import Card
from corrigible._core.model_weights import Weights, check_alike, weights_of, with_weights
from corrigible._utils.validation import check_choice, check_count
from corrigible.errors import DataError
from corrigible.merging._linear import linear

CARD = Card(
    name="kinship",
    kind="merger",
    obj="KinshipMerging",
    also=("model_kinship", "Merge"),
    papers=("kinship",),
    refs=("hu2024exploring",),
    source="https://github.com/zjunlp/ModelKinship",
    differs="Cosines keep their sign, which the authors' code drops; pairs are averaged where the paper uses SLERP. "
    "Exploration merges the best model with the one of lowest kinship to it, once a generation, as the abstract and the "
    "repository tell; the paper's listing was not at hand.",
    inputs="models, score",
    stochastic=False,
    cost="One pass over the models a pair; a score a merged model",
    use_when="Many fine-tunes of one base could be merged in many ways, and each trial costs an evaluation.",
    avoid_when="Two or three models: try all pairs.",
)

_METRICS = ("pcc", "cs", "ed")


@dataclass(frozen=True)
class Merge:
    """One merge of a search.

    Attributes
    ----------
    parents : tuple of int
        Numbers of the models merged; merged models are numbered on from the first ones.
    generation : int
        From 1.
    kinship : float
        Of the parents.
    score : float
        Of the child.
    gain : float
        The child's score less the mean of its parents'.
    explored : bool
        Whether the pair was chosen for its low kinship.
    """

    parents: tuple[int, int]
    generation: int
    kinship: float
    score: float
    gain: float
    explored: bool


def model_kinship(a: Any, b: Any, base: Any, *, metric: str = "pcc") -> float:
    """Return how alike two models' changes from their base are.

    Parameters
    ----------
    a, b, base : mapping, torch module or estimator
        Of one architecture.
    metric : {"pcc", "cs", "ed"}
        Pearson correlation of the changes, their cosine, or their Euclidean distance, which is small for kin.

    Returns
    -------
    float
        1 for the same change, about 0 for unrelated ones; NaN if a model is its base. A distance for "ed".

    Raises
    ------
    DataError
        If architectures differ.

    References
    ----------
    .. [1] Hu, Y., Yao, Y., Zhang, N., Deng, S. and Chen, H. (2024). Exploring Model Kinship for Merging Large Language
       Models.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import model_kinship
    >>> base, a, b = ({"w": np.array(v)} for v in ([0.0, 0, 0], [1.0, 2, 3], [2.0, 4, 6]))
    >>> model_kinship(a, b, base, metric="cs"), round(model_kinship(a, b, base, metric="ed"), 3)
    (1.0, 3.742)
    """
    by = "model_kinship"
    check_choice(metric, _METRICS, name="metric", by=by)
    x, y, origin = (weights_of(m, by=by) for m in (a, b, base))
    check_alike([origin, x, y], by=by)
    n, sums = 0, np.zeros(5)  # of x, y, xx, yy, xy
    distance = 0.0
    for k, value in origin.items():
        p, q = (np.asarray(m[k], dtype=np.float64).ravel() - np.asarray(value, np.float64).ravel() for m in (x, y))
        n += p.size
        sums += [p.sum(), q.sum(), (p * p).sum(), (q * q).sum(), (p * q).sum()]
        distance += float(((p - q) ** 2).sum())
    if metric == "ed":
        return math.sqrt(distance)
    if metric == "pcc" and n:
        sums[2:] -= np.array([sums[0] ** 2, sums[1] ** 2, sums[0] * sums[1]]) / n
    lengths = math.sqrt(max(sums[2], 0.0)) * math.sqrt(max(sums[3], 0.0))
    return max(-1.0, min(1.0, float(sums[4]) / lengths)) if lengths > 0 else math.nan


class KinshipMerging:
    """Merge the best models pair by pair, generation by generation, and explore where kinship is low.

    Every generation merges all new pairs of the `k` best models, and the best model with the one least kin to it. It
    ends when the k best do not change.

    Parameters
    ----------
    score : callable
        Takes a model like those fitted and gives a number, higher is better, on held-out rows.
    k : int, default=3
        Models that are merged with each other.
    max_generations : int, default=5
        At most.
    explore : bool, default=True
        Merge by low kinship too; without, this is plain top-k greedy merging.
    metric : {"pcc", "cs", "ed"}
        Of `model_kinship`.

    Attributes
    ----------
    weights_, model_
        The best model found, as weights and in the form of the models.
    score_ : float
        Its score; never below the best single model's, on the rows of `score`.
    scores_ : ndarray
        Of all models, the first ones first.
    merges_ : list of Merge
        What was tried.

    References
    ----------
    .. [1] Hu, Y., Yao, Y., Zhang, N., Deng, S. and Chen, H. (2024). Exploring Model Kinship for Merging Large Language
       Models.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import KinshipMerging
    >>> models = [{"w": np.array(v)} for v in ([1.0, 0.0], [0.9, 0.1], [0.0, 1.0])]
    >>> search = KinshipMerging(lambda m: float(m["w"].prod()), k=2, max_generations=1)
    >>> search = search.fit(models, {"w": np.zeros(2)})
    >>> round(search.score_, 4), search.merges_[-1].explored
    (0.2475, True)
    """

    def __init__(
        self,
        score: Callable[[Any], float],
        *,
        k: int = 3,
        max_generations: int = 5,
        explore: bool = True,
        metric: str = "pcc",
    ) -> None:
        self.score = score
        self.k = k
        self.max_generations = max_generations
        self.explore = explore
        self.metric = metric

    def fit(self, models: Sequence[Any], base: Any) -> Self:
        """Search for the best merge.

        Parameters
        ----------
        models : sequence
            Weights by name, torch modules, or scikit-learn linear or MLP models, at least two.
        base : mapping, torch module or estimator
            What they were fine-tuned from.

        Returns
        -------
        self
        """
        by = type(self).__name__
        check_count(self.k, name="k", by=by, low=2)
        check_count(self.max_generations, name="max_generations", by=by)
        check_choice(self.metric, _METRICS, name="metric", by=by)
        if len(models) < 2:
            raise DataError(f"{by} merges pairs of models: it needs two. Got {len(models)}.")
        self._like, self._base = models[0], weights_of(base, by=by)
        self._pool = [weights_of(m, by=by) for m in models]
        check_alike([self._base, *self._pool], by=by)
        self._values = [self._value(w) for w in self._pool]
        self.merges_: list[Merge] = []
        done: set[tuple[int, int]] = set()
        for generation in range(1, self.max_generations + 1):
            before = self._best(self.k)
            for pair, explored in self._pairs(done):
                done.add(pair)
                self._merge(pair, generation, explored)
            if self._best(self.k) == before:
                break
        best = self._best(1)[0]
        self.scores_, self.score_ = np.array(self._values), self._values[best]
        self.weights_ = dict(self._pool[best])
        self.model_ = with_weights(self._like, self.weights_)
        del self._pool, self._like, self._base, self._values
        return self

    def _value(self, weights: Weights) -> float:
        return float(self.score(with_weights(self._like, weights)))

    def _best(self, k: int) -> list[int]:
        return sorted(range(len(self._values)), key=lambda i: (-self._values[i], i))[:k]

    def _kinship(self, i: int, j: int) -> float:
        return model_kinship(self._pool[i], self._pool[j], self._base, metric=self.metric)

    def _pairs(self, done: set[tuple[int, int]]) -> list[tuple[tuple[int, int], bool]]:
        top = self._best(self.k)
        chosen = {tuple(sorted(p)): False for p in combinations(top, 2)}
        if self.explore:
            sign = -1.0 if self.metric == "ed" else 1.0  # the farthest are the least kin
            others = [i for i in range(len(self._pool)) if i not in top and tuple(sorted((i, top[0]))) not in done]
            if others:
                chosen[tuple(sorted((top[0], min(others, key=lambda i: sign * self._kinship(top[0], i)))))] = True
        return [((p[0], p[1]), explored) for p, explored in chosen.items() if p not in done]

    def _merge(self, pair: tuple[int, int], generation: int, explored: bool) -> None:
        a, b = (self._pool[i] for i in pair)
        child: dict[str, NDArray[Any]] = {k: linear([a[k], b[k]]) for k in a}
        value = self._value(child)
        gain = value - (self._values[pair[0]] + self._values[pair[1]]) / 2
        self.merges_.append(Merge(pair, generation, self._kinship(*pair), value, gain, explored))
        self._pool.append(child)
        self._values.append(value)
