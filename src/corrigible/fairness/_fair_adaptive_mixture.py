"""A mixture of linear experts that is trained to be fair, grows where a stream drifts, and explains itself exactly.

Paper: FEAMOE: Fair, Explainable and Adaptive Mixture of Experts (Sharma, Henderson, Ghosh, IJCAI 2023).
Original: none found
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.group_penalties import FAIRNESS, largest_gap, penalty_slope
from corrigible._core.group_roc import joint_groups
from corrigible._core.simplex import softmax
from corrigible._core.subset_shapley import shapley_by_subsets
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_choice, check_count, check_gaps, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="fair_adaptive_mixture",
    kind="estimator",
    obj="FairAdaptiveMixture",
    also=("ShapleyValues",),
    papers=("feamoe",),
    refs=("sharma2023feamoe",),
    source="",
    differs="The full text was not at hand: kept are its parts (linear experts under a softmax gate, a penalty for one "
    "of three fairness measures in the loss, experts added where loss or unfairness of a stream drifts, Shapley values "
    "linear in those of the experts); the penalties' form, the rule that calls a drift, and the start of a new expert "
    "are derived. The gate mixes log-odds, so that attributions are exact in them. Recourse is measured in log-odds to "
    "the boundary. Shapley values that also let the gate move are added.",
    inputs="X, y classes",
    stochastic=True,
    cost="O(n d e) a pass for e experts; Shapley values O(d e) a row, and O(2^d) with a moving gate",
    use_when="Decisions on a stream must stay fair and be explained row by row, and drift is to be followed as it comes.",
    avoid_when="Rows do not come in time: trees with thresholds by group are more accurate and exactly as fair as asked.",
    test_params=({"max_iter": 20}, {"n_experts": 1, "max_experts": 2, "fairness": "equalized_odds"}),
)

Floats = NDArray[np.floating]
_MOST_COLUMNS = 16  # of subsets that a moving gate goes through
_OPENINGS = (0.1, 0.25, 0.5, 0.75, 0.9)
_FLOOR = 0.02  # a rise smaller than this is no drift, however steady the window was


@dataclass(frozen=True)
class ShapleyValues:
    """Shapley values of log-odds.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_features)
        Share of each feature; a row sums to its log-odds less its base.
    base : ndarray of shape (n_samples,)
        Log-odds of the background under each row's gate.
    """

    values: Floats
    base: Floats


class FairAdaptiveMixture(ClassifierMixin, BaseEstimator):
    """Classify by a gated mixture of linear experts, fair by a penalty, on all rows at once or batch by batch.

    Log-odds are ``f(x) = sum_e g_e(x) (w_e x + b_e)`` with the gate ``g(x) = softmax(V x + a)``. Adam lowers the log
    loss plus `penalty` times ``sum_g (m_g - mean of m)^2`` over groups, where m_g is the mean probability of the group
    (demographic parity), the same within each label (equalised odds), or the mean distance in log-odds to the boundary
    of those decided 0 (recourse).

    On a stream (``partial_fit``) each batch is scored before it is learnt from. If its loss, or the difference
    between groups, lies above the last batches' mean by `drift` standard deviations, an expert is added that is first
    fitted to that batch alone and opens with the share of the gate, of five, that serves the batch best; where there are
    `max_experts`, the least used one is replaced.

    Parameters
    ----------
    n_experts, max_experts : int, default=3 and 8
        Experts to start with, and at most.
    fairness : {"demographic_parity", "equalized_odds", "recourse"}, default="demographic_parity"
        What the penalty is on.
    penalty : float, default=5.0
        Its weight; 0 trains for accuracy alone.
    drift : float, default=3.0
        Standard deviations above the window that are a drift; ``inf`` never grows.
    window : int, default=10
        Batches that a new one is compared with; no drift is called before half of them are seen.
    max_iter : int, default=30
        Passes over the rows in ``fit``, and over the batch for a new expert.
    n_steps : int, default=5
        Passes over a batch in ``partial_fit``.
    batch_size : int, default=256
        Rows a step.
    learning_rate : float, default=0.02
        Step size of Adam.
    alpha : float, default=1e-4
        Ridge on the experts' and the gate's weights.
    random_state : None, int, Generator or RandomState
        Source of the start and of the shuffles.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Classes.
    experts_, gates_ : ndarray of shape (n_experts, n_features + 1)
        Weights on standardised features, the constant last.
    center_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of the first batch, which all later ones are measured by.
    n_iter_ : int
        Passes made by ``fit``.
    history_ : list of dict
        A batch of the stream each: ``loss`` and ``unfairness`` before it was learnt from, ``drift`` and ``n_experts``.

    References
    ----------
    .. [1] Sharma, S., Henderson, J. and Ghosh, J. (2023). FEAMOE: Fair, Explainable and Adaptive Mixture of Experts.
       IJCAI.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.fairness import FairAdaptiveMixture
    >>> rng = np.random.default_rng(0)
    >>> groups = rng.integers(2, size=600)
    >>> X = rng.normal(size=(600, 2)) + groups[:, None] * [1.0, 0.0]
    >>> y = (X[:, 0] + X[:, 1] > 0.5).astype(int)
    >>> fair = FairAdaptiveMixture(penalty=30.0, random_state=0).fit(X, y, groups).predict(X)
    >>> free = FairAdaptiveMixture(penalty=0.0, random_state=0).fit(X, y, groups).predict(X)
    >>> gap = [abs(said[groups == 1].mean() - said[groups == 0].mean()) for said in (fair, free)]
    >>> bool(gap[0] < 0.5 * gap[1])
    True
    """

    def __init__(
        self,
        *,
        n_experts: int = 3,
        max_experts: int = 8,
        fairness: str = "demographic_parity",
        penalty: float = 5.0,
        drift: float = 3.0,
        window: int = 10,
        max_iter: int = 30,
        n_steps: int = 5,
        batch_size: int = 256,
        learning_rate: float = 0.02,
        alpha: float = 1e-4,
        random_state: RandomState = None,
    ) -> None:
        self.n_experts = n_experts
        self.max_experts = max_experts
        self.fairness = fairness
        self.penalty = penalty
        self.drift = drift
        self.window = window
        self.max_iter = max_iter
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Train on all rows at once, anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels of two classes; the second in sorted order is the positive one.
        groups : array-like of shape (n_samples,) or DataFrame, optional
            Group of each row; without, nothing is penalised.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are not two classes.
        """
        rows, labels = check_gaps(self, X, y, gaps=False)
        self._start(rows, labels, None)
        self._learn(self._scaled(rows), self._coded(labels), self._groups(groups, len(rows)), self.max_iter)
        self.n_iter_ = self.max_iter
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Score a batch of a stream, grow if it drifts, and learn from it.

        Parameters
        ----------
        X, y, groups
            As in ``fit``.
        classes : array-like of shape (2,), optional
            Both classes, if the first batch may lack one.

        Returns
        -------
        self
        """
        first = not hasattr(self, "experts_")
        rows, labels = check_gaps(self, X, y, gaps=False, reset=first)
        if first:
            self._start(rows, labels, classes)
        Z, t, codes = self._scaled(rows), self._coded(labels), self._groups(groups, len(rows))
        odds = self._odds(Z)
        seen: dict[str, Any] = {
            "loss": _log_loss(odds, t),
            "unfairness": largest_gap(odds, t, codes, self.fairness),
        }
        seen["drift"] = not first and any(self._drifts(seen[name], name) for name in ("loss", "unfairness"))
        if seen["drift"]:
            self._grow(Z, t, codes)
            self.since_ = len(self.history_)
        self._learn(Z, t, codes, self.n_steps)
        self.history_.append({**seen, "n_experts": len(self.experts_)})
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return the log-odds of the second class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._odds(self._checked(X))

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Rows sum to 1.
        """
        chance = expit(self.decision_function(X))
        return np.column_stack([1.0 - chance, chance])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of log-odds above 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        positive = self.decision_function(X) > 0
        return np.asarray(self.classes_[positive.astype(np.intp)])

    def gate(self, X: ArrayLike) -> Floats:
        """Return how much each expert answers for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_experts)
            Rows sum to 1.
        """
        return softmax(_affine(self._checked(X), self.gates_))

    def shapley_values(
        self, X: ArrayLike, background: ArrayLike | None = None, *, moving_gate: bool = False
    ) -> ShapleyValues:
        """Return the Shapley values of the features in the log-odds, against a background row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        background : array-like of shape (n_features,), optional
            What a missing feature is set to; default is the mean of the first batch.
        moving_gate : bool, default=False
            Whether a missing feature is set in the gate too. If not, the gate stays that of the row, the mixture is
            linear, and the values are ``sum_e g_e(x) w_e (x - background)``, exact at the cost of a prediction. If so,
            all subsets of at most 16 features are gone through.

        Returns
        -------
        ShapleyValues

        Raises
        ------
        InvalidParameterError
            If the gate shall move and there are more features.
        """
        Z = self._checked(X)
        at = np.zeros(Z.shape[1])
        if background is not None:
            at = self._scaled(np.asarray(background, dtype=np.float64).reshape(1, -1))[0]
            if at.shape != (Z.shape[1],) or not np.isfinite(at).all():
                raise DataError(f"'background' of FairAdaptiveMixture must hold {Z.shape[1]} finite numbers.")
        if moving_gate and len(at) > _MOST_COLUMNS:
            raise InvalidParameterError(
                f"'moving_gate' of FairAdaptiveMixture goes through all subsets of at most {_MOST_COLUMNS} features. "
                f"Got {len(at)}: leave the gate where it is."
            )
        if moving_gate:
            return ShapleyValues(shapley_by_subsets(self._odds, Z, at), self._odds(np.tile(at, (len(Z), 1))))
        share = softmax(_affine(Z, self.gates_))
        local = share @ self.experts_
        return ShapleyValues(local[:, :-1] * (Z - at), local[:, :-1] @ at + local[:, -1])

    def _start(self, rows: Floats, labels: NDArray[Any], classes: ArrayLike | None) -> None:
        by = "FairAdaptiveMixture"
        for name in ("n_experts", "max_experts", "window", "max_iter", "n_steps", "batch_size"):
            check_count(getattr(self, name), name=name, by=by)
        check_choice(self.fairness, FAIRNESS, name="fairness", by=by)
        for name in ("penalty", "drift", "alpha"):
            check_number(getattr(self, name), name=name, by=by, low=0.0)
        check_number(self.learning_rate, name="learning_rate", by=by, low=0.0, high=1e6, closed="right")
        if self.n_experts > self.max_experts:
            raise InvalidParameterError(
                f"The 'n_experts' parameter of {by} must be at most max_experts={self.max_experts}. "
                f"Got {self.n_experts}."
            )
        check_classification_targets(labels)
        self.classes_ = np.unique(labels if classes is None else np.asarray(classes))
        if len(self.classes_) != 2:
            raise DataError(
                f"Only binary classification is supported by {by}. Got {len(self.classes_)} classes, 2 classes are needed."
            )
        self.center_ = rows.mean(axis=0)
        spread = rows.std(axis=0)
        level = np.abs(self.center_)
        # What rounding leaves of a constant column must stay small.
        self.scale_ = np.where(spread > 1e-12 * level, spread, np.maximum(level, 1.0))
        self.rng_ = as_generator(self.random_state)
        shape = (self.n_experts, rows.shape[1] + 1)
        # One expert starts from 0, so that it is a plain logistic regression; several must start apart.
        noise = 0.3 if self.n_experts > 1 else 0.0
        self.experts_, self.gates_ = (noise * self.rng_.normal(size=shape) for _ in range(2))
        self._forget()
        self.history_: list[dict[str, Any]] = []
        self.since_ = 0

    def _forget(self) -> None:
        """Empty Adam's memory."""
        self.moments_ = np.zeros((2, 2, *self.experts_.shape))
        self.n_updates_ = 0

    def _grow(self, Z: Floats, t: Floats, codes: NDArray[np.intp] | None) -> None:
        """Add an expert that is fitted alone to the batch, with the share of the gate that is best there."""
        experts, gates = self.experts_, self.gates_
        self.experts_, self.gates_ = np.zeros((2, 1, experts.shape[1]))
        self._forget()
        self._learn(Z, t, codes, self.max_iter)
        new = self.experts_
        if len(experts) == self.max_experts:
            kept = np.arange(len(experts)) != softmax(_affine(Z, gates)).mean(axis=0).argmin()
            experts, gates = experts[kept], gates[kept]
        tried = []
        for share in _OPENINGS if len(experts) else (0.5,):
            opening = np.zeros((1, gates.shape[1]))
            if len(experts):
                opening[0, -1] = logsumexp(_affine(Z, gates), axis=1).mean() + np.log(share / (1 - share))
            self.experts_, self.gates_ = np.vstack([experts, new]), np.vstack([gates, opening])
            tried.append((_log_loss(self._odds(Z), t), share, self.gates_))
        self.gates_ = min(tried, key=lambda found: found[:2])[2]
        self._forget()

    def _drifts(self, value: float, name: str) -> bool:
        last = [b[name] for b in self.history_[max(self.since_, len(self.history_) - self.window) :]]
        if len(last) < max(2, self.window // 2):
            return False
        return value > np.mean(last) + max(self.drift * float(np.std(last, ddof=1)), _FLOOR)

    def _learn(self, Z: Floats, t: Floats, codes: NDArray[np.intp] | None, passes: int) -> None:
        n_batches = -(-len(Z) // self.batch_size)
        for _ in range(passes):
            for rows in np.array_split(self.rng_.permutation(len(Z)), n_batches):
                self._step(Z[rows], t[rows], None if codes is None else codes[rows])

    def _step(self, Z: Floats, t: Floats, codes: NDArray[np.intp] | None) -> None:
        share, said = softmax(_affine(Z, self.gates_)), _affine(Z, self.experts_)
        odds = (share * said).sum(axis=1)
        pull = (expit(odds) - t) / len(Z)
        if codes is not None and self.penalty:
            pull = pull + self.penalty * penalty_slope(odds, t, codes, self.fairness)
        inputs = np.column_stack([Z, np.ones(len(Z))])
        along = share * pull[:, None]
        slopes = np.stack([along.T @ inputs, (along * (said - odds[:, None])).T @ inputs])
        weights = np.stack([self.experts_, self.gates_])
        slopes[:, :, :-1] += self.alpha * weights[:, :, :-1]
        self.n_updates_ += 1
        first, second = self.moments_
        first += 0.1 * (slopes - first)
        second += 0.001 * (slopes**2 - second)
        mean, square = first / (1 - 0.9**self.n_updates_), second / (1 - 0.999**self.n_updates_)
        self.experts_, self.gates_ = weights - self.learning_rate * mean / (np.sqrt(square) + 1e-8)

    def _odds(self, Z: Floats) -> Floats:
        return np.asarray((softmax(_affine(Z, self.gates_)) * _affine(Z, self.experts_)).sum(axis=1))

    def _checked(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        return self._scaled(check_gaps(self, X, reset=False, gaps=False))

    def _scaled(self, rows: Floats) -> Floats:
        return np.asarray((rows - self.center_) / self.scale_)

    def _coded(self, labels: NDArray[Any]) -> Floats:
        unknown = ~np.isin(labels, self.classes_)
        if unknown.any():
            raise DataError(
                f"'y' of FairAdaptiveMixture must hold the classes {self.classes_.tolist()}. Row "
                f"{int(unknown.argmax())} is {labels[unknown.argmax()]!r}."
            )
        return (labels == self.classes_[1]).astype(np.float64)

    def _groups(self, groups: ArrayLike | None, n: int) -> NDArray[np.intp] | None:
        return None if groups is None else joint_groups(groups, n, "FairAdaptiveMixture")[0]

    def _more_tags(self) -> dict[str, Any]:
        return {"binary_only": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _log_loss(odds: Floats, t: Floats) -> float:
    return float(np.logaddexp(0.0, np.where(t == 1, -odds, odds)).mean())


def _affine(Z: Floats, weights: Floats) -> Floats:
    # A sum in a fixed order, so that a row's answer does not depend on the rows beside it.
    return np.stack([(Z * w[:-1]).sum(axis=1) + w[-1] for w in weights], axis=1)
