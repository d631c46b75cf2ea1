"""What MCBPE and importance weighting share: a labelled reference that is weighed to look like each chunk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._core.density_ratio import fit_density_ratio
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_count, check_labels, check_number, check_sample_weight
from corrigible.errors import DataError
from corrigible.shift._expected_metrics import (
    Estimate,
    as_asked,
    chunk_rows,
    in_chunks,
    metric_names,
    predicted_of,
    scores_of,
)

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


class AbstractReweighted(BaseEstimator):
    """Reference rows, their weights for each chunk, and one estimate a chunk."""

    metric: str | Sequence[str]
    estimator: Any
    cv: int
    min_denominator: float
    business_value: ArrayLike | None
    confidence: float
    random_state: RandomState
    n_jobs: int | None

    @property
    def _names(self) -> tuple[str, ...]:
        return metric_names(self.metric, self.business_value, by=self._by)

    @property
    def _by(self) -> str:
        return type(self).__name__

    def _keep(self, X: Any, y_true: ArrayLike, pred_proba: ArrayLike, y_pred: ArrayLike | None) -> Self:
        metric_names(self.metric, self.business_value, by=self._by)
        check_count(self.cv, name="cv", by=self._by, low=2)
        check_number(self.min_denominator, name="min_denominator", by=self._by, low=0, high=1, closed="neither")
        p = scores_of(pred_proba, n_classes=None, by=self._by)
        self.n_classes_: int = max(p.shape[1], 2)
        self._reference_y = check_labels(y_true, n=len(p), n_classes=self.n_classes_, name="y_true", by=self._by)
        self._reference_p = p.astype(np.float64)
        self._reference_pred = predicted_of(y_pred, p, by=self._by)
        self._reference_X = _checked_table(X, len(p), self._by)
        return self

    def _estimate(
        self,
        X: Any,
        pred_proba: ArrayLike,
        y_pred: ArrayLike | None,
        chunks: int | ArrayLike | None,
        reference_weight: ArrayLike | None,
    ) -> Any:
        p = self._scores(pred_proba)
        pred = predicted_of(y_pred, p, by=self._by)
        rng = as_generator(self.random_state)
        if reference_weight is not None:
            if chunks is not None:
                raise DataError(f"'reference_weight' of {self._by} belongs to one chunk: leave 'chunks' out.")
            return as_asked(self.metric, self._estimate_chunk(p, pred, self._weights(None, reference_weight, rng)))
        table = _checked_table(X, len(p), self._by)
        rows = chunk_rows(chunks, len(p), by=self._by)
        found = in_chunks(
            rows, lambda r: self._estimate_chunk(p[r], pred[r], self._weights(_taken(table, r), None, rng))
        )
        return as_asked(self.metric, found)

    def _scores(self, pred_proba: ArrayLike) -> Floats:
        check_is_fitted(self, "_reference_p")
        return scores_of(pred_proba, n_classes=self.n_classes_, by=self._by)

    def _weights(self, X: Any, given: ArrayLike | None, rng: np.random.Generator) -> Floats:
        """Return the weights of the reference rows that make it look like `X`."""
        if given is not None:
            return check_sample_weight(given, len(self._reference_y), by=self._by)
        return fit_density_ratio(
            self._reference_X, X, estimator=self.estimator, cv=self.cv, min_denominator=self.min_denominator,
            rng=rng, n_jobs=self.n_jobs, by=self._by,
        ).weights  # fmt: skip

    @abstractmethod
    def _estimate_chunk(self, p: Floats, pred: Ints, weight: Floats) -> dict[str, Estimate]:
        """Estimate the metrics of one chunk from the weighted reference."""


def _checked_table(X: Any, n: int, by: str) -> Any:
    if not hasattr(X, "columns"):
        X = np.asarray(X)
    if len(X.shape) != 2 or X.shape[0] != n:
        raise DataError(f"'X' of {by} must have {n} rows, one a prediction. Got shape {X.shape}.")
    return X


def _taken(X: Any, rows: Any) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]
