"""The frontier of group thresholds, beside models that fairlearn's reductions trained under the constraint.

Run ``python benchmarks/fairness_frontier.py --data FOLDER --peer-python PATH`` where FOLDER holds the collection of real
tables and PATH is a Python with ``fairlearn``. Tables, splits and trees are those of ``evidence/unprocessing.py``, where
the reductions are written anew; here they are fairlearn's own. Each reduction's point on the test rows is compared with
the frontier at the same violation: error of the reduction minus error of the frontier, and its t interval over splits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SLACKS = (0.01, 0.05, 0.1)


def trees():
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, learning_rate=0.1, random_state=0)


def reduced(path):
    """Chances of a positive decision on test rows, a row a slack; runs where fairlearn is."""
    from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient

    held = np.load(path)
    chances, start = [], time.perf_counter()
    for slack in SLACKS:
        model = ExponentiatedGradient(trees(), EqualizedOdds(difference_bound=slack), eps=slack, max_iter=30)
        model.fit(held["X_train"], held["y_train"], sensitive_features=held["group_train"])
        chances.append(model._pmf_predict(held["X_test"])[:, 1].tolist())
    return {"chances": chances, "seconds": time.perf_counter() - start}


def compared(table, seed, peer):
    """Gaps of error to the frontier, one a slack, and seconds of ours and of the peer's."""
    import unprocessing as shared
    from corrigible.fairness import GroupThresholds

    X, y, group = table
    order = np.random.default_rng(seed).permutation(len(y))
    train, fit, test = np.split(order, [len(y) // 2, 3 * len(y) // 4])
    start, front = time.perf_counter(), []
    scores = trees().fit(X[train], y[train]).predict_proba(X)[:, 1]
    for tolerance in shared.TOLERANCES:
        rule = GroupThresholds(tolerance=tolerance).fit(scores[fit], y[fit], group[fit])
        front.append(shared._scored(rule.predict_proba(scores[test], group[test])[:, 1], y[test], group[test]))
    ours = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, X_train=X[train], y_train=y[train], group_train=group[train], X_test=X[test])
        words = [peer, __file__, "--reduce", str(path)]
        said = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    points = [shared._scored(np.array(c), y[test], group[test]) for c in said["chances"]]
    return [error - shared._at(front, violation) for error, violation in points], ours, said["seconds"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--reduce")
    given = parser.parse_args()
    if given.reduce:
        print(json.dumps(reduced(given.reduce)))
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))
    from scipy.stats import t as student

    import unprocessing as shared

    for name in shared.TABLES:
        table = shared._table(given.data, name)
        found = [compared(table, seed, given.peer_python) for seed in range(given.splits)]
        means = np.array([np.mean(gaps) for gaps, _, _ in found])
        half = student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
        by_slack = np.mean([gaps for gaps, _, _ in found], axis=0).round(4).tolist()
        print(json.dumps({
            "table": name, "rows": len(table[1]), "gap": round(means.mean(), 4),
            "interval": [round(means.mean() - half, 4), round(means.mean() + half, 4)],
            "by slack": dict(zip(map(str, SLACKS), by_slack, strict=True)),
            "seconds": {"ours": round(np.mean([f[1] for f in found]), 2), "peer": round(np.mean([f[2] for f in found]), 2)},
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
