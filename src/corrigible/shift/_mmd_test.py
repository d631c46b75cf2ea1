"""Have rows moved in any way, jointly: the kernel two-sample test, which rows say so, and what it does to the loss.

Paper: A Kernel Two-Sample Test (Gretton, Borgwardt, Rasch, Schölkopf, Smola, JMLR 2012); blocks for many rows as in
B-test: A Non-parametric, Low Variance Kernel Two-sample Test (Zaremba, Gretton, Blaschko, NeurIPS 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.density_ratio import fit_density_ratio
from corrigible._core.table_matrix import as_frame, table_matrix
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_count, check_number, check_vector
from corrigible.errors import DataError
from corrigible.shift._loss_effect import loss_effect

CARD = Card(
    name="mmd_test",
    kind="measure",
    obj="mmd_test",
    papers=(),
    refs=("gretton2012kernel", "zaremba2013btest"),
    source="",
    differs="The kernel is a mean of Gaussians of five widths around the median distance. With more rows than a block "
    "holds, rows are permuted within blocks, which is exact, in place of the paper's normal limit; witness values are "
    "then of the row's own block. The effect on the loss is not in the paper.",
    inputs="reference, production",
    stochastic=False,
    cost="n * block_size * n_permutations products; memory of one kernel matrix of block_size^2 floats",
    use_when="Columns may have moved together while each alone did not, or rows are embeddings.",
    avoid_when="It matters which column moved: univariate_drift says so. Many noise columns: distances then say little.",
    also=("MMDTest", "MMDResult"),
    test_params=({"rng": 0, "n_permutations": 50}, {"rng": 0, "n_permutations": 50, "block_size": 200}),
)

Floats = NDArray[np.floating]
_BY = "MMDTest"
_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MEDIAN_OF = 1000  # rows whose distances give the median


@dataclass(frozen=True, eq=False)
class MMDResult:
    """What the test found.

    Attributes
    ----------
    statistic : float
        Unbiased squared maximum mean discrepancy; about 0, also below, without drift.
    p_value : float
        Of the rows being exchangeable between the tables.
    effect : float
        `statistic` over the mean similarity of two rows of one table (summed over the tables): about 0 if alike, and
        about 0.5 for two tight clusters far apart, for the widths grow with the distance between the tables.
    n_blocks : int
        Blocks that rows were split into.
    witness_reference, witness_production : ndarray of shapes (n_reference,) and (n_production,)
        Mean similarity to production less that to reference, without the row itself: high where rows became frequent.
    loss_effect, loss_low, loss_high : float or None
        Expected change of the mean loss, and an interval for the change realised on the production rows.
    """

    statistic: float
    p_value: float
    effect: float
    n_blocks: int
    witness_reference: Floats
    witness_production: Floats
    loss_effect: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None

    def __repr__(self) -> str:
        text = f"MMDResult(statistic={self.statistic:.4g}, p_value={self.p_value:.4g}, effect={self.effect:.3g}"
        if self.loss_effect is None:
            return text + ")"
        return text + f", loss_effect={self.loss_effect:.4g} [{self.loss_low:.4g}, {self.loss_high:.4g}])"


class MMDTest(BaseEstimator):
    """Kernel two-sample test of a reference against any number of production tables.

    Parameters
    ----------
    n_permutations : int, default=500
        Permutations for the p-value, whose least value is 1 / (n_permutations + 1).
    block_size : int, default=2000
        Most rows, of both tables together, in a kernel matrix.
    confidence : float, default=0.95
        Of the interval of the effect on the loss.
    random_state : None, int, Generator or RandomState
        Blocks, permutations and the density ratio's folds.

    Attributes
    ----------
    reference_ : DataFrame or ndarray
        The reference's rows.
    loss_ : ndarray of shape (n_reference,) or None
        Their losses.

    See Also
    --------
    mmd_test : The same in one call.

    References
    ----------
    .. [1] Gretton, A. et al. (2012). A Kernel Two-Sample Test. JMLR 13.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import MMDTest
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=(2, 300))
    >>> test = MMDTest(random_state=0).fit(np.column_stack([x, 0.8 * x + 0.6 * z]))
    >>> a, b = rng.normal(size=(2, 300))  # the same margins, another sign of the correlation
    >>> test.test(np.column_stack([a, -0.8 * a + 0.6 * b])).p_value < 0.01
    True
    """

    def __init__(
        self,
        *,
        n_permutations: int = 500,
        block_size: int = 2000,
        confidence: float = 0.95,
        random_state: RandomState = None,
    ) -> None:
        self.n_permutations = n_permutations
        self.block_size = block_size
        self.confidence = confidence
        self.random_state = random_state

    def fit(self, reference: Any, loss: ArrayLike | None = None) -> Self:
        """Keep the reference.

        Parameters
        ----------
        reference : DataFrame or array-like of shape (n_reference, d)
            Columns of any type; an array of numbers is taken unscaled, as an embedding.
        loss : array-like of shape (n_reference,), optional
            The model's loss on each row.

        Returns
        -------
        MMDTest
            Itself.
        """
        check_count(self.n_permutations, name="n_permutations", by=_BY)
        check_count(self.block_size, name="block_size", by=_BY, low=4)
        check_number(self.confidence, name="confidence", by=_BY, low=0, high=1, closed="neither")
        self.reference_ = _table(reference)
        self.loss_ = None if loss is None else check_vector(loss, name="loss", by=_BY)
        if self.loss_ is not None and len(self.loss_) != len(self.reference_):
            raise DataError(
                f"'loss' of {_BY} must have a value a reference row, {len(self.reference_)}. Got {len(self.loss_)}."
            )
        return self

    def test(self, production: Any) -> MMDResult:
        """Compare production with the reference.

        Parameters
        ----------
        production : DataFrame or array-like of shape (n_production, d)
            Rows of the same columns.

        Returns
        -------
        MMDResult

        Raises
        ------
        DataError
            If the columns are others, or a table has fewer than two rows.
        """
        check_is_fitted(self)
        rng = as_generator(self.random_state)
        before, now = self.reference_, _matching(self.reference_, production)
        n, m = len(before), len(now)
        if min(n, m) < 2:
            raise DataError(f"Both tables of {_BY} must have at least 2 rows. Got {n} and {m}.")
        # Scales and widths are of both tables together, so that permuting rows leaves them as they are.
        frame = isinstance(before, pd.DataFrame)
        both = pd.concat([before, now], ignore_index=True) if frame else np.concatenate([before, now])
        points = table_matrix(both, by=_BY).points
        median = _median_distance(points, rng)
        blocks = _blocks(n, m, self.block_size, rng)
        drawn, within, witness = np.zeros(self.n_permutations + 1), 0.0, np.empty(n + m)
        for rows in blocks:
            values, same, witness[rows] = _block(points[rows], rows < n, median, self.n_permutations, rng)
            drawn += values / len(blocks)
            within += same / len(blocks)
        # Statistics that differ by rounding alone are the same.
        p_value = (1 + (drawn[1:] >= drawn[0] - 1e-7 * within).sum()) / len(drawn)
        effect = drawn[0] / within if within > 0 else 0.0
        change = (None, None, None) if self.loss_ is None else self._loss_effect(now, self.loss_, rng)
        return MMDResult(
            float(drawn[0]), float(p_value), float(effect), len(blocks), witness[:n], witness[n:], *change
        )

    def _loss_effect(self, now: Any, loss: Floats, rng: np.random.Generator) -> tuple[float, float, float]:
        weight = fit_density_ratio(self.reference_, now, rng=rng, by=_BY).weights
        return loss_effect(self.reference_, now, loss, weight, confidence=self.confidence, rng=rng)


def mmd_test(
    reference: Any,
    production: Any,
    *,
    loss: ArrayLike | None = None,
    n_permutations: int = 500,
    block_size: int = 2000,
    confidence: float = 0.95,
    rng: RandomState = None,
) -> MMDResult:
    r"""Test whether two tables have the same joint law, by the kernel two-sample test.

    Parameters
    ----------
    reference, production : DataFrame or array-like of shapes (n_reference, d) and (n_production, d)
        Tables of the same columns, of any type; an array of numbers is taken unscaled, as an embedding.
    loss : array-like of shape (n_reference,), optional
        The model's loss on each row of the reference; gives the effect on the loss.
    n_permutations : int, default=500
        Permutations for the p-value.
    block_size : int, default=2000
        Most rows, of both tables together, in a kernel matrix.
    confidence : float, default=0.95
        Of the interval of the effect on the loss.
    rng : None, int, Generator or RandomState
        Blocks, permutations and folds.

    Returns
    -------
    MMDResult

    Raises
    ------
    DataError
        If the columns differ, a table has fewer than two rows, or an array is not finite.

    See Also
    --------
    univariate_drift : Which columns moved, each alone.
    classifier_two_sample_test : By a classifier, for tables of mixed columns.

    Notes
    -----
    The statistic is :math:`\frac{1}{n(n-1)}\sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)}\sum_{i \ne j} k(y_i, y_j) -
    \frac{2}{nm}\sum_{i,j} k(x_i, y_j)`. For rows a of one table among all it follows from :math:`a^T K a` and
    :math:`K 1`, so that one kernel matrix serves all permutations. The effect on the loss is the mean over
    production of a cross-fitted model of the loss, plus its error on the reference weighted by a cross-fitted density
    ratio, less the reference's mean loss: right if losses depend on the inputs as before.

    References
    ----------
    .. [1] Gretton, A. et al. (2012). A Kernel Two-Sample Test. JMLR 13.
    .. [2] Zaremba, W., Gretton, A. and Blaschko, M. (2013). B-test: A Non-parametric, Low Variance Kernel Two-sample
       Test. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.shift import mmd_test
    >>> rng = np.random.default_rng(0)
    >>> mmd_test(rng.normal(size=(200, 3)), rng.normal(0.5, 1.0, size=(200, 3)), rng=0).p_value < 0.01
    True
    """
    test = MMDTest(n_permutations=n_permutations, block_size=block_size, confidence=confidence, random_state=rng)
    return test.fit(reference, loss).test(production)


def _table(X: Any) -> Any:
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biuf" and X.size:
        return X
    return as_frame(X, by=_BY)


def _matching(before: Any, production: Any) -> Any:
    now = _table(production)
    if isinstance(before, pd.DataFrame) != isinstance(now, pd.DataFrame) or before.shape[1] > now.shape[1]:
        raise DataError(f"'production' of {_BY} must be a table like 'reference'. Got shape {now.shape}.")
    if not isinstance(before, pd.DataFrame):
        if now.shape[1] != before.shape[1]:
            raise DataError(f"'production' of {_BY} must have {before.shape[1]} columns. Got {now.shape[1]}.")
        return now
    if lost := [str(c) for c in before if c not in now]:
        raise DataError(f"'production' of {_BY} must have the columns of 'reference'. Absent: {', '.join(lost)}.")
    return now[list(before)]


def _squared_distances(points: Floats) -> Floats:
    norms = np.einsum("ij,ij->i", points, points)
    squared = norms[:, None] + norms - 2 * points @ points.T
    return np.maximum(squared, 0.0)


def _median_distance(points: Floats, rng: np.random.Generator) -> float:
    """Return the median of positive squared distances; 1 if all rows are the same."""
    some = points[rng.permutation(len(points))[:_MEDIAN_OF]]
    squared = _squared_distances(some.astype(np.float64))[np.triu_indices(len(some), 1)]
    positive = squared[squared > 1e-12 * max(float(squared.max()), 1e-300)]
    return float(np.median(positive)) if len(positive) else 1.0


def _blocks(n: int, m: int, size: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Split the rows of each table evenly over blocks of about `size` rows, each with two of either at least."""
    count = max(1, min(-(-(n + m) // size), n // 2, m // 2))
    pairs = zip(
        np.array_split(rng.permutation(n), count), np.array_split(n + rng.permutation(m), count), strict=True
    )
    return [np.concatenate(pair) for pair in pairs]


def _block(
    points: Floats, first: NDArray[np.bool_], median: float, n_permutations: int, rng: np.random.Generator
) -> tuple[Floats, float, Floats]:
    """Return the statistic as observed and permuted, the similarity within tables, and the witness of each row."""
    squared = _squared_distances(points.astype(np.float64)) / median
    K = _kernel(squared)
    np.fill_diagonal(K, 0.0)
    a = np.column_stack([first, *(rng.permutation(first) for _ in range(n_permutations))]).astype(np.float64)
    n, m = int(first.sum()), int((~first).sum())
    sums, Ka = K.sum(axis=1), K @ a
    xx = np.einsum("ij,ij->j", a, Ka)
    xy = sums @ a - xx
    yy = sums.sum() - 2 * xy - xx
    within = xx / (n * (n - 1)) + yy / (m * (m - 1))
    to_first = Ka[:, 0]
    witness = (sums - to_first) / (m - ~first) - to_first / (n - first)
    return within - 2 * xy / (n * m), float(within[0]), witness


def _kernel(squared: Floats) -> Floats:
    """Return the mean of the Gaussians without holding one matrix for each."""
    K = np.zeros_like(squared)
    for width in _WIDTHS:
        K += np.exp(-squared / (2 * width**2))
    return K / len(_WIDTHS)
