"""DARE: drop most of a task vector's values at random and scale up the rest, before merging.

Paper: Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch (Yu, Yu, Yu, Huang,
Li, ICML 2024).
Original: https://github.com/yule-BUAA/MergeLM
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from corrigible._card import Card
from corrigible._core.tensor_blocks import Floats, Sink, model_weights
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_number
from corrigible.merging._task_vectors import added_to_base, densities, with_base

CARD = Card(
    name="dare",
    kind="merger",
    obj="dare",
    papers=("merge_survey",),
    refs=("yu2024language",),
    source="https://github.com/yule-BUAA/MergeLM",
    differs="Each model has a random stream of its own, drawn in the order of the values: the same seed drops the same "
    "values whatever the block size and number of threads.",
    inputs="tensors, base",
    stochastic=True,
    cost="One pass over the tensors and a random number a value; memory of a few blocks",
    use_when="Task vectors of large models, which are redundant enough to lose nine values in ten.",
    avoid_when="Small models or large task vectors: dropping adds noise that nothing averages out.",
    test_params=({}, {"density": 0.3, "elect_signs": True}, {"rescale": False, "weights": [0.5, 0.2, 0.3]}),
)


def dare(
    tensors: Sequence[Any],
    base: Any,
    *,
    density: ArrayLike = 0.5,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    elect_signs: bool = False,
    rng: RandomState = None,
    out: Sink | None = None,
) -> Any:
    """Merge task vectors of which random values are dropped and the others scaled up.

    Parameters
    ----------
    tensors : sequence of ndarray
        One a model, of one shape.
    base : ndarray
        The model that all were fine-tuned from; gives the result its dtype.
    density : float or array-like of shape (n_tensors,), default=0.5
        Chance that a value is kept (one minus the paper's drop rate p).
    weights : array-like of shape (n_tensors,), optional
        Ones by default.
    scale : float, default=1.0
        Factor of the merged task vector.
    normalize : bool, default=False
        Divide the weights by their sum; with signs elected, by that of the models that agree.
    rescale : bool, default=True
        Divide kept values by the density, so that the task vector stays the same on average.
    elect_signs : bool, default=False
        Merge the rest as TIES does.
    rng : None, int, Generator or RandomState
        Source of what is dropped.
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
    .. [1] Yu, L., Yu, B., Yu, H., Huang, F. and Li, Y. (2024). Language Models are Super Mario: Absorbing Abilities
       from Homologous Models as a Free Lunch. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import dare
    >>> merged = dare([np.ones(10_000)], np.zeros(10_000), density=0.25, rng=0)
    >>> sorted(set(merged.tolist())), round(float(merged.mean()), 2)
    ([0.0, 4.0], 0.97)
    """
    by = "dare"
    aligned = with_base(tensors, base, by=by)
    w = model_weights(weights, len(tensors), by=by)
    check_number(scale, name="scale", by=by, low=-1e6, high=1e6)
    keep = densities(density, len(tensors), by=by)
    streams = as_generator(rng, by="rng").spawn(len(tensors))

    def deltas(start: int, stop: int) -> list[Floats]:
        found = []
        for i, (stream, share) in enumerate(zip(streams, keep, strict=True)):
            delta = aligned.delta(i, start, stop)
            if share < 1:
                delta *= stream.random(stop - start, dtype=np.float32) < share  # a product lets NaN show
                if rescale and share > 0:
                    delta /= aligned.wide.type(share)
            found.append(delta)
        return found

    return added_to_base(
        aligned, deltas, w, scale=scale, normalize=normalize, votes=w if elect_signs else None, out=out
    )
