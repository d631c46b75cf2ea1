"""One protocol over editors: efficacy, generalisation, locality, portability, fluency, and what general skill is lost.

Papers: Editing Large Language Models: Problems, Methods, and Opportunities (Yao et al., EMNLP 2023); Model Editing Can
Hurt General Abilities of Large Language Models (Gu et al., EMNLP 2024); Should We Really Edit Language Models? On the
Evaluation of Edited Language Models (Li et al., NeurIPS 2024).
Original: https://github.com/zjunlp/EasyEdit
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from corrigible._card import Card
from corrigible._utils.files import write_text
from corrigible._utils.progress import progress
from corrigible._utils.validation import check_choice
from corrigible.editing._edit_scores import Answers
from corrigible.editing._edit_scores import EditProbes as EditProbes
from corrigible.editing._edit_scores import EditScores as EditScores
from corrigible.editing._editing_results import EditingResults as EditingResults
from corrigible.errors import InvalidParameterError
from corrigible.models import EditRequest, LanguageModel, Probe, check_requests

CARD = Card(
    name="editing_benchmark",
    kind="measure",
    obj="EditingBenchmark",
    also=("EditProbes", "EditScores", "EditingResults"),
    papers=("easyedit", "edit_eval", "edit_hurts"),
    refs=("yao2023editing", "gu2024hurt", "li2024should"),
    source="https://github.com/zjunlp/EasyEdit",
    differs="Answers are judged by what the model writes, not by teacher-forced tokens. Locality has three columns: other "
    "subjects, other relations of the same subject, and held-out text. General abilities are five small tasks of twelve "
    "choices each, not the papers' benchmarks.",
    inputs="model, editors, requests",
    stochastic=False,
    cost="A proposal a request and editor, and about twenty short generations a request",
    use_when="Editors are to be compared on one's own model and facts, before one is trusted with weights.",
    avoid_when="One edit is to be checked: `corrigible edit` writes its report.",
    requires=("lm",),
)
MODES = ("single", "batch", "sequential")
_Row = dict[str, float]


class EditingBenchmark:
    """Compare editors on one model and one list of requests.

    Parameters
    ----------
    editors : mapping of str to editor
        By the name to show.
    modes : sequence of {"single", "batch", "sequential"}
        ``"single"`` edits one request at a time and takes it back; ``"batch"`` hands over the first n together;
        ``"sequential"`` edits one after another and looks after each n.
    sizes : sequence of int
        Numbers n of requests of ``"batch"`` and ``"sequential"``.
    folder : path, optional
        Where each result is kept as soon as it is there; what is there already, of the same model, editor and
        requests, is not measured again.
    texts, questions
        As in `EditProbes`.

    References
    ----------
    .. [1] Yao, Y. et al. (2023). Editing Large Language Models: Problems, Methods, and Opportunities. EMNLP.

    Examples
    --------
    >>> from corrigible.editing import EditingBenchmark, FineTune, GRACE
    >>> from corrigible.testing import tiny_language_model
    >>> asked = [{"prompt": "The capital of {} is", "subject": s, "target_new": "Rome"} for s in ("France", "Spain")]
    >>> benchmark = EditingBenchmark({"fine_tune": FineTune(), "grace": GRACE()}, modes=["batch"], sizes=[2])
    >>> table = benchmark.run(tiny_language_model(), asked, quiet=True).table
    >>> table[["editor", "mode", "n"]].to_numpy().tolist()
    [['fine_tune', 'batch', 2], ['grace', 'batch', 2]]
    >>> bool((table["kl"] >= 0).all())
    True
    """

    def __init__(
        self,
        editors: Mapping[str, Any],
        *,
        modes: Sequence[str] = MODES,
        sizes: Sequence[int] = (1, 10),
        folder: str | Path | None = None,
        texts: Sequence[str] | None = None,
        questions: Sequence[Probe] = (),
    ) -> None:
        self.editors = editors
        self.modes = modes
        self.sizes = sizes
        self.folder = folder
        self.texts = texts
        self.questions = questions

    def run(self, model: LanguageModel, requests: Any, *, quiet: bool = False) -> EditingResults:
        """Measure every editor in every mode.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        requests : iterable of EditRequest or mapping
            What is edited.
        quiet : bool
            Show no progress.

        Returns
        -------
        EditingResults
            ``table`` has a row an editor, mode and size, with the scores of `EditScores`, seconds an edit, and the
            number of requests; for ``"single"`` the means over requests. ``save`` writes the page.
        """
        asked = check_requests(requests, by="EditingBenchmark")
        for mode in self.modes:
            check_choice(mode, MODES, name="modes", by="EditingBenchmark")
        together = any(mode != "single" for mode in self.modes)
        if too_many := [n for n in self.sizes if n > len(asked) and together]:
            raise InvalidParameterError(
                f"The 'sizes' parameter of EditingBenchmark must not exceed the {len(asked)} requests. Got {too_many[0]}."
            )
        cells = [(name, mode) for name in self.editors for mode in self.modes]
        bench = _Bench(self, model)
        rows: list[dict[str, Any]] = []
        with progress(len(cells), quiet=quiet) as bar:
            for name, mode in cells:
                bar.step(f"{name}, {mode}")
                for n, each in self._cell(bench, name, mode, asked).items():
                    rows += [{"editor": name, "mode": mode, "n": n, **row} for row in each]
        return EditingResults(pd.DataFrame(rows))

    def _cell(self, bench: _Bench, name: str, mode: str, asked: list[EditRequest]) -> dict[int, list[_Row]]:
        """Return the rows of one editor and mode by number of requests, read where they are kept."""
        sizes = [len(asked)] if mode == "single" else list(self.sizes)
        found = {n: rows for n in sizes if (rows := self._read(bench, name, mode, asked[:n])) is not None}
        editor, left = self.editors[name], [n for n in sizes if n not in found]
        if mode == "sequential" and left:
            parts = [[request] for request in asked[: max(left)]]
            found |= {n: [row] for n, row in bench.edited(editor, parts, left, abilities=True).items()}
            for n in left:
                self._write(bench, name, mode, asked[:n], found[n])
            return {n: found[n] for n in sizes}
        for n in left:
            groups = [[request] for request in asked] if mode == "single" else [asked[:n]]
            found[n] = [
                bench.edited(editor, [group], [len(group)], abilities=mode != "single")[len(group)]
                for group in groups
            ]
            self._write(bench, name, mode, asked[:n], found[n])
        return {n: found[n] for n in sizes}

    def _file(self, name: str, mode: str, n: int) -> Path | None:
        return None if self.folder is None else Path(self.folder) / f"{name}-{mode}-{n}.json"

    def _read(self, bench: _Bench, name: str, mode: str, asked: list[EditRequest]) -> list[_Row] | None:
        path = self._file(name, mode, len(asked))
        if path is None or not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.get("of") != bench.key(self.editors[name], asked):
            return None
        return list(kept["rows"])

    def _write(self, bench: _Bench, name: str, mode: str, asked: list[EditRequest], rows: list[_Row]) -> None:
        path = self._file(name, mode, len(asked))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = {"of": bench.key(self.editors[name], asked), "rows": rows}
            write_text(path, json.dumps(kept, indent=1) + "\n")


class _Bench:
    """A model whose answers before any edit are asked for once a group of requests."""

    def __init__(self, benchmark: EditingBenchmark, model: LanguageModel) -> None:
        self.benchmark = benchmark
        self.model = model
        self.before: dict[Any, Answers] = {}

    def key(self, editor: Any, asked: list[EditRequest]) -> str:
        """Return what tells the same measurement from another: weights, the editor's settings, requests, probes."""
        settings = editor.get_params() if hasattr(editor, "get_params") else {}
        of = self.benchmark
        parts = (self.model.fingerprint(), type(editor).__name__, sorted(settings.items()), [r.to_dict() for r in asked],
                 of.texts, list(of.questions))  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def edited(
        self, editor: Any, parts: list[list[EditRequest]], marks: Collection[int], *, abilities: bool
    ) -> dict[int, _Row]:
        """Edit part after part, score the edited model after each number of requests in marks, take all back."""
        asked = [request for part in parts for request in part]
        probes = {n: self._probes(asked[:n], abilities=abilities) for n in marks}
        before = {n: self._before(probes[n]) for n in marks}
        applied, found, done, seconds = [], {}, 0, 0.0
        try:
            for part in parts:
                start = time.perf_counter()
                edit = editor.propose(self.model, part)
                edit.apply(self.model)
                seconds += time.perf_counter() - start
                applied.append(edit)
                done += len(part)
                if done in probes:
                    scores = probes[done].compare(before[done], probes[done].ask(self.model))
                    found[done] = _flat(scores) | {"seconds": seconds / done}
        finally:
            for edit in reversed(applied):
                edit.revert(self.model)
        return found

    def _probes(self, asked: list[EditRequest], *, abilities: bool) -> EditProbes:
        of = self.benchmark
        return EditProbes(asked, texts=of.texts, questions=of.questions, abilities=abilities)

    def _before(self, probes: EditProbes) -> Answers:
        key = (tuple(r.text for r in probes.requests), probes.abilities)
        if key not in self.before:
            self.before[key] = probes.ask(self.model)
        return self.before[key]


def _flat(scores: EditScores) -> _Row:
    flat = scores.to_dict()
    tasks = flat.pop("abilities")
    mean = sum(tasks.values()) / len(tasks) if tasks else math.nan
    return flat | {f"ability_{name}": value for name, value in tasks.items()} | {"ability": mean}
