"""The benchmark's scores against plain computations, for edits whose effect is known."""

import torch

from corrigible.editing import GRACE, EditProbes
from corrigible.models import Dense, Edit, EditRequest, Probe
from corrigible.papers import Measurement
from corrigible.testing import tiny_language_model
from corrigible.testing._tiny_models import SENTENCES

CLAIM = (
    "The scores of an edit are what plain computations give, and an edit that changes nothing scores as nothing."
)
PROTOCOL = """A tiny taught Llama. Divergence and perplexity are computed anew text by text without padding; GRACE must
reach its prompt and leave every neighbour and passage as it was; noise on one projection must show in every column."""
METHODS = ("editing_benchmark",)
PAPERS = ()  # the papers' tables need a real model
DATA = ()
SOURCES = ("src/corrigible/editing/_edit_scores.py", "src/corrigible/editing/_ability_tasks.py")


def run(data):
    model = tiny_language_model(taught=True)
    questions = (Probe("The capital of Spain is", "Madrid"), Probe("The symbol of gold is", "Au"))
    asked = [EditRequest("The capital of {} is", "France", "Rome", neighbours=questions)]
    texts = [" ".join(SENTENCES[1:]), " ".join(reversed(SENTENCES[1:]))]
    probes = EditProbes(asked, texts=texts, questions=questions)
    before = probes.ask(model)
    same = probes.compare(before, probes.ask(model))
    off = (same.efficacy, 1 - same.neighbour_kept, same.kl, abs(same.perplexity_ratio - 1), same.negative_flips)
    yield Measurement(
        "no edit: largest score that is not what it must be", max(off), at_most=1e-6, kind="reference"
    )
    edit = GRACE().propose(model, asked)
    edit.apply(model)
    good = probes.compare(before, probes.ask(model))
    edit.revert(model)
    yield Measurement("GRACE: efficacy", good.efficacy, at_least=1.0, kind="reference")
    yield Measurement("GRACE: divergence and perplexity that moved", good.kl + abs(good.perplexity_ratio - 1), at_most=0.0,
                      kind="reference")  # fmt: skip
    noise = Edit("noise", {f"{model.blocks[1].down}.weight": Dense(_noise())})
    clean = _plain(model, texts)
    noise.apply(model)
    bad, moved = probes.compare(before, probes.ask(model)), _plain(model, texts)
    p, q = (torch.cat([log_p for log_p, _ in found]) for found in (clean, moved))
    divergence = float((p.exp() * (p - q)).sum(-1).mean())
    ratio = sum(ppl for _, ppl in moved) / sum(ppl for _, ppl in clean)
    gaps = {"divergence": bad.kl / divergence - 1, "perplexity ratio": bad.perplexity_ratio / ratio - 1}
    for name, gap in gaps.items():
        yield Measurement(f"noise: gap of the {name} to a plain computation, relative", abs(gap), at_most=1e-3,
                          kind="reference", detail=f"{bad.kl:.4f} nats, ratio {bad.perplexity_ratio:.2f}")  # fmt: skip
    yield Measurement(
        "noise: share of known questions turned wrong", bad.negative_flips, at_least=0.5, kind="reference"
    )


def _noise():
    return 3.0 * torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def _plain(model, texts):
    """Return log probabilities at every eighth token, and the perplexity, text by text."""
    found = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([model.encode(text)[:96]])
            out = model.module(input_ids=ids, labels=ids)
            log_p = out.logits[0].log_softmax(-1)
            found.append((log_p[7::8], float(out.loss.exp())))
    return found
