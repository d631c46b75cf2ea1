"""Model stock: pull the average of fine-tuned models towards their base, as far as their angles say.

Paper: Model Stock: All we need is just a few fine-tuned models (Jang, Yun, Han, ECCV 2024).
Original: https://github.com/naver-ai/model-stock
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from corrigible._card import Card
from corrigible._core.tensor_blocks import Aligned, Floats, Sink
from corrigible.errors import DataError
from corrigible.merging._task_vectors import total, with_base

CARD = Card(
    name="model_stock",
    kind="merger",
    obj="model_stock",
    papers=("merge_survey",),
    refs=("jang2024model",),
    source="https://github.com/naver-ai/model-stock",
    differs="After training, not once an epoch; the ratio is kept within [0, 1].",
    inputs="tensors, base",
    stochastic=False,
    cost="Two passes over the tensors, with a product a pair of models; memory of a few blocks",
    use_when="Two or three fine-tunes of one task that differ by their seeds.",
    avoid_when="Models of different tasks, whose task vectors are nearly orthogonal: the base is what is left.",
    claims=("permutation_invariant",),
)


def model_stock(tensors: Sequence[Any], base: Any, *, out: Sink | None = None) -> Any:
    """Interpolate between the base and the average of fine-tuned models, at the ratio of the closest point.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, at least two, of one shape.
    base : ndarray
        The model that all were fine-tuned from; gives the result its dtype.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        ``base + r * mean_i (t_i - base)`` with ``r = k c / (1 + (k - 1) c)``, k models, c the mean cosine of pairs of
        task vectors.

    Raises
    ------
    DataError
        If there are fewer than two tensors, shapes differ, there is no base, or a value is not finite.

    References
    ----------
    .. [1] Jang, D.-H., Yun, S. and Han, D. (2024). Model Stock: All we need is just a few fine-tuned models. ECCV.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import model_stock
    >>> model_stock([np.array([1.0, 1.0]), np.array([1.0, 0.0])], np.zeros(2)).round(3)  # 45 degrees apart
    array([0.828, 0.414])
    """
    by = "model_stock"
    aligned = with_base(tensors, base, by=by)
    n = len(tensors)
    if n < 2:
        raise DataError(f"{by} compares fine-tuned models with each other: it needs two. Got {n}.")
    ratio = _ratio(aligned, n)
    equal = np.full(n, 1 / n)

    def combine(start: int, stop: int) -> Floats:
        found = total([aligned.delta(i, start, stop) for i in range(n)], equal, normalize=False)
        found *= aligned.wide.type(ratio)
        found += aligned.base_values(start, stop)
        return found

    return aligned.fill(combine, out)


def _ratio(aligned: Aligned, n: int) -> float:
    products = np.zeros((n, n))
    with np.errstate(over="ignore", invalid="ignore"):
        for part in aligned.parts():
            deltas = [aligned.delta(i, *part) for i in range(n)]
            for i in range(n):
                for j in range(i, n):
                    products[i, j] += float((deltas[i] * deltas[j]).sum(dtype=np.float64))
    lengths = np.sqrt(np.diag(products))
    if not np.isfinite(lengths).all() or not lengths.all():  # a model that is its base has no direction
        return 1.0
    cosine = float(np.mean([products[i, j] / (lengths[i] * lengths[j]) for i, j in combinations(range(n), 2)]))
    return n * cosine / (1 + (n - 1) * cosine) if cosine > 0 else 0.0
