"""Linear: the weighted average of tensors, and with it the uniform soup.

Paper: Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time
(Wortsman, Ilharco, Gadre, Roelofs, Gontijo-Lopes, Morcos, Namkoong, Farhadi, Carmon, Kornblith, Schmidt, ICML 2022).
Original: https://github.com/mlfoundations/model-soups
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from corrigible._card import Card
from corrigible._core.tensor_blocks import Aligned, Floats, Sink, model_weights
from corrigible.errors import InvalidParameterError

CARD = Card(
    name="linear",
    kind="merger",
    obj="linear",
    papers=("merge_survey",),
    refs=("wortsman2022soups",),
    source="https://github.com/mlfoundations/model-soups",
    differs="Weights other than equal ones are the usual generalisation.",
    inputs="tensors",
    stochastic=False,
    cost="One pass over the tensors; memory of a few blocks",
    use_when="Models were fine-tuned from one start on one task: the first thing to try.",
    avoid_when="Models do not share a start: average after matching their units, as PLeaS does.",
    claims=("permutation_invariant",),
    test_params=({}, {"weights": [0.5, 0.2, 0.3]}),
)


def linear(
    tensors: Sequence[Any],
    base: Any = None,
    *,
    weights: ArrayLike | None = None,
    normalize: bool = True,
    out: Sink | None = None,
) -> Any:
    """Average tensors.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, of one shape; float16, bfloat16, float32 or float64.
    base : ndarray, optional
        Gives the result its dtype, and nothing else.
    weights : array-like of shape (n_tensors,), optional
        Equal by default.
    normalize : bool, default=True
        Divide the weights by their sum.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        ``sum_i w_i t_i``; of equal tensors, that tensor to the bit.

    Raises
    ------
    DataError
        If shapes differ or a value is not finite.
    InvalidParameterError
        If the weights do not fit, or sum to 0 and are to be normalized.

    References
    ----------
    .. [1] Wortsman, M. et al. (2022). Model soups: averaging weights of multiple fine-tuned models improves accuracy
       without increasing inference time. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import linear
    >>> linear([np.array([0.0, 1.0]), np.array([1.0, 3.0])])
    array([0.5, 2. ])
    """
    by = "linear"
    aligned = Aligned(tensors, base, by=by)
    w = model_weights(weights, len(tensors), by=by)
    if normalize:
        if abs(w.sum()) < 1e-12:
            raise InvalidParameterError(f"'weights' of {by} sum to 0. Change them, or pass normalize=False.")
        w = w / w.sum()
    rest = 0.0 if normalize else float(w.sum() - 1)
    first, others = aligned.tensors[0], list(zip(w[1:], aligned.tensors[1:], strict=True))

    def combine(start: int, stop: int) -> Floats:
        # By differences from the first: what all models share is kept to the bit.
        origin = aligned.values(first, start, stop)
        total = origin * aligned.wide.type(1 + rest)
        for weight, tensor in others:
            step = aligned.values(tensor, start, stop) - origin
            step *= aligned.wide.type(weight)
            total += step
        return total

    return aligned.fill(combine, out)
