"""SCE: select the weights on which models differ most, weigh models by the size of their change, erase minority signs.

Paper: FuseChat: Knowledge Fusion of Chat Models (Wan, Zhong, Yang, Chen, Quan, 2024).
Original: https://github.com/fanqiwan/FuseAI
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from corrigible._card import Card
from corrigible._core.tensor_blocks import Aligned, Floats, Sink, kth_largest
from corrigible._utils.validation import check_number
from corrigible.merging._task_vectors import added_to_base, with_base

CARD = Card(
    name="sce",
    kind="merger",
    obj="sce",
    papers=("merge_survey",),
    refs=("wan2024fusechat",),
    source="https://github.com/fanqiwan/FuseAI",
    differs="Of equal variances at the threshold all are selected.",
    inputs="tensors, base",
    stochastic=False,
    cost="Up to five passes over the tensors for float32; memory of a few blocks",
    use_when="Models of very different strength of fine-tuning: no weights have to be chosen.",
    avoid_when="One model changed far more than the others without being better: it then decides alone.",
    claims=("permutation_invariant",),
    test_params=({}, {"select_topk": 0.3}),
)


def sce(
    tensors: Sequence[Any],
    base: Any,
    *,
    select_topk: float = 0.1,
    out: Sink | None = None,
) -> Any:
    """Merge task vectors by selection, calculation of model weights and erasure of minority signs.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, of one shape.
    base : ndarray
        The model that all were fine-tuned from; gives the result its dtype.
    select_topk : float, default=0.1
        Share of the values that vary among the models, the most varied ones, that is merged; all others stay the
        base's.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        The base plus the merged task vector; model i weighs in proportion to the mean square of its selected values.

    Raises
    ------
    DataError
        If shapes differ, there is no base, or a value is not finite.
    InvalidParameterError
        If the share is outside [0, 1].

    References
    ----------
    .. [1] Wan, F., Zhong, L., Yang, Z., Chen, R. and Quan, X. (2024). FuseChat: Knowledge Fusion of Chat Models.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import sce
    >>> a, b = np.array([2.0, 1.0, 1.0]), np.array([-4.0, 1.0, 1.1])
    >>> sce([a, b], np.zeros(3), select_topk=0.5)  # the first value varies most; the larger change wins
    array([-4.,  0.,  0.])
    """
    by = "sce"
    aligned = with_base(tensors, base, by=by)
    check_number(select_topk, name="select_topk", by=by, low=0.0, high=1.0)
    n = len(tensors)
    limit = 0.0 if select_topk == 1 else _threshold(aligned, n, select_topk)

    def deltas(start: int, stop: int) -> list[Floats]:
        found = [aligned.delta(i, start, stop) for i in range(n)]
        if limit > 0:
            selected = _variance(found) >= limit
            for delta in found:
                delta *= selected
        return found

    squares = np.zeros(n)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in aligned.parts():
            squares += [float((d * d).sum()) for d in deltas(*part)]
    weights = squares / squares.sum() if np.isfinite(squares).all() and squares.sum() > 0 else np.full(n, 1 / n)
    return added_to_base(aligned, deltas, weights, scale=1.0, normalize=True, votes=np.ones(n), out=out)


def _variance(deltas: list[Floats]) -> Floats:
    mean = sum(deltas[1:], deltas[0].copy())
    mean /= len(deltas)
    found = np.zeros_like(mean)
    for delta in deltas:
        found += (delta - mean) ** 2
    found /= len(deltas)
    return found


def _threshold(aligned: Aligned, n: int, share: float) -> float:
    """Variance from which on values are selected; infinity if none is, 0 if no two models differ."""

    def variances() -> Iterator[Floats]:
        with np.errstate(over="ignore", invalid="ignore"):
            for part in aligned.parts():
                yield _variance([aligned.delta(i, *part) for i in range(n)])

    varied = sum(int(np.count_nonzero(v)) for v in variances())
    if varied == 0:
        return np.inf
    return kth_largest(variances, int(share * varied)) if int(share * varied) else np.inf
