"""Task arithmetic: add, scale or negate what models learnt beyond their base.

Paper: Editing Models with Task Arithmetic (Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi, ICLR
2023).
Original: https://github.com/mlfoundations/task_vectors
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from corrigible._card import Card
from corrigible._core.tensor_blocks import Sink, model_weights
from corrigible._utils.validation import check_number
from corrigible.merging._task_vectors import added_to_base, with_base

CARD = Card(
    name="task_arithmetic",
    kind="merger",
    obj="task_arithmetic",
    papers=("merge_survey",),
    refs=("ilharco2023editing",),
    source="https://github.com/mlfoundations/task_vectors",
    differs="A weight a model beside the paper's single scale.",
    inputs="tensors, base",
    stochastic=False,
    cost="One pass over the tensors; memory of a few blocks",
    use_when="Models fine-tuned from one base on several tasks are to become one, or a task is to be unlearnt (a "
    "negative weight).",
    avoid_when="Many task vectors that disagree in sign: TIES settles that.",
    claims=("permutation_invariant",),
    test_params=({}, {"weights": [0.5, -0.2, 0.3], "scale": 0.7}),
)


def task_arithmetic(
    tensors: Sequence[Any],
    base: Any,
    *,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    out: Sink | None = None,
) -> Any:
    """Add weighted task vectors to the base.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, of one shape.
    base : ndarray
        The model that all were fine-tuned from; gives the result its dtype.
    weights : array-like of shape (n_tensors,), optional
        Ones by default; a negative one unlearns.
    scale : float, default=1.0
        Factor of the sum.
    normalize : bool, default=False
        Divide the weights by their sum.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        ``base + scale * sum_i w_i (t_i - base)``.

    Raises
    ------
    DataError
        If shapes differ, there is no base, or a value is not finite.

    References
    ----------
    .. [1] Ilharco, G. et al. (2023). Editing Models with Task Arithmetic. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import task_arithmetic
    >>> base = np.array([1.0, 1.0])
    >>> task_arithmetic([np.array([2.0, 1.0]), np.array([1.0, 0.0])], base)
    array([2., 0.])
    """
    by = "task_arithmetic"
    aligned = with_base(tensors, base, by=by)
    w = model_weights(weights, len(tensors), by=by)
    check_number(scale, name="scale", by=by, low=-1e6, high=1e6)

    def deltas(start: int, stop: int) -> list[Any]:
        return [aligned.delta(i, start, stop) for i in range(len(tensors))]

    return added_to_base(aligned, deltas, w, scale=scale, normalize=normalize, votes=None, out=out)
