"""Performance without labels: CBPE beside nannyml, a million reference and a million production rows.

Run with nannyml installed (it needs pandas below 3): ``python benchmarks/label_free_performance.py``.
Both run in one process, in turns; ratios are of medians. The estimates must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
import warnings

os.environ.setdefault("NML_DISABLE_USAGE_LOGGING", "1")

import numpy as np
import pandas as pd

from corrigible.shift import CBPE

METRICS = ("roc_auc", "f1", "accuracy")


def rows(n, *, mean, scale, rng):
    logit = scale * rng.normal(size=n) + mean
    p = 1 / (1 + np.exp(-1.4 * logit))  # too sharp: the true logits are 1.4 times smaller
    return p, (rng.uniform(size=n) < 1 / (1 + np.exp(-logit))).astype(int)


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def ours(reference, production, chunk):
    (p, y), (q, _) = reference, production
    fit, method = timed(lambda: CBPE(metric=METRICS).fit(y, p))
    pred = (q > 0.5).astype(int)
    first, found = timed(lambda: method.estimate(q, pred, chunks=chunk))
    again, _ = timed(lambda: method.estimate(q, pred, chunks=chunk))
    return fit + first, again, np.array([[e.value for e in found[m]] for m in METRICS])


def peer(reference, production, chunk):
    import nannyml

    tables = [pd.DataFrame({"p": p, "yhat": (p > 0.5).astype(int), "y": y}) for p, y in (reference, production)]
    method = nannyml.CBPE(
        y_pred_proba="p", y_pred="yhat", y_true="y", problem_type="classification_binary",
        metrics=list(METRICS), chunk_size=chunk,
    )  # fmt: skip
    fit, _ = timed(lambda: method.fit(tables[0]))
    again, found = timed(lambda: method.estimate(tables[1].drop(columns="y")))
    table = found.filter(period="analysis").to_df()
    return fit + again, again, np.array([table[(m, "value")].to_numpy(float) for m in METRICS])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    reference = rows(options.rows, mean=-0.5, scale=1.5, rng=rng)
    production = rows(options.rows, mean=0.2, scale=1.2, rng=rng)
    runs = {ours: [], peer: []}
    for _ in range(options.repeats):
        for run in runs:
            runs[run].append(run(reference, production, options.chunk))
    (all_ours, est_ours), (all_peer, est_peer) = (
        [statistics.median(r[i] for r in runs[run]) for i in (0, 1)] for run in runs
    )
    gap = float(np.abs(runs[ours][0][2] - runs[peer][0][2]).max())
    print(json.dumps({
        "rows": options.rows, "chunk": options.chunk, "repeats": options.repeats,
        "fit_and_estimate_s": [all_ours, all_peer], "estimate_s": [est_ours, est_peer],
        "fit_and_estimate_ratio": all_peer / all_ours, "estimate_ratio": est_peer / est_ours,
        "largest_difference": gap, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
