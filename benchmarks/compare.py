"""Two versions on a million rows: processor seconds of the comparison over those of one pass of reading its columns.

python benchmarks/compare.py [--rows 1000000] [--repeats 5]

Labels, then probabilities of two classes, as columns of one Parquet file. Reading is pyarrow's, the quickest there is, and
pandas' of the same columns; all in turns, in one process, so that imports count for neither.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from corrigible.versions import compare_versions


def write_table(path: Path, n: int) -> None:
    """Write labels as text, the labels and the probabilities of two versions."""
    rng = np.random.default_rng(0)
    truth = rng.beta(1, 2, n)
    names = np.array(["no", "yes"])
    columns: dict[str, Any] = {"y": names[(rng.uniform(size=n) < truth).astype(int)]}
    for version, noise in (("old", 0.8), ("new", 0.5)):
        logit = np.log(truth / (1 - truth)) + noise * rng.normal(size=n)
        p = 1 / (1 + np.exp(-logit))
        columns[version] = names[(p > 0.5).astype(int)]
        columns |= {f"{version}_no": 1 - p, f"{version}_yes": p}
    pq.write_table(pa.table(columns), path)


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print a row a job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_table(path, options.rows)
        print("| job | pyarrow s | pandas s | compare s | compare / pyarrow | compare / pandas |")
        print("|---|---|---|---|---|---|")
        for job, old, new in (("labels", "old", "new"), ("probabilities", "old_no,old_yes", "new_no,new_yes")):
            columns = ["y", *old.split(","), *new.split(",")]
            work: tuple[Callable[[], Any], ...] = (
                lambda columns=columns: pq.read_table(path, columns=columns),
                lambda columns=columns: pd.read_parquet(path, columns=columns),
                lambda old=old, new=new: compare_versions(old, new, path, target="y", costs=False),
            )
            runs = [[seconds(w) for w in work] for _ in range(options.repeats + 1)][1:]
            arrow, pandas, ours = np.min(runs, axis=0)
            print(
                f"| {job} | {arrow:.3f} | {pandas:.3f} | {ours:.3f} | {ours / arrow:.1f} | {ours / pandas:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
