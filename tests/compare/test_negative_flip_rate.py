import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigible.compare import negative_flip_rate, negative_flips
from corrigible.errors import DataError

ROWS = st.lists(st.tuples(*[st.sampled_from("abc")] * 3), min_size=1, max_size=30)


@given(ROWS)
def test_rate_is_the_share_of_rows_that_turned_wrong(rows):
    y, old, new = (np.array(column) for column in zip(*rows, strict=True))
    rate = negative_flip_rate(y, old, new)
    assert rate == np.mean((old == y) & (new != y)) == negative_flips(y, old, new).negative_rate
    assert negative_flip_rate(y, old, old) == 0


def test_bad_rows_are_refused():
    with pytest.raises(DataError, match="'old' of negative_flips"):
        negative_flip_rate([0, 1], [0], [0, 1])
    with pytest.raises(DataError, match="must not be missing. Row 1"):
        negative_flip_rate([0.0, np.nan], [0, 1], [0, 1])
