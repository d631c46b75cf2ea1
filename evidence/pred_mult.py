"""Predictive multiplicity: exact ranges against a general solver, and how wide they are on real tables."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from corrigible.compare import PredictiveMultiplicity
from corrigible.papers import Measurement

CLAIM = """Over logistic regressions whose loss is almost the least, the range of each row's probability is a convex
problem. On real risk tables models within 1 % of the least loss give many people probabilities that differ by ten
points or more: predictive multiplicity is common and should be reported."""
PROTOCOL = """Heart disease (two hospitals, columns that are mostly missing left out, other gaps filled with the
median), German credit and COMPAS (two-year recidivism, the usual filter; both one-hot coded). Ridge 1e-3. Reference:
SLSQP of scipy, ten rows a table, both ends of the range, tolerances 1 % and 10 %. All extreme models are checked to
lie within the tolerance. Bootstrap refits of the same regression that meet the tolerance must lie within the ranges.
The paper's study of outliers, separability and minorities by simulation is not repeated."""
METHODS = ("predictive_multiplicity",)
DATA = ("heart_4sites", "german_credit", "compas")
L2 = 1e-3


def run(data):
    warnings.simplefilter("ignore")
    gap, outside, escaped, shares = 0.0, 0.0, 0.0, []
    ambiguities = {}
    for name, (X, y) in _tables(data).items():
        X, y = X.to_numpy(float), np.asarray(y, dtype=int)
        design = np.column_stack([np.ones(len(X)), (X - X.mean(axis=0)) / X.std(axis=0)])
        for epsilon in (0.01, 0.1):
            found = PredictiveMultiplicity(epsilon=epsilon, l2=L2).fit(X, y)
            gap = max(gap, _gap_to_slsqp(found, design, y, epsilon))
            if epsilon > 0.01:
                continue
            ambiguities[name] = found.ambiguity(0.1)
            yield from _report(name, found)
            outside = max(outside, _excess(found, X, design, y, epsilon))
            over, share = _bootstrap(found, design, y, epsilon)
            escaped = max(escaped, over)
            shares.append(share)
    yield Measurement("largest gap of a range's end to SLSQP", gap, at_most=1e-6, kind="reference")
    yield Measurement(
        "largest excess of an extreme model's loss, relative", outside, at_most=1e-9, kind="reference"
    )
    yield Measurement("furthest that a competing bootstrap refit leaves a range", escaped, at_most=1e-9,
                      kind="reference")  # fmt: skip
    yield Measurement("mean width of sampled ranges over that of exact ones", float(np.mean(shares)), kind="note",
                      detail="100 bootstrap refits: sampling sees a part of the multiplicity only")  # fmt: skip
    yield Measurement("smallest share of rows that move by 0.1 within 1 % of the least loss",
                      min(ambiguities.values()), at_least=0.05, detail=str(ambiguities))  # fmt: skip


def _report(name, found):
    width = np.diff(found.ranges_)[:, 0]
    between = found.discrepancy(0.1)
    low, high = between.low, between.high
    detail = (
        f"ambiguous at 0.5: {found.ambiguous().mean():.3f} of {len(width)} rows; widest range {width.max():.2f}"
    )
    yield Measurement(f"{name}: mean width of the ranges at 1 %", float(width.mean()), kind="note", detail=detail)
    yield Measurement(f"{name}: discrepancy at 0.1, a model found", low, low, high, kind="note",
                      detail=f"interval: up to the bound for any model; ambiguity {found.ambiguity(0.1):.3f}")  # fmt: skip


def _loss(theta, design, y):
    z = design @ theta
    return np.mean(np.logaddexp(0, -np.where(y == 1, z, -z))) + L2 / 2 * np.sum(theta[1:] ** 2)


def _slope(theta, design, y):
    return design.T @ (expit(design @ theta) - y) / len(y) + L2 * np.r_[0, theta[1:]]


def _gap_to_slsqp(found, design, y, epsilon):
    start = minimize(_loss, np.zeros(design.shape[1]), args=(design, y), jac=_slope, method="L-BFGS-B",
                     options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}).x  # fmt: skip
    level = (1 + epsilon) * _loss(start, design, y)
    bound = {"type": "ineq", "fun": lambda t: level - _loss(t, design, y), "jac": lambda t: -_slope(t, design, y)}
    gap = 0.0
    for i in np.random.default_rng(0).choice(len(y), 10, replace=False):
        for side, sign in enumerate((-1, 1)):
            x = sign * design[i]
            solved = minimize(lambda t, x=x: -x @ t, start, jac=lambda t, x=x: -x, method="SLSQP", constraints=[bound],
                              options={"ftol": 1e-13, "maxiter": 500})  # fmt: skip
            gap = max(gap, abs(expit(sign * -solved.fun) - found.ranges_[i, side]))
    return gap


def _excess(found, X, design, y, epsilon):
    """Largest relative excess over the tolerance of the models at the ends, which are refound at a few rows."""
    standard = np.unique(X, axis=0)[:100]
    standard = np.column_stack([np.ones(len(standard)), (standard - X.mean(axis=0)) / X.std(axis=0)])
    models = found._extremes(standard)
    least = found.loss_
    return max(_loss(theta, design, y) / ((1 + epsilon) * least) - 1 for theta in models)


def _bootstrap(found, design, y, epsilon):
    """Furthest that competing refits leave the ranges, and the share of the ranges' width that they fill."""
    rng, kept = np.random.default_rng(0), [found.proba_]
    for _ in range(100):
        # Few rows are exchanged, or hardly any refit would meet the tolerance.
        rows = np.r_[rng.permutation(len(y))[: 3 * len(y) // 4], rng.integers(len(y), size=len(y) // 4)]
        theta = minimize(_loss, np.zeros(design.shape[1]), args=(design[rows], y[rows]), jac=_slope).x
        if _loss(theta, design, y) <= (1 + epsilon) * found.loss_:
            kept.append(expit(design @ theta))
    low, high = np.min(kept, axis=0), np.max(kept, axis=0)
    over = max((found.ranges_[:, 0] - low).max(), (high - found.ranges_[:, 1]).max())
    return over, float((high - low).mean() / np.diff(found.ranges_).mean())


def _tables(data):
    heart = pd.read_csv(data / "heart_4sites" / "heart_cleveland_hungarian.csv.gz")
    numbers = heart.drop(columns=["site", "num", "slope", "ca", "thal"]).apply(pd.to_numeric, errors="coerce")
    credit = pd.read_csv(data / "german_credit" / "german_credit.csv.gz")
    people = pd.read_parquet(data / "compas" / "compas_two_years.parquet")
    people = people[people["days_b_screening_arrest"].abs().le(30) & (people["is_recid"] != -1)]
    columns = ["age", "sex", "race", "juv_fel_count", "juv_misd_count", "priors_count", "c_charge_degree"]
    tables = {
        "heart": (numbers.fillna(numbers.median()), heart["num"] > 0),
        "german credit": (credit.drop(columns="credit"), credit["credit"] == 2),
        "compas": (people[columns], people["two_year_recid"] == 1),
    }
    return {k: (pd.get_dummies(X, drop_first=True).astype(float), y) for k, (X, y) in tables.items()}
