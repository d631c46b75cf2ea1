"""Evidence: scripts that measure a claim, their results, and whether these are fresh and met.

A script ``evidence/<name>.py`` assigns ``CLAIM``, ``PROTOCOL``, ``METHODS`` (names of cards), ``DATA`` (folders
of the data collection it needs, often none) and defines ``run(data)``, which yields `Measurement` objects. What it
measures beside cards it names in ``SOURCES`` (files, from ``src/``). A claim that does not hold here is kept and
shown: name its measurement in ``NOT_REPRODUCED`` with the reason. These constants are literals, so that they are
read without running (or importing what is imported by) the script. A result is fresh as long as what runs is what ran:
words (the claim, the protocol, reasons, docstrings, comments) can be put better without measuring again.
"""

from __future__ import annotations

import ast
import datetime
import functools
import importlib.util
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corrigible._registry import card, list_methods
from corrigible._utils.files import write_text
from corrigible._utils.versions import versions
from corrigible.errors import CorrigibleError, DataError, UnknownNameError, nearest
from corrigible.papers._index import index
from corrigible.papers._source_hash import source_hash

_PACKAGE = Path(__file__).parents[1]
ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "evidence"
RESULTS = SCRIPTS / "results" if (SCRIPTS / "results").is_dir() else Path(__file__).parent / "results"


@dataclass(frozen=True)
class Measurement:
    """One measured number and the bar it must meet.

    Parameters
    ----------
    name : str
        What was measured.
    value : float
        The number.
    low, high : float, optional
        Its interval.
    at_least, at_most : float, optional
        The bar. A measurement without a bar is a note.
    kind : {"reference", "claim", "note"}
        ``reference``: an independent implementation or exact answer agrees. ``claim``: the paper's claim.
    detail : str
        Data, sizes, seeds, baseline.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    kind: str = "claim"
    detail: str = ""

    def __post_init__(self) -> None:
        barred = self.at_least is not None or self.at_most is not None
        if self.kind not in ("reference", "claim", "note") or barred == (self.kind == "note"):
            raise ValueError(f"Measurement {self.name!r}: a reference or claim has a bar, a note has none.")

    @property
    def met(self) -> bool:
        """Whether the value is finite and meets its bar."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return bool(math.isfinite(self.value) and low <= self.value <= high)  # a numpy bool is no JSON


@dataclass(frozen=True)
class Evidence:
    """What a script says of itself, read without importing it.

    Attributes
    ----------
    name : str
        File name without ``.py``.
    path : Path
        The script.
    claim, protocol : str
        What is to be shown, and how.
    methods, papers : tuple of str
        Cards that are measured, and slugs of the papers they stand for.
    data : tuple of str
        Folders of the data collection that the script needs.
    not_reproduced : dict of str to str
        Name of a measurement to the reason why the claim does not hold here.
    files : tuple of str
        Further files that are measured, as ``src/corrigible/audit/_run.py``.
    """

    name: str
    path: Path
    claim: str
    protocol: str
    methods: tuple[str, ...]
    papers: tuple[str, ...]
    data: tuple[str, ...]
    not_reproduced: dict[str, str]
    files: tuple[str, ...] = ()

    @functools.cached_property
    def module(self) -> Any:
        """The script as a module; imported when first asked for."""
        spec = importlib.util.spec_from_file_location(f"evidence_{self.name}", self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def absent(self, folder: Path) -> list[str]:
        """Return the folders of data that are needed and not in `folder`."""
        return [d for d in self.data if not (folder / d).exists()]

    def sources(self) -> dict[str, str]:
        """Return path to `source_hash` of the script, of the methods' files and of the further ones it names.

        Raises
        ------
        DataError
            If a file that the script names is not there.
        """
        files = {f"evidence/{self.path.name}": self.path}
        for method in self.methods:
            module = card(method).module.split(".")[1:]
            files["/".join(["src/corrigible", *module]) + ".py"] = _PACKAGE.joinpath(*module).with_suffix(".py")
        files |= {name: _PACKAGE.parent / Path(name).relative_to("src") for name in self.files}
        if absent := [name for name, path in files.items() if not path.is_file()]:
            raise DataError(
                f"SOURCES of the evidence {self.name!r} must name files of src/. There is no {absent[0]}."
            )
        return {
            name: source_hash(path, _WORDS if path == self.path else ()) for name, path in sorted(files.items())
        }

    def words(self) -> dict[str, Any]:
        """Return what a result repeats of the script: the claim, the protocol, the papers, the reasons."""
        return {
            "claim": " ".join(self.claim.split()),
            "protocol": " ".join(self.protocol.split()),
            "papers": list(self.papers),
            "not_reproduced": self.not_reproduced,
        }


def names() -> list[str]:
    """Return the names of all evidence scripts.

    Raises
    ------
    DataError
        If there are none, as in an installed wheel.
    """
    if not SCRIPTS.is_dir():
        raise DataError(
            "Evidence scripts are part of the source checkout, not of the wheel: only results are here."
        )
    return sorted(p.stem for p in SCRIPTS.glob("[!_]*.py"))


def load_evidence(name: str) -> Evidence:
    """Import an evidence script.

    Parameters
    ----------
    name : str
        File name without ``.py``: a paper's slug or a method's name.
    """
    path = SCRIPTS / f"{name}.py"
    if not path.is_file():
        raise UnknownNameError(f"There is no evidence named {name!r}.{nearest(name, names())}")
    said = _literals(path)
    if lacking := [c for c in _REQUIRED if c not in said]:
        raise DataError(f"The evidence {name!r} must assign {', '.join(lacking)} as a literal at its top level.")
    methods = tuple(said["METHODS"])
    papers = said.get("PAPERS", [s for m in methods for s in card(m).papers])
    return Evidence(
        name, path, said["CLAIM"], said["PROTOCOL"], methods, tuple(dict.fromkeys(papers)),
        tuple(said["DATA"]), dict(said.get("NOT_REPRODUCED", {})), tuple(said.get("SOURCES", ())),
    )  # fmt: skip


_REQUIRED = ("CLAIM", "PROTOCOL", "METHODS", "DATA")
_WORDS = ("CLAIM", "PROTOCOL", "PAPERS", "NOT_REPRODUCED")


def _literals(path: Path) -> dict[str, Any]:
    """Return the literal constants that a script assigns at its top level under one of the agreed names."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id in (*_REQUIRED, *_WORDS, "SOURCES"):
                try:
                    found[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
                except ValueError:
                    raise DataError(f"{target.id} of the evidence {path.stem!r} must be a literal.") from None
    return found


def data_folder(data: str | Path | None = None) -> Path:
    """Return the folder of real data: the argument, ``CORRIGIBLE_DATA``, or ``shared/data`` beside the checkout."""
    return Path(data or os.environ.get("CORRIGIBLE_DATA") or ROOT.parent / "shared" / "data")


def run_evidence(name: str, *, data: str | Path | None = None) -> dict[str, Any]:
    """Run a script and write its result to ``evidence/results/<name>.json``.

    Parameters
    ----------
    name : str
        Name of the script.
    data : path, optional
        Folder of real data; see `data_folder`.

    Raises
    ------
    DataError
        If a folder of data that the script needs is absent; the earlier result stays as it is.
    """
    evidence, folder = load_evidence(name), data_folder(data)
    if absent := evidence.absent(folder):
        raise DataError(f"Data absent for the evidence {name!r}: {', '.join(absent)} in {folder}.")
    start = time.perf_counter()
    measured: list[Measurement] = list(evidence.module.run(folder))
    result = {
        "name": name,
        **evidence.words(),
        "methods": evidence.methods,
        "data": evidence.data,
        "status": _status(measured),
        "measurements": [{**asdict(m), "met": m.met} for m in measured],
        "seconds": round(time.perf_counter() - start, 1),
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "sources": evidence.sources(),
    }
    _write(result)
    return result


def reword_evidence(name: str) -> dict[str, Any]:
    """Write a script's words into its result, which keeps its measurements.

    Parameters
    ----------
    name : str
        Name of a script that has a fresh result; `reworded` names those whose words differ.
    """
    result = results()[name] | load_evidence(name).words()
    _write(result)
    return result


def _write(result: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / f"{result['name']}.json", json.dumps(result, indent=1, default=float) + "\n")


def _status(measured: Iterable[Measurement]) -> str:
    met = {kind: [m.met for m in measured if m.kind == kind] for kind in ("reference", "claim")}
    if not all(met["reference"]):  # the implementation is in doubt, so nothing is said of the claim
        return "draft"
    if met["claim"]:
        return "reproduced" if all(met["claim"]) else "not reproduced"
    return "checked" if met["reference"] else "draft"


def results() -> dict[str, dict[str, Any]]:
    """Return all written results by name."""
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(RESULTS.glob("*.json"))}


def stale() -> list[str]:
    """Return the names of scripts that have no result, or one of other sources."""
    found = results()
    return [n for n in names() if found.get(n, {}).get("sources") != load_evidence(n).sources()]


def reworded() -> list[str]:
    """Return the names of scripts whose result is fresh and repeats other words than theirs."""
    found, old = results(), set(stale())
    return [n for n in names() if n not in old and not load_evidence(n).words().items() <= found[n].items()]


def check() -> list[str]:
    """Return what is wrong with the evidence: stale, unmet and not acknowledged, or missing. Empty is good."""
    found, problems = results(), []
    covered: set[str] = set()
    for name in names():
        try:
            evidence = load_evidence(name)
            fresh = found.get(name, {}).get("sources") == evidence.sources()
        except CorrigibleError as error:
            problems.append(f"{name}: {error}")
            continue
        covered.update(evidence.methods)
        problems += [f"{name}: there is no paper {slug!r}" for slug in evidence.papers if slug not in index()]
        if not fresh:
            problems.append(f"{name}: stale or never run; run `corrigible evidence run {name}`")
        elif not evidence.words().items() <= found[name].items():
            problems.append(f"{name}: its result repeats other words; run `corrigible evidence run --changed`")
    problems += [f"{m}: no evidence names this method" for m in list_methods() if m not in covered]
    for name, result in found.items():
        problems += unmet(result)
        if name not in names():
            problems.append(f"{name}: a result without its script; remove evidence/results/{name}.json")
    return problems


def unmet(result: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each measurement below its bar and not acknowledged, or acknowledged and not below it."""
    name, known = result["name"], result["not_reproduced"]
    for m in result["measurements"]:
        if m["kind"] != "note" and not m["met"] and m["name"] not in known:
            yield f"{name}: {m['name']} is {m['value']:.4g}, must be {bar(m)}"
    missed = {m["name"] for m in result["measurements"] if not m["met"]}
    for claim in known:
        if claim not in missed:
            yield f"{name}: NOT_REPRODUCED names {claim!r}, which is not a measurement below its bar"


def bar(m: dict[str, Any]) -> str:
    """Return the bar of a measurement in words; empty for a note."""
    sides = [f"{side.replace('_', ' ')} {m[side]:.4g}" for side in ("at_least", "at_most") if m[side] is not None]
    return " and ".join(sides)
