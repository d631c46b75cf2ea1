"""The line of label errors: training labels that cross-fitted models contradict are dropped or replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._utils.parallel import parallel_map
from corrigible.audit import _evidence as evidence
from corrigible.audit._chain import Chain, LineRecord, mean_and_error, worth_keeping
from corrigible.audit._label_price import label_noise
from corrigible.audit._refits import ask, fit_and_ask, refit
from corrigible.data import ConfidentLearning, VeracityScores

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


def _pruned(y: NDArray[np.intp], output: Floats) -> Mask:
    return ConfidentLearning().fit(y, output).issue_mask


def _contradicted(y: NDArray[np.intp], output: Floats) -> Mask:
    return np.asarray(output.argmax(axis=1) != y)


@dataclass(frozen=True)
class Cleaning:
    """A way to clean training labels: which rows are suspect, and whether they are dropped or relabelled."""

    suspects: Callable[[NDArray[np.intp], Floats], Mask] | None  # None: the detector of numeric targets
    drop: bool
    words: str

    def apply(self, labels: NDArray[Any], mask: Mask, suggested: NDArray[Any]) -> tuple[NDArray[Any], Mask]:
        """Return the labels to fit, and the rows to fit."""
        if self.drop:
            return labels, ~mask
        return np.where(mask, suggested, labels), np.ones(len(mask), dtype=bool)


# Confident learning asks how many labels of each class are wrong, which serves where classes are clear. Where they
# overlap, dropping all that models contradict (the classification filter of Brodley and Friedl 1999) recovers more.
CLASS_CLEANINGS = (
    Cleaning(_pruned, True, "dropping {n} training labels that confident learning suspects"),
    Cleaning(_pruned, False, "replacing {n} training labels that confident learning suspects"),
    Cleaning(_contradicted, True, "dropping {n} training labels that models fitted without them contradict"),
)
VALUE_CLEANINGS = (
    Cleaning(None, True, "dropping {n} suspect training values"),
    Cleaning(None, False, "replacing {n} suspect training values"),
)


def label_errors(chain: Chain) -> LineRecord:
    """Label errors: training labels that cross-fitted models contradict are dropped or replaced, then a refit."""
    problem = chain.problem
    if chain.template is None:
        return _label_suspects(chain)
    side = chain.sides[0]
    found = _detect(chain, side.output)
    record = LineRecord("label_errors", "measured", "")
    record.extra["suggested"] = found.suggested
    record.extra["noise"] = None if chain.always else label_noise(chain)
    if not any(mask.any() for mask in found.masks):
        record.train_score, record.train_flag, record.rows = found.scores, found.masks[0], 0
        record.contribution = np.zeros(len(problem.y_test))
        record.why = "No training label is contradicted by models that were fitted without it."
        return record
    best, gain, error, output = _best_cleaning(chain, found)
    cleaning, mask = found.cleanings[best], found.masks[best]
    record.train_score, record.train_flag, record.rows = found.scores, mask, int(mask.sum())
    assert chain.labels is not None
    labels, keep = cleaning.apply(chain.labels, mask, found.suggested)
    known = problem.classes[labels] if problem.is_classification else labels
    assert problem.X_train is not None
    model = refit(chain.template, problem.X_train[keep], known[keep], seed=chain.seed)
    member = ask(model, problem.X_test, problem.classes)  # type: ignore[arg-type]
    change = chain.losses() - problem.row_loss(member, problem.y_test)
    if problem.is_classification and problem.has_proba:
        of_test = ConfidentLearning().fit(problem.y_test, problem.test_output)
        record.score, record.flag = of_test.issue_scores, of_test.issue_mask
    record.kept = worth_keeping(gain, error, chain)
    tested = f"cross-validated gain {gain:.4g} ± {error:.2g}"
    record.remedy = f"{cleaning.words.format(n=int(mask.sum()))} and refitting"
    if record.kept:
        record.contribution = change
        record.why = f"Measured by {record.remedy} ({tested})."
        chain.members, chain.models, chain.labels, chain.keep = [member], [model], labels, keep
        # Corrections go on learning from all rows with the labels as they came, outputs of the cleaned models:
        # on cleaned rows alone a calibrator would see too few disagreements and sharpen.
        chain.sides = [replace(side, output=output)]
    else:
        record.contribution, record.tried = np.zeros(len(change)), change
        record.why = (
            f"Nothing was kept: {record.remedy} was tried and is not better by more than its error ({tested})."
        )
    record.blocks = evidence.label_blocks(chain, record, side.output)
    return record


@dataclass(frozen=True)
class _Found:
    """Cleanings that were looked at, each one's suspects, and for every training row a score and a label instead."""

    cleanings: tuple[Cleaning, ...]
    masks: list[Mask]
    scores: Floats
    suggested: NDArray[Any]


def _detect(chain: Chain, output: Floats) -> _Found:
    """Find the suspects among all training rows."""
    problem = chain.problem
    assert problem.y_train is not None
    if problem.is_classification:
        detector = ConfidentLearning().fit(problem.y_train, output)
        masks = [detector.issue_mask, detector.issue_mask, _contradicted(problem.y_train, output)]
        return _Found(CLASS_CLEANINGS, masks, detector.issue_scores, output.argmax(axis=1))
    veracity = VeracityScores(chain.template, random_state=chain.seed, n_jobs=chain.n_jobs)
    veracity.fit(problem.X_train, problem.y_train)
    masks = [veracity.issue_mask, veracity.issue_mask]
    return _Found(VALUE_CLEANINGS, masks, veracity.issue_scores, output)


def _best_cleaning(chain: Chain, found: _Found) -> tuple[int, float, float, Floats]:
    """Cross-validate detection and cleaning as one; return the best cleaning's number, gain, error and outputs.

    Each training row is scored, labelled as it came, by a model fitted to the other folds as cleaned by detectors
    that saw those folds alone. Suspects found with the row's own label in sight would carry that label into the
    cleaned ones, and every cleaning would seem to help.
    """
    problem, side = chain.problem, chain.sides[0]
    assert chain.fold is not None
    assert chain.labels is not None
    old = problem.row_loss(side.output, side.y)
    share = float(found.masks[0].mean())
    suspects = _class_suspects(chain) if problem.is_classification else _value_suspects(chain, share)
    tried: dict[int, tuple[float, float, Floats]] = {}
    for number, (cleaning, mask) in enumerate(zip(found.cleanings, found.masks, strict=True)):
        if not mask.any():
            continue
        tasks = []
        for k, masks, suggested in suspects:
            labels, keep = cleaning.apply(chain.labels, masks[number], suggested)
            known = problem.classes[labels] if problem.is_classification else labels
            inside = chain.fold == k
            tasks.append(
                (chain.template, problem.X_train, known, keep & ~inside, inside, problem.classes, chain.seed)
            )
        output = np.empty_like(side.output)
        for (k, _, _), part in zip(suspects, parallel_map(fit_and_ask, tasks, n_jobs=chain.n_jobs), strict=True):
            output[chain.fold == k] = part
        tried[number] = (*mean_and_error(old - problem.row_loss(output, side.y)), output)
    best = max(tried, key=lambda number: tried[number][0])
    return best, *tried[best]


_Suspects = list[tuple[int, list[Mask], NDArray[Any]]]


def _class_suspects(chain: Chain) -> _Suspects:
    """Return for each fold every cleaning's suspects among the other folds' rows, and labels instead.

    A model for every two folds that it does not see tells the rows of the one for the suspects outside the other.
    """
    problem, fold = chain.problem, chain.fold
    assert fold is not None
    assert problem.y_train is not None
    numbers = [int(k) for k in np.unique(fold)]
    outputs, result = _pair_outputs(chain, numbers), []
    for k in numbers:
        rows = np.flatnonzero(fold != k)
        y, output = problem.y_train[rows], outputs[k][rows]
        by_rule = {rule: rule(y, output) for c in CLASS_CLEANINGS if (rule := c.suspects)}
        masks, suggested = [], problem.y_train.copy()
        for cleaning in CLASS_CLEANINGS:
            mask = np.zeros(len(fold), dtype=bool)
            mask[rows] = by_rule[cleaning.suspects]  # type: ignore[index]
            masks.append(mask)
        suggested[rows] = output.argmax(axis=1)
        result.append((k, masks, suggested))
    return result


def _value_suspects(chain: Chain, share: float) -> _Suspects:
    """Return the same for numeric targets: the detector anew outside each fold, with this share of suspects or none."""
    problem, fold = chain.problem, chain.fold
    assert fold is not None
    assert problem.X_train is not None
    assert problem.y_train is not None
    result = []
    for k in map(int, np.unique(fold)):
        rows = np.flatnonzero(fold != k)
        detector = VeracityScores(
            chain.template, shares=(share,), n_fine=0, n_bootstrap=5, random_state=chain.seed, n_jobs=chain.n_jobs
        ).fit(problem.X_train.iloc[rows], problem.y_train[rows])
        mask, suggested = np.zeros(len(fold), dtype=bool), problem.y_train.copy()
        mask[rows], suggested[rows] = detector.issue_mask, detector.suggested_values_
        result.append((k, [mask] * len(VALUE_CLEANINGS), suggested))
    return result


def _pair_outputs(chain: Chain, numbers: list[int]) -> dict[int, Floats]:
    """Return for each fold the outputs of the other folds' rows from models that saw neither of the two folds."""
    problem, fold = chain.problem, chain.fold
    assert fold is not None
    pairs = list(combinations(numbers, 2))
    labels = chain.raw_labels()
    tasks = [
        (chain.template, problem.X_train, labels, ~np.isin(fold, p), np.isin(fold, p), problem.classes, chain.seed)
        for p in pairs
    ]
    outputs = {k: np.zeros_like(chain.sides[0].output) for k in numbers}
    for (a, b), part in zip(pairs, parallel_map(fit_and_ask, tasks, n_jobs=chain.n_jobs), strict=True):
        of = fold[np.isin(fold, (a, b))]
        outputs[a][fold == b], outputs[b][fold == a] = part[of == b], part[of == a]
    return outputs


def _label_suspects(chain: Chain) -> LineRecord:
    """Without a refit, suspect test labels are listed; what they cost cannot be measured."""
    problem = chain.problem
    why = problem.no_refit + " Suspect labels are listed, but what they cost is not measured."
    record = LineRecord("label_errors", "not_applicable", why)
    if problem.is_classification and problem.has_proba:
        detector = ConfidentLearning().fit(problem.y_test, problem.test_output)
        record.score, record.flag = detector.issue_scores, detector.issue_mask
        record.rows = int(detector.issue_mask.sum())
        record.blocks = evidence.suspect_blocks(chain, record)
    return record
