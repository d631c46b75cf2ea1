"""Comparing two versions, from rows to verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._core.losses import CLASSIFICATION, REGRESSION
from corrigible._utils.tables import check_column
from corrigible._utils.validation import check_choice, check_number
from corrigible.errors import DataError, InvalidParameterError
from corrigible.versions._costs import Costs, measured_costs
from corrigible.versions._inputs import (
    Answers,
    ColumnVersion,
    Roles,
    TestRows,
    Version,
    classes_of,
    is_regression,
    no_answer,
    open_version,
)  # fmt: skip
from corrigible.versions._report import VersionReport
from corrigible.versions._tally import CONFIDENCE_EDGES, Rows, Tally, flips_of
from corrigible.versions._verdict import check_limits, exceeded, verdict_of

_BY = "compare_versions"
_MIN_ROWS = 20


def compare_versions(
    old: Any,
    new: Any,
    test: Any,
    *,
    target: str,
    id: str | None = None,
    groups: Sequence[str] = (),
    drop: Sequence[str] = (),
    prediction_column: str | None = None,
    proba_columns: Sequence[str] = (),
    proba: bool = False,
    loss: str | None = None,
    match: str = "exact",
    tolerance: float = 0.0,
    limits: Mapping[str, float] | None = None,
    costs: bool = True,
    trust_pickle: bool = False,
    seed: int = 0,
) -> VersionReport:
    """Compare two versions of a model on the same labelled rows.

    Parameters
    ----------
    old, new : estimator, path or str
        A fitted model, a model file (skops), a file of predictions, or columns of the test rows separated by
        commas: one of labels or values, several of probabilities.
    test : DataFrame, path or glob
        Labelled rows; files are read batch by batch.
    target : str
        Column of labels or values.
    id : str, optional
        Column that tells rows apart in the test rows and in prediction files, which are then matched by it.
    groups : sequence of str
        Columns whose groups are looked at.
    drop : sequence of str
        Columns that are no features, for models that do not name theirs.
    prediction_column, proba_columns : str, sequence of str
        Columns of prediction files that hold the answers.
    proba : bool, default=False
        Columns hold probabilities, also where there is only one: that of the second class.
    loss : str, optional
        Loss of the verdict: ``zero_one``, ``log``, ``brier``, ``squared`` or ``absolute``. By default zero-one, and
        absolute for values.
    match : {"exact", "normalised", "token_f1"}, default="exact"
        How answers in text are compared with the target: as they are; without case, blanks, punctuation, articles and
        the spelling of numbers; or graded by the F1 score of their tokens, where rows turn whose score falls or rises.
    tolerance : float, default=0.0
        Rise of the mean loss that is no harm.
    limits : mapping of str to float, optional
        What must not be exceeded, such as ``{"negative_flips": 0.01}``: see `VersionReport.measures`.
    costs : bool, default=True
        Measure what models cost, on at most 200 rows.
    trust_pickle : bool, default=False
        Allow pickled models.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    VersionReport
        Changes of loss, flips, groups, agreement, calibration, costs, and the verdict.

    Raises
    ------
    DataError
        If rows do not match, an answer is missing, or there are fewer than 20 rows.

    References
    ----------
    .. [1] Yan, S. et al. (2021). Positive-Congruent Training: Towards Regression-Free Model Updates. CVPR.
    .. [2] Echterhoff, J. et al. (2024). MUSCLE: A Model Update Strategy for Compatible LLM Evolution. Findings of
       EMNLP.

    Examples
    --------
    >>> import pandas as pd
    >>> from corrigible.versions import compare_versions
    >>> rows = pd.DataFrame({"y": ["a", "b"] * 20, "v1": ["a", "a"] * 20, "v2": ["a", "b"] * 20})
    >>> report = compare_versions("v1", "v2", rows, target="y")
    >>> report.verdict, report.flips.n_positive
    ('better', 20)
    """
    check_number(tolerance, name="tolerance", by=_BY, low=0.0)
    check_choice(match, ("exact", "normalised", "token_f1"), name="match", by=_BY)
    limits = check_limits(limits or {})
    rows = TestRows(test)
    roles = Roles(target, id, tuple(groups), tuple(drop), prediction_column, tuple(proba_columns), proba)
    for flag, name in (("--target", target), ("--id", id), *(("--group", g) for g in groups)):
        if name is not None:
            check_column(name, rows.names, by=f"--test, as {flag} names it,")
    versions = [open_version(v, n, rows, roles, trust_pickle=trust_pickle) for v, n in ((old, "OLD"), (new, "NEW"))]
    labels = rows.distinct(target)
    if match != "exact" and any(v.model is not None or getattr(v, "is_proba", False) for v in versions):
        raise InvalidParameterError(
            f"The 'match' of {_BY} applies to answers in text, in columns or files. Got {match!r} with a model or "
            "probabilities: leave it out."
        )
    regression = match == "exact" and is_regression(versions, labels)
    known = ("token_f1",) if match == "token_f1" else REGRESSION if regression else CLASSIFICATION
    loss = check_choice(loss or {REGRESSION: "absolute", CLASSIFICATION: "zero_one"}.get(known, "token_f1"),
                        known, name="loss", by=_BY)  # fmt: skip
    classes = () if regression or match != "exact" else classes_of(versions, labels, roles)
    tally = Tally(classes, regression=regression, seed=seed, match=match)
    unmatched = _fill(tally, rows, versions, roles, classes)
    found = measured_costs(versions, int(tally.flips.sum()), more=costs, seed=seed)
    return _reported(tally, found, loss, tolerance, limits, unmatched)


def _fill(
    tally: Tally, test: TestRows, versions: list[Version], roles: Roles, classes: tuple[Any, ...]
) -> list[str]:
    """Take in all rows that both versions answer; return what to say of the others."""
    single = [roles.target, *([roles.id] if roles.id else []), *roles.groups]
    needed = [*single, *(c for v in versions for c in v.columns())]
    left_out = np.zeros(2, dtype=np.intp)
    seen: pd.Index | None = None
    example: list[Any] = [None, None]
    for first, frame in test.batches(list(dict.fromkeys(needed)), coded=_coded(versions, roles)):
        if roles.id is not None:
            seen = _once(seen, frame[roles.id], roles.id)
        known = [v.known(frame, first) for v in versions]
        for i, k in enumerate(known):
            left_out[i] += int((~k).sum())
            if roles.id and not k.all() and example[i] is None:
                example[i] = frame[roles.id].iloc[int((~k).argmax())]
        kept = known[0] & known[1]
        if kept.any():
            tally.update(
                _rows(frame if kept.all() else frame[kept], first + np.flatnonzero(kept), versions, roles, classes)
            )
    n = int(tally.flips.sum())
    if n < _MIN_ROWS:
        raise DataError(
            f"A comparison needs at least {_MIN_ROWS} rows that both versions answered. There are {n}"
            + (f"; {left_out.max()} rows of --test are not in a file of predictions." if left_out.any() else ".")
        )
    if not tally.regression and not tally.graded and tally.answers_that_are_labels == 0:
        raise DataError(
            "No answer of either version is a label of the target. If the columns hold probabilities, say so with "
            f"--proba; if they hold free text, try --match normalised. "
            f"The target has {', '.join(map(repr, classes[:4] or list(tally.labels.known)[:4]))}, the answers "
            f"{', '.join(repr(k) for k in list(tally.labels.known)[-3:])}."
        )
    return [
        f"{left_out[i]} of {n + int(left_out.max())} rows of --test have no answer in {v.name} and are left out, "
        f"the first of them with {roles.id} {example[i]}."
        for i, v in enumerate(versions)
        if left_out[i]
    ]  # fmt: skip


def _coded(versions: list[Version], roles: Roles) -> list[str]:
    """Return the columns of labels and groups; models get their features as they are."""
    answers = [c for v in versions if isinstance(v, ColumnVersion) and not v.is_proba for c in v.given]
    features = {c for v in versions if v.model is not None for c in v.columns()} | {roles.id}
    return [c for c in dict.fromkeys((roles.target, *roles.groups, *answers)) if c not in features]


def _once(seen: pd.Index | None, ids: pd.Series, name: str) -> pd.Index:
    found = pd.Index(ids)
    twice = found.duplicated() if seen is None else found.duplicated() | found.isin(seen)
    if twice.any():
        raise DataError(
            f"Column {name!r} of --test must name each row once. It has {found[twice.argmax()]!r} twice."
        )
    return found if seen is None else seen.append(found)


def _rows(
    frame: pd.DataFrame, numbers: NDArray[np.intp], versions: list[Version], roles: Roles, classes: tuple[Any, ...]
) -> Rows:
    old, new = (_answered(version, frame, numbers, classes) for version in versions)
    ids = None if roles.id is None else frame[roles.id].to_numpy()
    target = frame[roles.target].array
    y = target if isinstance(target, pd.Categorical) else frame[roles.target].to_numpy()
    return Rows(numbers, ids, y, old, new, frame[list(roles.groups)])


def _answered(
    version: Version, frame: pd.DataFrame, numbers: NDArray[np.intp], classes: tuple[Any, ...]
) -> Answers:
    answers = version.answer(frame, numbers, classes)
    missing = pd.isna(answers.label)
    if missing.any():
        raise no_answer(version.name, numbers, missing)
    return answers


def _reported(
    tally: Tally,
    costs: Costs,
    loss: str,
    tolerance: float,
    limits: Mapping[str, float],
    warnings: list[str],
) -> VersionReport:
    changes = tally.changes()
    if loss not in changes:
        raise DataError(f"The loss {loss!r} needs probabilities of both versions. Without them, take zero_one.")
    has_both = "log" in changes
    report = VersionReport(
        n=int(tally.flips.sum()),
        task="generation" if tally.graded else "regression" if tally.regression else "classification",
        loss=loss,
        tolerance=tolerance,
        verdict=verdict_of(changes[loss], tolerance),
        changes=changes,
        flips=tally.flip_summary(),
        groups={c: {g: flips_of(k) for g, k in sorted(found.items())} for c, found in tally.by_group.items()},
        confidence=_by_confidence(tally),
        agreement={} if tally.regression or tally.graded else tally.agreement(),
        calibration={
            name: s.compute() for name, s in zip(("old", "new"), tally.calibration, strict=True) if has_both
        },
        costs=costs.values,
        contradictions=costs.contradictions,
        score_change=tally.score_change(),
        turned=tally.turned(),
        warnings=warnings,
        limits=dict(limits),
    )
    report.exceeded = exceeded(report.measures, limits)
    return report


def _by_confidence(tally: Tally) -> list[dict[str, Any]]:
    found = []
    for low, high, counts in zip(CONFIDENCE_EDGES, CONFIDENCE_EDGES[1:], tally.by_confidence, strict=False):
        if counts.sum():
            found.append({"low": low, "high": high, "flips": flips_of(counts)})
    return found
