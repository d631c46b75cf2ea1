"""Thresholds by group and metrics by group, beside fairlearn's.

Run ``python benchmarks/fairness.py --peer-python PATH`` where PATH is a Python with ``fairlearn``; without it only
Corrigible is measured. Processes alternate, each measures every job once after a warm-up on few rows; the medians of
the repeats are shown, and their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time


def rows(n):
    import numpy as np

    rng = np.random.default_rng(0)
    group = rng.integers(2, size=n)
    y = (rng.uniform(size=n) < 0.3 + 0.2 * group).astype(int)
    scores = 1 / (1 + np.exp(-(y + rng.normal(size=n) * (1 + group))))
    return scores, y, group, (scores > 0.6).astype(int)


def our_thresholds(scores, y, group, decisions):
    from corrigible.fairness import GroupThresholds

    return GroupThresholds().fit(scores, y, group).loss_


def our_metrics(scores, y, group, decisions):
    from corrigible.fairness import group_metrics

    found = group_metrics(y, decisions, group)
    return float(found.differences.set_index("metric").loc["tpr", "difference"])


def peer_thresholds(scores, y, group, decisions):
    import numpy as np
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Hands the scores through."""

        def fit(self, X, y):
            self.classes_, self.fitted_ = np.array([0, 1]), True
            return self

        def predict_proba(self, X):
            return np.column_stack([1 - X[:, 0], X[:, 0]])

    X = scores[:, None]
    words = {"constraints": "equalized_odds", "objective": "accuracy_score", "grid_size": 1000}
    found = ThresholdOptimizer(
        estimator=Given().fit(X, y), prefit=True, predict_method="predict_proba", **words
    ).fit(X, y, sensitive_features=group)
    chance = found._pmf_predict(X, sensitive_features=group)[:, 1]
    return float(np.where(y == 1, 1 - chance, chance).mean())


def peer_metrics(scores, y, group, decisions):
    from fairlearn.metrics import (
        MetricFrame,
        false_negative_rate,
        false_positive_rate,
        selection_rate,
        true_positive_rate,
    )
    from sklearn.metrics import accuracy_score, precision_score, zero_one_loss

    metrics = {
        "selection_rate": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate,
        "fnr": false_negative_rate, "precision": precision_score, "accuracy": accuracy_score, "error": zero_one_loss,
    }  # fmt: skip
    frame = MetricFrame(metrics=metrics, y_true=y, y_pred=decisions, sensitive_features=group)
    frame.ratio()
    return float(frame.difference()["tpr"])


JOBS = {
    "ours": {"thresholds": our_thresholds, "metrics": our_metrics},
    "peer": {"thresholds": peer_thresholds, "metrics": peer_metrics},
}


def measured(who, n):
    few, many = rows(2000), rows(n)
    out = {}
    for name, job in JOBS[who].items():
        job(*few)
        start = time.perf_counter()
        answer = job(*many)
        out[name] = {"seconds": time.perf_counter() - start, "answer": answer}
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--who")
    given = parser.parse_args()
    if given.who:
        print(json.dumps(measured(given.who, given.rows)))
        return
    pythons = {"ours": sys.executable, "peer": given.peer_python}
    found = {who: [] for who, python in pythons.items() if python}
    for _ in range(given.repeats):
        for who, results in found.items():
            words = [pythons[who], __file__, "--who", who, "--rows", str(given.rows)]
            results.append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    for job in JOBS["ours"]:
        middle = {who: statistics.median(r[job]["seconds"] for r in results) for who, results in found.items()}
        answers = {who: results[0][job]["answer"] for who, results in found.items()}
        ratio = middle["peer"] / middle["ours"] if "peer" in middle else None
        print(json.dumps({"job": job, "seconds": middle, "answers": answers, "ratio": ratio}))


if __name__ == "__main__":
    main()
