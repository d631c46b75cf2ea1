"""Thresholds by group under a bound on the differences of error rates, mixed at random or single.

Paper: Unprocessing Seven Years of Algorithmic Fairness (Cruz, Hardt, ICLR 2024)
Original: https://github.com/socialfoundations/error-parity
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.group_cells import grouping_columns
from corrigible._core.group_roc import (
    Roc,
    best_mixture,
    best_thresholds,
    concave_hull,
    group_rocs,
    joint_groups,
    rate_maps,
    spread,
    thinned,
)
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import (
    check_choice,
    check_labels,
    check_number,
    check_sample_weight,
    check_vector,
)
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="group_thresholds",
    kind="estimator",
    obj="GroupThresholds",
    papers=("unprocessing",),
    refs=("cruz2024unprocessing", "hardt2016equality"),
    source="https://github.com/socialfoundations/error-parity",
    differs="Read were the abstract, excerpts and one of two repositories. The programme runs over the corners "
    "of the hulls, all of them, where the authors' code bounds the points by half-planes of a curve thinned to 1000 "
    "points. Interior points are mixtures of up to three thresholds, which never prefer a lower score, in place of a "
    "random classifier mixed in. The norms are the largest difference and the sum of the two, for which thresholds "
    "must be mixed; the Euclidean one is not offered. Single thresholds are an addition.",
    inputs="scores, y, groups",
    stochastic=True,
    cost="O(n log n) time for the curves, then a linear programme of some hundred columns a group",
    use_when="A model's scores are given and its decisions must have nearly equal error rates or selection rates.",
    avoid_when="The group may not be used when deciding, or a group has few positives or negatives to fit on.",
    test_params=(
        {},
        {"constraint": "demographic_parity", "tolerance": 0.05},
        {"randomized": False, "tolerance": 0.1},
    ),
    excused={"check_sklearn": "fit takes scores, labels and groups, no matrix of features."},
)

Floats = NDArray[np.floating]
CONSTRAINTS = ("equalized_odds", "equal_opportunity", "predictive_equality", "demographic_parity")


class GroupThresholds(BaseEstimator):
    """Find the thresholds by group of least cost whose rates differ between groups by at most a tolerance.

    A rule that mixes thresholds of one group at random reaches every point between its ROC curve's concave hull and
    the diagonal. Over such points ``(fpr_g, tpr_g)`` of all groups, ::

        min  sum_g c_fp n_g fpr_g + c_fn p_g (1 - tpr_g)   with   max_gh |rate_g - rate_h| <= tolerance

    is a linear programme, solved exactly. Equal scores are decided alike.

    Parameters
    ----------
    constraint : str, default="equalized_odds"
        Rates that are bound: true and false positive rates (``"equalized_odds"``), true positive rates
        (``"equal_opportunity"``), false positive rates (``"predictive_equality"``) or shares of positive decisions
        (``"demographic_parity"``).
    tolerance : float, default=0.0
        Largest difference between two groups, from 0; ``inf`` binds nothing.
    norm : {"max", "sum"}, default="max"
        Whether the larger of the two differences of equalised odds is bound, or their sum.
    fp_cost, fn_cost : float, default=1.0
        Cost of a false positive and of a false negative. At 1 the loss is the error rate.
    randomized : bool, default=True
        Whether a group may have several thresholds, of which one is drawn for each row. If not, the best single
        thresholds are sought.
    random_state : int, Generator, RandomState or None
        Source of the draws in ``predict``.

    Attributes
    ----------
    groups_ : list
        Groups in sorted order; tuples if `groups` had several columns, which are crossed.
    thresholds_, weights_ : ndarray of shape (n_groups, n_thresholds)
        Thresholds of each group, falling, and the chance of each; padded with NaN and 0. A row is selected if its
        score is at least the threshold; ``inf`` selects nobody.
    operating_points_ : DataFrame
        A row a group: weight, prevalence, fpr, tpr, selection_rate and loss on the fitting rows, in expectation.
        A rate without rows is NaN.
    loss_ : float
        Expected cost a row on the fitting rows.
    violation_ : float
        Largest difference between two groups of the bound rates on the fitting rows, in expectation.
    exact_ : bool
        Whether no rule of this kind is better on the fitting rows. Only False where single thresholds were sought
        among too many scores: then the best among evenly spaced ones and the hulls' corners is found.

    Notes
    -----
    Selecting all or nobody meets any tolerance, so that there always is a solution; where it is the only one, the
    thresholds are infinite. On other rows rates differ by what they differ in the population, and by noise:
    see `corrigible.fairness.achievable_frontier`.

    References
    ----------
    .. [1] Cruz, A. F. and Hardt, M. (2024). Unprocessing Seven Years of Algorithmic Fairness. ICLR.
    .. [2] Hardt, M., Price, E. and Srebro, N. (2016). Equality of Opportunity in Supervised Learning. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.fairness import GroupThresholds
    >>> rng = np.random.default_rng(0)
    >>> group, y = rng.integers(2, size=4000), rng.integers(2, size=4000)
    >>> scores = y + rng.normal(size=4000) * np.where(group == 1, 2.0, 1.0)  # says less in group 1
    >>> free = GroupThresholds(tolerance=np.inf).fit(scores, y, group)
    >>> fair = GroupThresholds(tolerance=0.02).fit(scores, y, group)
    >>> round(free.violation_, 2), round(fair.violation_, 6), fair.loss_ > free.loss_
    (0.06, 0.02, True)
    >>> fair.predict([-3.0, 5.0], [0, 1])
    array([0, 1])
    """

    def __init__(
        self,
        *,
        constraint: str = "equalized_odds",
        tolerance: float = 0.0,
        norm: str = "max",
        fp_cost: float = 1.0,
        fn_cost: float = 1.0,
        randomized: bool = True,
        random_state: RandomState = None,
    ) -> None:
        self.constraint = constraint
        self.tolerance = tolerance
        self.norm = norm
        self.fp_cost = fp_cost
        self.fn_cost = fn_cost
        self.randomized = randomized
        self.random_state = random_state

    def fit(
        self, scores: ArrayLike, y: ArrayLike, groups: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Find the thresholds.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Scores of rows that the model was not fitted on; higher means more likely positive.
        y : array-like of shape (n_samples,)
            Labels 0 and 1.
        groups : array-like of shape (n_samples,) or (n_samples, n_groupings), or DataFrame
            Group of each row: integers or strings.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If scores or groups are missing, lengths differ, or a rate that is bound has no rows in a group.
        InvalidParameterError
            If a parameter is out of its domain.
        """
        by = "GroupThresholds"
        self._check_parameters(by)
        s, labels, codes, self.groups_ = checked_rows(scores, y, groups, by)
        weight = None if sample_weight is None else check_sample_weight(sample_weight, len(s), by=by)
        curves = group_rocs(s, labels, codes, len(self.groups_), weight, corners=self.randomized)
        self._check_groups(curves, by)
        maps = rate_maps(curves, self.constraint, self.norm)
        costs = (float(self.fp_cost), float(self.fn_cost))
        if self.randomized:
            kept = [concave_hull(c) for c in curves]
            mixture = best_mixture(kept, maps, costs, float(self.tolerance))
        else:
            kept = thinned(curves, len(maps))
            places = best_thresholds(kept, maps, costs, float(self.tolerance))
            mixture = [np.eye(1, len(c.fp), i)[0] for c, i in zip(kept, places, strict=True)]
        self.exact_ = self.randomized or all(len(a.fp) == len(b.fp) for a, b in zip(kept, curves, strict=True))
        self._keep(kept, mixture)
        points = np.array([[w @ c.fp, w @ c.tp] for c, w in zip(kept, mixture, strict=True)])
        self.violation_ = spread(maps, points)
        self.operating_points_ = _table(points, kept, self.groups_, costs)
        self.loss_ = float(np.average(self.operating_points_["loss"], weights=self.operating_points_["weight"]))
        return self

    def predict_proba(self, scores: ArrayLike, groups: ArrayLike) -> Floats:
        """Return the chance of each decision, columns 0 and 1.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Scores.
        groups : array-like of shape (n_samples,) or (n_samples, n_groupings), or DataFrame
            Groups that were seen by ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Rows sum to 1. With single thresholds all entries are 0 or 1.
        """
        check_is_fitted(self)
        by = "GroupThresholds"
        s = check_vector(scores, name="scores", by=by)
        codes = known_codes(groups, self.groups_, len(s), by)
        chance = np.zeros(len(s))
        for thresholds, weights in zip(self.thresholds_.T, self.weights_.T, strict=True):
            chance += np.where(s >= thresholds[codes], weights[codes], 0.0)
        chance = np.minimum(chance, 1.0)
        return np.column_stack([1.0 - chance, chance])

    def predict(self, scores: ArrayLike, groups: ArrayLike) -> NDArray[np.intp]:
        """Return decisions 0 and 1, drawn where the rule is mixed.

        Parameters
        ----------
        scores, groups
            As in ``predict_proba``.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        chance = self.predict_proba(scores, groups)[:, 1]
        draws = as_generator(self.random_state).uniform(size=len(chance))
        # A chance of 1 that rounding left short of it is 1.
        return (draws < np.where(chance > 1 - 1e-12, 1.0, chance)).astype(np.intp)

    def _check_parameters(self, by: str) -> None:
        check_choice(self.constraint, CONSTRAINTS, name="constraint", by=by)
        check_choice(self.norm, ("max", "sum"), name="norm", by=by)
        check_number(self.tolerance, name="tolerance", by=by, low=0)
        for name in ("fp_cost", "fn_cost"):
            check_number(getattr(self, name), name=name, by=by, low=0, high=np.inf, closed="left")
        if max(self.fp_cost, self.fn_cost) == 0:
            raise InvalidParameterError("'fp_cost' and 'fn_cost' of GroupThresholds must not both be 0.")
        if self.norm == "sum" and self.constraint == "equalized_odds" and not self.randomized:
            raise InvalidParameterError("The 'norm' parameter of GroupThresholds must be 'max' if not randomized.")

    def _check_groups(self, curves: list[Roc], by: str) -> None:
        """Refuse groups in which a rate that is bound has no rows."""
        needs = {
            "equalized_odds": ("positives", "negatives"),
            "equal_opportunity": ("positives",),
            "predictive_equality": ("negatives",),
        }.get(self.constraint, ())
        for group, curve in zip(self.groups_, curves, strict=True):
            for kind in needs:
                if getattr(curve, kind) <= 0:
                    raise DataError(
                        f"Group {group!r} of {by} has no {kind}, so that its rate is not known. "
                        "Pool it with another group, or choose constraint='demographic_parity'."
                    )
            if curve.positives + curve.negatives <= 0:
                raise DataError(f"Group {group!r} of {by} must have weight. All its rows weigh 0. Drop them.")

    def _keep(self, curves: list[Roc], mixture: list[Floats]) -> None:
        used = [np.flatnonzero(w) for w in mixture]
        width = max(map(len, used))
        self.thresholds_ = np.full((len(used), width), np.nan)
        self.weights_ = np.zeros((len(used), width))
        for g, rows in enumerate(used):
            self.thresholds_[g, : len(rows)] = curves[g].threshold[rows]
            self.weights_[g, : len(rows)] = mixture[g][rows]


def checked_rows(
    scores: ArrayLike, y: ArrayLike, groups: ArrayLike, by: str
) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp], list[Any]]:
    """Return scores, labels, group codes and the groups, checked."""
    s = check_vector(scores, name="scores", by=by)
    labels = check_labels(y, n=len(s), n_classes=2, name="y", by=by)
    return s, labels, *joint_groups(groups, len(s), by)


def known_codes(groups: ArrayLike, known: list[Any], n: int, by: str) -> NDArray[np.intp]:
    """Return the code of each row's group among `known`."""
    columns = [values for _, values in grouping_columns(groups, n, by)]
    many = len(columns) > 1
    index = pd.MultiIndex.from_tuples(known) if many else pd.Index(known, tupleize_cols=False)
    codes = index.get_indexer(pd.MultiIndex.from_arrays(columns) if many else pd.Index(columns[0]))
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        got = tuple(str(c[row]) for c in columns) if many else str(columns[0][row])
        raise DataError(
            f"'groups' of {by} must be those of fit. Row {row} is of group {got!r}. Refit with its rows."
        )
    return np.asarray(codes, dtype=np.intp)


def _table(points: Floats, curves: list[Roc], groups: list[Any], costs: tuple[float, float]) -> pd.DataFrame:
    n, p = np.array([c.negatives for c in curves]), np.array([c.positives for c in curves])
    fp, tp = points.T
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "weight": n + p,
            "prevalence": p / (n + p),
            "fpr": fp / n,
            "tpr": tp / p,
            "selection_rate": (fp + tp) / (n + p),
            "loss": (costs[0] * fp + costs[1] * (p - tp)) / (n + p),
        }
    return pd.DataFrame(columns, index=pd.Index(groups, name="group", tupleize_cols=False))
