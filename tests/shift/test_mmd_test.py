import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import MMDTest, mmd_test


def brute_force(x, y):
    """The unbiased statistic and the witness by loops over pairs; widths around the median squared distance."""
    both = np.vstack([x, y])
    n, total = len(x), len(both)
    squared = np.array([[((p - q) ** 2).sum() for q in both] for p in both])
    median = np.median(squared[np.triu_indices(total, 1)])
    k = np.mean([np.exp(-squared / (2 * w**2 * median)) for w in (0.25, 0.5, 1, 2, 4)], axis=0)
    xx = np.mean([k[i, j] for i in range(n) for j in range(n) if i != j])
    yy = np.mean([k[i, j] for i in range(n, total) for j in range(n, total) if i != j])
    witness = [
        np.mean([k[i, j] for j in range(n, total) if j != i]) - np.mean([k[i, j] for j in range(n) if j != i])
        for i in range(total)
    ]
    return xx + yy - 2 * k[:n, n:].mean(), witness


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 15), st.integers(2, 15))
def test_statistic_and_witness_are_those_of_loops(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 2)), rng.normal(0.5, 1, size=(m, 2))
    found = mmd_test(x, y, n_permutations=1, rng=0)
    statistic, witness = brute_force(x, y)
    assert found.statistic == pytest.approx(statistic, abs=1e-5)
    np.testing.assert_allclose(np.r_[found.witness_reference, found.witness_production], witness, atol=1e-5)


@pytest.mark.parametrize("block_size", [2000, 60])
def test_level_without_drift(block_size):
    p = []
    for seed in range(300):
        x, y = np.random.default_rng(seed).normal(size=(2, 60, 3))
        p.append(mmd_test(x, y, n_permutations=59, block_size=block_size, rng=seed).p_value)
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.1
    assert 0.42 < np.mean(p) < 0.58


def test_joint_movement_with_the_same_margins_is_seen_by_blocks_too():
    rng = np.random.default_rng(0)
    x, z, a, b = rng.normal(size=(4, 500))
    before, now = np.column_stack([x, 0.8 * x + 0.6 * z]), np.column_stack([a, -0.8 * a + 0.6 * b])
    whole, blocks = (mmd_test(before, now, n_permutations=99, block_size=s, rng=0) for s in (2000, 250))
    assert (whole.n_blocks, blocks.n_blocks) == (1, 4)
    assert whole.p_value == blocks.p_value == 0.01
    assert blocks.statistic == pytest.approx(whole.statistic, rel=0.2)
    # New rows lie where the product of the columns is negative.
    score = whole.witness_production
    assert score[now.prod(axis=1) < -0.5].mean() > 0 > score[now.prod(axis=1) > 0.2].mean()


def test_effect_far_apart_is_in_closed_form_and_the_loss_effect_is_the_known_change():
    rng = np.random.default_rng(0)
    far = mmd_test(rng.normal(size=(50, 2)), rng.normal(1e4, 1, size=(50, 2)), rng=0)
    # Within a cluster rows are as one; between, they are a median distance apart.
    widths = np.array([0.25, 0.5, 1, 2, 4])
    assert far.effect == pytest.approx(1 - np.exp(-1 / (2 * widths**2)).mean(), abs=1e-3)
    before, now = rng.uniform(size=(3000, 1)) < 0.5, rng.uniform(size=(3000, 1)) < 0.8
    loss = before[:, 0] + rng.normal(0, 0.1, size=3000)
    frame = [pd.DataFrame({"a": np.where(t[:, 0], "x", "y")}) for t in (before, now)]
    found = mmd_test(*frame, loss=loss, n_permutations=9, rng=0)
    assert found.loss_effect == pytest.approx(now.mean() - before.mean(), abs=0.03)
    assert found.loss_low < now.mean() - before.mean() < found.loss_high
    assert "loss_effect" in repr(found)


def test_missing_and_mixed_columns_constants_and_seed():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=80), "b": rng.choice(list("uv"), size=80), "c": 1.0})
    frame.loc[::7, "a"] = np.nan
    test = MMDTest(n_permutations=19, random_state=3).fit(frame[:40])
    one, two = (test.test(frame[40:]) for _ in range(2))
    assert (one.statistic, one.p_value) == (two.statistic, two.p_value)
    flat = mmd_test(np.ones((5, 2)), np.ones((4, 2)), n_permutations=19, rng=0)
    assert (flat.statistic, flat.p_value) == (pytest.approx(0.0, abs=1e-12), 1.0)


def test_bad_input_is_told():
    x = np.zeros((5, 2))
    for y in (np.zeros((5, 3)), np.zeros((5, 1)), np.zeros((1, 2)), pd.DataFrame({"a": [1, 2]})):
        with pytest.raises(DataError):
            mmd_test(x, y)
    with pytest.raises(DataError, match="reference row"):
        mmd_test(x, x, loss=[1.0])
    with pytest.raises(DataError, match="Absent"):
        mmd_test(pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]}))
    with pytest.raises(InvalidParameterError):
        mmd_test(x, x, block_size=3)
