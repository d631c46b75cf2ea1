"""Does a Gaussian process know more with more inputs? Marginal likelihood and held-out loss by input dimension.

Paper: Monotonicity and Double Descent in Uncertainty Estimation with Gaussian Processes (Hodgkinson, van der Heide,
Roosta, Mahoney, ICML 2023).
Original: none found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.optimize import brentq, minimize_scalar

from corrigible._card import Card
from corrigible._utils.validation import as_array, check_choice, check_count, check_number, check_vector
from corrigible.errors import DataError

CARD = Card(
    name="gp_dimension_curve",
    kind="measure",
    obj="gp_dimension_curve",
    papers=("gp_dd",),
    refs=("hodgkinson2023monotonicity",),
    source="",
    differs="Built from the abstract and the theory of sample covariances, for the text could not be had. Its claims are "
    "taken as: at a given variance of the noise (temperature) and with the prior's scale tuned by marginal likelihood, "
    "the free energy falls with the dimension; the loss of the posterior on held-out rows need not. The limits are "
    "derived here, for responses that do not hang on the inputs.",
    inputs="X, y, X_test, y_test",
    stochastic=False,
    cost="one symmetric eigendecomposition, O(n^3), and O(n^2 m) products for each dimension",
    use_when="Inputs are to be chosen for a Gaussian process, and marginal likelihood is to choose: does it agree with "
    "held-out rows, and are the inputs so near the rows in number that a cold posterior breaks down?",
    avoid_when="More than some thousand training rows. Inputs are correlated: the theory is of whitened ones.",
    also=("GPDimensionCurve", "gp_dimension_limit"),
    test_params=({}, {"kernel": "rbf", "temperature": (0.1, None)}),
)

Floats = NDArray[np.floating]
_BY = "gp_dimension_curve"
_LOG_RATIO = (np.log(1e-9), np.log(1e9))  # of the noise over the scale of the prior


@dataclass(frozen=True, eq=False)
class GPDimensionCurve:
    """Losses by dimension.

    Attributes
    ----------
    table : DataFrame
        A row a dimension and temperature: ``dimension``; ``tuned`` (whether the temperature too was chosen by marginal
        likelihood); ``temperature``, the variance of the noise over that of the responses; ``scale``, the tuned variance
        of the prior; in nats a training row, ``free_energy``, the negative log marginal likelihood; and means over the
        test rows: ``squared_error`` of the posterior mean, ``variance`` of the posterior, their sum ``ppl2``, the expected
        squared error of a draw from the posterior, ``ppnll``, the expected negative log-likelihood of a draw, and
        ``nlpd``, the negative log of the predictive density.
    n : int
        Number of training rows.
    """

    table: pd.DataFrame
    n: int

    def column(self, name: str, *, temperature: float | None) -> pd.Series:
        """Return a column by dimension for one temperature, None for the tuned one."""
        tuned = self.table["tuned"]
        chosen = tuned if temperature is None else ~tuned & (self.table["temperature"] == temperature)
        return self.table[chosen].set_index("dimension")[name]


def gp_dimension_curve(
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    *,
    dimensions: Sequence[int] | None = None,
    kernel: str | Callable[[Floats, Floats], Floats] = "linear",
    temperature: Sequence[float | None] = (0.01, 0.5),
) -> GPDimensionCurve:
    r"""Return marginal likelihood and held-out losses of a Gaussian process by the number of inputs it sees.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Training inputs; a dimension takes the leading columns. The theory is of whitened columns: mean 0, variance 1,
        uncorrelated.
    y : array-like of shape (n,)
        Training responses, centred.
    X_test : array-like of shape (m, d)
        Test inputs.
    y_test : array-like of shape (m,)
        Test responses.
    dimensions : sequence of int, optional
        Numbers of columns; by default about 20 up to d, evenly spaced in their logarithm.
    kernel : {"linear", "rbf"} or callable, default="linear"
        :math:`x \cdot x' / d`, or :math:`\exp(-\|x - x'\|^2 / 2d)`; or a function of two matrices of rows.
    temperature : sequence of float or None
        Variances :math:`\gamma` of the noise over the mean square of the responses; small ones make cold posteriors. None:
        tuned by marginal likelihood for each dimension.

    Returns
    -------
    GPDimensionCurve

    Raises
    ------
    DataError
        If shapes do not agree, values are not finite, or the responses are all 0.

    See Also
    --------
    gp_dimension_limit : The same of infinitely many rows, where responses do not hang on the inputs.

    Notes
    -----
    With :math:`\tau` the scale of the prior and :math:`\gamma` the variance of the noise, :math:`y \sim N(0, \tau K +
    \gamma I)`. The free energy a row is :math:`\frac1{2n}\{y^T (\tau K + \gamma I)^{-1} y + \log\det(\tau K + \gamma I)\}
    + \frac12\log 2\pi`; the scale makes it least.

    References
    ----------
    .. [1] Hodgkinson, L., van der Heide, C., Roosta, F. and Mahoney, M. W. (2023). Monotonicity and Double Descent in
       Uncertainty Estimation with Gaussian Processes. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.uncertainty import gp_dimension_curve
    >>> rng = np.random.default_rng(0)
    >>> X, y, Z, t = rng.normal(size=(100, 400)), rng.normal(size=100), rng.normal(size=(100, 400)), rng.normal(size=100)
    >>> curve = gp_dimension_curve(X, y, Z, t, dimensions=(20, 100, 400), temperature=(0.01,))
    >>> curve.table["free_energy"].is_monotonic_decreasing, int(curve.column("ppl2", temperature=0.01).idxmax())
    (True, 100)
    """
    train, test = _matrix(X, "X"), _matrix(X_test, "X_test")
    if train.shape[1] != test.shape[1]:
        raise DataError(f"'X_test' of {_BY} must have {train.shape[1]} columns, as 'X'. Got {test.shape[1]}.")
    target = check_vector(y, n=len(train), name="y", by=_BY).astype(np.float64)
    truth = check_vector(y_test, n=len(test), name="y_test", by=_BY).astype(np.float64)
    if not target.any():
        raise DataError(f"'y' of {_BY} must not be 0 throughout: a scale of 0 explains it.")
    if not callable(kernel):
        kernel = _KERNELS[check_choice(kernel, tuple(_KERNELS), name="kernel", by=_BY)]
    for value in temperature:
        if value is not None:
            check_number(value, name="temperature", by=_BY, low=0.0, closed="neither")
    rows = []
    for d in _dimensions(dimensions, train.shape[1]):
        process = _Process(kernel, train[:, :d], target, test[:, :d], truth)
        rows += [{"dimension": d, "tuned": value is None, **process.losses(value)} for value in temperature]
    return GPDimensionCurve(pd.DataFrame(rows), len(train))


def gp_dimension_limit(ratio: ArrayLike, *, temperature: float = 0.01) -> pd.DataFrame:
    r"""Return what the curves tend to as rows and dimensions grow in a fixed ratio, of a linear kernel.

    Inputs have independent entries of mean 0 and variance 1; responses have mean 0 and variance 1 and do not hang on the
    inputs. The scale is tuned by marginal likelihood.

    Parameters
    ----------
    ratio : array-like of shape (k,)
        Dimensions a training row, positive.
    temperature : float, default=0.01
        Variance of the noise, between 0 and 1: of 1 and more, the best prior has no variance.

    Returns
    -------
    DataFrame
        ``ratio``, ``scale``, ``free_energy``, ``squared_error``, ``variance`` and ``ppl2``, as in `GPDimensionCurve`.

    Notes
    -----
    The eigenvalues s of K follow the law of Marchenko and Pastur with c = 1 / ratio. With :math:`\mu = \gamma / \tau`,
    :math:`A = \int s / (s + \mu)^2` and :math:`B = \int s / (s + \mu)`, the best scale is where
    :math:`\gamma = \mu A / B`; the squared error tends to :math:`1 + c A` and the variance to :math:`\tau (1 - c B)`.

    Examples
    --------
    >>> from corrigible.uncertainty import gp_dimension_limit
    >>> limit = gp_dimension_limit([0.2, 1.0, 5.0], temperature=0.01)
    """
    by = "gp_dimension_limit"
    check_number(temperature, name="temperature", by=by, low=0.0, high=1.0, closed="neither")
    r = check_vector(ratio, name="ratio", by=by).astype(np.float64)
    if r.min() <= 0:
        raise DataError(f"'ratio' of {by} must be positive. Got {r.min():g}.")
    return pd.DataFrame([{"ratio": v, **_limit(1 / v, float(temperature))} for v in r])


def _limit(c: float, temperature: float) -> dict[str, float]:
    def surplus(log_mu: float) -> float:
        a, b = _integrals(c, np.exp(log_mu))
        return float(log_mu + np.log(a / b) - np.log(temperature))

    mu = float(np.exp(brentq(surplus, *_LOG_RATIO)))
    a, b = _integrals(c, mu)
    scale, squared_error = temperature / mu, 1 + c * a
    variance = scale * (1 - c * b)
    # The quadratic form is the mean of 1 / (scale (s + mu)), and 1 - b that of mu / (s + mu).
    energy = (1 - b) / temperature + np.log(scale) + _log_mean(c, mu) + np.log(2 * np.pi)
    return {
        "scale": scale,
        "free_energy": energy / 2,
        "squared_error": squared_error,
        "variance": variance,
        "ppl2": squared_error + variance,
    }


def _integrals(c: float, mu: float) -> tuple[float, float]:
    """Return the means of s / (s + mu)^2 and s / (s + mu), from the law's Stieltjes transform and its slope."""
    b = c - 1 - mu
    root = np.sqrt(b**2 + 4 * mu * c)
    # Of the two forms of the transform each is exact for one sign of b.
    m = (b + root) / (2 * mu * c) if b > 0 else 2 / (root - b)
    return m - mu * (c * m**2 + m) / root, 1 - mu * m


def _log_mean(c: float, mu: float) -> float:
    """Return the mean of log(s + mu) under the law of Marchenko and Pastur (Tulino and Verdu 2004, equation 1.14)."""
    snr = 1 / mu
    f = (np.sqrt(snr * (1 + np.sqrt(c)) ** 2 + 1) - np.sqrt(snr * (1 - np.sqrt(c)) ** 2 + 1)) ** 2
    first = np.log(1 + snr - f / 4)
    return float(np.log(mu) + first + np.log(1 + snr * c - f / 4) / c - f / (4 * c * snr))


def _matrix(X: ArrayLike, name: str) -> Floats:
    x = as_array(X)
    if x.ndim != 2 or not x.size or x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise DataError(f"{name!r} of {_BY} must be a matrix of finite numbers. Got shape {x.shape}, {x.dtype}.")
    return x.astype(np.float64)


def _dimensions(dimensions: Sequence[int] | None, d: int) -> list[int]:
    if dimensions is None:
        return sorted({int(v) for v in np.geomspace(1, d, 20).round()})
    found = [check_count(v, name="dimensions", by=_BY) for v in dimensions]
    if max(found, default=0) > d:
        raise DataError(f"'dimensions' of {_BY} must be at most the {d} columns of 'X'. Got {max(found)}.")
    return found


def _linear(A: Floats, B: Floats) -> Floats:
    return A @ B.T / A.shape[1]


def _rbf(A: Floats, B: Floats) -> Floats:
    squared = (A**2).sum(axis=1)[:, None] + (B**2).sum(axis=1) - 2 * A @ B.T
    return np.asarray(np.exp(-np.maximum(squared, 0.0) / (2 * A.shape[1])))


_KERNELS: dict[str, Callable[[Floats, Floats], Floats]] = {"linear": _linear, "rbf": _rbf}


class _Process:
    """A Gaussian process on the eigenvectors of its kernel: any noise costs no further decomposition."""

    def __init__(self, kernel: Any, X: Floats, y: Floats, Z: Floats, t: Floats) -> None:
        values, vectors = eigh(kernel(X, X))
        # Eigenvalues that rounding made negative, and those that are 0 but for rounding.
        self.values = np.where(values > len(values) * np.finfo(float).eps * values[-1], values, 0.0)
        self.y, self.cross, self.truth = vectors.T @ y, kernel(Z, X) @ vectors, t
        self.own = np.array([kernel(z[None], z[None])[0, 0] for z in Z])

    def free_energy(self, scale: float, noise: float) -> float:
        """Return the free energy a row."""
        total = scale * self.values + noise
        return float(np.mean(self.y**2 / total + np.log(total)) + np.log(2 * np.pi)) / 2

    def _tuned(self) -> tuple[float, float]:
        """Return the scale and the variance of the noise; for each of their ratios the best scale is known."""

        def energy(log_ratio: float) -> float:
            inner = self.values + np.exp(log_ratio)
            return float(np.log(np.mean(self.y**2 / inner)) + np.log(inner).mean())

        ratio = float(np.exp(_least(energy)))
        scale = float(np.mean(self.y**2 / (self.values + ratio)))
        return scale, ratio * scale

    def losses(self, temperature: float | None) -> dict[str, float]:
        """Return a row of the table."""
        size = float(np.mean(self.y**2))
        if temperature is None:
            scale, noise = self._tuned()
        else:
            noise = temperature * size
            scale = noise / float(np.exp(_least(lambda v: self.free_energy(noise / np.exp(v), noise))))
        total = scale * self.values + noise
        squared = (scale * self.cross @ (self.y / total) - self.truth) ** 2
        variance = scale * np.maximum(self.own - scale * self.cross**2 @ (1 / total), 0.0)
        both, predictive = float(np.mean(squared + variance)), variance + noise
        return {
            "temperature": noise / size if temperature is None else temperature,
            "scale": scale,
            "free_energy": self.free_energy(scale, noise),
            "squared_error": float(squared.mean()),
            "variance": float(variance.mean()),
            "ppl2": both,
            "ppnll": float(np.log(2 * np.pi * noise) + both / noise) / 2,
            "nlpd": float(np.mean(np.log(2 * np.pi * predictive) + squared / predictive)) / 2,
        }


def _least(energy: Callable[[float], float]) -> float:
    """Return where a function of the log of noise over scale is least: on a grid, then between its neighbours."""
    grid = np.linspace(*_LOG_RATIO, 49)
    best = int(np.argmin([energy(v) for v in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(minimize_scalar(energy, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)
