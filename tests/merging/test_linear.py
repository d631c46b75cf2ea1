"""The weighted average against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import linear


@pytest.mark.parametrize("weights", [None, [1, 2, 5], [0.5, -0.25, 2]])
@pytest.mark.parametrize("normalize", [True, False])
def test_agrees_with_exact_fractions(rng, weights, normalize):
    tensors = [rng.normal(size=(3, 4)) for _ in range(3)]
    w = [Fraction(x) for x in (weights or [1, 1, 1])]
    share = [x / sum(w) for x in w] if normalize else w
    expected = [float(sum(s * Fraction(t.flat[i]) for s, t in zip(share, tensors, strict=True))) for i in range(12)]
    found = linear(tensors, weights=weights, normalize=normalize)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-14, atol=1e-15)


def test_result_has_the_base_s_dtype(rng):
    tensors = [rng.normal(size=5).astype(np.float32) for _ in range(2)]
    assert linear(tensors, tensors[0].astype(np.float16)).dtype == np.float16


def test_cancelling_giants_leave_what_is_between():
    assert linear([np.array([1e30]), np.array([-1e30])])[0] == 0


def test_refuses_bad_weights(rng):
    tensors = [rng.normal(size=2)] * 2
    with pytest.raises(InvalidParameterError, match="sum to 0"):
        linear(tensors, weights=[1, -1])
    with pytest.raises(InvalidParameterError, match="2 finite numbers"):
        linear(tensors, weights=[1, 2, 3])
    with pytest.raises(InvalidParameterError, match="finite"):
        linear(tensors, weights=[1, np.nan])


def test_overflow_of_a_narrow_result_is_told():
    big = np.full(3, 60000.0, dtype=np.float16)
    with pytest.raises(DataError, match="range of float16"):
        linear([big, big], weights=[1, 1], normalize=False)
