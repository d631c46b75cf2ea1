"""Validation of what a user hands in. Each message says what, whose, the rule, what was got, the remedy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible.errors import DataError, InvalidParameterError, nearest

# Columns written as text with six digits, or kept as float32, miss 1 by about this much.
_SUM_TOLERANCE = 1e-3
_NO_RESPONSE = object()


def as_array(values: Any) -> NDArray[Any]:
    """Return an array: of a torch tensor its values, wherever it lives; numpy has no bfloat16, so half is float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.element_size() < 4 else values
    return np.asarray(values)


def check_choice(value: Any, choices: Collection[Any], *, name: str, by: str) -> Any:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise InvalidParameterError(
            f"The {name!r} parameter of {by} must be one of {listed}. Got {value!r}.{nearest(value, choices)}"
        )
    return value


def check_number(
    value: Any, *, name: str, by: str, low: float = -np.inf, high: float = np.inf, closed: str = "both"
) -> float:
    """Return `value` if it is a real number between `low` and `high`.

    Parameters
    ----------
    value : Any
        What the user gave.
    name, by : str
        Parameter and its owner, for the message.
    low, high : float
        Bounds.
    closed : {"both", "left", "right", "neither"}
        Which bounds belong to the domain.
    """
    ok = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if ok:
        above = value >= low if closed in ("both", "left") else value > low
        below = value <= high if closed in ("both", "right") else value < high
        ok = bool(above and below)
    if not ok:
        left = "[" if closed in ("both", "left") else "("
        right = "]" if closed in ("both", "right") else ")"
        raise InvalidParameterError(
            f"The {name!r} parameter of {by} must be a number in {left}{low:g}, {high:g}{right}. Got {value!r}."
        )
    return value


def check_count(value: Any, *, name: str, by: str, low: int = 1) -> int:
    """Return `value` if it is an integer of at least `low`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise InvalidParameterError(f"The {name!r} parameter of {by} must be an integer >= {low}. Got {value!r}.")
    return int(value)


def check_pred_proba(
    pred_proba: ArrayLike, *, n_classes: int | None = None, name: str = "pred_proba", by: str
) -> NDArray[np.floating]:
    """Return class probabilities as an array of shape (n, k), checked.

    Parameters
    ----------
    pred_proba : array-like of shape (n, k) or (n,)
        Probabilities; one column is read as the probability of the second of two classes.
    n_classes : int, optional
        Number of columns that must be there.
    name, by : str
        Argument and its owner, for the message.

    Returns
    -------
    ndarray of shape (n, k)
        float32 stays float32, all else is float64. No copy where none is needed.

    Raises
    ------
    DataError
        If it is empty, not numeric, holds NaN, leaves [0, 1] or a row does not sum to 1; the row is named.
    """
    p = _float_array(pred_proba, name, by)
    if p.ndim == 1:
        p = np.column_stack([1 - p, p])
    if p.ndim != 2 or p.shape[0] == 0 or p.shape[1] < 2:
        raise DataError(
            f"{name!r} of {by} must have shape (n_samples, n_classes) with at least one row and two classes. "
            f"Got shape {np.shape(pred_proba)}."
        )
    if n_classes is not None and p.shape[1] != n_classes:
        raise DataError(f"{name!r} of {by} must have {n_classes} columns, one a class. Got {p.shape[1]}.")
    _check_simplex(p, name, by)
    return p


def _check_simplex(p: NDArray[np.floating], name: str, by: str) -> None:
    sums = p @ np.ones(p.shape[1], dtype=p.dtype)
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise DataError(f"{name!r} of {by} must be finite. Row {row} holds {_shown(p[row])}. Drop or refill it.")
    if p.min() < 0 or p.max() > 1:
        row = int(np.flatnonzero(((p < 0) | (p > 1)).any(axis=1))[0])
        raise DataError(
            f"{name!r} of {by} must lie in [0, 1]. Row {row} holds {_shown(p[row])}. Pass probabilities, not scores."
        )
    off = np.abs(sums - 1)
    if off.max() > _SUM_TOLERANCE:
        row = int(off.argmax())
        raise DataError(
            f"Each row of {name!r} of {by} must sum to 1 within {_SUM_TOLERANCE:g}. "
            f"Row {row} sums to {sums[row]:.6g}. Divide each row by its sum if that is what is meant."
        )


def check_labels(
    labels: ArrayLike, *, n: int | None = None, n_classes: int | None = None, name: str = "labels", by: str
) -> NDArray[np.intp]:
    """Return class labels as column numbers 0 … k-1.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Integers that number the columns of the probabilities.
    n, n_classes : int, optional
        Length and number of classes they must fit.
    name, by : str
        Argument and its owner, for the message.
    """
    y = as_array(labels)
    if y.ndim != 1 or y.size == 0:
        raise DataError(f"{name!r} of {by} must be one-dimensional and not empty. Got shape {y.shape}.")
    if n is not None and y.size != n:
        raise DataError(f"{name!r} of {by} must have {n} entries, one a row. Got {y.size}.")
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all():
        y = y.astype(np.intp)
    if y.dtype.kind not in "iub":
        raise DataError(
            f"{name!r} of {by} must be integers that number the columns of the probabilities. "
            f"Got dtype {y.dtype}. Encode them with sklearn.preprocessing.LabelEncoder."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or (n_classes is not None and high >= n_classes):
        bound = "n_classes" if n_classes is None else n_classes
        raise DataError(f"{name!r} of {by} must lie in 0 … {bound} - 1. Got values from {low} to {high}.")
    return y.astype(np.intp, copy=False)


def check_vector(
    values: ArrayLike, *, n: int | None = None, name: str, by: str, minimum: float = -np.inf
) -> NDArray[np.floating]:
    """Return a finite float vector of length `n`, with entries of at least `minimum`."""
    v = _float_array(values, name, by)
    if v.ndim != 1 or v.size == 0:
        raise DataError(f"{name!r} of {by} must be one-dimensional and not empty. Got shape {v.shape}.")
    if n is not None and v.size != n:
        raise DataError(f"{name!r} of {by} must have {n} entries, one a row. Got {v.size}.")
    bad = ~np.isfinite(v) | (v < minimum)
    if bad.any():
        row = int(bad.argmax())
        rule = "finite" if minimum == -np.inf else f"finite and at least {minimum:g}"
        raise DataError(f"{name!r} of {by} must be {rule}. Row {row} is {v[row]}.")
    return v


def check_sample_weight(sample_weight: ArrayLike | None, n: int, *, by: str) -> NDArray[np.floating]:
    """Return weights of shape (n,): ones for None; finite, not negative, not all zero."""
    if sample_weight is None:
        return np.ones(n)
    w = check_vector(sample_weight, n=n, name="sample_weight", by=by, minimum=0.0)
    if w.sum() <= 0:
        raise DataError(f"'sample_weight' of {by} must not be all zero.")
    return w


def _float_array(values: ArrayLike, name: str, by: str) -> NDArray[np.floating]:
    try:
        array = as_array(values)
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name!r} of {by} must be numeric. Got {type(values).__name__}: {error}.") from None


def _shown(row: NDArray[np.floating]) -> str:
    cells = ", ".join(f"{v:.6g}" for v in row[:6])
    return f"[{cells}{', …' if len(row) > 6 else ''}]"


def check_gaps(
    estimator: Any,
    X: ArrayLike,
    y: Any = _NO_RESPONSE,
    *,
    reset: bool = True,
    numeric: bool = False,
    gaps: bool = True,
) -> Any:
    """Return X as a float64 matrix in which NaN may stand, and y where given, as scikit-learn checks them.

    Parameters
    ----------
    estimator : estimator
        Learns number and names of the features, or has them compared.
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like of shape (n_samples,), optional
        Response; None is an error, as for scikit-learn.
    reset : bool
        Learn features rather than compare them.
    numeric : bool
        Whether y must be numbers.
    gaps : bool
        Whether NaN may stand in X.
    """
    finite: bool | str = "allow-nan" if gaps else True
    words: dict[str, Any] = {"X": X, "dtype": np.float64, "reset": reset}
    if y is not _NO_RESPONSE:
        words |= {"y": y, "y_numeric": numeric}
    try:
        from sklearn.utils.validation import validate_data
    except ImportError:  # scikit-learn before 1.6
        return estimator._validate_data(force_all_finite=finite, **words)
    return validate_data(estimator, ensure_all_finite=finite, **words)
