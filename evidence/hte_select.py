"""Choosing estimators of treatment effects: criteria against true errors, by regime, and congeniality."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import rankdata, spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from corrigible._core.treatment_effects import Nuisance
from corrigible.compare import TreatmentEffectSelection
from corrigible.compare._treatment_effect_selection import _all_scores
from corrigible.papers import Measurement

CLAIM = """Criteria that need no true effect order estimators of treatment effects better than chance, but none is best
in every regime; factual error cannot judge estimators that model the effect alone; and criteria favour candidates
built as they are: a plug-in criterion of type T likes T-learners, one of type S likes S-learners (congeniality)."""
PROTOCOL = """Real features (wine quality: eleven chemical measurements, standardised) with simulated treatment and
outcomes, as in the paper, whose own tables were not at hand: effects of two kinds (linear in two features; stepwise
with an interaction) by treatment (at random; depending on what the outcome depends on), 700 rows to fit and 300 to
validate, 1500 to measure true errors, six draws a regime. Candidates: S, T, DR and R over ridge regression and
gradient boosting; criteria use gradient boosting. Rank correlation of scores with true root mean squared errors;
regret of the choice: its error over that of the best candidate. Congeniality: places gained against the true order."""
METHODS = ("treatment_effect_selection",)
DATA = ("wine_quality",)
NOT_REPRODUCED = {
    "places T boosting gains under plug_in_t": """Criteria here are cross-fitted; fitting the plug-in to the very rows it
judges, as the authors do, gave 0.5 +- 0.7 places, still no clear gain. The T-learner gains as much under DR, RA and R
criteria (0.2 more there, +- 0.7): in these draws what lifts it is not the plug-in.""",
    "places S boosting gains under plug_in_s": """Where effects are stepwise it is the best candidate in truth (mean
place 1.1 of 8) and cannot gain; where they are linear it gains 2.7. Against DR, RA and R criteria it gains 1.2 +- 1.0
places, and S over ridge 5.0 of 7 possible: the liking is there, but not by this measure.""",
}
CRITERIA = ("plug_in_s", "plug_in_t", "matching", "ra", "dr", "r", "influence")


def run(data):
    warnings.simplefilter("ignore")
    yield _right_nuisances(data)
    features = _features(data)
    correlation = {c: {} for c in CRITERIA}
    regret = {c: {} for c in (*CRITERIA, "factual", "weighted_factual")}
    gains = {c: [] for c in CRITERIA}
    unjudged = []
    for kind in ("linear", "stepwise"):
        for assigned in ("random", "confounded"):
            regime = f"{kind}, {assigned}"
            for seed in range(6):
                found, error = _one(features, kind, assigned, seed)
                for c in CRITERIA:
                    rho = spearmanr(found.scores_[c], error).statistic
                    correlation[c].setdefault(regime, []).append(float(rho))
                for c in regret:
                    chosen = error[found.names_.index(found.chosen_[c])]
                    regret[c].setdefault(regime, []).append(float(chosen / error.min()))
                for c in CRITERIA:
                    gains[c].append(rankdata(error) - rankdata(found.scores_[c]))
                unjudged.append(float(np.isnan(found.scores_["factual"]).mean()))
    for c in CRITERIA:
        yield from _correlation(c, correlation[c])
    yield from _regrets(regret)
    for c, name in (("plug_in_t", "T boosting"), ("plug_in_s", "S boosting")):
        yield from _congeniality(gains, c, found.names_.index(name), name)
    ridge = np.array(gains["plug_in_s"])[:, found.names_.index("S ridge")]
    yield Measurement("places S ridge gains under plug_in_s", float(ridge.mean()), *_interval(ridge), kind="note")
    yield Measurement("share of candidates that factual error cannot judge", float(np.mean(unjudged)), kind="note")


def _congeniality(gains, criterion, i, name):
    """Places a candidate gains against the true order, and against the criteria that are built differently."""
    own = np.array(gains[criterion])[:, i]
    others = np.mean([np.array(gains[c])[:, i] for c in ("ra", "dr", "r")], axis=0)
    detail = f"of eight candidates; linear effects {own[:12].mean():.2f}, stepwise {own[12:].mean():.2f}"
    yield Measurement(f"places {name} gains under {criterion}", float(own.mean()), *_interval(own), at_least=0.5,
                      detail=detail)  # fmt: skip
    yield Measurement(f"the same less what it gains under RA, DR and R: {name}", float((own - others).mean()),
                      *_interval(own - others), kind="note")  # fmt: skip


def _correlation(criterion, values):
    everything = np.concatenate(list(values.values()))
    low, high = _interval(everything)
    detail = "; ".join(f"{regime} {np.mean(v):.2f}" for regime, v in values.items())
    bar = {"at_least": 0.3} if criterion in ("dr", "r") else {"kind": "note"}
    yield Measurement(f"rank correlation with true error, {criterion}", float(everything.mean()), low, high,
                      detail=detail, **bar)  # fmt: skip


def _regrets(regret):
    mean = {c: {regime: float(np.mean(v)) for regime, v in by.items()} for c, by in regret.items()}
    regimes = list(mean["dr"])
    best = [min(mean, key=lambda c, r=r: mean[c][r]) for r in regimes]
    yield Measurement("criteria that are best in some regime", float(len(set(best))), at_least=2,
                      detail="; ".join(f"{r}: {b}" for r, b in zip(regimes, best, strict=True)))  # fmt: skip
    for c, by in mean.items():
        yield Measurement(f"error of the choice over the best, {c}", float(np.mean(list(by.values()))), kind="note",
                          detail="; ".join(f"{r} {v:.2f}" for r, v in by.items()))  # fmt: skip


def _right_nuisances(data):
    """With the true nuisance functions and many rows, the DR and R criteria must give the true order."""
    X, y, w, effect, (untreated, e) = _draw(
        _features(data), "stepwise", "confounded", 5000, np.random.default_rng(9)
    )
    nuisance = Nuisance(untreated, untreated + effect, untreated + e * effect, e, effect)
    rng = np.random.default_rng(10)

    class Off:
        def __init__(self, size):
            self.shift = effect + size * rng.normal(size=len(effect))

        def effect(self, X):
            return self.shift

        def outcomes(self, X):
            return None

    sizes = np.linspace(0, 2, 9)
    scores = _all_scores([Off(s) for s in sizes], X, y, w, nuisance)
    least = min(spearmanr(scores[c], sizes).statistic for c in ("dr", "ra", "r", "plug_in_t"))
    return Measurement("least rank correlation of DR, RA, R, plug-in with true error, nuisances known", float(least),
                       at_least=0.95, kind="reference")  # fmt: skip


def _one(features, kind, assigned, seed):
    rng = np.random.default_rng([seed, kind == "linear", assigned == "random"])
    X, y, w, effect, _ = _draw(features, kind, assigned, 2500, rng)
    candidates = {
        "ridge": RidgeCV(np.logspace(-2, 3, 6)),
        "boosting": HistGradientBoostingRegressor(max_iter=40, min_samples_leaf=10),
    }
    nuisance = HistGradientBoostingRegressor(max_iter=40, min_samples_leaf=10)
    selection = TreatmentEffectSelection(candidates, nuisance=nuisance, random_state=seed)
    found = selection.fit(X[:1000], y[:1000], w[:1000])
    return found, found.oracle(X[1000:], effect[1000:])


def _draw(features, kind, assigned, n, rng):
    X = features[rng.choice(len(features), n, replace=False)]
    a, b, c, d = rng.choice(X.shape[1], 4, replace=False)
    untreated = X[:, a] + 0.5 * np.abs(X[:, b]) + 0.5 * X[:, a] * (X[:, c] > 0)
    if kind == "linear":
        effect = 0.5 + 0.5 * X[:, c] - 0.5 * X[:, d]
    else:
        effect = 1.0 * (X[:, c] > 0) + 1.0 * (X[:, d] > 0) * (X[:, a] > 0)
    e = np.full(n, 0.5) if assigned == "random" else np.clip(expit(X[:, a] + X[:, c]), 0.05, 0.95)
    w = (rng.uniform(size=n) < e).astype(int)
    return X, untreated + w * effect + 0.5 * rng.normal(size=n), w, effect, (untreated, e)


def _features(data):
    table = pd.concat([pd.read_csv(p) for p in sorted((data / "wine_quality").glob("*.csv*"))])
    numbers = table.select_dtypes("number").drop(columns=["quality"], errors="ignore").dropna(axis=1)
    X = numbers.to_numpy(float)
    return np.clip((X - X.mean(axis=0)) / X.std(axis=0), -3, 3)


def _interval(values):
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)
