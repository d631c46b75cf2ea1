"""Model breadcrumbs: drop a task vector's largest values with its smallest, and add what is left.

Paper: Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks (Davari, Belilovsky, ECCV 2024).
Original: https://github.com/rezazzr/breadcrumbs
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
    name="breadcrumbs",
    kind="merger",
    obj="breadcrumbs",
    papers=("merge_survey",),
    refs=("davari2024breadcrumbs",),
    source="https://github.com/rezazzr/breadcrumbs",
    differs="Density and outlier share in place of the paper's two percentiles beta and gamma; of equal magnitudes at "
    "a threshold all are treated alike.",
    inputs="tensors, base",
    stochastic=False,
    cost="Five passes over the tensors for float32; memory of a few blocks. Thresholds come from histograms",
    use_when="Many tasks are added to one base, and outliers of single task vectors hurt the others.",
    avoid_when="One or two tasks: the largest values carry the task.",
    claims=("permutation_invariant",),
    test_params=({}, {"density": 0.4, "outliers": 0.1, "elect_signs": True}),
)


def breadcrumbs(
    tensors: Sequence[Any],
    base: Any,
    *,
    density: ArrayLike = 0.9,
    outliers: float = 0.01,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    elect_signs: bool = False,
    out: Sink | None = None,
) -> Any:
    """Merge task vectors without their smallest and largest values.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, of one shape.
    base : ndarray
        The model that all were fine-tuned from; gives the result its dtype.
    density : float or array-like of shape (n_tensors,), default=0.9
        Share of each task vector's values that is kept.
    outliers : float, default=0.01
        Share that is dropped at the top; the rest is dropped at the bottom.
    weights : array-like of shape (n_tensors,), optional
        Ones by default.
    scale : float, default=1.0
        Factor of the merged task vector.
    normalize : bool, default=False
        Divide the weights by their sum; with signs elected, by that of the models that agree.
    elect_signs : bool, default=False
        Merge the rest as TIES does.
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
        If a share is outside [0, 1].

    References
    ----------
    .. [1] Davari, M. and Belilovsky, E. (2024). Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks.
       ECCV.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import breadcrumbs
    >>> breadcrumbs([np.array([9.0, 0.1, -1.0, 2.0])], np.zeros(4), density=0.5, outliers=0.25)
    array([ 0.,  0., -1.,  2.])
    """
    by = "breadcrumbs"
    aligned = with_base(tensors, base, by=by)
    w = model_weights(weights, len(tensors), by=by)
    check_number(scale, name="scale", by=by, low=-1e6, high=1e6)
    check_number(outliers, name="outliers", by=by, low=0.0, high=1.0)
    limits = []
    for i, share in enumerate(densities(density, len(tensors), by=by)):
        kept = int(share * aligned.size)
        top = min(int(outliers * aligned.size), aligned.size - kept)  # what is kept comes before what is dropped
        limits.append((ranked(aligned, i, top + kept), ranked(aligned, i, top)))

    def deltas(start: int, stop: int) -> list[Floats]:
        found = []
        for i, (low, high) in enumerate(limits):
            delta = aligned.delta(i, start, stop)
            size = np.abs(delta)
            delta *= (size >= low) & (size < high)
            found.append(delta)
        return found

    return added_to_base(
        aligned, deltas, w, scale=scale, normalize=normalize, votes=w if elect_signs else None, out=out
    )
