"""Conformal prediction beside mapie and crepes: the same work, alternately, in one process.

Run: ``python benchmarks/conformal.py [rows] [repeats]``. What is not installed is left out. Prints the fastest and
the median seconds of each, the ratio of the medians, the most memory that numpy held in one more run of each, and how
far the two answers lie apart (APS and RAPS of mapie have another rule for the last class).
"""

from __future__ import annotations

import sys
import time
import tracemalloc

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from corrigible.uncertainty import (
    CQR,
    ConformalPredictiveSystem,
    ConformalPValues,
    CrossConformalRegressor,
    SplitConformalClassifier,
    SplitConformalRegressor,
)


class Echo(RegressorMixin, BaseEstimator):
    """Predicts its first column: no time goes to a model."""

    def fit(self, X, y):
        """Learn nothing."""
        self.fitted_ = True
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        """Return the first column."""
        return X[:, 0]


class EchoProba(ClassifierMixin, BaseEstimator):
    """Gives its features as probabilities."""

    def fit(self, X, y):
        """Learn nothing."""
        self.classes_ = np.arange(X.shape[1])
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X):
        """Return the features."""
        return X

    def predict(self, X):
        """Return the largest column."""
        return X.argmax(axis=1)


def classes(n, k=10, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.3), n)
    return p, (rng.uniform(size=(n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=k - 1)


def jobs(n):
    yield from mapie_jobs(n)
    yield from quantile_jobs(n)
    yield from crepes_jobs(n)


def mapie_jobs(n):
    """Yield job, our function, the peer's name and function, and how far apart the answers may lie."""
    try:
        from mapie.classification import SplitConformalClassifier as MapieClassifier
        from mapie.conformity_scores import LACConformityScore
        from mapie.regression import CrossConformalRegressor as MapieCross
        from mapie.regression import SplitConformalRegressor as MapieRegressor
    except ImportError:
        return
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    y = X[:, 0] + rng.normal(size=n)
    echo = Echo().fit(X, y)

    def theirs():
        method = MapieRegressor(echo, confidence_level=0.9, prefit=True).conformalize(X, y)
        return method.predict_interval(Z)[1][:, :, 0]

    yield (
        "split, regression",
        lambda: SplitConformalRegressor(echo).fit(X, y).predict_interval(Z),
        "mapie",
        theirs,
        1e-9,
    )

    p, label = classes(n)
    q, _ = classes(n, seed=1)
    model = EchoProba().fit(p, label)
    for name in ("lac", "aps", "raps", "top_k"):

        def theirs(name=name):
            score = LACConformityScore() if name == "lac" else name
            method = MapieClassifier(
                model, confidence_level=0.9, prefit=True, conformity_score=score, random_state=0
            )
            return method.conformalize(p, label).predict_set(q)[1][:, :, 0]

        def ours(name=name):
            method = SplitConformalClassifier(
                model, score=name, randomised=False, allow_empty=False, random_state=0
            )
            return method.fit(p, label).predict_set(q)

        yield f"sets, {name}", ours, "mapie", theirs, np.inf if name in ("aps", "raps") else 1e-9

    m = n // 5
    folds = KFold(5)

    def cross_theirs():
        method = MapieCross(Echo(), confidence_level=0.9, method="plus", cv=folds)
        return method.fit_conformalize(X[:m], y[:m]).predict_interval(Z[:m])[1][:, :, 0]

    def cross_ours():
        return CrossConformalRegressor(Echo(), cv=folds).fit(X[:m], y[:m]).predict_interval(Z[:m])

    yield "CV+, a fifth of the rows", cross_ours, "mapie", cross_theirs, 1e-9


def quantile_jobs(n):
    """CQR beside mapie's, and beside what it cannot do without: its models' predictions."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))
    y = X[:, 0] + X[:, 1] * rng.normal(size=n)
    models = [
        HistGradientBoostingRegressor(loss="quantile", quantile=v, random_state=0).fit(X[:5000], y[:5000])
        for v in (0.05, 0.95, 0.5)
    ]

    def ours():
        method = CQR(models[:2], symmetric=False).fit(X, y)
        return np.column_stack([method.predict_interval(Z), models[2].predict(Z)])

    def alone():
        return np.column_stack([[m.predict(W) for W in (X, Z)][1] for m in models[:2]] + [models[2].predict(Z)])

    yield "CQR, and its three models' predictions alone", ours, "predictions", alone, np.inf
    try:
        from mapie.regression import ConformalizedQuantileRegressor as MapieQuantiles
    except ImportError:
        return

    def theirs():
        method = MapieQuantiles(models, confidence_level=0.9, prefit=True).conformalize(X, y)
        middle, ends = method.predict_interval(Z)
        return np.column_stack([ends[:, :, 0], middle])

    yield "CQR, three models", ours, "mapie", theirs, 1e-9


def crepes_jobs(n):
    try:
        from crepes import ConformalClassifier
        from crepes import ConformalPredictiveSystem as CrepesSystem
    except ImportError:
        return
    rng = np.random.default_rng(0)
    scores, new = rng.normal(size=n), rng.normal(size=(n, 1))

    p, label = classes(n)
    q, _ = classes(n, seed=1)
    hinge = 1 - p[np.arange(n), label]

    def sets_theirs():
        return ConformalClassifier().fit(hinge).predict_set(1 - q, confidence=0.9, smoothing=False)

    def sets_ours():
        return SplitConformalClassifier().fit(p, label).predict_set(q)

    yield "sets of 10 classes, LAC", sets_ours, "crepes", sets_theirs, 1e-9

    def p_theirs():
        return ConformalClassifier().fit(scores).predict_p(new, smoothing=False)[:, 0]

    yield (
        "p-values", lambda: ConformalPValues(smoothed=False).fit(scores).p_values(new[:, 0]), "crepes", p_theirs, 1e-9,
    )  # fmt: skip
    prediction = np.zeros(n)

    def s_theirs():
        system = CrepesSystem().fit(scores)
        return system.predict_percentiles(y_hat=new[:, 0], higher_percentiles=[5, 50, 95])

    def s_ours():
        system = ConformalPredictiveSystem().fit(prediction, scores)
        return system.predict_percentile(new[:, 0], [5, 50, 95])

    yield "predictive system, percentiles", s_ours, "crepes", s_theirs, 1e-9

    def c_theirs():
        return CrepesSystem().fit(scores).predict_p(y_hat=prediction, y=new[:, 0], smoothing=False)

    def c_ours():
        return ConformalPredictiveSystem(random_state=0).fit(prediction, scores).predict_cdf(prediction, new[:, 0])

    yield "predictive system, distribution function", c_ours, "crepes", c_theirs, 2 / n


def peak(function):
    tracemalloc.start()
    function()
    held = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return held


def main(n=100_000, repeats=3):
    for job, ours, peer, theirs, tolerance in jobs(n):
        apart = float(np.max(np.abs(np.asarray(ours(), float) - np.asarray(theirs(), float))))
        seconds = {"corrigible": [], peer: []}
        for _ in range(repeats):
            for name, function in (("corrigible", ours), (peer, theirs)):
                start = time.perf_counter()
                function()
                seconds[name].append(time.perf_counter() - start)
        middle = {name: float(np.median(s)) for name, s in seconds.items()}
        shown = ", ".join(
            f"{name} {min(s):.4f} (median {middle[name]:.4f}) s, {peak(f):.0f} MB"
            for (name, s), f in zip(seconds.items(), (ours, theirs), strict=True)
        )
        verdict = "agree" if apart <= tolerance else "DISAGREE"
        verdict = "not of the same kind" if tolerance == np.inf else f"{verdict} to {apart:.1e}"
        print(f"{job}: {shown}, {middle[peer] / middle['corrigible']:.1f}x; {verdict}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
