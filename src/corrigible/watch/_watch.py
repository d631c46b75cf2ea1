"""`watch`: performance of production rows, chunk by chunk, estimated without labels and measured where they arrive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from corrigible._core.any_table import as_pandas
from corrigible._utils.progress import Progress, progress
from corrigible._utils.scan import column_names
from corrigible._utils.tables import check_column, check_names, expand, read_table
from corrigible.errors import DataError
from corrigible.watch._bands import MIN_CHUNKS, Band, Null, spent
from corrigible.watch._inputs import Part, Reader, feature_columns, fingerprint
from corrigible.watch._methods import Method, minimum_rows, realised
from corrigible.watch._report import Chunk, Reading, WatchReport
from corrigible.watch._settings import WatchSettings, checked
from corrigible.watch._source import Plan, Source
from corrigible.watch._state import State
from corrigible.watch._words import summary, warnings

_BY = "--reference"
_LEAST_REFERENCE = 100


def watch(
    reference: Any,
    production: Any,
    *,
    target: str,
    proba_columns: Sequence[str] = (),
    prediction_column: str | None = None,
    metrics: Sequence[str] | None = None,
    by: str | None = None,
    chunk: str | int = "10chunks",
    time: str | None = None,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    alpha: float = 0.05,
    spread: str = "rows",
    business_value: ArrayLike | None = None,
    allow_new_categories: bool = False,
    state: str | Path | None = None,
    complete: bool = False,
    n_jobs: int | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> WatchReport:
    """Estimate a model's performance on production rows chunk by chunk, and alert where it moved.

    Each chunk's metrics are estimated without labels, and computed where labels are there. A value is an alert if it
    lies outside the band that draws from the reference stay in. Under the null, chunks drawn as the reference was, the
    chance of any false alert, over all chunks and metrics, estimated or realised, is at most `alpha`; how, and under
    what approximations, is said in `corrigible.watch._bands`.

    Parameters
    ----------
    reference : dataframe, str or Path
        Labelled rows that the model was not trained on: a table, or files by path or glob.
    production : dataframe, str, Path or sequence of these paths
        Rows in order. Files are read twice, in batches; one chunk is in memory at a time.
    target : str
        Column of labels or values. Production rows may lack it, or have it in part.
    proba_columns : sequence of str
        Probability columns, one a class in the order of the classes; one means the second of two classes.
    prediction_column : str, optional
        Predicted classes (by default the most probable), or without `proba_columns` predicted values: regression.
    metrics : sequence of str, optional
        As in `corrigible.shift.CBPE`, by default accuracy, roc_auc and f1; for values mae, mse, rmse, mape, msle and
        rmsle, by default mae and rmse.
    by : {"cbpe", "mcbpe", "importance", "direct_loss"}, optional
        Estimator: `corrigible.shift.CBPE` by default, `MCBPE`, `ImportanceWeighting`, or for values
        `DirectLossEstimation`.
    chunk : str or int, default="10chunks"
        Periods (6h, 1D, 1W, 1M, 1Q, 1Y), rows (50000) or parts (12chunks).
    time : str, optional
        Column of times, which must not fall.
    features : sequence of str, optional
        Inputs for all but ``cbpe``. By default all columns without another role that both sides have.
    drop : sequence of str
        Columns that are no inputs.
    alpha : float, default=0.05
        Chance of any false alert.
    spread : {"rows", "chunks"}, default="rows"
        Whether bands hold the chance of drawing rows, or what the reference's own chunks differ by.
    business_value : array-like of shape (n_classes, n_classes), optional
        Value of a row by [label, prediction], for the metric of that name.
    allow_new_categories : bool, default=False
        Take categories that the reference does not have, rather than refuse them.
    state : str or Path, optional
        File that remembers closed chunks, so that the next run continues. Production is then given from its first row
        on, or with periods from any closed period on.
    complete : bool, default=False
        With `state`: the last chunk is whole, though no later row has come.
    n_jobs : int, optional
        Parallel fits.
    seed : int, default=0
        The same seed gives the same bits.
    quiet : bool, default=True
        Show no progress.

    Returns
    -------
    WatchReport

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain.
    DataError
        If a file cannot be read, or rows do not hold what they must; nothing has been written then.
    UnknownNameError
        If a column is not there.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from corrigible.watch import watch
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(2, 2, size=9000)
    >>> p[8000:] = rng.beta(9, 9, size=1000)  # the last rows are hard ones
    >>> table = pd.DataFrame({"late": (rng.uniform(size=9000) < p).astype(int), "p": p})
    >>> report = watch(table[:4000], table[4000:].drop(columns="late"), target="late", proba_columns=["p"],
    ...                metrics=["accuracy"], chunk=1000)
    >>> [(a["chunk"], a["worse"]) for a in report.alerts]
    [('rows 4001–5000', True)]
    """
    settings = checked(
        target=target, proba_columns=proba_columns, prediction_column=prediction_column, metrics=metrics, by=by,
        chunk=chunk, time=time, features=features, drop=drop, alpha=alpha, spread=spread,
        business_value=business_value, allow_new_categories=allow_new_categories, seed=seed, state=state is not None,
    )  # fmt: skip
    with progress(1, quiet=quiet) as shown:
        shown.step("reading and checking all rows")
        source = Source.of(production)
        table = _reference_table(reference, settings)
        for name in (*settings.proba, settings.prediction, settings.target):
            if name is not None:
                check_column(name, table.columns, by=_BY)
        reader = Reader.of_reference(table, settings, feature_columns(table, source.columns, settings))
        labelled = reader.part(table, by=_BY, where="", first=0, reference=True)
        _check_reference(labelled, settings)
        run = _Run.begin(settings, source.reading(reader), labelled, state, complete, n_jobs)
    with progress(len(run.wanted), quiet=quiet) as shown:
        return run.report(shown)


def _reference_table(given: Any, settings: WatchSettings) -> pd.DataFrame:
    if not isinstance(given, str | Path):
        table = as_pandas(given)
        table = table.set_axis([str(c) for c in table.columns], axis=1).reset_index(drop=True)
        check_names(list(table.columns), None, "the table", _BY)
        return table
    headers = [column_names(path, by=_BY) for path in expand(given, by=_BY)]
    if settings.takes_features and settings.features is None:
        return read_table(given, by=_BY)
    single = (settings.prediction, settings.target)
    wanted = [*settings.proba, *(c for c in single if c), *(settings.features or ())]
    wanted += [settings.time] if settings.time in headers[0] else []
    return read_table(given, columns=list(dict.fromkeys(wanted)), by=_BY)


def _check_reference(part: Part, settings: WatchSettings) -> None:
    if len(part) < _LEAST_REFERENCE:
        raise DataError(f"{_BY} must hold at least {_LEAST_REFERENCE} labelled rows. It holds {len(part)}.")
    if settings.task == "classification" and len(np.unique(part.y)) < 2:
        raise DataError(
            f"The target {settings.target!r} of {_BY} must have at least two classes. All are the same."
        )
    if settings.business_value is not None and part.p.shape[1] not in (0, len(settings.business_value)):
        k, given = part.p.shape[1], len(settings.business_value)
        raise DataError(
            f"The 'business_value' of watch must be {k} by {k}, as there are {k} classes. Got {given} rows."
        )
    if {"msle", "rmsle"} & set(settings.metrics) and min(part.y.min(), part.predicted.min()) <= -1:
        raise DataError(f"The metrics msle and rmsle need values and predictions above -1; {_BY} has others.")


@dataclass
class _Run:
    """One run: what is planned, what earlier runs closed, and what is still to be computed."""

    settings: WatchSettings
    source: Source
    reference: Part
    plans: list[Plan]
    closed: dict[int, Chunk]
    state: State | None
    complete: bool
    n_jobs: int | None
    least: int
    reference_chunks: list[NDArray[np.intp]] | None
    null: Null = field(init=False)

    @classmethod
    def begin(
        cls,
        settings: WatchSettings,
        source: Source,
        reference: Part,
        path: str | Path | None,
        complete: bool,
        n_jobs: int | None,
    ) -> _Run:
        least, why = minimum_rows(reference, settings)
        if settings.chunk.kind == "rows" and settings.chunk.size < least:
            raise DataError(
                f"--chunk {settings.chunk} is smaller than can be estimated: {why}. Take larger chunks."
            )
        state = None if path is None else _state(path, settings, reference)
        plans = source.plans()
        largest = max(plans, key=lambda p: p.rows)
        closed = {} if state is None else _closed(state)
        if largest.rows < least and not closed:
            label = settings.chunk.label(largest.number, largest.first, largest.rows)
            raise DataError(
                f"--chunk {settings.chunk} is smaller than can be estimated: {why}, and the largest chunk ({label}) has "
                f"{largest.rows}. Take larger chunks."
            )
        _check_continues(plans, closed, settings, path)
        own = _reference_chunks(reference, settings, least) if settings.spread == "chunks" else None
        return cls(settings, source, reference, plans, closed, state, complete, n_jobs, least, own)

    @property
    def wanted(self) -> list[Plan]:
        """Chunks that are computed: new ones of enough rows, and closed ones of which more labels came."""
        return [p for p in self.plans if p.rows >= self.least and not self._is_known(p)]

    def _is_known(self, plan: Plan) -> bool:
        known = self.closed.get(plan.number)
        return known is not None and (
            plan.labelled <= known.labelled or plan.labelled < self.least or not known.test
        )

    def _is_open(self, plan: Plan) -> bool:
        """Whether later runs may add rows to it."""
        if self.state is None or self.complete or plan is not self.plans[-1] or plan.number in self.closed:
            return False
        return self.settings.chunk.kind == "time" or plan.rows < self.settings.chunk.size

    def report(self, shown: Progress) -> WatchReport:
        """Compute what is wanted, and return it with what was known."""
        found = dict(self.closed)
        wanted = self.wanted
        self.null = Null(Method.fit(self.reference, self.settings, self.n_jobs), self.reference_chunks)
        parts = self.source.chunks({p.number for p in wanted})
        try:
            for plan in self.plans:
                if plan in wanted:
                    shown.step(self._label(plan))
                    part = _next(parts, plan)
                    known = self.closed.get(plan.number)
                    made = self._chunk(plan, part, found) if known is None else self._look(plan, part, known)
                elif plan.number in self.closed:
                    continue
                else:
                    made = self._empty(plan, "open" if self._is_open(plan) else "few rows")
                found[plan.number] = made
                self._remember(plan, made)
        finally:
            if self.state is not None:
                self.state.close()
        chunks = tuple(found[number] for number in sorted(found))
        told = summary(chunks, self.settings, self.reference, self.least, self._classes())
        earlier = frozenset((c.number, *alert) for c in self.closed.values() for alert in c.alerts)
        return WatchReport(
            chunks, self.null.reference, self.settings.to_dict(), told,
            tuple(warnings(chunks, self.settings, told)), earlier,
        )  # fmt: skip

    def _classes(self) -> tuple[Any, ...]:
        return () if self.source.reader is None else self.source.reader.classes

    def _label(self, plan: Plan) -> str:
        return self.settings.chunk.label(plan.number, plan.first, plan.rows)

    def _empty(self, plan: Plan, status: str) -> Chunk:
        start, end = (None if t is None else str(t) for t in (plan.start, plan.end))
        return Chunk(plan.number, self._label(plan), start, end, plan.rows, plan.labelled, status, 0,
                     plan.digest.hexdigest())  # fmt: skip

    def _chunk(self, plan: Plan, part: Part, found: dict[int, Chunk]) -> Chunk:
        """Estimate a new chunk; test it unless it is open."""
        if self._is_open(plan):
            chunk = self._empty(plan, "open")
            return replace(chunk, estimated=self._estimated(part, None), realised=self._realised(part, None))
        short = self.settings.chunk.kind == "rows" and plan.rows < self.settings.chunk.size
        test = 1 + max((c.test for c in found.values()), default=0)
        chunk = replace(self._empty(plan, "partial" if short else "watched"), test=test)
        seen = self._realised(part, self._level(test, look=1))
        return replace(
            chunk, estimated=self._estimated(part, self._level(test)), realised=seen, look=1 if seen else 0
        )

    def _look(self, plan: Plan, part: Part, known: Chunk) -> Chunk:
        """Look at the labels of a closed chunk again; an earlier alert stays."""
        look = known.look + 1
        seen = self._realised(part, self._level(known.test, look=look))
        for name, earlier in known.realised.items():
            if earlier.alert and name in seen:
                seen[name] = replace(seen[name], alert=True)
        return replace(known, labelled=plan.labelled, realised=seen, look=look)

    def _level(self, test: int, look: int = 0) -> float:
        """Return the level of one metric: of its estimate, or of a look at its labels."""
        s = self.settings
        names = len(self.null.reference)  # a confusion matrix by its cells
        if self.state is not None:
            return s.alpha * spent(test) / (2 * names) * 2.0**-look
        estimates = sum(p.rows >= self.least for p in self.plans)
        seen = sum(p.rows >= self.least and p.labelled >= self.least for p in self.plans)
        return s.alpha / ((estimates + seen) * names)

    def _estimated(self, part: Part, level: float | None) -> dict[str, Reading]:
        bands = {} if level is None else self.null.bands("estimate", len(part), level)
        found = self.null.method.estimate(part)
        return {name: _reading(e.value, bands.get(name), e.low, e.high) for name, e in found.items()}

    def _realised(self, part: Part, level: float | None) -> dict[str, Reading]:
        there = part[part.labelled]
        if len(there) < self.least:
            return {}
        bands = {} if level is None else self.null.bands("realised", len(there), level)
        return {name: _reading(v, bands.get(name)) for name, v in realised(there, self.settings).items()}

    def _remember(self, plan: Plan, made: Chunk) -> None:
        if self.state is None or self._is_open(plan):
            return
        if plan.number in self.closed:
            line = {"kind": "look", "number": made.number, "labelled": made.labelled, "look": made.look,
                    "realised": made.to_dict()["realised"]}  # fmt: skip
        else:
            line = {"kind": "chunk", **made.to_dict()}
        self.state.append(line)


def _reading(value: float, band: Band | None, low: float | None = None, high: float | None = None) -> Reading:
    if band is None:
        return Reading(value, low, high)
    return Reading(value, low, high, band.low, band.high, band.excludes(value))


def _next(parts: Iterator[tuple[int, Part]], plan: Plan) -> Part:
    number, part = next(parts, (None, None))
    if number != plan.number or part is None or len(part) != plan.rows:
        raise DataError("--production changed while it was read. Run again.")
    return part


# --- memory -------------------------------------------------------------------------------------------------------


def _state(path: str | Path, settings: WatchSettings, reference: Part) -> State:
    # Whether new categories are taken is left out: one may come long after the first run.
    kept = {k: v for k, v in settings.to_dict().items() if k != "allow_new_categories"}
    text = json.dumps([kept, fingerprint(reference)], sort_keys=True)
    state = State(path, hashlib.sha256(text.encode()).hexdigest(), kept)
    state.check_writable()
    return state.read()


def _closed(state: State) -> dict[int, Chunk]:
    found: dict[int, Chunk] = {}
    for line in state.lines:
        if line["kind"] == "chunk":
            found[line["number"]] = Chunk.from_dict(line)
        elif line["kind"] == "look":
            seen = {name: Reading(**r) for name, r in line["realised"].items()}
            found[line["number"]] = replace(
                found[line["number"]], labelled=line["labelled"], look=line["look"], realised=seen
            )
    return found


def _check_continues(
    plans: list[Plan], closed: dict[int, Chunk], settings: WatchSettings, path: str | Path | None
) -> None:
    """Raise if rows of closed chunks have changed, or came late."""
    latest = max(closed, default=-(2**62))
    for plan in plans:
        known = closed.get(plan.number)
        if known is None and plan.number > latest:
            continue
        if known is None or known.digest != plan.digest.hexdigest():
            label = settings.chunk.label(plan.number, plan.first, plan.rows)
            since = ", or only rows of later periods" if settings.chunk.kind == "time" else ""
            raise DataError(
                f"The chunk {label} of --production is not what --state {str(path)!r} closed ({plan.rows} rows, were "
                f"{0 if known is None else known.rows}). Give the same rows from the first on{since}, or name another "
                "state."
            )


def _reference_chunks(reference: Part, settings: WatchSettings, least: int) -> list[NDArray[np.intp]]:
    """Return the rows of each of the reference's own chunks."""
    rule, n = settings.chunk, len(reference)
    times = reference.times
    order = np.arange(n)
    if rule.kind == "time":
        if times is None:
            raise DataError(f"--spread chunks needs the time column {settings.time!r} in {_BY}. It is not there.")
        order = np.argsort(times.asi8, kind="stable")
        times = times[order]
    numbers = rule.numbers(0, n, n, times)
    found = [rows for rows in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(rows) >= least]
    if rule.kind == "rows":
        found = [rows for rows in found if len(rows) == rule.size]
    if len(found) < MIN_CHUNKS:
        raise DataError(
            f"--spread chunks needs at least {MIN_CHUNKS} chunks of {least} rows or more in {_BY}. It has {len(found)}; "
            "take smaller chunks, or --spread rows."
        )
    return found
