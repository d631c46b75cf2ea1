"""The audit: lines in chain order, one bootstrap for all, the budget, the rows and the evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._core.bootstrap import bootstrap_means
from corrigible._utils.parallel import one_thread
from corrigible._utils.progress import SILENT, Progress, progress
from corrigible._utils.validation import check_choice, check_count
from corrigible.audit import _correction_lines as corrections
from corrigible.audit import _estimated_lines as estimated
from corrigible.audit import _evidence as evidence
from corrigible.audit import _refit_lines as refits
from corrigible.audit._annotators import Labelling, annotators
from corrigible.audit._budget import TITLES, Draws, assemble
from corrigible.audit._chain import Chain, LineRecord
from corrigible.audit._forecast import safe_forecast
from corrigible.audit._group_leaks import group_leaks
from corrigible.audit._group_leaks import tell as tell_leaks
from corrigible.audit._inputs import problem_from_predictions, problem_from_tables
from corrigible.audit._label_line import label_errors
from corrigible.audit._label_price import LabelNoise, price_label_noise
from corrigible.audit._previous import previous as compare_previous
from corrigible.audit._problem import Problem
from corrigible.audit._report import AuditReport
from corrigible.audit._start import start
from corrigible.audit._stream import BATCH_ROWS, SAMPLE_ROWS, audit_batches
from corrigible.errors import DataError
from corrigible.models import Predictions
from corrigible.uncertainty import ensemble_disagreement

Floats = NDArray[np.floating]
N_RESAMPLES = 1000

LINES: dict[str, Callable[[Chain], LineRecord]] = {
    "label_errors": label_errors,
    "missing_values": estimated.missing_values,
    "decision_rule": corrections.decision_rule,
    "calibration": corrections.calibration,
    "groups": corrections.groups,
    "model_variance": refits.model_variance,
    "shift": refits.shift,
    "data_size": estimated.data_size,
}
# Fitting and cross-fitting the model, the lines, the bootstrap, the forecast.
N_STEPS = len(LINES) + 3


@one_thread()
def audit(
    model: Any,
    X_train: pd.DataFrame,
    y_train: Any,
    X_test: pd.DataFrame,
    y_test: Any,
    X_production: pd.DataFrame | None = None,
    groups: Sequence[str] | None = None,
    *,
    drop: Sequence[str] = (),
    loss: str | None = None,
    previous: Any = None,
    annotator: str | None = None,
    annotations: Sequence[str] = (),
    lines: Collection[str] | None = None,
    seeds: int = 5,
    seed: int = 0,
    n_jobs: int | None = None,
    quiet: bool = True,
) -> AuditReport:
    """Split a model's test loss into an error budget.

    Parameters
    ----------
    model : estimator or None
        scikit-learn estimator on raw columns, fitted to the training rows or unfitted; None builds a pipeline
        of skrub's ``TableVectorizer`` and histogram gradient boosting.
    X_train, X_test, X_production : DataFrame of shape (n, d)
        Any column types, missing values included; the same columns in each.
    y_train, y_test : array-like of shape (n,)
        Labels, or numbers for regression.
    groups : sequence of str, optional
        Columns whose groups are looked at; by default the first columns of few categories.
    drop : sequence of str
        Columns that are no features; they may still be groups.
    loss : {"zero_one", "log", "brier", "squared", "absolute"}, optional
        By default ``zero_one`` for classes and ``squared`` for numbers.
    previous : estimator or array-like of shape (n_test,), optional
        An earlier model, or its predictions on the test rows.
    annotator : str, optional
        Column that says who labelled a row, of the training or of the test rows; no feature.
    annotations : sequence of str
        Columns of several annotators' labels of the same rows, missing where one gave none; no features.
    lines : collection of str, optional
        Lines to look at; the others say that they were not asked for. By default all.
    seeds : int
        Refits behind the line of model variance.
    seed : int
        Everything random follows from it: the same seed gives the same bits.
    n_jobs : int, optional
        Parallel refits, as in joblib.
    quiet : bool
        Show no progress.

    Returns
    -------
    AuditReport
        ``budget``, ``lines``, ``rows``, ``save``, ``fix``.

    Raises
    ------
    DataError
        If the tables do not fit each other, the target or the model; the message says which and how.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from corrigible.audit import audit
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression())
    >>> report = audit(model, X[::2], y[::2], X[1::2], y[1::2], loss="log", seeds=2)
    >>> budget = report.budget
    >>> left = budget.total["value"] - sum(line.points or 0 for line in budget.lines)
    >>> abs(left - budget.rest["value"]) < 1e-9
    True
    """
    check_count(seeds, name="seeds", by="audit")
    check_count(seed, name="seed", by="audit", low=0)
    with progress(N_STEPS, quiet=quiet) as shown:
        shown.step("checking and fitting the model")
        problem = problem_from_tables(
            model, X_train, _series(y_train, "target"), X_test, _series(y_test, "target"),
            X_production=X_production, groups=groups, drop=drop, loss=loss, previous=previous,
            labelling=Labelling(annotator, tuple(annotations)), seed=seed,
        )  # fmt: skip
        return audit_problem(problem, seeds=seeds, seed=seed, n_jobs=n_jobs, lines=lines, shown=shown)


@one_thread()
def audit_predictions(
    predictions: Predictions,
    *,
    production: Predictions | None = None,
    loss: str | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> AuditReport:
    """Split the loss of a table of predictions; lines that need a refit say so.

    Parameters
    ----------
    predictions : Predictions
        With target, and probabilities or predicted labels or values.
    production : Predictions, optional
        Unlabelled rows to forecast the loss of.
    loss : str, optional
        As in `audit`.
    seed : int
        Seed of folds and bootstrap.
    quiet : bool
        Show no progress.

    Returns
    -------
    AuditReport
    """
    with progress(N_STEPS, quiet=quiet) as shown:
        shown.step("checking the predictions")
        if len(predictions) > SAMPLE_ROWS:
            starts = range(0, len(predictions), BATCH_ROWS)
            return audit_batches(
                lambda: (predictions[i : i + BATCH_ROWS] for i in starts), len(predictions), production=production,
                loss=loss, seed=seed, lines=LINES, shown=shown,
            )  # fmt: skip
        problem = problem_from_predictions(predictions, production=production, loss=loss)
        return audit_problem(problem, seeds=1, seed=seed, n_jobs=None, shown=shown)


def _series(values: Any, name: str) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(np.asarray(values), name=name)


def audit_problem(
    problem: Problem,
    *,
    seeds: int,
    seed: int,
    n_jobs: int | None,
    lines: Collection[str] | None = None,
    shown: Progress = SILENT,
) -> AuditReport:
    """Audit a checked problem; `audit` and `audit_predictions` make one of what the user hands in."""
    for name in lines or ():
        check_choice(name, LINES, name="lines", by="audit")
    chain = start(problem, seeds=seeds, seed=seed, n_jobs=n_jobs)
    leaks = group_leaks(chain)
    tell_leaks(problem, leaks)
    total = chain.losses()
    now = total
    for name, line in LINES.items():
        shown.step(TITLES[name].lower())
        if name == "data_size":
            now = chain.losses()
        wanted = lines is None or name in lines
        chain.records.append(
            _record(name, line, chain) if wanted else _not_applicable(name, "It was not asked for.")
        )
    who, who_blocks = annotators(chain)
    next(r for r in chain.records if r.id == "label_errors").blocks += who_blocks
    shown.step("bootstrap")
    draws = _draw(chain, total, now, np.random.default_rng(seed))
    budget = assemble(
        chain.records, draws, task=problem.task, loss=problem.loss, n_test=len(problem.y_test),
        epistemic=_epistemic(chain),
    )  # fmt: skip
    shown.step("forecast")
    ahead, ahead_blocks = safe_forecast(problem, seed=seed)
    earlier, earlier_blocks = compare_previous(problem)
    sections = {r.id: r.blocks for r in chain.records}
    sections |= {"rest": evidence.worst_rows(chain, now), "forecast": ahead_blocks, "previous": earlier_blocks}
    if problem.findings is not None and problem.findings.blocks:
        sections["data"] = problem.findings.blocks
    budget = replace(
        budget, forecast=ahead, previous=earlier, annotators=who, grouped_leaks=[leak.to_dict() for leak in leaks]
    )
    return AuditReport(budget=budget, chain=chain, total_losses=total, sections=sections)


def _record(name: str, line: Callable[[Chain], LineRecord], chain: Chain) -> LineRecord:
    """Return the line's record; a model that fails on the rows of one line does not end the audit."""
    try:
        return line(chain)
    except DataError as error:
        chain.problem.warnings.append(f"{TITLES[name]}: {error}.")
        return _not_applicable(name, f"It could not be looked at. {error}.")


def _not_applicable(name: str, why: str) -> LineRecord:
    return LineRecord(name, "not_applicable", why)


def _draw(chain: Chain, total: Floats, now: Floats, rng: np.random.Generator) -> Draws:
    """Bootstrap the test rows once for everything, so that all differences stay paired."""
    found = {r.id: r for r in chain.records}
    columns: dict[str, Floats] = {"total": total, "now": now}
    for record in chain.records:
        if record.contribution is not None:
            columns[record.id] = record.contribution
        if record.tried is not None:
            columns[f"{record.id} tried"] = record.tried
    noise = found["label_errors"].extra.get("noise")
    size = found["data_size"] if "losses" in found["data_size"].extra else None
    curve = np.empty((0, len(total))) if size is None else size.extra["losses"].mean(axis=1)
    weight = chain.problem.test_weight
    seen = np.empty((len(total), 0)) if noise is None else noise.columns()
    matrix = np.column_stack([*columns.values(), *curve, seen])
    drawn = bootstrap_means(matrix, sample_weight=weight, n_resamples=N_RESAMPLES, rng=rng)
    means = np.average(matrix, axis=0, weights=weight)
    at = {name: i for i, name in enumerate(columns)}
    result = Draws(
        total=float(means[0]),
        total_draws=drawn[:, 0],
        points={i: float(means[at[i]]) for i in found if i in at},
        draws={i: drawn[:, at[i]] for i in found if i in at},
        upper={i: drawn[:, at[f"{i} tried"]] for i in found if f"{i} tried" in at},
    )
    if "impact" in found["missing_values"].extra:
        result.draws["missing_values"] += found["missing_values"].extra["impact"].noise(len(drawn), rng=rng)
    if noise is not None:
        first = matrix.shape[1] - seen.shape[1]
        gain = noise.gain(drawn[:, first:], means[first:], np.random.default_rng([chain.seed, 1]))
        _put_label_noise(found["label_errors"], noise, result, gain)
    if size is not None:
        _finish_data_size(
            chain, size, result, float(means[1]), drawn[:, 1], drawn[:, len(columns) :][:, : len(curve)], rng
        )
    return result


def _put_label_noise(record: LineRecord, noise: LabelNoise, draws: Draws, gain: Floats) -> None:
    """Put what right training labels are estimated to bring on their line, or into its upper end."""
    price_label_noise(record, noise, gain)
    if record.kept:
        draws.upper[record.id] = gain
    else:
        draws.points[record.id], draws.draws[record.id] = float(np.median(gain)), gain


def _finish_data_size(
    chain: Chain,
    size: LineRecord,
    draws: Draws,
    now: float,
    now_draws: Floats,
    curve_draws: Floats,
    rng: np.random.Generator,
) -> None:
    """Measure the line from what is left after the estimated lines, which have not changed the predictor."""
    claimed = [r.id for r in chain.records if r.basis == "estimated" and r.id in draws.points]
    left = now - sum(draws.points[i] for i in claimed)
    left_draws = now_draws - sum((draws.draws[i] for i in claimed), start=np.zeros_like(now_draws))
    draws.points[size.id], draws.draws[size.id] = estimated.finish_data_size(
        size, min(left, now), curve_draws, np.minimum(left_draws, now_draws), rng
    )


def _epistemic(chain: Chain) -> float | None:
    """What the members still disagree on, in the unit of the loss: the ensemble's ambiguity."""
    found = next((r.extra.get("members") for r in chain.records if r.id == "model_variance"), None)
    if found is None:
        return None
    outputs = np.stack([chain.corrected(members=[m]) for m in found])
    disagreement = ensemble_disagreement(outputs, chain.problem.loss)
    return float(np.average(disagreement, weights=chain.problem.test_weight))
