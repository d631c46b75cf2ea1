"""Linear scores over a level set of the penalised logistic loss: the largest score any near-optimal model gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import expit

Floats = NDArray[np.floating]

# Numbers a temporary may hold: 32 MB of them.
_CELLS = 4_000_000


@dataclass(frozen=True)
class LogisticLoss:
    """Mean logistic loss of weighted rows plus a ridge, ``sum_i w_i log(1 + e^z_i) - v_i z_i + sum_j r_j t_j^2 / 2``.

    Parameters
    ----------
    design : ndarray of shape (n, d)
        Rows, with a column of ones where there is an intercept.
    weight, positive : ndarray of shape (n,)
        Weight w of each row and the part v of it whose label is positive; the w sum to 1.
    ridge : ndarray of shape (d,)
        Penalty r of each coefficient t. The loss must have a minimum: with separable rows, some ridge is needed.
    """

    design: Floats
    weight: Floats
    positive: Floats
    ridge: Floats

    def values(self, theta: Floats, scores: Floats) -> Floats:
        """Loss (q,) of models (q, d) with the scores (q, n) they give."""
        softplus = np.maximum(scores, 0) - np.log(expit(np.abs(scores)))  # a third of the time of logaddexp
        return np.asarray(softplus @ self.weight - scores @ self.positive + theta**2 @ self.ridge / 2)

    def gradients(self, theta: Floats, scores: Floats) -> Floats:
        """Gradients (q, d)."""
        return np.asarray((expit(scores) * self.weight - self.positive) @ self.design + theta * self.ridge)

    def hessians(self, scores: Floats) -> Floats:
        """Hessians (q, d, d), as one matrix product a block of rows."""
        q, (n, d) = len(scores), self.design.shape
        curvature = expit(scores) * expit(-scores) * self.weight
        found = np.zeros((q, d * d))
        step = max(1, _CELLS // (d * d))
        for start in range(0, n, step):
            rows = self.design[start : start + step]
            found += curvature[:, start : start + step] @ (rows[:, :, None] * rows[:, None, :]).reshape(
                len(rows), -1
            )
        found = found.reshape(q, d, d) + np.diag(self.ridge)
        # Where all probabilities are 0 or 1 there is no curvature but the ridge, and none along an intercept.
        trace = np.einsum("qii->q", found) + np.finfo(float).tiny
        return np.asarray(found + (1e-12 * trace / d)[:, None, None] * np.eye(d))

    def minimise(self, *, max_iter: int = 100, tol: float = 1e-12) -> Floats:
        """Return the minimiser (d,), by Newton's method with halved steps."""
        theta = np.zeros((1, self.design.shape[1]))
        for _ in range(max_iter):
            scores = theta @ self.design.T
            value, gradient = self.values(theta, scores)[0], self.gradients(theta, scores)
            step = _solve(self.hessians(scores), gradient)
            decrease = float(np.vdot(gradient, step))
            if decrease <= tol * (1e-8 + abs(value)):
                break
            size = 1.0
            while size > 1e-10:
                moved = theta - size * step
                if self.values(moved, moved @ self.design.T)[0] <= value - 0.25 * size * decrease:
                    break
                size /= 2
            theta = moved
        return np.asarray(theta[0])


def extreme_models(
    loss: LogisticLoss, best: Floats, level: float, queries: Floats, *, max_iter: int = 50, tol: float = 1e-6
) -> Floats:
    """Return, for each query x, the model t of loss at most `level` whose score ``x t`` is largest.

    The problem is convex: a linear function over a convex set. Each step maximises the query over the ellipsoid that
    the loss's second-order model at the present point allows, and is then scaled on the ray from the minimiser to
    where the loss meets the level. All points are within the set, scores only rise, and convergence is quadratic.

    Parameters
    ----------
    loss : LogisticLoss
        The loss.
    best : ndarray of shape (d,)
        Its minimiser.
    level : float
        Loss allowed, above the minimum.
    queries : ndarray of shape (q, d)
        Directions; minus a row for its smallest score.
    max_iter, tol : int, float
        Bound on the steps; a query is done when its direction and the gradient are parallel up to this angle, whose
        square is the relative error of the score.

    Returns
    -------
    ndarray of shape (q, d)
        The models.
    """
    n, d = loss.design.shape
    found = np.tile(best, (len(queries), 1))
    length = np.abs(queries).max(axis=1, initial=0.0)
    live = np.flatnonzero(length > 1e-200)  # an all-zero query: every model gives it the score 0
    step = max(1, _CELLS // max(n, d * d))
    for start in range(0, len(live), step):
        rows = live[start : start + step]
        found[rows] = _extreme_block(loss, best, level, queries[rows] / length[rows, None], max_iter, tol)
    return found


def principal_directions(loss: LogisticLoss, best: Floats) -> Floats:
    """Queries (d, d) along which the scores of all rows move most, for a given rise of the loss.

    With H the Hessian at the minimiser and X the rows, the moves are eigenvectors v of ``X' W X v = m H v``; the query
    whose extreme model lies in that direction is ``H v``.
    """
    hessian = loss.hessians((best @ loss.design.T)[None])[0]
    spread = (loss.design * loss.weight[:, None]).T @ loss.design
    return np.asarray((hessian @ eigh(spread, hessian)[1]).T)


def _extreme_block(
    loss: LogisticLoss, best: Floats, level: float, queries: Floats, max_iter: int, tol: float
) -> Floats:
    base = best @ loss.design.T
    moves = _solve(loss.hessians(base[None]), queries)
    size = np.sqrt(np.einsum("qd,qd->q", moves, queries))
    spare = level - float(loss.values(best[None], base[None])[0])
    moves *= (np.sqrt(2 * spare) / size)[:, None]
    moves = _to_the_level(loss, best, base, level, moves)
    todo = np.arange(len(queries))
    for _ in range(max_iter):
        wanted, done = _ellipsoid_step(loss, best, level, queries[todo], moves[todo], tol)
        todo, wanted = todo[~done], wanted[~done]
        if len(todo) == 0:
            break
        present = np.einsum("qd,qd->q", queries[todo], moves[todo])
        step = wanted - moves[todo]
        settled = np.zeros(len(todo), dtype=bool)
        for _ in range(30):  # halved until the score rises; at the optimum rounding alone stops it from rising
            trying = np.flatnonzero(~settled)
            if len(trying) == 0:
                break
            moved = _to_the_level(loss, best, base, level, moves[todo[trying]] + step[trying])
            better = np.einsum("qd,qd->q", queries[todo[trying]], moved) > present[trying]
            moves[todo[trying[better]]] = moved[better]
            settled[trying[better]] = True
            step[trying[~better]] /= 2
        todo = todo[settled]
    return best + moves


def _ellipsoid_step(
    loss: LogisticLoss, best: Floats, level: float, queries: Floats, moves: Floats, tol: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Maximise each query over the second-order model of the set at the present points; say which are optimal."""
    theta = best + moves
    scores = theta @ loss.design.T
    gradient, hessians = loss.gradients(theta, scores), loss.hessians(scores)
    down, along = _solve(hessians, gradient), _solve(hessians, queries)
    gg, gx, xx = (np.einsum("qd,qd->q", a, b) for a, b in ((gradient, down), (gradient, along), (queries, along)))
    # In the metric of the inverse Hessian the gradient must be a positive multiple of the query.
    done = 1 - gx / np.sqrt(np.maximum(gg * xx, np.finfo(float).tiny)) <= tol**2
    room = np.maximum(2 * (level - loss.values(theta, scores)) + gg, 0.0)
    return moves - down + np.sqrt(room / xx)[:, None] * along, done


def _to_the_level(loss: LogisticLoss, best: Floats, base: Floats, level: float, moves: Floats) -> Floats:
    """Scale each move from the minimiser so that the loss is the level; Newton on a convex, rising function."""
    along = moves @ loss.design.T
    scale = np.ones(len(moves))
    spare = level - float(loss.values(best[None], base[None])[0])
    tol = 1e-13 + 1e-15 * abs(level) / spare  # rounding of the loss limits how well the place is known
    todo = np.arange(len(moves))
    for _ in range(60):
        s, a, m = scale[todo], along[todo], moves[todo]
        scores, theta = base + s[:, None] * a, best + s[:, None] * m
        residual = expit(scores) * loss.weight - loss.positive
        slope = np.einsum("qn,qn->q", residual, a) + np.einsum("qd,qd->q", theta * loss.ridge, m)
        # From below the first step overshoots, by convexity, and all later ones come down; no more than tenfold, as
        # near the minimum the slope says nothing of how far the level is.
        change = (loss.values(theta, scores) - level) / np.maximum(slope, np.finfo(float).tiny)
        scale[todo] = np.clip(s - change, s / 10, s * 10)
        todo = todo[np.abs(scale[todo] - s) > tol * s]
        if len(todo) == 0:
            break
    return np.asarray(moves * scale[:, None])


def _solve(hessians: Floats, right: Floats) -> Floats:
    """Solve (q or 1, d, d) systems for right-hand sides (q, d)."""
    if len(hessians) == 1:
        return np.asarray(np.linalg.solve(hessians[0], right.T).T)
    return np.asarray(np.linalg.solve(hessians, right[:, :, None])[:, :, 0])
