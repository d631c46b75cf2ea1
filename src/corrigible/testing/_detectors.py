"""Detectors: higher is more suspect, and planted errors are found."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from corrigible._card import Card
from corrigible._registry import load
from corrigible.testing._samples import fit_arguments, flipped_labels, regression

# A detector that ranks planted errors worse than this on well-separated data is broken; how good it
# is on real data is what its evidence measures.
_AUROC_FLOOR = 0.9


def _planted(card: Card) -> tuple[tuple[Any, ...], Any]:
    if card.inputs == "labels, pred_proba":
        labels, pred_proba, wrong = flipped_labels()
        return (labels, pred_proba), wrong
    if card.inputs in ("annotations", "label matrix, pred_proba", "token labels, token probabilities"):
        return fit_arguments(card), None
    if card.inputs == "X, y classes":
        labels, pred_proba, wrong = flipped_labels()
        return (np.log(pred_proba), labels), wrong
    X, y, wrong = regression(share=0.1)
    return (X, y), wrong


def check_scores_and_mask(card: Card, params: dict[str, Any]) -> None:
    """One finite score and one bool a row; flagged rows are not the least suspect."""
    arguments, _ = _planted(card)
    seeded = {**params, "random_state": 0} if card.stochastic else params
    method = load(card.name)(**seeded).fit(*arguments)
    n = len(arguments[0])
    assert method.issue_scores.shape == (n,)
    assert method.issue_mask.shape == (n,)
    assert method.issue_mask.dtype == bool
    assert np.isfinite(method.issue_scores).all()
    if method.issue_mask.any() and not method.issue_mask.all():
        flagged, others = method.issue_scores[method.issue_mask], method.issue_scores[~method.issue_mask]
        assert flagged.mean() > others.mean()


def check_finds_planted_errors(card: Card, params: dict[str, Any]) -> None:
    """AUROC of the scores on planted errors is above the floor."""
    arguments, wrong = _planted(card)
    seeded = {**params, "random_state": 0} if card.stochastic else params
    scores = load(card.name)(**seeded).fit(*arguments).issue_scores
    assert roc_auc_score(wrong, scores) > _AUROC_FLOOR


CHECKS = (check_scores_and_mask, check_finds_planted_errors)
CLAIMS: dict[str, Any] = {}
