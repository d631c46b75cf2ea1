"""cost_report: what models cost by every indicator, and where the indicators contradict each other.

Papers: The Efficiency Misnomer (Dehghani, Tay, Arnab, Beyer, Vaswani, ICLR 2022); the footprint metrics of Efficient
Deep Learning: A Survey on Making Deep Learning Models Smaller, Faster, and Better (Menghani, ACM Computing Surveys
2023).
"""

from __future__ import annotations

import itertools
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from corrigible._card import Card
from corrigible._core.model_costs import counted_costs
from corrigible._core.onnx_graph import OnnxSession
from corrigible._utils.optional import require
from corrigible._utils.random import as_generator
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="cost_report",
    kind="measure",
    obj="cost_report",
    also=("CostReport",),
    papers=("efficiency", "efficient_dl"),
    refs=("dehghani2022efficiency", "menghani2023efficient"),
    source="",
    differs="The paper shows by examples that indicators contradict each other; here each pair of models and of "
    "indicators is tested, with intervals for what is measured. Costs of answering only: those of training, carbon "
    "and money are left out. Operations count products of matrices, convolutions and branches of trees.",
    inputs="estimator, X",
    stochastic=True,
    cost="n_rounds times (n_calls single rows and one batch) of every model",
    use_when="Models are chosen by cost: one indicator alone can name the dearer one the cheaper.",
    avoid_when="The machine is not the one that will serve: parameters and operations carry over, times do not.",
)

Floats = NDArray[np.floating]
INDICATORS = ("parameters", "flops", "megabytes", "latency", "tail latency", "seconds a row", "peak megabytes")
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
_MEASURED = ("latency", "tail latency", "seconds a row")


@dataclass(frozen=True)
class CostReport:
    """Outcome of `cost_report`.

    Attributes
    ----------
    table : DataFrame
        A row a model: parameters, flops (a row), megabytes (of the model), latency and tail latency (seconds of a call
        with one row, median and 99th percentile), seconds a row (in batches), peak megabytes (beyond the model while a
        batch is answered), rows a second; NaN where it cannot be counted.
    low, high : DataFrame
        Simultaneous intervals of what is measured; for the rest, the values themselves.
    contradictions : DataFrame
        A row for two models and two indicators by which a different one is cheaper: ``cheaper``, ``dearer`` (by
        ``indicator``), ``but`` the indicator that says otherwise, and both ratios with intervals.
    agreement : DataFrame
        A row a pair of indicators: Kendall's tau of the ranks they give the models, with its interval.
    front : DataFrame
        A row a model, a column an indicator: whether no other model has at least its quality at a lower cost, and the
        share of bootstrap draws in which it is so, where quality is given by rows. Empty without quality.
    conditions : dict
        Threads, batch, warm-up, calls.
    """

    table: pd.DataFrame
    low: pd.DataFrame = field(repr=False)
    high: pd.DataFrame = field(repr=False)
    contradictions: pd.DataFrame
    agreement: pd.DataFrame = field(repr=False)
    front: pd.DataFrame
    conditions: dict[str, Any] = field(default_factory=dict)


def cost_report(
    models: Mapping[str, Any],
    X: Any,
    *,
    quality: Mapping[str, Any] | None = None,
    n_rounds: int = 20,
    n_calls: int = 10,
    n_warm_up: int = 3,
    n_threads: int = 1,
    clock: str = "wall",
    margin: float = 0.1,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
) -> CostReport:
    """Measure what models cost, and find pairs of which each is cheaper by another indicator.

    Parameters
    ----------
    models : mapping of str to model
        Fitted scikit-learn estimators, torch modules, ONNX models (path, bytes, ModelProto, or from `load_onnx`).
    X : array-like of shape (n_samples, ...), or mapping of str to such
        Rows as the models take them: one batch; by model, where they take different columns.
    quality : mapping of str to float or array-like of shape (n,), optional
        Quality of each model, higher better: a number, or scores of single rows, the same rows for all.
    n_rounds : int, default=20
        Rounds; in each, all models are asked in random order, so that what slows the machine slows them alike.
    n_calls : int, default=10
        Calls with a single row in a round.
    n_warm_up : int, default=3
        Calls before the first round that are not counted.
    n_threads : int, default=1
        Threads that a model may use.
    clock : {"wall", "processor"}, default="wall"
        Time as a caller waits, or that the process spends computing: on a machine with other work to do, only the latter
        compares models. It sums over threads.
    margin : float, default=0.1
        Costs that differ by less than this share are alike.
    confidence : float, default=0.95
        Of all intervals at once (Bonferroni).
    rng : Generator, optional
        Source of the order and of the bootstrap over rounds.

    Returns
    -------
    CostReport
        Values, contradictions, agreement of ranks, and the front.

    Raises
    ------
    DataError
        If there are no models or rows, or a model cannot answer them.

    References
    ----------
    .. [1] Dehghani, M., Tay, Y., Arnab, A., Beyer, L. and Vaswani, A. (2022). The Efficiency Misnomer. ICLR.
    .. [2] Menghani, G. (2023). Efficient Deep Learning: A Survey on Making Deep Learning Models Smaller, Faster, and
       Better. ACM Computing Surveys 55(12).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from corrigible.compare import cost_report
    >>> X, y = load_iris(return_X_y=True)
    >>> models = {"line": LogisticRegression(max_iter=500), "tree": DecisionTreeClassifier(max_depth=1)}
    >>> report = cost_report({k: m.fit(X, y) for k, m in models.items()}, X, n_rounds=3)
    >>> report.table[["parameters", "flops"]].to_dict("index")
    {'line': {'parameters': 15.0, 'flops': 24.0}, 'tree': {'parameters': 8.0, 'flops': 1.0}}
    """
    by = "cost_report"
    for value, name in ((n_rounds, "n_rounds"), (n_calls, "n_calls"), (n_threads, "n_threads")):
        check_count(value, name=name, by=by)
    check_count(n_warm_up, name="n_warm_up", by=by, low=0)
    check_choice(clock, tuple(_CLOCKS), name="clock", by=by)
    check_number(margin, name="margin", by=by, low=0.0, high=10.0)
    check_number(confidence, name="confidence", by=by, low=0.0, high=1.0, closed="neither")
    rng = as_generator(rng)
    batches = _batches(models, X)
    scores = _quality(quality, models)
    with _threads(n_threads):
        asked = {name: _Asked(name, model, batches[name], n_threads) for name, model in models.items()}
        times = _timed(list(asked.values()), n_rounds, n_calls, n_warm_up, rng, _CLOCKS[clock])
        counted = {
            name: {**counted_costs(a.model, a.rows), "peak megabytes": a.peak()} for name, a in asked.items()
        }
    draws = _draws(times, counted, n_resamples=1000, rng=rng)
    z = _bonferroni(len(models), confidence)
    table, low, high = _tables(draws, counted, z)
    table["rows a second"] = 1 / table["seconds a row"]
    return CostReport(
        table, low, high, _contradictions(draws, z, margin), _agreement(draws, confidence),
        _front(scores, table, rng),
        {"threads": n_threads, "clock": clock, "rows of a batch": len(next(iter(batches.values()))),
         "rounds": n_rounds, "calls a round": n_calls, "calls of warm-up": n_warm_up, "margin": margin},
    )  # fmt: skip


def _batches(models: Mapping[str, Any], X: Any) -> dict[str, Any]:
    batches = dict(X) if isinstance(X, Mapping) else dict.fromkeys(models, X)
    sizes = {len(batches[m]) if m in batches else 0 for m in models}
    if not models or 0 in sizes or len(sizes) > 1:
        raise DataError(
            f"cost_report needs a model, and as many rows for each. Got {len(models)} models, and "
            f"{' or '.join(map(str, sorted(sizes))) or len(batches)} rows."
        )
    return batches


# --- asking --------------------------------------------------------------------------------------------------------


class _Asked:
    """A model with the rows in its own form, and how it is asked."""

    def __init__(self, name: str, model: Any, X: Any, n_threads: int) -> None:
        self.name, self.model = name, model
        self.rows = X
        if hasattr(model, "state_dict") and hasattr(model, "forward"):
            self._torch(X)
        elif isinstance(model, str | Path | bytes) or hasattr(model, "graph") or hasattr(model, "content"):
            self._onnx(X, n_threads)
        else:
            method = next(
                (m for m in ("predict_proba", "decision_function", "predict", "transform") if hasattr(model, m)), ""
            )
            if not method:
                raise InvalidParameterError(
                    f"Model {name!r} of cost_report cannot be asked: it is {type(model).__name__}."
                )
            self.ask: Callable[[Any], Any] = getattr(model, method)
        self.one = self.rows[:1] if not isinstance(self.rows, pd.DataFrame) else self.rows.iloc[:1]
        try:
            self.ask(self.one)
            self.ask(self.rows)
        except Exception as error:  # whatever a model raises
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"Model {name!r} of cost_report cannot answer the rows: {reason}") from error

    def _torch(self, X: Any) -> None:
        torch = require("torch", extra="torch", by="cost_report")
        self.model = self.model.eval()
        weight = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        rows = torch.as_tensor(np.ascontiguousarray(X))
        self.rows = rows.to(weight.dtype) if weight is not None and rows.is_floating_point() else rows

        def ask(rows: Any) -> Any:
            with torch.inference_mode():
                return self.model(rows)

        self.ask = ask

    def _onnx(self, X: Any, n_threads: int) -> None:
        from corrigible.models import load_onnx

        self.model = self.model if hasattr(self.model, "content") else load_onnx(self.model)
        self.ask = OnnxSession(self.model.model_, by="cost_report", n_threads=n_threads)
        self.rows = np.asarray(X, dtype=np.float32) if np.asarray(X).dtype.kind == "f" else X

    def peak(self) -> float:
        """Return the megabytes that an answer to the batch takes at most, beside the model and the rows.

        What Python's allocator and numpy report, or what the process grows by, if that is more; on systems that do
        not tell the latter, libraries with memory of their own are undercounted.
        """
        tracemalloc.start()
        try:
            self.ask(self.rows)
            traced = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        return max(traced, _resident_growth(lambda: self.ask(self.rows))) / 1e6


def _resident_growth(call: Callable[[], Any]) -> float:
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")
        before = _kilobytes(status, "VmRSS")
        call()
        return 1024.0 * max(0, _kilobytes(status, "VmHWM") - before)
    except OSError:
        return 0.0


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let numpy's libraries and torch use n threads inside the block."""
    import sys

    torch = sys.modules.get("torch")  # not imported by anyone: no model is torch's
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(n):
        if torch:
            torch.set_num_threads(n)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def _timed(
    asked: list[_Asked],
    n_rounds: int,
    n_calls: int,
    n_warm_up: int,
    rng: np.random.Generator,
    clock: Callable[[], float],
) -> dict[str, tuple[Floats, Floats]]:
    """Return, by model, seconds of single calls (n_rounds, n_calls) and of a batch (n_rounds,)."""
    found: dict[str, tuple[Floats, Floats]] = {
        a.name: (np.empty((n_rounds, n_calls)), np.empty(n_rounds)) for a in asked
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for a in asked:
            for _ in range(n_warm_up):
                a.ask(a.one)
                a.ask(a.rows)
        for r in range(n_rounds):
            for i in rng.permutation(len(asked)):
                a = asked[i]
                for c in range(n_calls):
                    found[a.name][0][r, c] = _seconds(a.ask, a.one, clock)
                found[a.name][1][r] = _seconds(a.ask, a.rows, clock) / len(a.rows)
    return found


def _seconds(ask: Callable[[Any], Any], rows: Any, clock: Callable[[], float]) -> float:
    started = clock()
    ask(rows)
    return clock() - started


# --- comparing -----------------------------------------------------------------------------------------------------


def _draws(times: Any, counted: Any, *, n_resamples: int, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Return, by indicator, its logarithm: a row a bootstrap draw of rounds, a column a model; row 0 is as measured."""
    n_rounds = len(next(iter(times.values()))[1])
    picks = np.vstack([np.arange(n_rounds), rng.integers(n_rounds, size=(n_resamples, n_rounds))])
    columns: dict[str, dict[str, Floats]] = {name: {} for name in INDICATORS}
    for model, (single, batch) in times.items():
        resampled = single[picks].reshape(len(picks), -1)
        columns["latency"][model] = np.median(resampled, axis=1)
        columns["tail latency"][model] = np.quantile(resampled, 0.99, axis=1)
        columns["seconds a row"][model] = np.median(batch[picks], axis=1)
        for name, value in counted[model].items():
            columns[name][model] = np.full(len(picks), value if value > 0 else np.nan)
    return {name: pd.DataFrame(found).transform(np.log) for name, found in columns.items()}


def _bonferroni(n_models: int, confidence: float) -> float:
    """Return the normal quantile at which all ratios of all pairs by measured indicators hold at once."""
    n_tests = max(1, n_models * (n_models - 1) // 2) * len(_MEASURED)
    return float(-ndtri((1 - confidence) / 2 / n_tests))


def _tables(draws: Any, counted: Any, z: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    exact = pd.DataFrame(counted).T
    middle = pd.DataFrame({name: d.iloc[0] for name, d in draws.items()})
    error = pd.DataFrame({name: d.iloc[1:].std() for name, d in draws.items()})
    value, low, high = ((middle + sign * z * error).transform(np.exp).assign(**exact) for sign in (0, -1, 1))
    return value, low, high


def _contradictions(draws: Any, z: float, margin: float) -> pd.DataFrame:
    models = list(draws["latency"].columns)
    rows = []
    for a, b in itertools.combinations(models, 2):
        ratios = {}
        for name, d in draws.items():
            gap = d[a] - d[b]
            ratios[name] = (float(gap.iloc[0]), z * float(gap.iloc[1:].std()))
        sign = {name: _sign(mid, half, np.log1p(margin)) for name, (mid, half) in ratios.items()}
        for first, second in itertools.combinations(INDICATORS, 2):
            if sign[first] * sign[second] < 0:
                cheaper, dearer, turn = (a, b, 1) if sign[first] < 0 else (b, a, -1)
                row: dict[str, Any] = {"cheaper": cheaper, "dearer": dearer, "indicator": first, "but": second}
                for which, name in (("ratio", first), ("other ratio", second)):
                    mid, half = ratios[name]
                    low, high = sorted((turn * (mid - half), turn * (mid + half)))
                    row |= {which: np.exp(turn * mid), f"{which}, low": np.exp(low), f"{which}, high": np.exp(high)}
                rows.append(row)
    columns = ["cheaper", "dearer", "indicator", "but", *(f"{w}{p}" for w in ("ratio", "other ratio")
               for p in ("", ", low", ", high"))]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _sign(middle: float, half: float, margin: float) -> int:
    """-1 or 1 if a logarithm of a ratio lies beyond the margin with its whole interval, else 0."""
    if not np.isfinite(middle):
        return 0
    return -1 if middle + half < -margin else 1 if middle - half > margin else 0


def _agreement(draws: Any, confidence: float) -> pd.DataFrame:
    rows, tail = [], (1 - confidence) / 2
    for first, second in itertools.combinations(INDICATORS, 2):
        a, b = draws[first].to_numpy(), draws[second].to_numpy()
        both = np.isfinite(a[0]) & np.isfinite(b[0])
        if both.sum() < 2:
            continue
        taus = _tau(a[:, both], b[:, both])
        low, high = np.nanquantile(taus[1:], [tail, 1 - tail]) if np.isfinite(taus[1:]).any() else (np.nan, np.nan)
        rows.append(
            {"indicator": first, "other": second, "tau": taus[0], "low": low, "high": high, "models": both.sum()}
        )
    return pd.DataFrame(rows, columns=["indicator", "other", "tau", "low", "high", "models"])


def _tau(a: Floats, b: Floats) -> Floats:
    """Return Kendall's tau-b of each row."""
    first, second = np.triu_indices(a.shape[1], 1)
    up, over = np.sign(a[:, first] - a[:, second]), np.sign(b[:, first] - b[:, second])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((up * over).sum(axis=1) / np.sqrt((up**2).sum(axis=1) * (over**2).sum(axis=1)))


def _quality(quality: Any, models: Mapping[str, Any]) -> dict[str, Floats]:
    if quality is None:
        return {}
    if missing := [m for m in models if m not in quality]:
        raise DataError(f"'quality' of cost_report must hold each model. It lacks {missing[0]!r}.")
    scores: dict[str, Floats] = {m: np.atleast_1d(np.asarray(quality[m], dtype=np.float64)) for m in models}
    if len({len(s) for s in scores.values()}) > 1 or not all(
        np.isfinite(s).all() and s.ndim == 1 for s in scores.values()
    ):
        raise DataError("'quality' of cost_report must be finite, and of the same rows for each model.")
    return scores


def _front(scores: dict[str, Floats], table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    if not scores:
        return pd.DataFrame()
    rows = np.column_stack([scores[m] for m in table.index])
    means = [rows.mean(axis=0)]
    if len(rows) > 1:
        means += [rows[rng.integers(len(rows), size=len(rows))].mean(axis=0) for _ in range(200)]
    made = pd.DataFrame({"quality": means[0]}, index=table.index)
    for name in INDICATORS:
        on = np.array([_undominated(q, table[name].to_numpy()) for q in means])
        made[name] = on[0]
        if len(rows) > 1:
            made[f"{name}, share"] = on[1:].mean(axis=0)
    return made


def _undominated(quality: Floats, cost: Floats) -> NDArray[np.bool_]:
    """Return which models no other one equals in both quality and cost while it is better in one."""
    better = (quality[:, None] >= quality) & (cost[:, None] <= cost)
    strictly = (quality[:, None] > quality) | (cost[:, None] < cost)
    return np.asarray(~(better & strictly).any(axis=0) & np.isfinite(cost))
