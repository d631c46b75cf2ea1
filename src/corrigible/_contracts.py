"""The kinds: what each contract asks of a method. `corrigible.testing` measures it.

Plain duck typing serves users; these protocols are what type checkers and readers see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@runtime_checkable
class Detector(Protocol):
    """Scores rows for being wrong. ``issue_scores``: HIGHER = MORE SUSPECT, always."""

    issue_scores: NDArray[np.floating]
    issue_mask: NDArray[np.bool_]

    def fit(self, *args: Any) -> Self:
        """Score the rows given and return self."""


@runtime_checkable
class Calibrator(Protocol):
    """Maps class probabilities to better class probabilities."""

    def fit(self, pred_proba: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the map from held-out probabilities (n, k) and labels (n,)."""

    def predict_proba(self, pred_proba: ArrayLike) -> NDArray[np.floating]:
        """Return calibrated probabilities (n, k); rows sum to 1."""


@runtime_checkable
class Conformal(Protocol):
    """Learns from calibration rows sets, intervals or p-values that hold at a stated rate on exchangeable rows.

    Beside ``fit`` it has ``predict_interval`` (n, 2), ``predict_set`` (n, k) of bool, or ``p_values`` (n,).
    """

    def fit(self, *args: Any) -> Self:
        """Learn thresholds from calibration rows."""


@runtime_checkable
class Accumulator(Protocol):
    """A measure that is a sum over rows: any split and any order of the rows give the same answer."""

    def update(self, *arrays: ArrayLike) -> Self:
        """Take in a batch of rows."""

    def merge(self, other: Self) -> Self:
        """Take in what another accumulator has seen."""

    def compute(self) -> Any:
        """Return the measure of all rows seen."""


@runtime_checkable
class PerformanceEstimator(Protocol):
    """Estimates a model's performance on rows without labels; where it looks at inputs, these come first."""

    def fit(self, *args: Any) -> Self:
        """Learn from labelled reference rows: ``(y_true, pred_proba)``, or with inputs ``(X, y_true, pred_proba)``."""

    def estimate(self, *args: Any) -> Any:
        """Return the `Estimate` of unlabelled rows ``(pred_proba)`` or ``(X, pred_proba)``, by name if of several."""


@runtime_checkable
class Law(Protocol):
    """A scikit-learn regressor whose form is a law with few parameters."""

    params_: dict[str, float]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the law to points X (n,) or (n, 1) and values y (n,)."""

    def predict(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the law's values."""

    def predict_interval(self, X: ArrayLike, *, alpha: float) -> NDArray[np.floating]:
        """Return an interval (n, 2) of miscoverage `alpha`."""


class Merger(Protocol):
    """A pure function on one tensor of each model: memory of a few blocks, the same bits in any number of threads.

    Mergers that need data take whole models, dicts of arrays, instead.
    """

    def __call__(self, tensors: Sequence[Any], base: Any = None, **parameters: Any) -> Any:
        """Return the merged tensor, in the shape of the tensors and the dtype of the base or the first."""


@runtime_checkable
class Editor(Protocol):
    """Turns requests into an edit of a model; the edit itself is applied, reverted, saved and loaded alike for all."""

    def propose(self, model: Any, requests: Any) -> Any:
        """Return a `corrigible.models.Edit` and leave the model as it is."""
