"""A benchmark of label cleaning: noise types by methods by models by tables, resumable.

Paper: AQuA: A Benchmarking Tool for Label Quality Assessment (Goswami et al., NeurIPS 2023).
Original: https://github.com/autonlab/aqua
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corrigible._card import Card
from corrigible._core.label_noise import NOISES
from corrigible._utils.files import write_text
from corrigible._utils.parallel import parallel_map
from corrigible._utils.random import seed_estimator
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.data._active_relabelling import ActiveRelabelling
from corrigible.data._area_under_margin import AreaUnderMargin
from corrigible.data._confident_learning import ConfidentLearning
from corrigible.data._data_map import DataMap
from corrigible.data._knn_shapley import KNNShapley
from corrigible.data._label_leaderboard import LabelLeaderboard
from corrigible.data._neighbour_agreement import NeighbourAgreement
from corrigible.data._self_confidence import LabelQuality
from corrigible.errors import DataError, InvalidParameterError
from corrigible.models import TrainingDynamics

__all__ = ["CARD", "LabelLeaderboard", "LabelQualityBenchmark"]

CARD = Card(
    name="label_quality_benchmark",
    kind="measure",
    obj="LabelQualityBenchmark",
    papers=("aqua",),
    refs=("goswami2023aqua", "xia2020part", "demsar2006statistical"),
    source="https://github.com/autonlab/aqua",
    differs="For tables and scikit-learn models; the paper's text, images and time series, and its networks, are "
    "not there. Active relabelling (CINCER) takes part with the margins that it asks by: nobody answers. Any detector "
    "can join. Class-dependent noise has a random matrix with a rate a class. Human noise is a second label column "
    "that the user gives. Intervals resample tables.",
    inputs="tables, models, methods",
    stochastic=True,
    cost="tables x noises x rates x models x seeds cells; a cell is cv + 2 + methods fits",
    use_when="A way to find or clean wrong labels must be chosen for tables of one's own kind.",
    avoid_when="Known wrong labels are at hand: score the methods on those.",
    also=("LabelLeaderboard",),
    excused={"check_pure": "a class that takes whole tables; the sample inputs hold one"},
)

Floats = NDArray[np.floating]
_N_EPOCHS = 10


@dataclass(frozen=True)
class _Trial:
    """What a method may look at: features (n, d), noisy labels (n,), out-of-fold probabilities (n, k), a seed."""

    X: Floats
    labels: NDArray[np.intp]
    pred_proba: Floats
    seed: int


Found = tuple[Floats, NDArray[np.bool_]]
Method = Callable[[_Trial], Found]


@dataclass(frozen=True)
class _FromProba:
    """A detector that takes labels and out-of-fold probabilities."""

    detector: Any

    def __call__(self, trial: _Trial) -> Found:
        found = clone(self.detector).fit(trial.labels, trial.pred_proba)
        return found.issue_scores, found.issue_mask


@dataclass(frozen=True)
class _FromDynamics:
    """A detector of training dynamics: a small network is trained and watched."""

    detector: Any

    def __call__(self, trial: _Trial) -> Found:
        network = MLPClassifier((32,), learning_rate_init=0.01, random_state=trial.seed)
        scaled = StandardScaler().fit_transform(trial.X)
        record = TrainingDynamics.from_partial_fit(
            network, scaled, trial.labels, n_epochs=_N_EPOCHS, random_state=trial.seed
        )
        found = clone(self.detector).fit_dynamics(record)
        return found.issue_scores, found.issue_mask


@dataclass(frozen=True)
class _FromRows:
    """A detector that takes features and labels."""

    detector: Any

    def __call__(self, trial: _Trial) -> Found:
        detector = seed_estimator(clone(self.detector), trial.seed)
        found = detector.fit(StandardScaler().fit_transform(trial.X), trial.labels)
        return found.issue_scores, found.issue_mask


def _filter(trial: _Trial) -> Found:
    """Suspect each label that models fitted without it contradict (Brodley and Friedl 1999)."""
    p = trial.pred_proba
    return 1 - p[np.arange(len(p)), trial.labels], p.argmax(axis=1) != trial.labels


def _nothing(trial: _Trial) -> Found:
    return np.zeros(len(trial.labels)), np.zeros(len(trial.labels), dtype=bool)


# What only ranks flags a fifth: the mean of the default rates.
METHODS: dict[str, Method] = {
    "no cleaning": _nothing,
    "confident learning, by noise rate": _FromProba(ConfidentLearning()),
    "confident learning, by class": _FromProba(ConfidentLearning(method="prune_by_class")),
    "confident learning, both": _FromProba(ConfidentLearning(method="both")),
    "confident learning, off-diagonal": _FromProba(ConfidentLearning(method="confident_learning")),
    "self-confidence": _FromProba(LabelQuality()),
    "normalized margin": _FromProba(LabelQuality(score="normalized_margin")),
    "entropy": _FromProba(LabelQuality(score="confidence_weighted_entropy", share=0.2)),
    "classification filter": _filter,
    "neighbours' Shapley value": _FromRows(KNNShapley()),
    "neighbour agreement, ranking": _FromRows(NeighbourAgreement()),
    "neighbour agreement, vote": _FromRows(NeighbourAgreement(method="vote")),
    "active relabelling, unanswered": _FromRows(ActiveRelabelling()),
    "area under the margin": _FromDynamics(AreaUnderMargin()),
    "data map": _FromDynamics(DataMap(share=0.2)),
}


class LabelQualityBenchmark:
    """Measure how well methods find planted wrong labels, and what cleaning by them does to a model.

    In each cell a table is split, its training labels are corrupted, and a model's out-of-fold probabilities are
    taken. Every method scores and flags the training rows. Detection is measured against the planted errors (AUROC,
    average precision, F1 of the flags); then the flagged rows are dropped, the model is fitted to the rest, and its
    weighted F1 is measured on the test rows, whose labels are clean.

    Parameters
    ----------
    tables : mapping of str to (X, y) or (X, y, y_human)
        Numeric matrices without missing cells (n, d) and labels (n,); the third are labels as people gave them, for
        the noise ``human``.
    models : mapping of str to classifier
        With ``predict_proba``.
    methods : mapping of str to method, optional
        ``method(trial)`` returns scores (n,), higher for more suspect, and flags (n,); the trial has ``X``,
        ``labels``, ``pred_proba`` and ``seed``. An object with ``fit(labels, pred_proba)``, ``issue_scores`` and
        ``issue_mask`` serves as well. By default all of this package that need no more than these.
    noises : sequence of str
        Among ``uniform``, ``asymmetric``, ``class_dependent``, ``instance_dependent`` and ``human``, whose rate is
        what it is.
    rates : sequence of float
        Shares of wrong labels.
    n_seeds : int
        Repeats: splits and noise.
    test_size : float
        Share of clean test rows.
    cv : int
        Folds of the out-of-fold probabilities.
    n_jobs : int, optional
        Cells at once.

    References
    ----------
    .. [1] Goswami, M., Sanil, V., Choudhry, A., Srinivasan, A., Udompanyawit, C. and Dubrawski, A. (2023). AQuA: A
       Benchmarking Tool for Label Quality Assessment. NeurIPS Datasets and Benchmarks.
    .. [2] Xia, X. et al. (2020). Part-dependent Label Noise: Towards Instance-dependent Label Noise. NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from corrigible.data import LabelQuality, LabelQualityBenchmark
    >>> iris = load_iris(return_X_y=True)
    >>> bench = LabelQualityBenchmark(
    ...     {"iris": iris}, {"linear": LogisticRegression(max_iter=500)}, {"self-confidence": LabelQuality()},
    ...     noises=("uniform",), rates=(0.2,), n_seeds=2)
    >>> board = bench.run()
    >>> bool(board.table.loc["self-confidence", "auroc"] > 0.9)
    True
    """

    def __init__(
        self,
        tables: Mapping[str, tuple[Any, ...]],
        models: Mapping[str, Any],
        methods: Mapping[str, Any] | None = None,
        *,
        noises: Sequence[str] = tuple(NOISES),
        rates: Sequence[float] = (0.1, 0.3),
        n_seeds: int = 3,
        test_size: float = 0.3,
        cv: int = 5,
        n_jobs: int | None = None,
    ) -> None:
        by = "LabelQualityBenchmark"
        if not tables or not models:
            raise InvalidParameterError(f"{by} needs at least one table and one model.")
        for noise in noises:
            check_choice(noise, (*NOISES, "human"), name="noises", by=by)
        for rate in rates:
            check_number(rate, name="rates", by=by, low=0, high=1, closed="neither")
        self.tables = {name: _checked_table(name, table, noises, by) for name, table in tables.items()}
        self.models = dict(models)
        chosen = METHODS if methods is None else methods
        self.methods: dict[str, Method] = {n: _FromProba(m) if hasattr(m, "fit") else m for n, m in chosen.items()}
        self.noises, self.rates = tuple(noises), tuple(rates)
        self.n_seeds = check_count(n_seeds, name="n_seeds", by=by)
        self.test_size = check_number(test_size, name="test_size", by=by, low=0, high=1, closed="neither")
        self.cv = check_count(cv, name="cv", by=by, low=2)
        self.n_jobs = n_jobs

    def run(self, folder: str | Path | None = None) -> LabelLeaderboard:
        """Run all cells that have not been run yet.

        Parameters
        ----------
        folder : str or Path, optional
            Where finished cells are kept, a file each; a run that was interrupted goes on from there. What defines
            a cell (rows, model and methods with their settings, noise, rate, seed, folds) is its file's name; a
            method that is a plain function counts by its name.

        Returns
        -------
        LabelLeaderboard
        """
        kept = None if folder is None else Path(folder)
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)
        cells = [
            (table, noise, rate, model, seed)
            for table in self.tables
            for noise in self.noises
            for rate in (self.rates if noise != "human" else (np.nan,))
            for model in self.models
            for seed in range(self.n_seeds)
            if noise != "human" or self.tables[table][2] is not None
        ]
        tasks = [(self, cell, kept) for cell in cells]
        rows = [row for found in parallel_map(_run_cell, tasks, n_jobs=self.n_jobs) for row in found]
        return LabelLeaderboard(pd.DataFrame(rows))

    def _key(self, cell: tuple[Any, ...]) -> str:
        table, *rest = cell
        X, y, human = self.tables[table]
        digest = hashlib.sha256(X.tobytes() + y.tobytes() + (b"" if human is None else human.tobytes()))
        methods = {name: _settings(method) for name, method in self.methods.items()}
        told = [table, *rest, _settings(self.models[cell[3]]), methods, X.shape, self.test_size, self.cv]
        digest.update(json.dumps(told, sort_keys=True).encode())
        return digest.hexdigest()[:24]


def _settings(method: Any) -> str:
    """Return what tells two models or methods apart, the same in every process."""
    if hasattr(method, "get_params"):
        return f"{type(method).__qualname__}{sorted((k, repr(v)) for k, v in method.get_params().items())}"
    if hasattr(method, "detector"):
        return f"{type(method).__qualname__} {_settings(method.detector)}"
    return str(getattr(method, "__qualname__", type(method).__qualname__))


def _checked_table(name: str, table: tuple[Any, ...], noises: Sequence[str], by: str) -> tuple[Any, ...]:
    X, y = np.asarray(table[0], dtype=np.float64), np.unique(np.asarray(table[1]), return_inverse=True)
    human = None
    if X.ndim != 2 or len(X) != len(y[1]) or not np.isfinite(X).all():
        raise DataError(f"Table {name!r} of {by} must be a finite matrix with a row a label. Got shape {X.shape}.")
    if np.bincount(y[1]).min() < 2:
        rare = y[0][np.bincount(y[1]).argmin()]
        raise DataError(
            f"Each class of table {name!r} of {by} needs two rows, to train and to test. Class {rare} has 1."
        )
    if len(table) > 2:
        known = np.searchsorted(y[0], np.asarray(table[2])).clip(max=len(y[0]) - 1)
        if not np.array_equal(y[0][known], np.asarray(table[2])):
            raise DataError(f"The human labels of table {name!r} of {by} must be among the classes of its labels.")
        human = known
    elif list(noises) == ["human"]:
        raise DataError(f"Table {name!r} of {by} must have human labels as its third part for the noise 'human'.")
    return X, y[1].astype(np.intp), human


def _run_cell(bench: LabelQualityBenchmark, cell: tuple[Any, ...], folder: Path | None) -> list[dict[str, Any]]:
    """Return the rows of a cell, from its file if it was run before."""
    path = None if folder is None else folder / f"{bench._key(cell)}.json"
    if path is not None and path.is_file():
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    rows = _cell_rows(bench, cell)
    if path is not None:
        write_text(path, json.dumps(rows))
    return rows


def _cell_rows(bench: LabelQualityBenchmark, cell: tuple[Any, ...]) -> list[dict[str, Any]]:
    name, noise, rate, model_name, seed = cell
    X, y, human = bench.tables[name]
    k = int(y.max()) + 1
    train, test = train_test_split(np.arange(len(y)), test_size=bench.test_size, stratify=y, random_state=seed)
    rng = np.random.default_rng([seed, 7])
    noisy = human[train] if noise == "human" else NOISES[noise](y[train], k, rate, X[train], rng)
    wrong = noisy != y[train]
    model = seed_estimator(make_pipeline(StandardScaler(), clone(bench.models[model_name])), seed)
    p = _out_of_fold(model, X[train], noisy, k, bench.cv, seed)
    trial = _Trial(X[train], noisy, p, seed)
    common = {"table": name, "noise": noise, "rate": float(wrong.mean()), "model": model_name, "seed": seed}
    rows = []
    for title, method in bench.methods.items():
        scores, mask = method(trial)
        after = _test_f1(model, X, y, train[~mask], noisy[~mask], test)
        rows.append({**common, "method": title, **_detection(wrong, scores, mask), "test_f1": after})
    for title, labels in (("noisy labels", noisy), ("clean labels", y[train])):
        rows.append({**common, "method": title, "test_f1": _test_f1(model, X, y, train, labels, test)})
    return rows


def _out_of_fold(model: Any, X: Floats, labels: NDArray[np.intp], k: int, cv: int, seed: int) -> Floats:
    """Return probabilities of all k classes; noise can leave a class without rows."""
    present = np.unique(labels)
    folds = StratifiedKFold(
        max(2, min(cv, int(np.bincount(labels)[present].min()))), shuffle=True, random_state=seed
    )
    p = np.zeros((len(labels), k))
    p[:, present] = cross_val_predict(model, X, labels, cv=folds, method="predict_proba")
    return p


def _test_f1(
    model: Any,
    X: Floats,
    y: NDArray[np.intp],
    rows: NDArray[np.intp],
    labels: NDArray[np.intp],
    test: NDArray[np.intp],
) -> float:
    if len(np.unique(labels)) < 2:
        return float(f1_score(y[test], np.full(len(test), labels[0] if len(labels) else 0), average="weighted"))
    return float(f1_score(y[test], clone(model).fit(X[rows], labels).predict(X[test]), average="weighted"))


def _detection(wrong: NDArray[np.bool_], scores: Floats, mask: NDArray[np.bool_]) -> dict[str, float]:
    if not wrong.any() or wrong.all():
        return dict.fromkeys(("auroc", "average_precision", "f1"), float("nan"))
    return {
        "auroc": float(roc_auc_score(wrong, scores)),
        "average_precision": float(average_precision_score(wrong, scores)),
        "f1": float(f1_score(wrong, mask, zero_division=0)),
    }
