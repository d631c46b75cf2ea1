"""Mixtures of models by optimal weights, what a newcomer adds to them, and files of probabilities that can be shared.

Paper: Advancing State of the Art in Language Modeling (Herel, Mikolov, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.bootstrap import bootstrap_means
from corrigible._utils.files import atomic_path
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError

CARD = Card(
    name="probability_ensemble",
    kind="estimator",
    obj="ProbabilityEnsemble",
    also=("Complementarity", "complementarity", "read_probabilities", "write_probabilities"),
    papers=("lm_ensemble",),
    refs=("herel2023advancing",),
    source="",
    differs="Of the paper the abstract and summaries were read; no code of the authors was found. Weights are the exact "
    "optimum, with a certificate. Intervals of what a model adds, and the file format, are ours.",
    inputs="proba",
    stochastic=False,
    cost="O(n m^2) a Newton step for n items and m models; memory of the table",
    use_when="Several models have given probabilities to the same items: what do they reach together, and who adds to it?",
    avoid_when="The items are those that a model was trained on: it takes all the weight.",
    test_params=({}, {"tol": 1e-6}),
    excused={"check_sklearn": "fit takes probabilities that models gave, which must lie in (0, 1]."},
)

Floats = NDArray[np.floating]
_BY = "ProbabilityEnsemble"
_SCHEMA = b"corrigible.probabilities/1"


class ProbabilityEnsemble(BaseEstimator):
    r"""Mix models so that the true answers of a set of items are as probable as can be.

    With p_ij the probability that model j gave to what came at item i, the weights maximise

    .. math:: \frac{1}{n} \sum_i \log \sum_j w_j p_{ij}, \qquad w_j \ge 0, \quad \sum_j w_j = 1,

    which is concave. Only the probabilities of what came are needed, so models of any vocabulary size can be
    mixed from files of one number an item.

    Parameters
    ----------
    tol : float, default=1e-9
        Certified distance from the optimum, in nats an item.
    max_iter : int, default=10000
        Steps at most.

    Attributes
    ----------
    weights_ : ndarray of shape (n_models,)
        They sum to 1.
    loss_ : float
        Mean negative log-probability of the items by the mixture, in nats; its exponential is the perplexity.
    losses_ : ndarray of shape (n_models,)
        The same of each model alone.
    gap_ : float
        The mixture's loss lies at most this far above the optimum.
    n_iter_ : int
        Steps taken.

    Notes
    -----
    Steps of expectation maximisation, ``w_j <- w_j mean_i p_ij / q_i`` with q the mixture, alternate with steps of
    Newton's method on the models that have weight, which are kept if they are better. By concavity the loss lies at most
    ``max_j mean_i p_ij / q_i - 1`` above the optimum.

    References
    ----------
    .. [1] Herel, D. and Mikolov, T. (2023). Advancing State of the Art in Language Modeling. arXiv:2312.03735.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import ProbabilityEnsemble
    >>> given = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])  # each knows half of the items
    >>> found = ProbabilityEnsemble().fit(given)
    >>> found.weights_.round(3), bool(found.loss_ < found.losses_.min())
    (array([0.5, 0.5]), True)
    """

    def __init__(self, *, tol: float = 1e-9, max_iter: int = 10_000) -> None:
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, proba: ArrayLike, y: None = None) -> Self:
        """Find the weights.

        Parameters
        ----------
        proba : array-like of shape (n_items, n_models)
            Probabilities that the models gave to what came, in (0, 1]; a model may give 0 if another does not.
        y : None
            Not used.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If a number is no probability, or all models gave 0 to an item.
        """
        check_number(self.tol, name="tol", by=_BY, low=0.0, high=1.0, closed="neither")
        check_count(self.max_iter, name="max_iter", by=_BY)
        p = _checked(proba, _BY)
        self.weights_, self.gap_, self.n_iter_ = _optimum(p, self.tol, self.max_iter)
        self.loss_ = float(-np.log(p @ self.weights_).mean())
        with np.errstate(divide="ignore"):
            self.losses_ = -np.log(p).mean(axis=0)
        self.n_features_in_ = p.shape[1]
        return self

    def transform(self, proba: ArrayLike) -> Floats:
        """Return the mixture's probabilities of further items.

        Parameters
        ----------
        proba : array-like of shape (n_items, n_models) or (n_items, n_classes, n_models)
            Probabilities of what came, or of all classes; models in the last axis.

        Returns
        -------
        ndarray of shape (n_items,) or (n_items, n_classes)
        """
        check_is_fitted(self)
        p = np.asarray(proba, dtype=np.float64)
        if p.ndim not in (2, 3) or p.shape[-1] != len(self.weights_):
            raise DataError(
                f"'proba' of {_BY}.transform must have the {len(self.weights_)} models of fit in its last axis. Got "
                f"shape {p.shape}."
            )
        return np.asarray(p @ self.weights_)


@dataclass(frozen=True, kw_only=True)
class Complementarity:
    """What each model adds to a mixture of the others.

    Attributes
    ----------
    models : tuple of str
        Names.
    loss : float
        Of the mixture of all, in nats an item, weights found on other items.
    alone : ndarray of shape (n_models,)
        Loss of each model.
    without : ndarray of shape (n_models,)
        Loss of the best mixture without it.
    gain, low, high : ndarray of shape (n_models,)
        ``without - loss`` and its bootstrap interval over items: what the model adds.
    weights : ndarray of shape (n_models,)
        In the mixture of all, on all items.
    gain_over_best : tuple of float
        Loss of the best single model less that of the mixture, with interval.
    """

    models: tuple[str, ...]
    loss: float
    alone: Floats
    without: Floats
    gain: Floats
    low: Floats
    high: Floats
    weights: Floats
    gain_over_best: tuple[float, float, float] = field(default=(np.nan, np.nan, np.nan))

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row a model, that which adds most first."""
        names = ("alone", "without", "gain", "low", "high", "weights")
        frame = pd.DataFrame({n: getattr(self, n) for n in names}, index=pd.Index(self.models, name="model"))
        return frame.sort_values("gain", ascending=False, kind="stable")


def complementarity(
    proba: ArrayLike,
    *,
    models: Sequence[str] | None = None,
    cv: int = 5,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    rng: RandomState = None,
) -> Complementarity:
    """Measure what each model adds to a mixture of the others, on items that the weights were not found on.

    Parameters
    ----------
    proba : array-like of shape (n_items, n_models)
        Probabilities that the models gave to what came.
    models : sequence of str, optional
        Their names.
    cv : int, default=5
        Runs of neighbouring items; the weights for each are found on the others.
    n_resamples : int, default=1000
        Bootstrap draws.
    confidence : float, default=0.95
        Of the intervals.
    rng : None, int, Generator or RandomState
        Source of the bootstrap.

    Returns
    -------
    Complementarity

    References
    ----------
    .. [1] Herel, D. and Mikolov, T. (2023). Advancing State of the Art in Language Modeling. arXiv:2312.03735.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import complementarity
    >>> good = np.random.default_rng(0).uniform(0.05, 0.9, size=500)
    >>> other = np.where(good < 0.4, 0.7, 0.1)  # knows what the good one does not
    >>> found = complementarity(np.column_stack([good, good, other]), models=["good", "copy", "weak"], rng=0)
    >>> found.to_frame()["alone"].round(2).to_dict()
    {'weak': 1.6, 'good': 0.87, 'copy': 0.87}
    >>> found.to_frame()["gain"].round(2).iloc[:1].to_dict()
    {'weak': 0.04}
    """
    by = "complementarity"
    check_count(cv, name="cv", by=by, low=2)
    check_count(n_resamples, name="n_resamples", by=by)
    check_number(confidence, name="confidence", by=by, low=0.0, high=1.0, closed="neither")
    p = _checked(proba, by)
    n, m = p.shape
    if m < 2 or n < cv:
        raise DataError(f"{by} needs two models, and an item a fold. Got {m} models and {n} items.")
    names = tuple(f"model {j}" for j in range(m)) if models is None else tuple(map(str, models))
    if len(names) != m:
        raise DataError(f"'models' of {by} must name {m} models. Got {len(names)} names.")
    sets = [np.arange(m), *(np.delete(np.arange(m), j) for j in range(m))]
    losses = np.column_stack([_cross_fitted(p[:, kept], cv) for kept in sets])
    with np.errstate(divide="ignore"):
        single = -np.log(p)
    best = int(single.mean(axis=0).argmin())
    gains = np.column_stack([losses[:, 1:] - losses[:, :1], single[:, best] - losses[:, 0]])
    draws = bootstrap_means(gains, n_resamples=n_resamples, rng=as_generator(rng, by="rng"))
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    mean = gains.mean(axis=0)
    return Complementarity(
        models=names, loss=float(losses[:, 0].mean()), alone=single.mean(axis=0), without=losses[:, 1:].mean(axis=0),
        gain=mean[:-1], low=low[:-1], high=high[:-1], weights=_optimum(p, 1e-9, 10_000)[0],
        gain_over_best=(float(mean[-1]), float(low[-1]), float(high[-1])),
    )  # fmt: skip


def write_probabilities(path: str | Path, proba: ArrayLike, *, ids: ArrayLike, model: str, task: str) -> None:
    """Write the probabilities that a model gave to what came, as a Parquet file that others can mix.

    Parameters
    ----------
    path : str or Path
        Where; its folder must exist.
    proba : array-like of shape (n_items,)
        In (0, 1].
    ids : array-like of shape (n_items,)
        What tells the items apart, the same for all models of a task; written as text.
    model, task : str
        Names of the model and of the set of items.

    Notes
    -----
    Columns ``id`` (text) and ``log_prob`` (natural logarithm, float64), sorted as given; the schema's metadata hold
    ``format``, ``model`` and ``task``.
    """
    by = "write_probabilities"
    p = _checked(np.asarray(proba, dtype=np.float64)[:, None], by)[:, 0]
    names = np.asarray(ids).astype(str)
    if names.shape != p.shape or len(np.unique(names)) < len(names):
        raise DataError(f"'ids' of {by} must be {len(p)} different values. Got shape {names.shape}.")
    about = {b"format": _SCHEMA, b"model": str(model).encode(), b"task": str(task).encode()}
    table = pa.table({"id": names.tolist(), "log_prob": np.log(p)}).replace_schema_metadata(about)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_probabilities(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Read files of probabilities of one task, a column a model, items in the order of the first file.

    Parameters
    ----------
    paths : sequence of str or Path
        Files by `write_probabilities`.

    Returns
    -------
    DataFrame of shape (n_items, n_models)
        Probabilities in (0, 1], indexed by item.

    Raises
    ------
    DataError
        If a file is of another kind or task, holds other items, or a model comes twice.
    """
    by, columns, task = "read_probabilities", {}, None
    for path in paths:
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{by} cannot read {str(path)!r}: {str(error).splitlines()[0]}.") from None
        about = table.schema.metadata or {}
        if about.get(b"format") != _SCHEMA:
            raise DataError(f"{by} reads files of write_probabilities. {str(path)!r} is none.")
        check_choice(about[b"task"], (about[b"task"] if task is None else task,), name="task", by=by)
        task, model = about[b"task"], about[b"model"].decode()
        if model in columns:
            raise DataError(f"{by} needs each model once. {str(path)!r} holds {model!r} again.")
        values = table.column("log_prob").to_numpy()
        if not (np.isfinite(values) & (values <= 0)).all():
            raise DataError(f"{str(path)!r} must hold finite log-probabilities of at most 0.")
        columns[model] = pd.Series(np.exp(values), index=pd.Index(table.column("id").to_pylist(), name="id"))
        first = next(iter(columns.values())).index
        if len(first) != len(columns[model]) or not first.isin(columns[model].index).all():
            raise DataError(f"{str(path)!r} must hold the items of the first file, {len(first)}. It holds others.")
        columns[model] = columns[model].reindex(first)
    if not columns:
        raise DataError(f"{by} needs a file. Got none.")
    return pd.DataFrame(columns)


def _checked(proba: ArrayLike, by: str) -> Floats:
    p = np.asarray(proba, dtype=np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise DataError(f"'proba' of {by} must have shape (n_items, n_models). Got {p.shape}.")
    wrong = ~((p >= 0) & (p <= 1)).all(axis=1) | (p.max(axis=1) <= 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"'proba' of {by} must hold probabilities, not all 0 for an item. Item {row} has {p[row][:6].tolist()}."
        )
    return p


def _optimum(p: Floats, tol: float, max_iter: int) -> tuple[Floats, float, int]:
    """Return the weights, the certified gap in nats, and the steps."""
    m = p.shape[1]
    # Items are scaled, which changes the loss by a constant and nothing else.
    p = p / p.max(axis=1, keepdims=True)
    w = np.full(m, 1 / m)
    gap = np.inf
    for step in range(1, max_iter + 1):
        ratio = p / (p @ w)[:, None]
        slope = ratio.mean(axis=0)
        gap = float(slope.max() - 1)
        if gap <= tol:
            return w, max(gap, 0.0), step
        w = w * slope
        w /= w.sum()
        w = _newton(p, w)
    return w, gap, max_iter


def _newton(p: Floats, w: Floats) -> Floats:
    """Return the weights after a step of Newton's method within the simplex, if that is better."""
    used = w > 1e-12
    k = int(used.sum())
    if k < 2:
        return w
    ratio = p[:, used] / (p @ w)[:, None]
    slope, curve = ratio.mean(axis=0), ratio.T @ ratio / len(p)
    system = np.zeros((k + 1, k + 1))
    system[:k, :k], system[:k, k], system[k, :k] = curve + 1e-12 * np.eye(k), 1.0, 1.0
    move = np.linalg.lstsq(system, np.r_[slope, 0.0], rcond=None)[0][:k]
    below = move < 0
    longest = float((-w[used][below] / move[below]).min()) if below.any() else 1.0
    before = np.log(p @ w).mean()
    for share in (min(1.0, longest), 0.5 * min(1.0, longest)):
        new = w.copy()
        new[used] = np.maximum(w[used] + share * move, 0.0)
        new /= new.sum()
        with np.errstate(divide="ignore"):
            if np.log(p @ new).mean() > before:
                # A model whose weight met 0 can come back: expectation maximisation never moves an exact 0.
                return np.maximum(new, 1e-15) / np.maximum(new, 1e-15).sum()
    return w


def _cross_fitted(p: Floats, cv: int) -> Floats:
    """Return each item's loss by weights found on the other folds."""
    losses = np.empty(len(p))
    for rows in np.array_split(np.arange(len(p)), cv):
        others = np.delete(np.arange(len(p)), rows)
        with np.errstate(divide="ignore"):
            losses[rows] = -np.log(p[rows] @ _optimum(p[others], 1e-8, 10_000)[0])
    return losses
