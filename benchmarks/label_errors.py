"""Label errors: `ConfidentLearning` beside cleanlab's `find_label_issues` on the same rows.

Run ``python benchmarks/label_errors.py`` with the ``bench`` extra. Both run in one process, by turns, after a
warm-up; the ratio is that of the medians. Peak memory is what each call allocates beyond its input,
from a run of its own.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
import warnings

import numpy as np

from corrigible.data import ConfidentLearning


def table(n, k, *, seed=0, dtype=np.float64, levels=0):
    """Labels with 5 % planted errors and probabilities of a good model; `levels` gives those of a forest."""
    rng = np.random.default_rng(seed)
    true = rng.integers(k, size=n)
    p = rng.normal(size=(n, k))
    p[np.arange(n), true] += 4.0
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    if levels:
        p = rng.multinomial(levels, p) / levels
    wrong = rng.uniform(size=n) < 0.05
    return np.where(wrong, (true + rng.integers(1, k, size=n)) % k, true), p.astype(dtype)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mb(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak


def compare(name, labels, p, method, repeats, n_jobs):
    from cleanlab.filter import find_label_issues

    def peer():
        return find_label_issues(labels, p, filter_by=method, n_jobs=n_jobs)

    def ours():
        return ConfidentLearning(method=method, random_state=0).fit(labels, p).issue_mask

    differing = int((peer() != ours()).sum())  # warms up, too
    times = [(seconds(peer), seconds(ours)) for _ in range(repeats)]
    theirs, own = (statistics.median(t) for t in zip(*times, strict=True))
    print(
        f"{name:24s} {method:22s} cleanlab {theirs:7.3f} s  corrigible {own:7.3f} s  ratio {theirs / own:6.1f}  "
        f"peak {peak_mb(peer):5.0f} / {peak_mb(ours):4.0f} MB  flags that differ {differing}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--n-jobs", type=int, default=None, help="of cleanlab; its default is all cores")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    n, rest = options.rows, (options.repeats, options.n_jobs)
    for method in ("prune_by_noise_rate", "both", "confident_learning"):
        compare(f"{n} x 10", *table(n, 10), method, *rest)
    compare(f"{n} x 10 float32", *table(n, 10, dtype=np.float32), "prune_by_noise_rate", *rest)
    compare(f"{n} x 10 forest, ties", *table(n, 10, levels=100), "prune_by_noise_rate", *rest)
    compare(f"{n} x 2", *table(n, 2), "prune_by_noise_rate", *rest)
    compare(f"{n // 10} x 100", *table(n // 10, 100), "prune_by_noise_rate", *rest)


if __name__ == "__main__":
    main()
