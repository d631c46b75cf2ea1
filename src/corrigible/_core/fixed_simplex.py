"""The regular simplex, as fixed prototypes of classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def regular_simplex(k: int) -> NDArray[np.floating]:
    """Return the k corners of a regular simplex in k - 1 dimensions, of length 1, (k, k - 1).

    They sum to 0 and each pair has the cosine -1 / (k - 1). Corner j is 0 in the coordinates past j.
    """
    corners = np.zeros((k, k - 1))
    for j in range(k - 1):
        rest = k - 1 - j  # corners that share what follows coordinate j
        height = np.sqrt(1.0 - (corners[j, :j] ** 2).sum())
        corners[j, j] = height
        corners[j + 1 :, j] = -height / rest
    return corners
