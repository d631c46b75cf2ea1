import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from sklearn.decomposition import PCA

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import pca_reconstruction_drift


def table(seed, n=400, d=6, shuffled=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) @ np.random.default_rng(0).normal(size=(2, d)) + 0.3 * rng.normal(size=(n, d))
    return np.column_stack([rng.permutation(c) for c in X.T]) if shuffled else X


def test_errors_are_those_of_scikit_learns_components():
    X, Z = table(0), table(1)
    found = pca_reconstruction_drift(X, Z, rng=3)
    half = np.array_split(np.random.default_rng(3).permutation(400), 2)
    # The table's own scale (medians and middle halves) goes out by the unit variance of columns.
    centre, scale = X[half[0]].mean(axis=0), X[half[0]].std(axis=0)
    known, held, new = ((x - centre) / scale for x in (X[half[0]], X[half[1]], Z))
    model = PCA(0.65, svd_solver="full").fit(known)
    error = [np.linalg.norm(x - model.inverse_transform(model.transform(x)), axis=1) for x in (held, new)]
    np.testing.assert_allclose(found.row_errors, error[1], rtol=1e-3, atol=1e-4)
    assert found.reference_error == pytest.approx(error[0].mean(), rel=1e-3)
    assert found.table["p_value"][0] == pytest.approx(
        ttest_ind(error[1], error[0], equal_var=False).pvalue, rel=0.05
    )


def test_level_and_power_where_margins_stay():
    alarms = [pca_reconstruction_drift(table(s), table(1000 + s), rng=s).table["drifted"][0] for s in range(150)]
    assert np.mean(alarms) < 0.11
    seen = [pca_reconstruction_drift(table(s), table(50 + s, 200, shuffled=True), rng=s) for s in range(20)]
    assert all(f.table["drifted"][0] for f in seen)
    assert min(f.table["ratio"][0] for f in seen) > 1.2


def test_the_chunk_that_moved_is_named():
    now = np.vstack([table(1, 200), table(2, 200, shuffled=True), table(3, 200)])
    found = pca_reconstruction_drift(table(0), now, chunks=200, rng=0)
    assert found.table["drifted"].tolist() == [False, True, False]
    assert found.table["rows"].tolist() == [200] * 3


def test_mixed_tables_gaps_constants_and_seed():
    rng = np.random.default_rng(0)

    def frame(n):
        a = rng.normal(size=n)
        return pd.DataFrame({"a": a, "b": np.where(rng.uniform(size=n) < 0.1, np.nan, a), "c": np.where(a > 0, "x", "y"),
                             "d": 1.0})  # fmt: skip

    before, now = frame(300), frame(300)
    first, again = (pca_reconstruction_drift(before, now, rng=0) for _ in range(2))
    np.testing.assert_array_equal(first.row_errors, again.row_errors)
    assert first.table["p_value"][0] > 1e-3
    broken = now.assign(c=rng.permutation(now["c"].to_numpy()))
    assert pca_reconstruction_drift(before, broken, rng=0).table["drifted"][0]
    huge = pca_reconstruction_drift(1e15 * table(0), 1e15 * table(1), rng=0)
    same = pca_reconstruction_drift(table(0), table(1), rng=0)
    np.testing.assert_allclose(huge.row_errors, same.row_errors, rtol=1e-2, atol=1e-3)


def test_errors():
    X = table(0)
    with pytest.raises(DataError, match="40 reference rows"):
        pca_reconstruction_drift(X[:10], X)
    with pytest.raises(DataError, match="Absent: b"):
        pca_reconstruction_drift(pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"a": [1.0]}))
    with pytest.raises(DataError, match="constant"):
        pca_reconstruction_drift(np.ones((50, 2)), np.ones((5, 2)))
    with pytest.raises(InvalidParameterError, match="variance"):
        pca_reconstruction_drift(X, X, variance=1.5)
