"""What lies outside the sum: the loss expected in production."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible.audit import _evidence as evidence
from corrigible.audit._problem import Problem
from corrigible.audit._production import joint_drift, unlike_known
from corrigible.audit._refit_lines import MIN_OVERLAP, comparable_columns
from corrigible.errors import CorrigibleError
from corrigible.shift import CBPE, MCBPE, DensityRatio, DirectLossEstimation
from corrigible.uncertainty import defer_share, reject_curve

Floats = NDArray[np.floating]
_METRIC = {"zero_one": "accuracy", "log": "log_loss", "brier": "brier"}
_CHUNKS = 10
_MOVED = (
    "What a column's movement alone is expected to change, from the losses of test rows with such values, with a 95 % "
    "interval. Effects of columns that move together do not add up. p is corrected for the number of columns."
)
DEFER_TARGET = 0.5


def forecast(problem: Problem, *, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Forecast the model's loss on the production rows, and the share to defer for half of it.

    Classes: multi-calibrated confidence-based estimation where features are known and the production rows overlap
    with the test rows, else confidence-based estimation. Values: direct loss estimation. The labelled test rows are
    the reference.

    Returns
    -------
    forecast : dict
        Empty without production rows.
    blocks : list of dict
        Evidence.
    """
    if problem.production_output is None:
        return {}, []
    if problem.is_classification and not problem.has_proba:
        return {"why": "A forecast without labels needs class probabilities."}, []
    ratio, why, tried = _overlap(problem, seed)
    if problem.is_classification:
        name, estimate, expected = _class_estimate(problem, ratio, seed)
        what = f"Estimated without labels from calibrated confidences{why}"
    else:
        name, estimate, expected = _value_estimate(problem, ratio, seed)
        what = f"Estimated without labels by a model of the loss, cross-fitted on the test rows{why}"
    test_loss = float(
        np.average(problem.row_loss(problem.test_output, problem.y_test), weights=problem.test_weight)
    )
    share = float(defer_share(expected, expected, target=DEFER_TARGET))
    # Only a classifier says by itself how sure it is, so that only a corrected classifier can abstain.
    above = None
    if problem.is_classification:
        above = float(np.quantile(_own_error(problem.production_output), 1 - share))
    result = {
        "loss": {"value": estimate[0], "low": estimate[1], "high": estimate[2]},
        "test_loss": test_loss,
        "change": estimate[0] - test_loss,
        "n_production": len(expected),
        "defer_share": share,
        "defer_target": DEFER_TARGET,
        "defer_above": above,
        "method": name,
        "why": f"{what}. It holds if the target depends on the columns as before; a concept that has changed cannot "
        "be seen without labels.",
    }
    unlike, unlike_blocks = unlike_known(problem, expected, seed=seed)
    drift, drift_blocks = joint_drift(problem, tried, seed=seed)
    result |= {"unlike": unlike, "drift": drift}
    blocks = [*drift_blocks, *unlike_blocks, *_forecast_blocks(problem, expected)]
    return result, blocks


_Forecast = tuple[str, tuple[float, float, float], Floats]


def _class_estimate(problem: Problem, ratio: Any, seed: int) -> _Forecast:
    """Return the method's name, the loss with its interval, and what each production row is expected to lose."""
    metric, output = _METRIC[problem.loss], problem.production_output
    method: Any
    if ratio is None:
        method = CBPE(metric=metric).fit(problem.y_test, problem.test_output)
        estimate, expected = method.estimate(output), method.expected_loss(output, loss=problem.loss)
    else:
        method = MCBPE(metric=metric, random_state=seed)
        method.fit(problem.X_test, problem.y_test, problem.test_output)
        weight = {"reference_weight": ratio.weights_}
        estimate = method.estimate(None, output, **weight)
        expected = method.expected_loss(None, output, loss=problem.loss, **weight)
    value, low, high = float(estimate.value), float(estimate.low), float(estimate.high)
    if problem.loss == "zero_one":
        value, low, high = 1 - value, 1 - high, 1 - low
    return "cbpe" if ratio is None else "mcbpe", (value, low, high), expected


def _value_estimate(problem: Problem, ratio: Any, seed: int) -> _Forecast:
    """Return the same for numeric targets."""
    metric, weight = {"squared": "mse", "absolute": "mae"}[problem.loss], None if ratio is None else ratio.weights_
    output, X, ahead = problem.production_output, problem.X_test, problem.X_production
    assert output is not None
    if X is None or ahead is None:  # a table of predictions: the loss is told by the prediction alone
        X = ahead = None
    method = DirectLossEstimation(metric=metric, random_state=seed).fit(X, problem.y_test, problem.test_output)
    found = method.estimate(ahead, output, reference_weight=weight)
    expected = method.expected_loss(ahead, output, problem.loss, reference_weight=weight)
    return "direct_loss", (float(found.value), float(found.low), float(found.high)), expected


def _overlap(problem: Problem, seed: int) -> tuple[Any, str, Any]:
    """Return the density ratio of production over test rows, or None and why it cannot serve; and the ratio as it is."""
    if problem.X_test is None or problem.X_production is None:
        return None, "", None
    names = comparable_columns(problem.X_test)
    if not names:
        return None, "", None
    ratio = DensityRatio(random_state=seed).fit(problem.X_test[names], problem.X_production[names])
    if ratio.auc_interval_[0] <= 0.5:
        return None, "; the production rows look like the test rows, so no weighting is needed", ratio
    share = ratio.effective_sample_size_ / len(problem.X_test)
    if share < MIN_OVERLAP:
        return (
            None,
            (
                f"; the production rows hardly overlap with the test rows (the weights leave {share:.0%} of them), so "
                "the test rows were taken as they are, and the forecast is the less to be trusted"
            ),
            ratio,
        )
    return ratio, ", on test rows weighted to look like the production rows", ratio


def _own_error(output: Floats) -> Floats:
    """Return what `CorrectedClassifier.abstains` looks at: one less the largest probability."""
    return 1 - output.max(axis=1)


def _forecast_blocks(problem: Problem, expected: Floats) -> list[dict[str, Any]]:
    curve = reject_curve(expected, expected)
    step = max(1, len(curve.coverage) // 200)
    blocks = [
        {"kind": "curve", "title": "Expected loss of the rows that are kept", "x_label": "share of rows kept",
         "y_label": "expected loss", "series": [{"name": "production", "x": curve.coverage[::step].tolist(),
         "y": curve.risk[::step].tolist(), "style": "line"}]},
        _chunk_block(expected),
    ]  # fmt: skip
    if problem.X_test is not None and problem.X_production is not None:
        lost = problem.row_loss(problem.test_output, problem.y_test)
        moved = evidence.moved_columns(problem.X_test, problem.X_production, lost)
        title = "Columns whose movement from test to production matters most"
        blocks.append(evidence.table(title, moved, note=_MOVED))
    return blocks


def _chunk_block(expected: Floats) -> dict[str, Any]:
    """Expected loss of consecutive parts of the production rows, in the order given."""
    parts = np.array_split(expected, min(_CHUNKS, len(expected)))
    ends = np.cumsum([len(p) for p in parts])
    errors = [1.96 * p.std() / np.sqrt(len(p)) for p in parts]
    means = [float(p.mean()) for p in parts]
    return {
        "kind": "bars",
        "title": "Expected loss by part of the production rows, in file order",
        "x_label": "expected loss",
        "labels": [f"rows {e - len(p) + 1}–{e}" for e, p in zip(ends, parts, strict=True)],
        "values": means,
        "low": [m - e for m, e in zip(means, errors, strict=True)],
        "high": [m + e for m, e in zip(means, errors, strict=True)],
    }


def safe_forecast(problem: Problem, *, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the forecast, or why it could not be made: the budget does not depend on it."""
    try:
        return forecast(problem, seed=seed)
    except CorrigibleError as error:
        return {"why": f"No forecast: {error}"}, []
