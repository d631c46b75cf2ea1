"""SLERP: the point on the great circle between two tensors.

Paper: Animating Rotation with Quaternion Curves (Shoemake, SIGGRAPH 1985), as used to merge language models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from corrigible._card import Card
from corrigible._core.tensor_blocks import Aligned, Floats, Sink
from corrigible._utils.validation import check_number
from corrigible.errors import DataError

CARD = Card(
    name="slerp",
    kind="merger",
    obj="slerp",
    papers=("merge_survey",),
    refs=("shoemake1985animating",),
    source="",
    differs="The angle is taken between the flattened tensors, lengths included in the weighted sum, as model-merging "
    "tools do; nearly parallel tensors (cosine above 0.9995) are averaged.",
    inputs="tensors",
    stochastic=False,
    cost="Two passes over both tensors; memory of a few blocks",
    use_when="Two models of one family, and the average shrinks the weights' norm.",
    avoid_when="More than two models. For fine-tunes of one base, nearly parallel, it is the average.",
    test_params=({}, {"t": 0.2}),
)

_PARALLEL = 0.9995


def slerp(
    tensors: Sequence[Any],
    base: Any = None,
    *,
    t: float = 0.5,
    parallel: float = _PARALLEL,
    out: Sink | None = None,
) -> Any:
    """Interpolate on the great circle between two tensors.

    Parameters
    ----------
    tensors : sequence of two ndarray
        Ends, of one shape.
    base : ndarray, optional
        Gives the result its dtype, and nothing else.
    t : float, default=0.5
        0 is the first tensor, 1 the second.
    parallel : float, default=0.9995
        Cosine from which on the two are interpolated on the straight line, where the great circle is ill-defined.
    out : optional
        Where to write block by block, in place of a new array.

    Returns
    -------
    ndarray
        ``(sin((1 - t) a) t_0 + sin(t a) t_1) / sin(a)`` with a the angle between the two.

    Raises
    ------
    DataError
        If there are not two tensors, their shapes differ, or a value is not finite.

    References
    ----------
    .. [1] Shoemake, K. (1985). Animating Rotation with Quaternion Curves. SIGGRAPH.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import slerp
    >>> slerp([np.array([1.0, 0.0]), np.array([0.0, 1.0])]).round(3)
    array([0.707, 0.707])
    """
    by = "slerp"
    check_number(t, name="t", by=by, low=0.0, high=1.0)
    check_number(parallel, name="parallel", by=by, low=0.0, high=1.0)
    if len(tensors) != 2:
        raise DataError(f"{by} merges two tensors. Got {len(tensors)}.")
    aligned = Aligned(tensors, base, by=by)
    a, b = aligned.tensors
    cosine, wide = _cosine(aligned), aligned.wide.type
    straight = abs(cosine) >= parallel
    if not straight:
        angle = math.acos(cosine)
        first, second = (wide(math.sin(s * angle) / math.sin(angle)) for s in (1 - t, t))

    def combine(start: int, stop: int) -> Floats:
        x, y = aligned.values(a, start, stop), aligned.values(b, start, stop)
        if straight:  # by the difference: what both share is kept to the bit
            step = y - x
            step *= wide(t)
            step += x
            return step
        found = x * first
        found += y * second
        return found

    return aligned.fill(combine, out)


def _cosine(aligned: Aligned) -> float:
    """Cosine of the two tensors; 1, which means a straight line, if one is zero."""
    found = _products(aligned, 1.0)
    if not all(1e-25 < square < 1e30 for square in found[1:]):  # squares may have left the range of float32
        biggest = max(
            float(abs(aligned.values(t, *part)).max()) for part in aligned.parts() for t in aligned.tensors
        ) if aligned.size else 0.0  # fmt: skip
        found = _products(aligned, biggest or 1.0)
    norm = math.sqrt(found[1]) * math.sqrt(found[2])
    return max(-1.0, min(1.0, found[0] / norm)) if norm > 0 and math.isfinite(norm) else 1.0


def _products(aligned: Aligned, scale: float) -> tuple[float, float, float]:
    """Inner product of the two tensors divided by `scale`, and their squared lengths."""
    sums = [0.0, 0.0, 0.0]
    with np.errstate(all="ignore"):
        for start, stop in aligned.parts():
            x, y = (aligned.values(t, start, stop) for t in aligned.tensors)
            if scale != 1.0:
                x, y = x / aligned.wide.type(scale), y / aligned.wide.type(scale)
            # Not BLAS products: their bits depend on its threads.
            sums = [s + float((u * v).sum()) for s, (u, v) in zip(sums, ((x, y), (x, x), (y, y)), strict=True)]
    return sums[0], sums[1], sums[2]
