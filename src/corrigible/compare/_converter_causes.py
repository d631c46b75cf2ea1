"""What the difference between a model and its conversion looks like, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
UNKNOWN = "no common pattern: see the first node that diverges"


def likely_cause(old: Floats, new: Floats, close: Callable[[Floats, Floats], bool]) -> str:
    """Return the likeliest explanation of different outputs on rows on which both are finite.

    Parameters
    ----------
    old, new : ndarray of shape (n, ...)
        Outputs of original and conversion.
    close : callable
        Whether two arrays agree.
    """
    if old.shape != new.shape:
        return _shape_cause(old, new, close)
    rows = np.isfinite(old).reshape(len(old), -1).all(axis=1) & np.isfinite(new).reshape(len(new), -1).all(axis=1)
    if not rows.any():
        return "the conversion answers with numbers that are not finite"
    old, new = old[rows].reshape(int(rows.sum()), -1), new[rows].reshape(int(rows.sum()), -1)
    for words, explains in _EXPLANATIONS:
        with np.errstate(all="ignore"):
            if explains(old, new, close):
                return words
    return _small(old, new) or UNKNOWN


def _shape_cause(old: Floats, new: Floats, close: Any) -> str:
    if old.size == new.size:
        if close(old.ravel(), new.ravel()):
            return f"the same numbers in another shape, {new.shape} instead of {old.shape}"
        if old.ndim == new.ndim == 2 and old.shape == new.shape[::-1] and close(old, new.T):
            return "the output is transposed"
    return f"the output has the shape {new.shape} instead of {old.shape}"


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _logits(p: Floats) -> Floats:
    z = np.log(np.maximum(p, 1e-30))
    return np.asarray(z - z.mean(axis=1, keepdims=True))


def _is_proba(p: Floats) -> bool:
    return bool(p.shape[1] > 1 and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-4))


def _permuted(old: Floats, new: Floats, close: Any) -> bool:
    if not 1 < old.shape[1] <= 256 or len(old) < 2:
        return False
    gaps = np.abs(old[:, :, None] - new[:, None, :]).max(axis=0) if old.size * old.shape[1] < 1e7 else None
    if gaps is None:
        return False
    order = gaps.argmin(axis=1)
    return len(set(order.tolist())) == old.shape[1] and close(old, new[:, order])


def _softmax_missing(old: Floats, new: Floats, close: Any) -> bool:
    return (
        _is_proba(old) and not _is_proba(new) and (close(old, _softmax(new)) or close(old, 1 / (1 + np.exp(-new))))
    )


def _softmax_twice(old: Floats, new: Floats, close: Any) -> bool:
    return _is_proba(old) and close(_softmax(old), new)


def _softmax_added(old: Floats, new: Floats, close: Any) -> bool:
    return not _is_proba(old) and old.shape[1] > 1 and close(_softmax(old), new)


def _logarithm(old: Floats, new: Floats, close: Any) -> bool:
    return (_is_proba(old) and close(old, np.exp(new))) or (_is_proba(new) and close(np.exp(old), new))


def _rows_do_not_sum(old: Floats, new: Floats, close: Any) -> bool:
    return _is_proba(old) and not _is_proba(new) and bool((new >= 0).all() and (new <= 1 + 1e-6).all())


def _negated(old: Floats, new: Floats, close: Any) -> bool:
    return close(old, -new)


def _constant(old: Floats, new: Floats, close: Any) -> bool:
    return len(new) > 2 and bool(np.ptp(new, axis=0).max() == 0 and np.ptp(old, axis=0).max() > 0)


def _truncated(old: Floats, new: Floats, close: Any) -> bool:
    return close(np.trunc(old), new) or close(np.round(old), new)


def _offset(old: Floats, new: Floats, close: Any) -> bool:
    gap = (new - old).mean(axis=0)
    return len(old) > 2 and close(old + gap, new)


def _tempered(old: Floats, new: Floats, close: Any) -> bool:
    """Log-odds that are off by a constant a class: an intercept or a prior."""
    if not (_is_proba(old) and _is_proba(new)) or len(old) < 3:
        return False
    gap = _logits(new) - _logits(old)
    return close(_softmax(_logits(old) + np.median(gap, axis=0)), new)


def _scaled(old: Floats, new: Floats, close: Any) -> bool:
    if len(old) < 4:
        return False
    a, b = (_logits(old), _logits(new)) if _is_proba(old) and _is_proba(new) else (old, new)
    slope = ((a - a.mean(axis=0)) * (b - b.mean(axis=0))).sum(axis=0) / ((a - a.mean(axis=0)) ** 2).sum(axis=0)
    fitted = b.mean(axis=0) + slope * (a - a.mean(axis=0))
    return close(_softmax(fitted), new) if a is not old else close(fitted, new)


_EXPLANATIONS = (
    ("columns are in another order, as when class labels are sorted otherwise", _permuted),
    ("the last softmax or sigmoid is missing: logits come out", _softmax_missing),
    ("softmax is applied twice", _softmax_twice),
    ("a softmax is applied that the original does not have", _softmax_added),
    ("a logarithm is missing or added", _logarithm),
    ("probabilities do not sum to 1 over classes: softmax along another axis, or one by one", _rows_do_not_sum),
    ("the sign is turned", _negated),
    ("the output does not depend on the input: a constant was written in when tracing", _constant),
    ("numbers are cut to integers on the way", _truncated),
    ("a constant is added or lost, such as an intercept", _offset),
    ("class scores are off by constants, such as an intercept or a prior", _tempered),
    ("the output is scaled by a constant factor, such as a lost standardisation or learning rate", _scaled),
)


def _small(old: Floats, new: Floats) -> str:
    gap = float(np.median(np.abs(old - new) / np.maximum(np.abs(old), 1e-12)))
    even = float(np.abs(old - new).max()) < 0.1 * float(np.abs(old).max())
    if gap < 1e-2 and even and bool((np.abs(old - new) > 0).mean() > 0.5):
        return (
            f"all outputs are off a little (by {gap:.1g} of their size in the middle): weights or inputs of lower "
            "precision, or an approximated function or constant"
        )
    share = float((np.abs(old - new).max(axis=1) > 1e-6).mean())
    if share < 0.5:
        return f"only {share:.0%} of rows differ: a branch, a category or a range is treated otherwise"
    return ""


_FAMILY_CAUSES = {
    "thresholds of trees": "rows at a tree's threshold take the other branch: < for <=, or a threshold that was "
    "rounded the wrong way",
    "missing": "missing values are treated otherwise: another default branch, filling or test",
    "infinite": "infinite values are treated otherwise",
    "huge": "numbers overflow in the conversion's precision",
    "tiny": "tiny numbers are lost: another epsilon or flushing to zero",
    "float64": "the conversion's input is float32: numbers are rounded before the model sees them",
    "large integers": "integers beyond 2^24 are rounded: the conversion's input is float32",
    "unknown words": "categories that were never seen are treated otherwise",
    "empty words": "empty words are treated otherwise",
}


def family_cause(family: str) -> str | None:
    """Return what a difference on this kind of rows alone means."""
    return _FAMILY_CAUSES.get(family)


_CRASHES = (
    ("an operator or model that the converter does not know", ("shape calculator", "unsupported", "not supported",
     "no converter", "no onnx function", "not implemented", "no op registered", "unregistered")),
    ("versions that do not fit: operator set, format or runtime", ("opset", "ir_version", "ir version", "domain_version")),
    ("a type problem", ("type", "expected an int", "dtype", "float16", "cast")),
    ("a shape problem", ("shape", "dimension", "broadcast", "axis", "rank")),
)  # fmt: skip


def crash_cause(error: Exception) -> str:
    """Return the kind of a crash, as the paper sorts causes, with the first line of its message."""
    chain: list[str] = []
    at: BaseException | None = error
    while at is not None:
        chain.append(str(at).strip().splitlines()[0] if str(at).strip() else type(at).__name__)
        at = at.__cause__ or at.__context__
    said = min(chain[-1:] + chain[:1], key=len)[:160]
    text = " ".join(line[:400] for line in chain).lower()
    kind = next((words for words, marks in _CRASHES if any(m in text for m in marks)), "an error of the converter")
    return f"{kind}: {said}"
