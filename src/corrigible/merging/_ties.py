"""TIES: trim task vectors, elect a sign for each weight, average those that agree with it.

Paper: TIES-Merging: Resolving Interference When Merging Models (Yadav, Tam, Choshen, Raffel, Bansal, NeurIPS 2023).
Original: https://github.com/prateeky2806/ties-merging
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from corrigible._card import Card
from corrigible._core.tensor_blocks import Floats, Sink, model_weights
from corrigible._utils.validation import check_number
from corrigible.merging._task_vectors import added_to_base, densities, ranked, with_base

CARD = Card(
    name="ties",
    kind="merger",
    obj="ties",
    papers=("merge_survey",),
    refs=("yadav2023ties",),
    source="https://github.com/prateeky2806/ties-merging",
    differs="Trims each tensor by itself, as model-merging tools do, where the authors trim the whole model's task "
    "vector. Of equal magnitudes at the threshold all are kept.",
    inputs="tensors, base",
    stochastic=False,
    cost="Three passes over the tensors for float32; memory of a few blocks. Thresholds come from histograms",
    use_when="Several fine-tunes of one base whose task vectors disagree in sign.",
    avoid_when="Two models of one task: their average is as good, and needs no density.",
    claims=("permutation_invariant",),
    test_params=({}, {"density": 0.4, "weights": [1.0, 0.5, 0.3], "scale": 0.7}, {"normalize": False}),
)


def ties(
    tensors: Sequence[Any],
    base: Any,
    *,
    density: ArrayLike = 0.2,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    normalize: bool = True,
    out: Sink | None = None,
) -> Any:
    """Merge task vectors by trimming, election of signs and a disjoint mean.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, of one shape.
    base : ndarray
        The model that all were fine-tuned from; gives the result its dtype.
    density : float or array-like of shape (n_tensors,), default=0.2
        Share of each task vector's values that is kept, the largest ones.
    weights : array-like of shape (n_tensors,), optional
        Ones by default.
    scale : float, default=1.0
        Factor of the merged task vector (the paper's lambda).
    normalize : bool, default=True
        Divide by the weights of the models that agree; else add up.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        The base plus the merged task vector.

    Raises
    ------
    DataError
        If shapes differ, there is no base, or a value is not finite.
    InvalidParameterError
        If a density is outside [0, 1].

    References
    ----------
    .. [1] Yadav, P., Tam, D., Choshen, L., Raffel, C. and Bansal, M. (2023). TIES-Merging: Resolving Interference When
       Merging Models. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import ties
    >>> base = np.zeros(3)
    >>> a, b = np.array([3.0, 0.1, -1.0]), np.array([1.0, 0.0, 4.0])
    >>> ties([a, b], base, density=0.67)  # 0.1 is trimmed; of -1 and 4 the sign of the larger wins
    array([2., 0., 4.])
    """
    by = "ties"
    aligned = with_base(tensors, base, by=by)
    w = model_weights(weights, len(tensors), by=by)
    check_number(scale, name="scale", by=by, low=-1e6, high=1e6)
    keep = densities(density, len(tensors), by=by)
    limits = [ranked(aligned, i, int(d * aligned.size)) for i, d in enumerate(keep)]

    def deltas(start: int, stop: int) -> list[Floats]:
        found = []
        for i, limit in enumerate(limits):
            delta = aligned.delta(i, start, stop)
            if limit > 0:
                delta *= np.abs(delta) >= limit
            found.append(delta)
        return found

    return added_to_base(aligned, deltas, w, scale=scale, normalize=normalize, votes=w, out=out)
