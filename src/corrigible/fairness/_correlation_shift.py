"""Shares of labels and groups that training rows should have where the link between the two has shifted.

Paper: Improving Fair Training under Correlation Shifts (Roh, Lee, Whang, Suh, ICML 2023)
Original: https://github.com/yuji-roh/fair-shift
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.group_roc import joint_groups
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_labels, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="correlation_shift",
    kind="estimator",
    obj="CorrelationShift",
    papers=("fair_corr",),
    refs=("roh2023improving",),
    source="https://github.com/yuji-roh/fair-shift",
    differs="The programme is solved exactly, by the stationary points of its faces, where the authors relax it to a "
    "semidefinite one; shares are kept from 0 to 1. Slacks bound the shift of a share itself, in the authors' code "
    "twice that. A range of correlations and labelled rows of deployment are taken too. The full text was not at hand: "
    "the programme and the sampling are those of the authors' code. Two groups, as there.",
    inputs="y, groups",
    stochastic=True,
    cost="one count of the rows; the programme has four unknowns",
    use_when="Training under a fairness constraint, for a place or time where labels go with groups otherwise, and about "
    "how much is known or can be counted on a few labelled rows.",
    avoid_when="What has shifted is how features look within a label and a group: no weights of cells mend that.",
    test_params=({"correlation": 0.1}, {"correlation": (-0.05, 0.05), "label_slack": 0.2, "group_slack": 0.0}),
    excused={"check_sklearn": "fit takes labels and groups, no matrix of features."},
)

Floats = NDArray[np.floating]
_SLACK = 1e-12


class CorrelationShift(BaseEstimator):
    """Find the nearest shares of labels and groups that have the correlation of deployment, and weigh rows so.

    The correlation of labels and groups is ``c = P(y = 1 | z = 1) - P(y = 1 | z = 0)``. A model that is trained to be
    fair where it is c is not where it has become another. With w the shares of the four cells in training, find ::

        min ||w' - w||^2   with   c(w') = c,  |P'(y = 1) - P(y = 1)| <= label_slack,  |P'(z = 1) - P(z = 1)| <= group_slack

    and weigh each row by its cell's ``w' / w``. Then train with any constraint.

    Parameters
    ----------
    correlation : float or (float, float), optional
        Correlation of deployment, or a range that it lies in: the end nearest to training is what is reached for, and
        nothing is moved if training lies in it. Counted on the rows of deployment given to `fit` if not given.
    label_slack, group_slack : float, default=0.1
        How far the share of label 1, and that of the second group, may move.
    random_state : None, int, Generator or RandomState
        Source of the draws in ``resample``.

    Attributes
    ----------
    groups_ : list
        The two groups, in sorted order; the correlation is that of the second less that of the first.
    correlation_, target_ : float
        Correlation in training, and of the new shares.
    shares_, new_shares_ : ndarray of shape (2, 2)
        Shares of cells before and after; rows are labels, columns groups.
    distance_ : float
        Euclidean distance of the two.
    sample_weight_ : ndarray of shape (n_samples,)
        Weight of each row; mean 1.

    Notes
    -----
    With q the second group's new share and p the first group's rate of label 1, new shares are linear in p for a fixed
    q: the best p is a quotient cut to its bounds, and q is found among the stationary points of the pieces, the roots of
    polynomials. No other shares are nearer.

    References
    ----------
    .. [1] Roh, Y., Lee, K., Whang, S. E. and Suh, C. (2023). Improving Fair Training under Correlation Shifts. ICML.

    Examples
    --------
    Of 100 rows, half of one group have label 1 and a fifth of the other; where the model goes, they are nearer:

    >>> from corrigible.fairness import CorrelationShift
    >>> y, groups = [1] * 25 + [0] * 25 + [1] * 10 + [0] * 40, ["a"] * 50 + ["b"] * 50
    >>> found = CorrelationShift(correlation=-0.1).fit(y, groups)
    >>> round(found.correlation_, 3), round(found.target_, 3), found.new_shares_.round(3).tolist()
    (-0.3, -0.1, [[0.285, 0.37], [0.188, 0.157]])
    >>> len(CorrelationShift(correlation=-0.1, random_state=0).fit(y, groups).resample())
    62
    """

    def __init__(
        self,
        *,
        correlation: float | Sequence[float] | None = None,
        label_slack: float = 0.1,
        group_slack: float = 0.1,
        random_state: RandomState = None,
    ) -> None:
        self.correlation = correlation
        self.label_slack = label_slack
        self.group_slack = group_slack
        self.random_state = random_state

    def fit(
        self,
        y: ArrayLike,
        groups: ArrayLike,
        y_deployed: ArrayLike | None = None,
        groups_deployed: ArrayLike | None = None,
    ) -> Self:
        """Find the new shares.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Labels 0 and 1 of the training rows.
        groups : array-like of shape (n_samples,) or (n_samples, n_groupings), or DataFrame
            Their groups, two in all.
        y_deployed, groups_deployed : array-like of shape (n_deployed,), optional
            Labels and groups of rows of deployment, on which the correlation is counted.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are not two groups, a cell is empty, or the slacks do not let the correlation be reached.
        InvalidParameterError
            If the correlation is given neither as a number nor by rows.
        """
        by = "CorrelationShift"
        for name in ("label_slack", "group_slack"):
            check_number(getattr(self, name), name=name, by=by, low=0.0, high=1.0)
        labels = check_labels(y, n_classes=2, name="y", by=by)
        codes, self.groups_ = joint_groups(groups, len(labels), by)
        self.shares_ = _shares(labels, codes, self.groups_, by)
        self.correlation_ = _correlation(self.shares_)
        self.target_ = self._target(y_deployed, groups_deployed)
        slacks = (float(self.label_slack), float(self.group_slack))
        _check_reachable(self.shares_, self.target_, slacks)
        nearest = self.target_ == self.correlation_
        self.new_shares_ = self.shares_ if nearest else _nearest(self.shares_, self.target_, *slacks)
        self.distance_ = float(np.linalg.norm(self.new_shares_ - self.shares_))
        self.cells_ = np.asarray(2 * labels + codes)
        self.sample_weight_ = (self.new_shares_ / self.shares_).ravel()[self.cells_]
        return self

    def resample(self) -> NDArray[np.intp]:
        """Return row numbers of a sample with the new shares, without replacement and in order.

        Returns
        -------
        ndarray of shape (n_sampled,)
            The cell that shall grow most is kept whole, of others what is in proportion.
        """
        check_is_fitted(self)
        rng = as_generator(self.random_state)
        kept = (self.new_shares_ / self.shares_).ravel()
        kept = kept / kept.max()
        rows = [np.flatnonzero(self.cells_ == cell) for cell in range(4)]
        drawn = [
            rng.choice(r, size=int(len(r) * k + _SLACK), replace=False) for r, k in zip(rows, kept, strict=True)
        ]
        return np.sort(np.concatenate(drawn))

    def _target(self, y: ArrayLike | None, groups: ArrayLike | None) -> float:
        by = "CorrelationShift"
        if (y is None) != (groups is None) or (y is None) == (self.correlation is None):
            raise InvalidParameterError(
                "CorrelationShift must be given the correlation of deployment either as 'correlation' or by both "
                "'y_deployed' and 'groups_deployed'. Give one of the two."
            )
        if y is not None and groups is not None:
            labels = check_labels(y, n_classes=2, name="y_deployed", by=by)
            codes, names = joint_groups(groups, len(labels), by)
            if names != self.groups_:
                raise DataError(f"'groups_deployed' of {by} must hold the groups {self.groups_}. Got {names}.")
            rates = [labels[codes == g].mean() for g in (0, 1)]
            return float(rates[1] - rates[0])
        ends = np.atleast_1d(np.asarray(self.correlation, dtype=np.float64))
        if ends.shape not in ((1,), (2,)) or not (np.abs(ends) <= 1).all() or ends[0] > ends[-1]:
            raise InvalidParameterError(
                "The 'correlation' parameter of CorrelationShift must be a number in [-1, 1] or two of them, rising. "
                f"Got {self.correlation!r}."
            )
        # The way from the best shares back to the present ones stays within the slacks and passes the near end of the
        # range nearer to them: only that end can be best.
        return float(np.clip(self.correlation_, ends[0], ends[-1]))


def _shares(y: NDArray[np.intp], codes: NDArray[np.intp], groups: list[Any], by: str) -> Floats:
    if len(groups) != 2:
        raise DataError(f"'groups' of {by} must hold two groups. Got {len(groups)}: set one against the rest.")
    counts = np.bincount(2 * y + codes, minlength=4)
    if (counts == 0).any():
        empty = int(counts.argmin())
        raise DataError(
            f"{by} needs rows of each label in each group, to weigh them. Group {groups[empty % 2]!r} has none with "
            f"label {empty // 2}. Collect some, or train without it."
        )
    return counts.reshape(2, 2) / len(y)


def _correlation(shares: Floats) -> float:
    rates = shares[1] / shares.sum(axis=0)
    return float(rates[1] - rates[0])


def _check_reachable(shares: Floats, target: float, slacks: tuple[float, float]) -> None:
    """Raise if no shares within the slacks have the correlation."""
    m, q = _box(shares[1].sum(), slacks[0]), _box(shares[:, 1].sum(), slacks[1])
    high, low = _largest(m, q), -_largest((1 - m[1], 1 - m[0]), q)
    if not low - _SLACK <= target <= high + _SLACK:
        raise DataError(
            f"CorrelationShift reaches correlations from {low:.4f} to {high:.4f} with label_slack={slacks[0]:g} and "
            f"group_slack={slacks[1]:g}. Got {target:.4f}. Raise the slacks."
        )


def _box(share: float, slack: float) -> tuple[float, float]:
    return max(float(share) - slack, 0.0), min(float(share) + slack, 1.0)


def _largest(m: tuple[float, float], q: tuple[float, float]) -> float:
    """Largest correlation with the share of label 1 and that of the second group in these ranges."""
    if m[1] < q[0]:
        return m[1] / q[0]
    if m[0] > q[1]:
        return (1 - m[0]) / (1 - q[1])
    return 1.0


def _nearest(shares: Floats, c: float, label_slack: float, group_slack: float) -> Floats:
    """Return the nearest shares of correlation c, exactly; p is the first group's rate and q the second's share."""
    q = Polynomial([0.0, 1.0])
    one = Polynomial([1.0])
    # Cells (0, 0), (0, 1), (1, 0), (1, 1) are  start + p * slope.
    start = [1 - q, q * (1 - c), 0 * q, q * c]
    slope = [q - 1, -q, 1 - q, q]
    apart = [s - w * one for s, w in zip(start, shares.ravel(), strict=True)]
    steep = sum((s * s for s in slope), 0 * q)
    cross = sum((a * s for a, s in zip(apart, slope, strict=True)), 0 * q)
    rest = sum((a * a for a in apart), 0 * q)
    low_m, high_m = _box(shares[1].sum(), label_slack)
    low_q, high_q = _box(shares[:, 1].sum(), group_slack)
    lower = [0 * q, -c * one, low_m - c * q]
    upper = [one, (1 - c) * one, high_m - c * q]
    lines = [*lower, *upper]
    # Where p is free the distance is  rest - cross^2 / steep;  on a bound it is a polynomial; bounds meet in kinks.
    turning = [(rest.deriv() * steep - 2 * cross * cross.deriv()) * steep + cross * cross * steep.deriv()]
    turning += [(rest + 2 * p * cross + p * p * steep).deriv() for p in lines]
    turning += [a - b for i, a in enumerate(lines) for b in lines[i + 1 :]]
    found = np.concatenate([_real_roots(p) for p in turning])
    best, nearest = np.inf, shares
    for value in np.concatenate([[low_q, high_q], np.clip(found, low_q, high_q)]):
        least, most = max(p(value) for p in lower), min(p(value) for p in upper)
        if least > most + _SLACK:
            continue
        p = min(max(-cross(value) / steep(value), least), most)
        tried = np.array([s(value) + p * t(value) for s, t in zip(start, slope, strict=True)])
        distance = float(((tried - shares.ravel()) ** 2).sum())
        if distance < best:
            best, nearest = distance, tried.clip(0.0, 1.0).reshape(2, 2)
    return nearest


def _real_roots(p: Polynomial) -> Floats:
    trimmed = p.trim(1e-14)
    roots = trimmed.roots() if trimmed.degree() else np.empty(0)
    # A double root leaves a small imaginary part behind; a point too many costs nothing.
    return np.real(roots[np.abs(np.imag(roots)) < 1e-5])
