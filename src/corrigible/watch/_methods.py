"""One face for the estimators of performance without labels, and the metrics that labels give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible.shift import CBPE, MCBPE, DirectLossEstimation, ImportanceWeighting
from corrigible.shift._expected_metrics import Cells, Estimate, values_of
from corrigible.watch._inputs import Part
from corrigible.watch._settings import WatchSettings

Floats = NDArray[np.floating]
Values = dict[str, float]

HIGHER_IS_BETTER = {"accuracy", "roc_auc", "precision", "recall", "specificity", "f1", "business_value"}
# Rows of either class, or of either prediction, that a metric of ratios needs to be told at all.
_EVENTS, _MIN_ROWS, _MIN_WEIGHTED = 10, 30, 100
_NEED_BOTH_LABELS = {"roc_auc", "recall", "f1", "specificity"}
_NEED_BOTH_PREDICTIONS = {"precision", "f1"}


@dataclass(frozen=True)
class Method:
    """A fitted estimator.

    Parameters
    ----------
    reference : Part
        Labelled rows.
    settings : WatchSettings
        Which estimator and metrics.
    n_jobs : int, optional
        Parallel work.
    fitted : estimator
        Fitted to the reference.
    """

    reference: Part
    settings: WatchSettings
    n_jobs: int | None
    fitted: Any

    @classmethod
    def fit(cls, reference: Part, settings: WatchSettings, n_jobs: int | None = None) -> Method:
        """Fit the estimator to the reference."""
        return cls(reference, settings, n_jobs, _fitted(reference, settings, n_jobs))

    @property
    def refits(self) -> bool:
        """Whether the estimator weighs or learns the reference so closely that its spread takes new fits."""
        return self.settings.by != "cbpe"

    def estimate(self, part: Part) -> dict[str, Estimate]:
        """Estimate the metrics of rows without looking at their labels."""
        return _estimated(self.fitted, part, self.settings)

    def estimate_apart(self, rows: NDArray[np.intp]) -> tuple[Values, Values]:
        """Estimate for some rows of the reference from the others; return that, and what the others have."""
        rest = np.ones(len(self.reference), dtype=bool)
        rest[rows] = False
        others = self.reference[rest]
        found = _estimated(_fitted(others, self.settings, self.n_jobs), self.reference[rows], self.settings)
        return {name: e.value for name, e in found.items()}, realised(others, self.settings)


def _fitted(reference: Part, settings: WatchSettings, n_jobs: int | None) -> Any:
    words: dict[str, Any] = {"metric": settings.metrics}
    if settings.by == "direct_loss":
        method = DirectLossEstimation(**words, random_state=settings.seed, n_jobs=n_jobs)
        return method.fit(_inputs(reference), reference.y, reference.predicted)
    words["business_value"] = settings.business_value
    y = reference.y.astype(np.intp)
    if settings.by == "cbpe":
        return CBPE(**words).fit(y, reference.p)
    words |= {"random_state": settings.seed, "n_jobs": n_jobs}
    if settings.by == "mcbpe":
        return MCBPE(**words).fit(reference.X, y, reference.p)
    return ImportanceWeighting(**words).fit(reference.X, y, reference.p, reference.predicted)


def _estimated(method: Any, part: Part, settings: WatchSettings) -> dict[str, Estimate]:
    if settings.by == "direct_loss":
        return dict(method.estimate(_inputs(part), part.predicted))
    if settings.by == "cbpe":
        return dict(method.estimate(part.p, part.predicted))
    return dict(method.estimate(part.X, part.p, part.predicted))


def _inputs(part: Part) -> Any:
    return part.X if part.X.shape[1] else None


def realised(part: Part, settings: WatchSettings) -> Values:
    """Return the metrics of labelled rows."""
    if settings.task == "regression":
        return {name: _VALUE[name](part.y, part.predicted) for name in settings.metrics}
    y = part.y.astype(np.intp)
    k = part.p.shape[1]
    known, p = (y[:, None].astype(float), part.p[:, 1:]) if k == 2 else (np.eye(k)[y], part.p)
    cells = Cells(known, p, part.predicted, np.ones(len(y)), (), np.empty((len(y), 0), np.intp))
    found = values_of(cells, settings.metrics, business_value=settings.business_value, by="watch")
    return {name: value for name, (value, _) in found.items()}


def _mean_of(loss: Callable[[Floats, Floats], Floats], root: bool = False) -> Callable[[Floats, Floats], float]:
    def value(y: Floats, f: Floats) -> float:
        mean = float(np.mean(loss(y, f)))
        return mean**0.5 if root else mean

    return value


def _squared(y: Floats, f: Floats) -> Floats:
    return np.asarray((y - f) ** 2)


def _squared_log(y: Floats, f: Floats) -> Floats:
    return np.asarray((np.log1p(y) - np.log1p(f)) ** 2)


_VALUE = {
    "mae": _mean_of(lambda y, f: np.abs(y - f)),
    "mse": _mean_of(_squared),
    "rmse": _mean_of(_squared, root=True),
    "mape": _mean_of(lambda y, f: np.abs(y - f) / np.maximum(np.abs(y), np.finfo(float).eps)),
    "msle": _mean_of(_squared_log),
    "rmsle": _mean_of(_squared_log, root=True),
}


def minimum_rows(reference: Part, settings: WatchSettings) -> tuple[int, str]:
    """Return the fewest rows of a chunk that can be estimated, and why.

    A metric that divides by the number of rows of a class, or predicted as one, needs ten of them to be expected, by
    the reference's shares; any metric needs 30 rows, and the density ratio of a chunk 100.
    """
    least = _MIN_WEIGHTED if settings.by in ("mcbpe", "importance") else _MIN_ROWS
    why = f"--by {settings.by} needs {least} rows"
    if settings.task == "regression":
        return least, why
    k = reference.p.shape[1]
    for metrics, codes, what in (
        (_NEED_BOTH_LABELS, reference.y.astype(np.intp), "of the rarest class"),
        (_NEED_BOTH_PREDICTIONS, reference.predicted, "predicted as the class that is predicted least"),
    ):
        asked = [m for m in settings.metrics if m in metrics]
        share = np.bincount(codes, minlength=k).min() / len(reference)
        if asked and share > 0 and _EVENTS / share > least:
            least = int(np.ceil(_EVENTS / share))
            why = f"{asked[0]} needs {least} rows, for {_EVENTS} {what} to be expected"
    return least, why


def is_better(metric: str, change: float) -> bool | None:
    """Whether a change of the metric is for the better; None for where one cannot say."""
    if metric.startswith("true_"):
        _, label, _, prediction = metric.split("_")
        return (change > 0) == (label == prediction)
    return (change > 0) == (metric in HIGHER_IS_BETTER)
