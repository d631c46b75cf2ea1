"""The budget of a table of predictions of any size: learned on a sample, measured on every row, batch by batch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from corrigible._core.bootstrap import BlockSums
from corrigible._utils.parallel import read_ahead
from corrigible._utils.progress import SILENT, Progress
from corrigible.audit._annotators import NOBODY, Labelling, annotators
from corrigible.audit._budget import Draws, assemble
from corrigible.audit._chain import Chain, LineRecord, Side
from corrigible.audit._forecast import safe_forecast
from corrigible.audit._inputs import problem_from_predictions
from corrigible.audit._previous import EarlierFile, EarlierRows, answers
from corrigible.audit._problem import Problem
from corrigible.audit._report import AuditReport
from corrigible.audit._suspects import LabelCutoffs, label_words
from corrigible.models import Predictions

Floats = NDArray[np.floating]
Batches = Callable[[], Iterator[Predictions]]

# Tables of predictions beyond this are streamed; corrections are learned on a sample of this many rows.
SAMPLE_ROWS = 60_000
BATCH_ROWS = 32_768
_N_FOLDS = 2


@dataclass(frozen=True)
class _State:
    """A line of the stream: the predictor before it and after it was tried."""

    id: str
    kept: bool
    before: tuple[Side, ...]
    after: tuple[Side, ...]


def audit_batches(
    batches: Batches,
    n_rows: int,
    *,
    production: Predictions | None = None,
    previous: EarlierFile | None = None,
    labelling: Labelling = NOBODY,
    loss: str | None = None,
    seed: int = 0,
    lines: dict[str, Callable[[Chain], LineRecord]],
    shown: Progress = SILENT,
) -> AuditReport:
    """Audit predictions that come in batches, in two passes and bounded memory.

    The rows are split into two folds at random. In the first pass a sample of each fold is drawn; the lines are
    tried on the sample as on a small table, so that what is learned on one fold is applied to the other. In the
    second pass every row is measured under every state of the chain, and its losses are summed in the blocks that
    the bootstrap resamples.

    Parameters
    ----------
    batches : callable
        Returns a fresh iterator over the same batches in the same order.
    n_rows : int
        Number of rows in all batches.
    production, loss, seed
        As in `audit_predictions`.
    previous : EarlierFile, optional
        Predictions of an earlier version.
    labelling : Labelling
        Who labelled the rows; their rates are of the sample.
    lines : dict
        The lines in chain order.
    shown : Progress
        Progress.
    """
    sample, fold = _sample(batches, n_rows, seed)
    problem = problem_from_predictions(sample, production=production, loss=loss, labelling=labelling)
    chain = _sample_chain(problem, fold, seed)
    states = []
    for name, line in lines.items():
        shown.step(name.replace("_", " "))
        before = tuple(chain.sides)
        record = line(chain)
        chain.records.append(record)
        if record.basis == "measured":
            states.append(_State(name, record.kept, before, record.extra["tried_sides"]))
    who, who_blocks = annotators(chain)
    next(r for r in chain.records if r.id == "label_errors").blocks += who_blocks
    shown.step("measuring every row")
    sums = BlockSums(1 + len(states), rng=np.random.default_rng(seed))
    # The rows go to a file at once: they are too many to keep, and would take a third pass to make again.
    with ExitStack() as opened:
        spool = opened.enter_context(tempfile.NamedTemporaryFile(suffix=".parquet"))
        with _earlier(previous, problem, n_rows) as earlier:
            frames = _measured_frames(batches, problem, seed, states, sums, earlier)
            suspects = _write_rows(Path(spool.name), read_ahead(frames))
            changed, changed_blocks = ({}, []) if earlier is None else earlier.result()
        opened.pop_all()  # the report keeps it
    labels = next(r for r in chain.records if r.id == "label_errors")
    labels.rows = None if labels.rows is None else suspects
    budget = assemble(
        chain.records, _draws(sums, states), task=problem.task, loss=problem.loss, n_test=n_rows, epistemic=None
    )
    shown.step("forecast")
    ahead, ahead_blocks = safe_forecast(problem, seed=seed)
    sections = {r.id: r.blocks for r in chain.records} | {"forecast": ahead_blocks, "previous": changed_blocks}
    problem.warnings.append(
        f"Corrections were learned, and tables made, on a sample of {len(sample)} of {n_rows} rows; the figures of "
        "the budget are of all rows."
    )

    def write_rows(path: Path) -> None:
        shutil.copyfile(spool.name, path)

    return AuditReport(
        budget=replace(budget, forecast=ahead, previous=changed, annotators=who),
        chain=chain,
        total_losses=chain.losses(),
        sections=sections,
        row_writer=write_rows,
    )


def _earlier(
    previous: EarlierFile | None, problem: Problem, n_rows: int
) -> AbstractContextManager[EarlierRows | None]:
    return nullcontext() if previous is None else EarlierRows(previous, problem, n_rows, BATCH_ROWS)


def _folds_of(batch_number: int, n: int, seed: int) -> NDArray[np.intp]:
    """Return the fold of each row of a batch: the same in every pass."""
    return np.random.default_rng([seed, 1, batch_number]).integers(_N_FOLDS, size=n)


def _sample(batches: Batches, n_rows: int, seed: int) -> tuple[Predictions, NDArray[np.intp]]:
    share = min(1.0, SAMPLE_ROWS / n_rows)
    parts, folds = [], []
    for number, batch in enumerate(batches()):
        picked = np.random.default_rng([seed, 2, number]).uniform(size=len(batch)) < share
        parts.append(batch[picked])
        folds.append(_folds_of(number, len(batch), seed)[picked])
    table = pa.concat_tables([p.table for p in parts])
    return replace(parts[0], table=table), np.concatenate(folds)


def _sample_chain(problem: Problem, fold: NDArray[np.intp], seed: int) -> Chain:
    sides = []
    for k in range(_N_FOLDS):
        outside = np.flatnonzero(fold != k)
        groups = None if problem.groups_test is None else problem.groups_test.iloc[outside]
        weight = None if problem.test_weight is None else problem.test_weight[outside]
        sides.append(
            Side(problem.test_output[outside], problem.y_test[outside], groups, weight, np.flatnonzero(fold == k))
        )
    return Chain(problem=problem, members=[problem.test_output], models=[], sides=sides, labels=None, keep=None,
                 fold=None, seed=seed, n_jobs=None, seeds=1)  # fmt: skip


def _parts(batches: Batches, sample: Problem, seed: int) -> Iterator[tuple[Predictions, Problem, NDArray[np.intp]]]:
    """Yield each batch, itself and as a problem, with the folds of its rows."""
    for number, batch in enumerate(batches()):
        problem = replace(
            sample,
            y_test=batch.y,
            test_output=batch.pred_proba if batch.proba else _hard(batch, sample),
            groups_test=batch.group_frame if batch.groups else None,
            test_weight=batch.sample_weight,
            production_output=None,
        )
        yield batch, problem, _folds_of(number, len(batch), seed)


def _hard(batch: Predictions, sample: Problem) -> Floats:
    return np.eye(len(sample.classes))[batch.predicted] if sample.is_classification else batch.predicted


def _measured(part: Problem, fold: NDArray[np.intp], states: list[_State]) -> list[Floats]:
    """Return the total loss of each row, and its change by each line."""
    chain = Chain(problem=part, members=[part.test_output], models=[], sides=[], labels=None, keep=None, fold=None,
                  seed=0, n_jobs=None)  # fmt: skip
    rows = [np.flatnonzero(fold == k) for k in range(_N_FOLDS)]
    known: dict[int, Floats] = {}

    def losses(sides: tuple[Side, ...]) -> Floats:
        if id(sides) not in known:
            placed = [replace(side, rows=r) for side, r in zip(sides, rows, strict=True)]
            known[id(sides)] = chain.losses(sides=placed)
        return known[id(sides)]

    total = part.row_loss(part.test_output, part.y_test)
    return [total, *(losses(s.before) - losses(s.after) for s in states)]


def _draws(sums: BlockSums, states: list[_State]) -> Draws:
    means, drawn = sums.means(), sums.draws()
    points, draws, tried = {}, {}, {}
    for j, state in enumerate(states, start=1):
        points[state.id] = float(means[j]) if state.kept else 0.0
        draws[state.id] = drawn[:, j] if state.kept else np.zeros(len(drawn))
        if not state.kept:
            tried[state.id] = drawn[:, j]
    return Draws(float(means[0]), drawn[:, 0], points, draws, tried)


def _cutoffs(problem: Problem) -> LabelCutoffs | None:
    if not problem.is_classification or not problem.has_proba:
        return None
    return LabelCutoffs(problem.y_test, problem.test_output)


def _measured_frames(
    batches: Batches,
    problem: Problem,
    seed: int,
    states: list[_State],
    sums: BlockSums,
    earlier: EarlierRows | None,
) -> Iterator[pd.DataFrame]:
    """Measure each batch, add it to the sums, compare it with the earlier version, and yield its rows."""
    cutoffs = _cutoffs(problem)
    for batch, part, fold in _parts(batches, problem, seed):
        measured = _measured(part, fold, states)
        if earlier is not None:
            earlier.update(part.y_test, answers(part, part.test_output), batch.ids)
        sums.update(np.column_stack(measured), part.test_weight)
        yield _rows(part, measured, states, cutoffs)


def _rows(
    part: Problem, measured: list[Floats], states: list[_State], cutoffs: LabelCutoffs | None
) -> pd.DataFrame:
    """Return the rows of a batch: loss, label suspicion, each line's change, and why a row is suspect, in words."""
    total, *changes = measured
    columns: dict[str, Any] = {"split": "test", "loss": total}
    told = np.full(len(total), None, dtype=object)
    if cutoffs is not None:
        flags = cutoffs.flags(part.y_test, part.test_output)
        columns["label_errors_score"] = 1 - part.test_output[np.arange(len(total)), part.y_test]
        columns["label_errors_flag"] = flags
        rows = np.flatnonzero(flags)
        told[rows] = label_words(part, part.y_test, part.test_output, rows, unseen=False)
    for state, change in zip(states, changes, strict=True):
        columns[f"{state.id}_score"], columns[f"{state.id}_flag"] = np.abs(change), change != 0
    columns["suspect"] = pd.array(told, dtype="string")
    return pd.DataFrame(columns)


def _write_rows(path: Path, frames: Iterator[pd.DataFrame]) -> int:
    """Write the rows as they come; return how many have a suspect label."""
    writer: pq.ParquetWriter | None = None
    start = suspects = 0
    try:
        for frame in frames:
            frame.insert(1, "index", np.arange(start, start + len(frame)))
            start += len(frame)
            suspects += int(frame["label_errors_flag"].sum()) if "label_errors_flag" in frame else 0
            table = pa.Table.from_pandas(frame, preserve_index=False)
            # A dictionary of numbers is given up again, page by page, after costing most of the time.
            words = [c for c in frame if not is_numeric_dtype(frame[c])]
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=words)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return suspects
