"""One protocol over editors: efficacy, generalisation, locality, portability, fluency, and what general skill is lost.

Papers: Editing Large Language Models: Problems, Methods, and Opportunities (Yao et al., EMNLP 2023); Model Editing Can
Hurt General Abilities of Large Language Models (Gu et al., EMNLP 2024); Should We Really Edit Language Models? On the
Evaluation of Edited Language Models (Li et al., NeurIPS 2024).
Original: https://github.com/zjunlp/EasyEdit
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from corrigible._card import Card
from corrigible._utils.files import write_text
from corrigible._utils.progress import progress
from corrigible._utils.validation import check_choice
from corrigible.editing._edit_scores import EditProbes as EditProbes
from corrigible.editing._edit_scores import EditScores as EditScores
from corrigible.errors import InvalidParameterError
from corrigible.models import EditRequest, LanguageModel, Probe, check_requests

CARD = Card(
    name="editing_benchmark",
    kind="measure",
    obj="EditingBenchmark",
    also=("EditProbes", "EditScores"),
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


class EditingBenchmark:
    """Compare editors on one model and one list of requests.

    Parameters
    ----------
    editors : mapping of str to editor
        By the name to show.
    modes : sequence of {"single", "batch", "sequential"}
        ``"single"`` edits one request at a time and takes it back; ``"batch"`` hands over the first n together;
        ``"sequential"`` edits the first n one after another.
    sizes : sequence of int
        Numbers n of requests of ``"batch"`` and ``"sequential"``.
    folder : path, optional
        Where each result is kept as soon as it is there; what is there already is not measured again.
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
    >>> table = benchmark.run(tiny_language_model(), asked, quiet=True)
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

    def run(self, model: LanguageModel, requests: Any, *, quiet: bool = False) -> pd.DataFrame:
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
        DataFrame
            A row an editor, mode and size, with the scores of `EditScores`, seconds an edit, and the number of
            requests; for ``"single"`` the means over requests.
        """
        asked = check_requests(requests, by="EditingBenchmark")
        for mode in self.modes:
            check_choice(mode, MODES, name="modes", by="EditingBenchmark")
        if too_many := [n for n in self.sizes if n > len(asked)]:
            raise InvalidParameterError(
                f"The 'sizes' parameter of EditingBenchmark must not exceed the {len(asked)} requests. Got {too_many[0]}."
            )
        cells = list(self._cells(len(asked)))
        rows = []
        with progress(len(cells), quiet=quiet) as bar:
            for name, mode, n in cells:
                bar.step(f"{name}, {mode}, {n}")
                rows.append(self._cell(model, name, mode, asked[:n]))
        return pd.DataFrame(rows)

    def _cells(self, n_requests: int) -> Iterator[tuple[str, str, int]]:
        for name in self.editors:
            for mode in self.modes:
                for n in [n_requests] if mode == "single" else self.sizes:
                    yield name, mode, n

    def _cell(self, model: LanguageModel, name: str, mode: str, asked: list[EditRequest]) -> dict[str, Any]:
        kept = None if self.folder is None else Path(self.folder) / f"{name}-{mode}-{len(asked)}.json"
        if kept is not None and kept.is_file():
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        groups = [[r] for r in asked] if mode == "single" else [asked]
        measured = [self._measure(model, self.editors[name], mode, group) for group in groups]
        row = {"editor": name, "mode": mode, "n": len(asked), **_mean_of(measured)}
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, json.dumps(row, indent=1) + "\n")
        return row

    def _measure(self, model: LanguageModel, editor: Any, mode: str, group: list[EditRequest]) -> dict[str, float]:
        probes = EditProbes(group, texts=self.texts, questions=self.questions, abilities=mode != "single")
        before, applied, start = probes.ask(model), [], time.perf_counter()
        try:
            for part in [group] if mode == "batch" else [[r] for r in group]:
                edit = editor.propose(model, part)
                edit.apply(model)
                applied.append(edit)
            seconds = (time.perf_counter() - start) / len(group)
            return {**_flat(probes.compare(before, probes.ask(model))), "seconds": seconds}
        finally:
            for edit in reversed(applied):
                edit.revert(model)


def _flat(scores: EditScores) -> dict[str, float]:
    flat = scores.to_dict()
    return flat | {f"ability_{name}": value for name, value in flat.pop("abilities").items()}


def _mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the rows that have it."""
    return {str(name): float(value) for name, value in pd.DataFrame(rows).mean().items()}
