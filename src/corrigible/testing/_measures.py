"""Measures: pure, and where they accumulate, any split and order of the rows gives the same answer."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np

from corrigible._card import Card
from corrigible._contracts import Accumulator
from corrigible._registry import load
from corrigible.testing._samples import classification, grouped_scores, two_groups


def _arguments(card: Card) -> tuple[Any, ...]:
    p, y = classification()
    q, _ = classification(sharpness=2.5)
    return {
        "y, pred_proba": (y, p),
        "y, old, new": (y, p.argmax(1), q[::-1].argmax(1)),
        "member_proba": (np.stack([p, q]),),
        "reference, production": (p, q),
        "X, y, X_test, y_test": (p[:60], p[:60, 0] - 0.5, q[:40], q[:40, 0] - 0.5),
        "scores, y, groups": grouped_scores(),
        "y, decisions, groups": (y > 0, p[:, 0] < 0.5, two_groups()),
        "correct, score": (p.argmax(1) == y, p.max(axis=1)),
        "loss, score": ((p.argmax(1) != y).astype(float), 1 - p.max(axis=1)),
        "correct, y, attributes": (p.argmax(1) == y, y, np.arange(len(y)) % 7 == 0),
        "proba_a, proba_b, y_true": (p, q[::-1].copy(), y),
        "pred_a, pred_b, y_true": (p.argmax(1), q[::-1].argmax(1), y),
        "score, similarity, accuracy": (p[:, 0], p[:, 1], q[::-1, 0].copy()),
    }[card.inputs]


def check_pure(card: Card, params: dict[str, Any]) -> None:
    """Two calls on read-only arrays give the same bits."""
    if card.inputs.startswith(("estimator", "model")):
        return
    arguments = _arguments(card)
    for a in arguments:
        a.setflags(write=False)
    first, second = (numbers(load(card.name)(*arguments, **params)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def numbers(result: Any) -> Any:
    """Flatten a result (number, array, dict or dataclass) to one float array."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = dataclasses.asdict(result)
    if isinstance(result, dict):
        return np.concatenate([numbers(v) for v in result.values()] or [np.empty(0)])
    if isinstance(result, list | tuple):
        return np.concatenate([numbers(v) for v in result] or [np.empty(0)])
    if hasattr(result, "select_dtypes"):
        result = result.select_dtypes("number").to_numpy()
    array = np.atleast_1d(np.asarray(result))
    return array.astype(float).ravel() if array.dtype.kind in "biuf" else np.empty(0)


CHECKS = (check_pure,)


def claim_accumulates(card: Card, params: dict[str, Any]) -> None:
    """The accumulator named first in ``also`` agrees with the function for any split and order."""
    accumulator = getattr(importlib.import_module(card.module), card.also[0])
    arguments = _arguments(card)
    whole = load(card.name)(*arguments, **params)
    order = np.random.default_rng(0).permutation(len(arguments[0]))
    pieces = np.array_split(order, 7)
    parts = [accumulator(**params).update(*(a[i] for a in arguments)) for i in pieces]
    assert isinstance(parts[0], Accumulator)
    total = parts[3]
    for part in parts[:3] + parts[4:]:
        total = total.merge(part)
    found = total.compute()
    if dataclasses.is_dataclass(found):  # what belongs to single rows is None in an accumulator
        whole = {k: v for k, v in dataclasses.asdict(whole).items() if getattr(found, k) is not None}
    np.testing.assert_allclose(numbers(found), numbers(whole), rtol=1e-9, atol=1e-12)


CLAIMS = {"accumulates": claim_accumulates}
