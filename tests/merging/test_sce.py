"""SCE against its three steps written out."""

import numpy as np
import pytest

from corrigible.errors import InvalidParameterError
from corrigible.merging import sce


def by_steps(tensors, base, share):
    deltas = np.stack([t - base for t in tensors])
    if share < 1:
        variance = deltas.var(axis=0)
        chosen = np.argsort(-variance.ravel())[: int(share * np.count_nonzero(variance))]
        mask = np.zeros(variance.size, dtype=bool)
        mask[chosen] = True
        deltas = deltas * mask.reshape(variance.shape)
    weights = (deltas**2).mean(axis=(1, 2))
    weights = weights / weights.sum()
    w = weights[:, None, None]
    up = deltas.sum(axis=0) >= 0
    agree = ((deltas > 0) == up) & (deltas != 0)
    share = (w * agree).sum(axis=0)
    return base + np.divide((w * deltas * agree).sum(axis=0), share, out=np.zeros_like(base), where=share > 0)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_agrees_with_the_steps(rng, share):
    base = rng.normal(size=(8, 9))
    tensors = [base + s * rng.normal(size=base.shape) for s in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(sce(tensors, base, select_topk=share), by_steps(tensors, base, share), rtol=1e-12)


def test_nothing_selected_and_nothing_varied(rng):
    base, a = rng.normal(size=5), rng.normal(size=5)
    np.testing.assert_array_equal(sce([a, a + 1], base, select_topk=0.0), base)
    np.testing.assert_array_equal(sce([a, a], base, select_topk=0.5), base)  # models that agree are not told apart
    np.testing.assert_allclose(sce([a, a], base, select_topk=1.0), a)


def test_refuses_a_share_outside():
    with pytest.raises(InvalidParameterError, match="select_topk"):
        sce([np.ones(2)], np.ones(2), select_topk=2)
