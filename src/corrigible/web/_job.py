"""The process of one run: ``python -m corrigible.web._job example|evidence NAME [DATA]``."""

from __future__ import annotations

import doctest
import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import corrigible
from corrigible.errors import CorrigibleError, DataError
from corrigible.web._jobs import RESULT


def run_example(name: str) -> dict[str, Any]:
    """Run the example of a method's docstring, printing each line and what it gives."""
    method = corrigible.load(name)
    found = doctest.DocTestParser().get_doctest(inspect.getdoc(method) or "", {}, name, None, 0)
    if not found.examples:
        raise DataError(f"The method {name!r} has no example that could be run.")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    for example in found.examples:
        print(">>> " + example.source.rstrip().replace("\n", "\n... "), example.want.rstrip(), sep="\n", flush=True)
    failed, tried = runner.run(found, clear_globs=False)[:2]
    print(f"\n{tried} lines ran, {failed} gave something else than is written above.")
    return {"lines": tried, "failed": failed, "data": "the example's own"}


def run_script(name: str, data: Path | None) -> dict[str, Any]:
    """Run an evidence script, printing each measurement as it is made; the kept results are not touched."""
    from corrigible.papers._evidence import bar, data_folder, load_evidence

    evidence, folder = load_evidence(name), data_folder(data)
    if absent := evidence.absent(folder):
        raise DataError(f"Data absent for the evidence {name!r}: {', '.join(absent)} in {folder}.")
    measured = []
    for m in evidence.module.run(folder):
        told = {**asdict(m), "met": m.met}
        measured.append(told)
        met = "" if m.kind == "note" else " met" if m.met else " NOT met"
        print(f"{m.name}: {m.value:.4g} {bar(told)}{met}", flush=True)
    return {"measurements": measured, "data": ", ".join(evidence.data) or "made by the script"}


def main() -> int:
    """Run what the arguments name, and print the outcome as the last line."""
    kind, name, *rest = sys.argv[1:]
    try:
        result = run_example(name) if kind == "example" else run_script(name, Path(rest[0]) if rest else None)
    except CorrigibleError as error:
        print(error)
        return 2
    print(RESULT + json.dumps(result, default=float), flush=True)
    return 1 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main())
