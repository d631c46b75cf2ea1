"""Which kinds of error and of data a paper is about, told by its room, its words and what its methods take.

The rules are words, not a judgement of each paper: a paper may be of several kinds, or of none.
"""

from __future__ import annotations

import functools
import re

import corrigible
from corrigible.papers import index

# Kind to the rooms that are about it, and to words of title and plan of papers in other rooms.
_ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "wrong labels": (
        (),
        r"label (noise|errors?|quality|issues?)|noisy (labels?|neighbours?)|mislabel|annotat|relation labels"
        r"|wrong (labels?|numbers?|tags?)|numerical response|cleaning a benchmark|bad rows|map of the training rows",
    ),
    "missing values": ((), r"missing|imput(e|ation)|incomplete|recorded for some"),
    "false confidence": (
        (),
        r"calibrat|confiden(ce|t)|temperature scaling|uncertainty|overconfiden|reject|abst(ain|ention)|conformal"
        r"|what (they|you) (don't )?know|prediction intervals?",
    ),
    "distribution shift": (
        ("shift",),
        r"(covariate|distribution|label|domain|correlation) shift|\bdrift|out-of-distribution|unseen domain|novelty",
    ),
    "spurious cues": ((), r"spurious|shortcut|different cues|\bcues?\b|nuisance|suppressor|inside the object"),
    "unfairness": (("fairness",), r"\bfair(ness)?\b|stereotyp|debias|toxic|for one group than"),
    "invented facts": (("hallucination",), r"hallucinat|invented"),
    "wrong reasoning": (("reasoning",), r"wrong step|math|reasoning|half-right|self-correct"),
    "wrong knowledge": (("editing",), r"model edit|edit(ing|ed) (a )?model|unlearn"),
    "forgetting and collapse": (("continual",), r"forget|model collapse|collapse of|catastrophic"),
    "difference between versions": (
        (),
        r"negative flip|backward compat|model version|two training procedures|converter|almost equal loss|many seeds"
        r"|over seeds|old and new model",
    ),
    "sensitivity to wording": (("prompting",), r"reword|order of options|prompt"),
    "error of solvers and samplers": (("diffusion", "dynamics"), r"denois|solver|simulator"),
    "wrong explanations": (("explain",), r"attributions? (can|on)|faithfulness"),
}
_DATA: dict[str, tuple[tuple[str, ...], str]] = {
    "tables": ((), r"\btables?\b|tabular|cells|imput|credit card|health records|missing values"),
    "text": (
        ("hallucination", "prompting", "decoding"),
        r"language|\bLLMs?\b|\bLMs?\b|\btexts?\b|prompt|token|\bNLP\b|translat|sentence|summar|bert\b|dialog|math word",
    ),
    "images": ((), r"\bimages?\b|imagenet|vision|visual|pixel|x-ray|\bMRI\b|convolution"),
    "speech": ((), r"speech|speaker"),
    "series and simulations": (
        ("dynamics",),
        r"trajector|climate|gas flow|chaotic|turbulence|time series|forecast",
    ),
    "code and proofs": ((), r"\bcode\b|\bprogram(s|ming)?\b|proof|theorem prov"),
    "weights of models": (("merging",), r"task vectors?|averaging weights"),
    "predictions alone": ((), r"$^"),
}
ERRORS, DATA = tuple(_ERRORS), tuple(_DATA)


@functools.cache
def errors_of(slug: str) -> frozenset[str]:
    """Return the kinds of error that a paper of the index is about."""
    return _kinds(slug, _ERRORS)


@functools.cache
def data_of(slug: str) -> frozenset[str]:
    """Return the kinds of data that a paper of the index is about, those that its methods take among them."""
    taken = {kind for name in index()[slug].methods for kind in _taken(corrigible.card(name).inputs)}
    return _kinds(slug, _DATA) | taken


def _kinds(slug: str, rules: dict[str, tuple[tuple[str, ...], str]]) -> frozenset[str]:
    paper = index()[slug]
    text = f"{paper.title}. {paper.build}"
    return frozenset(
        kind
        for kind, (rooms, words) in rules.items()
        if paper.room in rooms or re.search(words, text, re.IGNORECASE)
    )


def _taken(inputs: str) -> set[str]:
    """Return what a method takes, from the inputs of its card."""
    parts = [part.strip() for part in inputs.split(",")]
    table = any(re.fullmatch(r"X\b.*|reference|production|tables|sources", part) for part in parts)
    predicted = any(
        re.fullmatch(r"\w*proba|scores?|prediction|quantiles|loss(es)?|pred_[ab]", part) for part in parts
    )
    weights = any(re.fullmatch(r"tensors|base|recipe", part) for part in parts)
    kinds = {"tables": table, "predictions alone": predicted and not table and "model" not in "".join(parts)}
    return {kind for kind, so in (kinds | {"weights of models": weights}).items() if so}
