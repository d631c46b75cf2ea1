"""What a line shows for itself: tables and curves for the report, as plain blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from corrigible._core.losses import log
from corrigible.shift import univariate_drift
from corrigible.uncertainty import calibration_error, reliability_curve

if TYPE_CHECKING:
    from corrigible.audit._chain import Chain, LineRecord

Floats = NDArray[np.floating]
_WORST = 12
_SHOWN_COLUMNS = 5
_MIN_GROUP = 50


def text(value: str) -> dict[str, Any]:
    """Return a paragraph."""
    return {"kind": "text", "text": value}


def metrics(**items: Any) -> dict[str, Any]:
    """Return a row of named numbers; an item is a value or a (value, low, high). Shares are shown in percent."""
    rows = []
    for label, item in items.items():
        value, low, high = item if isinstance(item, tuple) else (item, None, None)
        words = label.replace("_", " ")
        rows.append({"label": words[0].upper() + words[1:], "value": value, "low": low, "high": high})
        rows[-1]["format"] = "percent" if words.startswith("share") else "number"
    return {"kind": "metrics", "items": rows}


def table(title: str, frame: pd.DataFrame, note: str = "") -> dict[str, Any]:
    """Return a table block from a frame, cells as plain Python values."""
    rows = [[_plain(v) for v in row] for row in frame.itertuples(index=False)]
    return {"kind": "table", "title": title, "columns": [str(c) for c in frame.columns], "rows": rows, "note": note}


def _plain(value: Any) -> Any:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, int | float | str | bool) else str(value)


def telling_columns(chain: Chain) -> list[str]:
    """Return the columns whose shuffling changes the model's output most: the ones worth showing."""
    problem = chain.problem
    if problem.X_test is None or problem.model is None:
        return []
    if problem.telling_columns is not None:
        return problem.telling_columns
    head = problem.X_test.iloc[:300]
    from corrigible.audit._refits import ask

    rng = np.random.default_rng(chain.seed)
    base = ask(problem.model, head, problem.classes)
    moved = {}
    for name in head.columns[:100]:
        shuffled = head.copy()
        shuffled[name] = head[name].to_numpy()[rng.permutation(len(head))]
        moved[name] = float(np.abs(ask(problem.model, shuffled, problem.classes) - base).mean())
    best = sorted(moved, key=lambda n: -moved[n])[:_SHOWN_COLUMNS]
    problem.telling_columns = best
    return best


def _names(chain: Chain, codes: Any) -> Any:
    return chain.problem.classes[codes] if chain.problem.is_classification else codes


def label_blocks(chain: Chain, record: LineRecord, output: Floats) -> list[dict[str, Any]]:
    """Worst training labels with what the models that did not see them say."""
    problem = chain.problem
    assert problem.X_train is not None
    assert problem.y_train is not None
    assert record.train_score is not None
    assert record.train_flag is not None
    flagged = np.flatnonzero(record.train_flag)
    worst = flagged[np.argsort(-record.train_score[flagged], kind="stable")][:_WORST]
    frame = pd.DataFrame({"row": worst, "given": _names(chain, problem.y_train[worst])})
    frame["suggested"] = _names(chain, record.extra["suggested"][worst])
    if problem.is_classification:
        frame["probability of given"] = output[worst, problem.y_train[worst]]
    for name in telling_columns(chain):
        frame[str(name)] = problem.X_train[name].to_numpy()[worst]
    share = record.train_flag.mean()
    return [
        metrics(suspect_labels=int(record.train_flag.sum()), share_of_training_rows=float(share)),
        table("Most suspect training labels", frame, "Rows are numbered from 0 in the training table."),
        *_suspects_by_group(chain, record.train_flag),
    ]


def _suspects_by_group(chain: Chain, suspect: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Share of suspect labels in every group: with a column of annotators, who to ask again."""
    groups = chain.problem.groups_train
    if groups is None:
        return []
    rows = []
    for column in groups.columns:
        for level, members in groups.groupby(column, sort=True).indices.items():
            found = binomtest(int(suspect[members].sum()), len(members))
            low, high = found.proportion_ci()
            rows.append((f"{column} = {level}", len(members), found.k, found.k / found.n, float(low), float(high)))
    names = ["group", "training rows", "suspect", "share", "low", "high"]
    frame = pd.DataFrame(rows, columns=names).sort_values("low", ascending=False, kind="stable").head(20)
    note = "Where annotators are a group, this is the noise of each. The groups that surely have most come first."
    return [table("Suspect training labels by group", frame, note)]


def suspect_blocks(chain: Chain, record: LineRecord) -> list[dict[str, Any]]:
    """Most suspect test labels where only predictions are known."""
    problem = chain.problem
    assert record.score is not None
    worst = np.argsort(-record.score, kind="stable")[:_WORST]
    frame = pd.DataFrame(
        {
            "row": worst,
            "given": _names(chain, problem.y_test[worst]),
            "predicted": _names(chain, problem.test_output[worst].argmax(axis=1)),
            "probability of given": problem.test_output[worst, problem.y_test[worst]],
        }
    )
    return [table("Most suspect labels", frame, "A suspicion, not a measurement.")]


def decision_blocks(chain: Chain, old: NDArray[np.intp]) -> list[dict[str, Any]]:
    """Errors by class, before and after the decision rule."""
    y, new, classes = chain.problem.y_test, chain.predicted(), chain.problem.classes
    rows = []
    for j in range(len(classes)):
        inside = y == j
        n = int(inside.sum())
        rows.append(
            {
                "class": classes[j],
                "test rows": n,
                "missed before": int((old[inside] != j).sum()),
                "missed after": int((new[inside] != j).sum()),
                "predicted before": int((old == j).sum()),
                "predicted after": int((new == j).sum()),
            }
        )
    return [table("Decisions by class", pd.DataFrame(rows[:50]))]


def calibration_blocks(chain: Chain, before: Floats, fit: Any, scored: dict[str, Any]) -> list[dict[str, Any]]:
    """Reliability before and after, calibration errors and the candidates' cross-validated gains."""
    y, loss = chain.problem.y_test, chain.problem.loss
    sides = [s.with_correction(fit(s), decision=False, loss=loss) for s in chain.sides]
    already = len(chain.sides[0].corrections) and chain.corrected() is not before
    after = chain.corrected() if already else chain.corrected(sides=sides)
    kind = "binary" if before.shape[1] == 2 else "top_label"
    series = []
    for name, output in (("before", before), ("after", after)):
        curve = reliability_curve(y, output, kind=kind)
        series.append({"name": name, **{k: _listed(getattr(curve, v)) for k, v in _CURVE.items()}})
    candidates = pd.DataFrame(
        [{"map": k, "cross-validated gain": v[0], "standard error": v[1]} for k, v in scored.items()]
    )
    return [
        metrics(
            calibration_error_before=float(calibration_error(y, before, kind=kind, norm=2, debiased=True)),
            calibration_error_after=float(calibration_error(y, after, kind=kind, norm=2, debiased=True)),
            log_loss_before=float(log(y, before).mean()),
            log_loss_after=float(log(y, after).mean()),
        ),
        {"kind": "reliability", "title": "Reliability", "series": series},
        table("Candidates, judged without the test rows", candidates),
    ]


_CURVE = {"confidence": "stated", "accuracy": "observed", "count": "weight", "low": "low", "high": "high"}


def _listed(values: Any) -> list[Any]:
    return [_plain(v) for v in np.asarray(values)]


def group_blocks(chain: Chain, before: Floats) -> list[dict[str, Any]]:
    """Loss and bias of every group, before and after."""
    problem, after = chain.problem, chain.losses()
    assert problem.groups_test is not None
    rows = []
    for column in problem.groups_test.columns:
        for level, members in problem.groups_test.groupby(column, sort=True).indices.items():
            error = 1.96 * before[members].std() / np.sqrt(len(members))
            rows.append(
                {
                    "group": f"{column} = {level}",
                    "test rows": len(members),
                    "loss before": float(before[members].mean()),
                    "± 95 %": float(error),
                    "loss after": float(after[members].mean()),
                    "against the rest": float(before[members].mean() - np.delete(before, members).mean())
                    if len(members) < len(before)
                    else None,
                }
            )
    frame = pd.DataFrame(rows).sort_values("test rows", ascending=False).head(40)
    return [table("Loss by group", frame, "Small groups have wide intervals: read the ± before the loss.")]


def variance_blocks(chain: Chain, outputs: list[Floats], record: LineRecord) -> list[dict[str, Any]]:
    """How far refits disagree, and on which rows."""
    problem = chain.problem
    single = [chain.losses(members=[m]) for m in outputs]
    means = [float(s.mean()) for s in single]
    items: dict[str, Any] = {"lowest_loss_of_a_seed": min(means), "highest_loss_of_a_seed": max(means)}
    if problem.is_classification:
        votes = np.stack([chain.corrected(members=[m]).argmax(axis=1) for m in outputs])
        items["share_of_rows_on_which_all_seeds_agree"] = float((votes == votes[0]).all(axis=0).mean())
    assert record.score is not None
    worst = np.argsort(-record.score, kind="stable")[:_WORST]
    frame = pd.DataFrame({"row": worst, "spread of the output": record.score[worst]})
    frame["label"] = _names(chain, problem.y_test[worst])
    for name in telling_columns(chain):
        frame[str(name)] = problem.X_test[name].to_numpy()[worst]  # type: ignore[index]
    blocks = [metrics(**items), table("Test rows on which the seeds disagree most", frame)]
    return [*blocks, *_spread_by_group(chain, np.stack(single))]


def _spread_by_group(chain: Chain, losses: Floats) -> list[dict[str, Any]]:
    """How far equally good seeds differ within a group: where they do, the data do not settle the model."""
    problem = chain.problem
    if problem.groups_test is None:
        return []
    rows = []
    for column in problem.groups_test.columns:
        for level, members in problem.groups_test.groupby(column, sort=True).indices.items():
            if len(members) >= _MIN_GROUP:
                means = losses[:, members].mean(axis=1)
                rows.append((f"{column} = {level}", len(members), means.min(), means.max(), means.std(ddof=1)))
    overall = losses.mean(axis=1)
    rows.sort(key=lambda row: -row[4])
    rows.insert(0, ("all test rows", losses.shape[1], overall.min(), overall.max(), overall.std(ddof=1)))
    names = ["group", "test rows", "lowest loss of a seed", "highest loss of a seed", "standard deviation"]
    note = "Seeds that are equally good overall and differ in a group show that the data do not settle the model there."
    return [table("Spread of the loss over seeds", pd.DataFrame(rows[:20], columns=names), note)]


def shift_blocks(chain: Chain, ratio: Any) -> list[dict[str, Any]]:
    """How well training and test rows are told apart, and by which columns."""
    problem = chain.problem
    low, high = ratio.auc_interval_
    block = metrics(
        AUC_of_training_against_test=(float(ratio.auc_), float(low), float(high)),
        effective_training_rows=float(ratio.effective_sample_size_),
    )
    assert problem.X_train is not None
    assert problem.X_test is not None
    return [block, table("Columns that moved most", moved_columns(problem.X_train, problem.X_test))]


def moved_columns(a: pd.DataFrame, b: pd.DataFrame, loss: Floats | None = None, most: int = 8) -> pd.DataFrame:
    """Return the columns that moved from one table to the other: those of most effect on the loss, else the furthest.

    Parameters
    ----------
    a, b : DataFrame
        Tables of the same columns.
    loss : ndarray of shape (len(a),), optional
        The model's loss on the rows of the first.
    most : int
        Columns to return.
    """
    shared = a.columns[:200]
    known = [c for c in shared if pd.api.types.is_numeric_dtype(a[c]) == pd.api.types.is_numeric_dtype(b[c])]
    if not known:
        return pd.DataFrame(columns=["column", "distance", "p"])
    found = univariate_drift(a[known], b[known], loss=loss).table
    columns = {"column": "column", "jensen_shannon": "distance", "p_corrected": "p", "missing_before": "missing before",
               "missing_now": "missing now"}  # fmt: skip
    if loss is not None:
        columns |= {"effect": "expected change of the loss", "effect_low": "from", "effect_high": "to"}
    order = found["jensen_shannon"] if loss is None else found["effect"].abs()
    kept = found.loc[order.sort_values(ascending=False, kind="stable").index[:most], list(columns)]
    return kept.rename(columns=columns)


def worst_rows(chain: Chain, losses: Floats) -> list[dict[str, Any]]:
    """The test rows with the largest loss that is left."""
    problem = chain.problem
    output = chain.corrected()
    # Wrong decisions are equal in the zero-one loss: the surest of them come first.
    ties = output[np.arange(len(losses)), problem.y_test] if problem.is_classification else np.zeros(len(losses))
    worst = np.lexsort((ties, -losses))[:_WORST]
    frame = pd.DataFrame({"row": worst, "label": _names(chain, problem.y_test[worst])})
    frame["predicted"] = _names(chain, chain.predicted()[worst])
    if problem.is_classification:
        frame["probability of label"] = output[worst, problem.y_test[worst]]
    frame["loss"] = losses[worst]
    for name in telling_columns(chain):
        frame[str(name)] = problem.X_test[name].to_numpy()[worst]  # type: ignore[index]
    return [table("Test rows with the largest loss left", frame)]
