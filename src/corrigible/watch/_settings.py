"""What a watch is asked for, checked before a row is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import InvalidParameterError
from corrigible.shift._expected_metrics import metric_names
from corrigible.watch._chunks import Chunking

BY = ("cbpe", "mcbpe", "importance", "direct_loss")
SPREADS = ("rows", "chunks")
REGRESSION_METRICS = ("mae", "mse", "rmse", "mape", "msle", "rmsle")
_DEFAULT = {"classification": ("accuracy", "roc_auc", "f1"), "regression": ("mae", "rmse")}


@dataclass(frozen=True)
class WatchSettings:
    """Checked settings; see `corrigible.watch.watch` for what each means."""

    target: str
    proba: tuple[str, ...]
    prediction: str | None
    metrics: tuple[str, ...]
    by: str
    chunk: Chunking
    time: str | None
    features: tuple[str, ...] | None
    drop: tuple[str, ...]
    alpha: float
    spread: str
    business_value: tuple[tuple[float, ...], ...] | None
    allow_new: bool
    seed: int

    @property
    def task(self) -> str:
        """``classification`` where there are probabilities, else ``regression``."""
        return "classification" if self.proba else "regression"

    @property
    def takes_features(self) -> bool:
        """Whether the method looks at the rows' inputs."""
        return self.by != "cbpe"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a state file holds them."""
        return {
            "target": self.target,
            "proba_columns": list(self.proba),
            "prediction_column": self.prediction,
            "metrics": list(self.metrics),
            "by": self.by,
            "chunk": str(self.chunk),
            "time": self.time,
            "features": None if self.features is None else list(self.features),
            "drop": list(self.drop),
            "alpha": self.alpha,
            "spread": self.spread,
            "business_value": None if self.business_value is None else [list(r) for r in self.business_value],
            "allow_new_categories": self.allow_new,
            "seed": self.seed,
        }


def checked(
    *,
    target: str,
    proba_columns: Sequence[str],
    prediction_column: str | None,
    metrics: Sequence[str] | None,
    by: str | None,
    chunk: Any,
    time: str | None,
    features: Sequence[str] | None,
    drop: Sequence[str],
    alpha: float,
    spread: str,
    business_value: ArrayLike | None,
    allow_new_categories: bool,
    seed: int,
    state: bool,
) -> WatchSettings:
    """Return the settings, or raise InvalidParameterError on the first that cannot be."""
    if not proba_columns and prediction_column is None:
        raise InvalidParameterError(
            "A watch needs --proba-columns for classes or --prediction-column for values. See corrigible watch --help."
        )
    task = "classification" if proba_columns else "regression"
    by = by or ("cbpe" if task == "classification" else "direct_loss")
    check_choice(by, BY, name="by", by="watch")
    if (by == "direct_loss") == (task == "classification"):
        need = "--prediction-column of values" if by == "direct_loss" else "--proba-columns"
        raise InvalidParameterError(f"The method {by!r} of watch needs {need}.")
    check_number(alpha, name="alpha", by="watch", low=0, high=1, closed="neither")
    check_choice(spread, SPREADS, name="spread", by="watch")
    check_count(seed, name="seed", by="watch", low=0)
    rule = Chunking.parse(chunk)
    if state and rule.kind == "count":
        raise InvalidParameterError(
            "A watch that continues (--state) cannot be cut into a number of parts, for they move as rows come. "
            "Give --chunk as a period or a number of rows."
        )
    if time is None and rule.kind == "time":
        raise InvalidParameterError(f"--chunk {rule} of watch needs --time, the column that dates the rows.")
    if spread == "chunks" and rule.kind == "count":
        raise InvalidParameterError("--spread chunks of watch needs --chunk as a period or a number of rows.")
    if features and by == "cbpe":
        raise InvalidParameterError(
            "--features is for --by mcbpe and importance: cbpe takes the probabilities alone."
        )
    values = _matrix(business_value)
    names = tuple(metrics) if metrics else _DEFAULT[task]
    if task == "classification":
        metric_names(names, values, by="watch")
    else:
        for name in names:
            check_choice(name, REGRESSION_METRICS, name="metrics", by="watch")
    return WatchSettings(
        target=target, proba=tuple(proba_columns), prediction=prediction_column, metrics=tuple(dict.fromkeys(names)),
        by=by, chunk=rule, time=time, features=None if features is None else tuple(features), drop=tuple(drop),
        alpha=float(alpha), spread=spread, business_value=values, allow_new=allow_new_categories, seed=seed,
    )  # fmt: skip


def _matrix(value: ArrayLike | None) -> tuple[tuple[float, ...], ...] | None:
    if value is None:
        return None
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise InvalidParameterError(
            "The 'business_value' parameter of watch must be a square matrix of numbers, a row a label and a column a "
            f"prediction. Got {value!r}."
        )
    return tuple(tuple(map(float, row)) for row in matrix)
