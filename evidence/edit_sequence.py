"""Knees planted in curves of perplexity are found where they are, and a sequence stops where the limit is passed."""

import numpy as np
import torch

from corrigible.editing import edit_sequence, forgetting_knee
from corrigible.models import Dense, Edit, EditRequest
from corrigible.papers import Measurement
from corrigible.testing import tiny_language_model
from corrigible.testing._editors import bits
from corrigible.testing._tiny_models import SENTENCES

CLAIM = "The knee between gradual and abrupt forgetting is found, and a sequence of edits is stopped before it is passed."
PROTOCOL = """Two hundred curves of 61 points: log perplexity rises by 0.001 to 0.005 an edit up to a knee between 10 and
50, by 0.05 to 0.5 after it, with noise of 0.005. Half as many without a knee. A tiny taught Llama is given edits of noise
that grow twofold."""
METHODS = ("edit_sequence",)
PAPERS = ()  # the papers' curves need a real model
DATA = ()


def run(data):
    rng, x = np.random.default_rng(0), np.arange(61.0)
    off, called, false = [], [], []
    for _ in range(200):
        at, slow, fast = rng.integers(10, 51), rng.uniform(0.001, 0.005), rng.uniform(0.05, 0.5)
        found = forgetting_knee(
            np.exp(slow * x + (fast - slow) * np.maximum(x - at, 0) + 0.005 * rng.normal(size=61))
        )
        off.append(abs(found.knee - at))
        called.append(found.abrupt)
    for _ in range(100):
        curve = np.exp(rng.uniform(0.001, 0.01) * x + 0.005 * rng.normal(size=61))
        false.append(forgetting_knee(curve).abrupt)
    yield Measurement("planted knees: largest distance in edits", float(max(off)), at_most=2.0, kind="reference",
                      detail=f"mean {np.mean(off):.2f}")  # fmt: skip
    yield Measurement("planted knees called abrupt", float(np.mean(called)), at_least=0.99, kind="reference")
    yield Measurement("curves without a knee called abrupt", float(np.mean(false)), at_most=0.05, kind="reference")
    model = tiny_language_model(taught=True)
    before = bits(model)
    asked = [EditRequest("The capital of {} is", s, "Rome") for s in ("France", "Spain", "Italy", "Japan") * 3]
    found = edit_sequence(model, _Growing(), asked, texts=SENTENCES)
    kept = found.ratio
    found.revert(model)
    yield Measurement("perplexity ratio with the edits that are kept", kept, at_most=1.1, kind="reference",
                      detail=f"stopped at request {found.stopped} of {len(asked)}, whose edit would have given "
                      f"{found.perplexity[-1] / found.perplexity[0]:.2f}")  # fmt: skip
    yield Measurement("bytes changed after the sequence is taken back", float(bits(model) != before), at_most=0,
                      kind="reference")  # fmt: skip


class _Growing:
    """An editor of noise that doubles each time."""

    size = 1e-4

    def propose(self, model, requests):
        self.size *= 2
        noise = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
        return Edit("noise", {f"{model.blocks[1].down}.weight": Dense(self.size * noise)})
