"""The fix: chosen remedies in chain order, a corrected model, and its verification on the test rows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from corrigible._core.bootstrap import bootstrap_means, percentile_interval
from corrigible._utils.files import atomic_path, write_text
from corrigible._utils.folders import new_folder
from corrigible._utils.parallel import one_thread
from corrigible._utils.progress import SILENT, Progress, progress
from corrigible._utils.validation import check_number
from corrigible._utils.versions import versions
from corrigible.audit import _correction_lines as corrections
from corrigible.audit import _evidence as evidence
from corrigible.audit import _label_line as labels
from corrigible.audit import _refit_lines as refits
from corrigible.audit._budget import LINE_IDS, TITLES
from corrigible.audit._chain import Chain, LineRecord, Side
from corrigible.audit._corrections import GroupOutput
from corrigible.audit._missing_remedy import missing_values
from corrigible.audit._problem import Problem
from corrigible.audit._start import start
from corrigible.compare import negative_flips
from corrigible.errors import InvalidParameterError, RemedyRefusedError, UnknownNameError, nearest
from corrigible.models import CorrectedClassifier, CorrectedRegressor, save_model

if TYPE_CHECKING:
    from corrigible.audit._report import AuditReport

Floats = NDArray[np.floating]

REMEDIES = {
    "label_errors": labels.label_errors,
    "missing_values": missing_values,
    "decision_rule": corrections.decision_rule,
    "calibration": corrections.calibration,
    "groups": corrections.groups,
    "model_variance": refits.model_variance,
    "shift": refits.shift,
}
# A group of fewer test rows cannot speak against a remedy: the losses of few rows are too skewed for an interval.
_MIN_GROUP = 100


@dataclass
class Step:
    """One remedy: the loss before and after it on every test row, and what it flipped."""

    record: LineRecord
    before: Floats
    after: Floats
    old: NDArray[Any]
    new: NDArray[Any]


@dataclass
class Fix:
    """A corrected model and its proof.

    Attributes
    ----------
    model : CorrectedClassifier, CorrectedRegressor or None
        None if only predictions are known.
    chain : Chain
        The predictor after the remedies.
    steps : list of Step
        Remedies in chain order.
    verification : dict
        What ``verification.json`` holds.
    target, title : str
        Name of the target's column; title of the page.
    """

    model: Any
    chain: Chain
    steps: list[Step]
    verification: dict[str, Any]
    target: str
    title: str

    def training_table(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the corrected training rows and the rows that were dropped, each with what was changed and why."""
        problem, chain = self.chain.problem, self.chain
        assert problem.X_train is not None
        assert problem.y_train is not None
        assert chain.labels is not None
        assert chain.keep is not None
        names = problem.classes if problem.is_classification else None
        given = problem.y_train if names is None else names[problem.y_train]
        labels = chain.labels if names is None else names[chain.labels]
        frame = (problem.X_train if problem.table_train is None else problem.table_train).reset_index(drop=True)
        frame[self.target] = labels
        changed = labels != given
        why = np.where(~chain.keep, "suspect label", "")
        why = np.where(changed, [f"label was {g}" for g in given], why)
        frame["corrigible_action"] = np.where(~chain.keep, "drop", np.where(changed, "relabel", ""))
        frame["corrigible_reason"] = why
        if chain.fit_weight is not None:
            frame["corrigible_weight"] = chain.fit_weight
        return frame[chain.keep], frame[~chain.keep]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the corrected training rows, the model, the verification and a page; return the page's path."""
        from corrigible.report import render_verification

        with new_folder(folder, marker="verification.json", overwrite=overwrite) as made:
            if self.model is not None:
                save_model(self.model, made / "model.skops")
            if self.chain.labels is not None:
                kept, dropped = self.training_table()
                for name, frame in (("train.parquet", kept), ("dropped.parquet", dropped)):
                    with atomic_path(made / name) as path:
                        frame.to_parquet(path, index=True)
            else:
                self._corrected_predictions().to_parquet(made / "predictions.parquet", index=False)
            write_text(made / "verification.json", json.dumps(self.verification, indent=1) + "\n")
            write_text(made / "index.html", render_verification(self.summary(folder)))
        return Path(folder) / "index.html"

    def _corrected_predictions(self) -> pd.DataFrame:
        output = self.chain.corrected()
        columns = {"prediction": self.chain.predicted()} if output.ndim == 1 else {
            **{f"proba_{c}": p for c, p in zip(self.chain.problem.classes, output.T, strict=True)},
            "prediction": self.chain.problem.classes[self.chain.predicted()],
        }  # fmt: skip
        return pd.DataFrame(columns)

    def summary(self, folder: str | Path = "corrected/") -> dict[str, Any]:
        """Return everything the verification page shows, as plain values."""
        table = [
            ("train.parquet", "corrected training rows; corrigible_action and corrigible_reason say what changed"),
            ("dropped.parquet", "training rows that were dropped, with the reason"),
        ]
        if self.chain.labels is None:
            table = [("predictions.parquet", "corrected predictions of the test rows")]
        model = [("model.skops", "the corrected model, one scikit-learn estimator")]
        files = [*table, *(model if self.model is not None else [])]
        return {
            "title": self.title,
            "made": datetime.date.today().isoformat(),
            "version": versions()["corrigible"],
            "command": "",
            "loss": self.chain.problem.loss,
            **{k: self.verification[k] for k in ("tolerance", "remedies", "total")},
            "groups": self.verification["groups"],
            "sections": {s.record.id: s.record.blocks for s in self.steps},
            "files": [{"path": p, "what": w} for p, w in [*files, ("verification.json", "these figures")]],
            "load": _LOAD.format(folder=str(folder).rstrip("/")) if self.model is not None else "",
        }


_LOAD = """from corrigible.models import load_model

model = load_model("{folder}/model.skops")
model.predict(table)"""


@one_thread()
def fix(
    report: AuditReport,
    remedies: Sequence[str],
    *,
    tolerance: float = 0.002,
    force: bool = False,
    quiet: bool = True,
) -> Fix:
    """Apply remedies in chain order, and prove on the test rows that they do no harm.

    Every remedy is learned as in the audit, without the labels of the test rows, and then measured on them.

    Parameters
    ----------
    report : AuditReport
        From `audit`.
    remedies : sequence of str
        Line ids.
    tolerance : float
        Harm, in the unit of the loss, up to which a remedy is accepted: overall, and in each group of at least
        100 test rows whose harm is beyond it with 95 % confidence over all groups together (Bonferroni).
    force : bool
        Accept harm beyond the tolerance; it is still reported.
    quiet : bool
        Show no progress.

    Returns
    -------
    Fix

    Raises
    ------
    RemedyRefusedError
        If a remedy harms beyond the tolerance; it names the line and the figure.
    """
    ids, old = check_remedies(remedies), report.chain
    with progress(len(ids) + 1, quiet=quiet) as shown:
        shown.step("cross-fitting the model")
        return fix_problem(
            old.problem, ids, tolerance=tolerance, force=force, seeds=old.seeds, seed=old.seed, n_jobs=old.n_jobs,
            target=old.problem.target, defer_above=report.budget.forecast.get("defer_above"), shown=shown,
        )  # fmt: skip


def check_remedies(remedies: Sequence[str]) -> list[str]:
    """Return the remedies in chain order, without repeats."""
    for name in remedies:
        if name in REMEDIES:
            continue
        if name in LINE_IDS:
            raise InvalidParameterError(
                f"The line {name!r} has no remedy that can be computed: it asks for new data."
            )
        raise UnknownNameError(f"There is no remedy {name!r}.{nearest(name, REMEDIES)}")
    if not remedies:
        raise InvalidParameterError(f"At least one remedy must be named, of {', '.join(REMEDIES)}.")
    return [name for name in LINE_IDS if name in set(remedies)]


def fix_problem(
    problem: Problem, ids: list[str], *, tolerance: float, force: bool, seeds: int, seed: int, n_jobs: int | None,
    target: str, defer_above: float | None, title: str = "Verification", shown: Progress = SILENT,
) -> Fix:  # fmt: skip
    """Apply remedies to a checked problem, and verify them; `fix` says what the parameters mean."""
    check_number(tolerance, name="tolerance", by="fix", low=0.0)
    chain = start(problem, seeds=seeds, seed=seed, n_jobs=n_jobs)
    chain.always = True
    first, first_labels = chain.losses(), chain.predicted()
    steps = []
    for name in ids:
        shown.step(TITLES[name].lower())
        before, old_labels = chain.losses(), chain.predicted()
        record = REMEDIES[name](chain)
        if record.basis == "not_applicable":
            raise InvalidParameterError(f"The remedy {name!r} does not apply here: {record.why}")
        step = Step(record, before, chain.losses(), old_labels, chain.predicted())
        if not force:
            _refuse_harm(step, chain, tolerance)
        steps.append(step)
    verification = _verification(chain, steps, first, first_labels, tolerance)
    whole = (
        chain
        if len(chain.sides) == 1 or not chain.models
        else _learned_from_all(problem, ids, seeds=seeds, seed=seed)
    )
    return Fix(_corrected_model(whole, defer_above), chain, steps, verification, target, title)


def _learned_from_all(problem: Problem, ids: list[str], *, seeds: int, seed: int) -> Chain:
    """Learn the corrections from all test rows: folds are for the proof, and the model takes what all rows say."""
    chain = start(problem, seeds=seeds, seed=seed, n_jobs=None)
    rows = np.arange(len(problem.y_test))
    chain.sides = [Side(problem.test_output, problem.y_test, problem.groups_test, problem.test_weight, rows)]
    chain.always = True
    for name in ids:
        REMEDIES[name](chain)
    return chain


def _refuse_harm(step: Step, chain: Chain, tolerance: float) -> None:
    """Raise if the remedy's measured harm is beyond the tolerance, overall or surely in a group."""
    harm = step.after - step.before
    weight = chain.problem.test_weight
    mean = float(np.average(harm, weights=weight))
    name, hint = step.record.id, "Leave it out, raise --tolerance, or add --force."
    if mean > tolerance:
        raise RemedyRefusedError(
            f"The remedy {name!r} raises the {chain.problem.loss} loss on the test rows by {mean:.4g}, more than the "
            f"tolerance of {tolerance:g}. {hint}"
        )
    groups = _groups(chain)
    for label, rows in groups:
        inside = harm[rows]
        # Student's quantile, shared out over the groups: of many groups some look harmed by chance.
        quantile = stats.t.ppf(1 - 0.025 / len(groups), len(rows) - 1)
        low = inside.mean() - quantile * inside.std(ddof=1) / np.sqrt(len(rows))
        if low > tolerance:
            raise RemedyRefusedError(
                f"The remedy {name!r} raises the {chain.problem.loss} loss of the group {label} by {inside.mean():.4g} "
                f"on {len(rows)} test rows (at least {low:.4g}), more than the tolerance of {tolerance:g}. {hint}"
            )


def _groups(chain: Chain) -> list[tuple[str, NDArray[np.intp]]]:
    frame = chain.problem.groups_test
    if frame is None:
        return []
    return [
        (f"{column} = {level}", np.asarray(rows))
        for column in frame.columns
        for level, rows in frame.groupby(column, sort=True).indices.items()
        if len(rows) >= _MIN_GROUP
    ]


def _verification(
    chain: Chain, steps: list[Step], first: Floats, first_labels: NDArray[Any], tolerance: float
) -> dict[str, Any]:
    problem, last = chain.problem, chain.losses()
    rng = np.random.default_rng(chain.seed)
    columns = [first, last, *(c for s in steps for c in (s.before, s.after))]
    draws = bootstrap_means(np.column_stack(columns), sample_weight=problem.test_weight, rng=rng)
    means = [float(np.average(c, weights=problem.test_weight)) for c in columns]
    remedies = []
    for i, step in enumerate(steps):
        a, b = 2 + 2 * i, 3 + 2 * i
        remedies.append(
            {"id": step.record.id, "title": TITLES[step.record.id], **_change(means, draws, a, b),
             **_flips(chain, step.old, step.new), "kept": True, "why": step.record.remedy}
        )  # fmt: skip
    return {
        "schema": 1,
        "loss": problem.loss,
        "n_test": len(first),
        "tolerance": tolerance,
        "total": {**_change(means, draws, 0, 1), **_flips(chain, first_labels, chain.predicted())},
        "remedies": remedies,
        "groups": _group_tables(chain, first, last),
        "calibration": _calibration(chain),
        "versions": versions(),
    }


def _change(means: list[float], draws: Floats, a: int, b: int) -> dict[str, Any]:
    result = {}
    for name, value, drawn in (
        ("before", means[a], draws[:, a]),
        ("after", means[b], draws[:, b]),
        ("change", means[b] - means[a], draws[:, b] - draws[:, a]),
    ):
        low, high = percentile_interval(drawn)
        result[name] = {"value": value, "low": float(low), "high": float(high)}
    return result


def _flips(chain: Chain, old: NDArray[Any], new: NDArray[Any]) -> dict[str, Any]:
    """Count rows that turned wrong and right; for values, rows whose loss grew and fell."""
    if chain.problem.is_classification:
        flips = negative_flips(chain.problem.y_test, old, new)
        return {"negative_flips": int(flips.n_negative), "positive_flips": int(flips.n_positive)}
    y = chain.problem.y_test
    worse = np.abs(new - y) - np.abs(old - y)
    return {"negative_flips": int((worse > 0).sum()), "positive_flips": int((worse < 0).sum())}


def _group_tables(chain: Chain, first: Floats, last: Floats) -> list[dict[str, Any]]:
    rows = []
    for label, members in _groups(chain):
        change = (last - first)[members]
        rows.append(
            {
                "group": label,
                "test rows": len(members),
                "before": float(first[members].mean()),
                "after": float(last[members].mean()),
                "change": float(change.mean()),
                "± 95 %": float(1.96 * change.std() / np.sqrt(len(members))),
            }
        )
    return [evidence.table("Loss by group", pd.DataFrame(rows))] if rows else []


def _calibration(chain: Chain) -> dict[str, float]:
    from corrigible.uncertainty import calibration_error

    problem = chain.problem
    if not problem.is_classification or not problem.has_proba:
        return {}
    options: dict[str, Any] = {"kind": "top_label", "norm": 2, "debiased": True}
    return {
        "before": float(calibration_error(problem.y_test, problem.test_output, **options)),
        "after": float(calibration_error(problem.y_test, chain.corrected(), **options)),
    }


def _corrected_model(chain: Chain, defer_above: float | None) -> Any:
    """Return the corrected model as one estimator, or None if only predictions are known."""
    problem = chain.problem
    if not chain.models:
        return None
    side = chain.sides[0]
    grouped = any(isinstance(c, GroupOutput) for c in side.corrections)
    assert problem.X_test is not None
    common: dict[str, Any] = {
        "members": chain.models,
        "corrections": list(side.corrections),
        "feature_names": list(problem.X_test.columns),
        "group_names": list(problem.groups_test.columns) if grouped and problem.groups_test is not None else None,
    }
    if not problem.is_classification:
        return CorrectedRegressor(**common)
    weights = None if side.class_weights is None else side.class_weights.tolist()
    return CorrectedClassifier(
        **common, class_weights=weights, defer_above=defer_above, classes=problem.classes.tolist()
    )
