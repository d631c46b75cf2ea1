"""Production rows against those the model knows: which are unlike any, and whether all have moved together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import false_discovery_control
from sklearn.neighbors import NearestNeighbors

from corrigible._core.table_matrix import table_matrix
from corrigible.audit import _evidence as evidence
from corrigible.audit._problem import Problem
from corrigible.audit._refit_lines import comparable_columns
from corrigible.shift import mmd_test
from corrigible.uncertainty import ConformalPValues

Floats = NDArray[np.floating]
_ALPHA, _FALSE_DISCOVERIES = 0.05, 0.1
_NEIGHBOURS = 5
# Distances are to a sample of the known rows, and the p-values among another; more rows sharpen neither by much.
_KNOWN, _CALIBRATION, _MMD_ROWS = 20_000, 10_000, 4_000
_LEAST_ROWS = 40
_LISTED = 8
_Z = float(ndtri(0.975))


def unlike_known(problem: Problem, expected: Floats, *, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how many production rows are unlike the training rows (test rows, if these are unknown), and their loss.

    The score is the distance to the fifth nearest of one part of the known rows. Its p-value is the share of another
    part of them that lie as far away: uniform for rows of the known kind, whatever their law, so that of production
    rows of that kind a share of 5 % has a p-value up to 0.05. What is above that share is unlike.

    Parameters
    ----------
    problem : Problem
    expected : ndarray of shape (n_production,)
        Loss that each production row is expected to have.
    seed : int

    Returns
    -------
    found : dict
        Empty where columns are unknown or rows too few.
    blocks : list of dict
    """
    known = problem.X_train if problem.X_train is not None else problem.X_test
    ahead = problem.X_production
    if known is None or ahead is None or len(known) < _LEAST_ROWS:
        return {}, []
    names = comparable_columns(known)
    if not names:
        return {}, []
    p, distance, n_calibration = _p_values(known[names], ahead[names], seed)
    far = p <= _ALPHA
    share = float(far.mean())
    # Of production rows drawn anew, and of other rows to compare with.
    error = np.sqrt(share * (1 - share) / len(p) + _ALPHA * (1 - _ALPHA) / n_calibration)
    value, low, high = (
        float(np.clip((s - _ALPHA) / (1 - _ALPHA), 0.0, 1.0))
        for s in (share, share - _Z * error, share + _Z * error)
    )
    named = false_discovery_control(p) <= _FALSE_DISCOVERIES
    found: dict[str, Any] = {
        "share": {"value": value, "low": low, "high": high},
        "of": "training" if problem.X_train is not None else "test",
        "small_p_values": share,
        "named": int(named.sum()),
        "loss_of_small_p_values": _mean(expected[far]),
        "loss_of_others": _mean(expected[~far]),
    }
    order = np.flatnonzero(named)[np.argsort(-distance[named], kind="stable")]
    return found, _unlike_blocks(problem, found, p, order, expected)


def _p_values(known: pd.DataFrame, ahead: pd.DataFrame, seed: int) -> tuple[Floats, Floats, int]:
    """Return the p-value and the distance of each production row, and the number of rows they are compared with.

    Columns are scaled by all rows together, so that under the null all but the reference rows are exchangeable.
    """
    rng = np.random.default_rng([seed, 5])
    chosen = rng.permutation(len(known))[: _KNOWN + _CALIBRATION]
    cut = min(len(chosen) // 2, _CALIBRATION)
    calibration, reference = chosen[:cut], chosen[cut:]
    points = table_matrix(pd.concat([known, ahead], ignore_index=True), by="audit").points
    near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(reference))).fit(points[reference])
    scores = [near.kneighbors(points[rows])[0][:, -1] for rows in (calibration, slice(len(known), None))]
    method = ConformalPValues(random_state=seed).fit(scores[0])
    return method.p_values(scores[1]), scores[1], cut


def _mean(values: Floats) -> dict[str, float] | None:
    if not len(values):
        return None
    mean, half = float(values.mean()), float(_Z * values.std() / np.sqrt(len(values)))
    return {"value": mean, "low": mean - half, "high": mean + half}


def _unlike_blocks(
    problem: Problem, found: dict[str, Any], p: Floats, named: NDArray[np.intp], expected: Floats
) -> list[dict[str, Any]]:
    """Return the figures, and the rows named, the most distant first."""
    share, far, near = found["share"], found["loss_of_small_p_values"], found["loss_of_others"]
    items: dict[str, Any] = {
        f"share_of_production_rows_unlike_the_{found['of']}_rows": (share["value"], share["low"], share["high"]),
        "rows_named_as_such": found["named"],
    }
    if far is not None and near is not None:
        items["expected_loss_of_rows_far_from_known_ones"] = (far["value"], far["low"], far["high"])
        items["expected_loss_of_the_others"] = (near["value"], near["low"], near["high"])
    blocks = [evidence.metrics(**items)]
    if not len(named):
        return blocks
    assert problem.X_production is not None
    worst = named[:_LISTED]
    frame = pd.DataFrame({"production row": worst, "p": p[worst], "expected loss": expected[worst]})
    columns = (problem.telling_columns or list(problem.X_production.columns))[:5]
    for name in columns:
        frame[str(name)] = problem.X_production[name].to_numpy()[worst]
    note = (
        f"Of the {len(named)} rows named, 10 % or fewer are expected to be of the known kind after all. What a "
        "forecast says of them rests on rows that are unlike them."
    )
    return [*blocks, evidence.table("Production rows that are least like known ones", frame, note)]


def joint_drift(problem: Problem, ratio: Any, *, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return whether production rows have moved from the test rows in any way, and what that does to the loss.

    Parameters
    ----------
    problem : Problem
    ratio : DensityRatio or None
        Fitted to test and production rows: its classifier is the first of two tests; the kernel test is the other.
    seed : int
    """
    if ratio is None or problem.X_test is None or problem.X_production is None:
        return {}, []
    names, rng = comparable_columns(problem.X_test), np.random.default_rng([seed, 6])
    lost = problem.row_loss(problem.test_output, problem.y_test)
    test, ahead = (rng.permutation(n)[:_MMD_ROWS] for n in (len(problem.X_test), len(problem.X_production)))
    if min(len(test), len(ahead)) < _LEAST_ROWS:
        return {}, []
    moved = mmd_test(
        problem.X_test[names].iloc[test], problem.X_production[names].iloc[ahead], loss=lost[test], rng=rng
    )
    low, high = (float(v) for v in ratio.auc_interval_)
    change = {"value": moved.loss_effect, "low": moved.loss_low, "high": moved.loss_high}
    found = {
        "auc": {"value": float(ratio.auc_), "low": low, "high": high},
        "p_value": moved.p_value,
        "effect": moved.effect,
        "loss_change": change,
    }
    block = evidence.metrics(
        AUC_of_test_against_production=(float(ratio.auc_), low, high),
        p_value_of_the_kernel_two_sample_test=moved.p_value,
        change_of_the_loss_on_test_rows_weighted_like_production=(change["value"], change["low"], change["high"]),
    )
    return found, [block]
