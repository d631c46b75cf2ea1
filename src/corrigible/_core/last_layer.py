"""The Laplace approximation of a last, linear layer, which is a generalised linear model of its features.

Outputs are ``f = W phi`` with features phi (n, d) and weights W (k, d). The generalised Gauss-Newton matrix of the
negative log likelihood, ``sum_n Lambda_n (x) phi_n phi_n'``, is here the Hessian itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from corrigible._core.blocks import row_blocks
from corrigible._core.simplex import softmax

Floats = NDArray[np.floating]
PRECISIONS = (1e-6, 1e8)


class Curvature(Protocol):
    """A Hessian of the negative log likelihood in a form whose eigenvalues are known."""

    eigenvalues: Floats

    def covariance(self, features: Floats, precision: float) -> Floats:
        """Return the covariance (n, k, k) of the outputs under weights of this Hessian and prior precision."""


@dataclass(frozen=True)
class Full:
    """All of the matrix, (k d)^2 numbers."""

    eigenvalues: Floats
    vectors: Floats  # (k, d, k d)

    @classmethod
    def of(cls, features: Floats, noise: Floats) -> Full:
        """Build from features (n, d) and the outputs' curvatures (n, k, k)."""
        k, d = noise.shape[1], features.shape[1]
        matrix = np.empty((k, d, k, d))
        for a in range(k):
            for b in range(a + 1):
                matrix[a, :, b] = features.T @ (noise[:, a, b, None] * features)
                matrix[b, :, a] = matrix[a, :, b]
        values, vectors = np.linalg.eigh(matrix.reshape(k * d, k * d))
        return cls(values.clip(min=0.0), vectors.reshape(k, d, k * d))

    def covariance(self, features: Floats, precision: float) -> Floats:
        """Return the covariance of the outputs."""
        k, _, size = self.vectors.shape
        half = self.vectors / np.sqrt(self.eigenvalues + precision)
        found = np.empty((len(features), k, k))
        for rows in row_blocks(len(features), k * size, cells=2_000_000):
            moved = np.tensordot(features[rows], half, axes=(1, 1))
            found[rows] = moved @ moved.transpose(0, 2, 1)
        return found


@dataclass(frozen=True)
class Kronecker:
    """The product of the mean of the outputs' curvatures and the sum of ``phi phi'``."""

    eigenvalues: Floats
    outputs: Floats
    inputs: Floats

    @classmethod
    def of(cls, features: Floats, noise: Floats) -> Kronecker:
        """Build from features (n, d) and the outputs' curvatures (n, k, k)."""
        b, outputs = np.linalg.eigh(noise.mean(axis=0))
        a, inputs = np.linalg.eigh(features.T @ features)
        return cls(np.outer(b.clip(min=0.0), a.clip(min=0.0)), outputs, inputs)

    def covariance(self, features: Floats, precision: float) -> Floats:
        """Return the covariance of the outputs."""
        along = (features @ self.inputs) ** 2 @ (1 / (self.eigenvalues + precision)).T
        return np.asarray((self.outputs * along[:, None, :]) @ self.outputs.T)


@dataclass(frozen=True)
class Diagonal:
    """The diagonal of the matrix."""

    eigenvalues: Floats  # (k, d)

    @classmethod
    def of(cls, features: Floats, noise: Floats) -> Diagonal:
        """Build from features (n, d) and the outputs' curvatures (n, k, k)."""
        return cls(np.diagonal(noise, axis1=1, axis2=2).T @ features**2)

    def covariance(self, features: Floats, precision: float) -> Floats:
        """Return the covariance of the outputs."""
        along = features**2 @ (1 / (self.eigenvalues + precision)).T
        return np.asarray(along[:, :, None] * np.eye(along.shape[1]))


STRUCTURES: dict[str, Any] = {"full": Full, "kron": Kronecker, "diag": Diagonal}


def class_curvature(proba: Floats) -> Floats:
    """Return ``diag(p) - p p'``, (n, k, k); of one column, the probability of the second class, ``p (1 - p)``."""
    if proba.shape[1] == 1:
        return np.asarray((proba * (1 - proba))[:, :, None])
    return np.asarray(proba[:, :, None] * np.eye(proba.shape[1]) - proba[:, :, None] * proba[:, None, :])


def log_evidence(log_likelihood: float, eigenvalues: Floats, square: float, precision: float) -> float:
    """Return the logarithm of the marginal likelihood by Laplace's method, under weights ~ N(0, 1 / precision).

    Parameters
    ----------
    log_likelihood : float
        Of the training rows at the trained weights, in nats.
    eigenvalues : ndarray
        Of the Hessian of the negative log likelihood.
    square : float
        Sum of squares of the weights.
    precision : float
        Of the prior.
    """
    return float(log_likelihood - 0.5 * np.log1p(eigenvalues / precision).sum() - 0.5 * precision * square)


def best_precision(eigenvalues: Floats, square: float) -> float:
    """Return the prior precision of the largest evidence, within ``PRECISIONS``."""

    def lost(log_precision: float) -> float:
        return -log_evidence(0.0, eigenvalues, square, float(np.exp(log_precision)))

    # The evidence may have several maxima: the best point of a grid is refined between its neighbours.
    grid = np.linspace(np.log(PRECISIONS[0]), np.log(PRECISIONS[1]), 65)
    best = int(np.argmin([lost(g) for g in grid]))
    between = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    return float(np.exp(minimize_scalar(lost, bounds=between, method="bounded", options={"xatol": 1e-8}).x))


def expected_proba(mean: Floats, covariance: Floats, link: str, normal: Floats) -> Floats:
    """Return the expected class probabilities (n, k) under normal logits.

    Parameters
    ----------
    mean : ndarray of shape (n, k) or (n, 1)
        Mean logits; one column is the logit of the second of two classes.
    covariance : ndarray of shape (n, k, k)
        Their covariance.
    link : {"probit", "mc", "bridge"}
        MacKay's approximation, sampling, or the Laplace bridge to a Dirichlet distribution.
    normal : ndarray of shape (n_samples, k)
        Standard normal draws for "mc", the same for all rows.
    """
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    if link == "probit":
        return proba_of(mean / np.sqrt(1 + np.pi / 8 * variance))
    if link == "bridge":
        return _bridge(*((mean, covariance) if mean.shape[1] > 1 else _two_logits(mean, covariance)))
    values, vectors = np.linalg.eigh(covariance)
    half = vectors * np.sqrt(values.clip(min=0.0))[:, None, :]
    total: Floats = np.zeros((len(mean), max(2, mean.shape[1])))
    for draw in normal:
        total += proba_of(mean + half @ draw)
    return total / len(normal)


def proba_of(logits: Floats) -> Floats:
    """Return class probabilities (n, k); of one column of logits those of two classes."""
    return np.column_stack([expit(-logits), expit(logits)]) if logits.shape[1] == 1 else softmax(logits)


def _two_logits(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    signs = np.array([-0.5, 0.5])
    return mean * signs, covariance * np.outer(signs, signs)


def _bridge(mean: Floats, covariance: Floats) -> Floats:
    """Return the mean of the Dirichlet whose density in softmax coordinates has this mode and curvature."""
    # A Dirichlet knows logits up to a constant: those of sum 0 are what the normal is conditioned on.
    along, total = covariance.sum(axis=2), covariance.sum(axis=(1, 2))
    free = total > 1e-12 * np.trace(covariance, axis1=1, axis2=2)
    share = np.divide(along, total[:, None], out=np.zeros_like(along), where=free[:, None])
    mean = mean - share * mean.sum(axis=1, keepdims=True)
    variance = np.diagonal(covariance, axis1=1, axis2=2) - share * along
    k = mean.shape[1]
    scale = np.maximum(variance, 1e-12 * (1 + mean**2))
    # Scaled by the largest term, as only ratios of the concentrations are asked for.
    top = mean.max(axis=1, keepdims=True)
    spread = np.exp(mean - top) * np.exp(-mean - (-mean).max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    log_scale = top + (-mean).max(axis=1, keepdims=True)
    alpha = (np.exp(-log_scale) * (1 - 2 / k) + spread / k**2) / scale
    return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))
