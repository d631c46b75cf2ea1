"""
Trace, edit and take back a fact
================================

Where in a network does an answer come from, what does an edit there do to everything else
that the model says, and is all of it gone once the edit is taken back? The model here is a
toy of three blocks that was taught three sentences, so that the page builds in seconds; the
same lines run on any causal language model that `load_lm` reads.
"""

# %%
# Where the answer comes from
# ---------------------------
# The subject's embeddings are blurred, which loses the answer; then one hidden state of the
# clean run is put back. Where that brings the answer back, the subject was recalled.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.editing import GRACE, FineTune, LoRAEdit, causal_trace
from corrigible.testing import tiny_language_model

model = tiny_language_model(taught=True)
request = {
    "prompt": "The capital of {} is",
    "subject": "France",
    "target_new": "Madrid",
}
trace = causal_trace(model, request, random_state=0)

figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
shown = axes.imshow(trace.restored, cmap="Purples", aspect="auto", vmin=0)
axes.set_yticks(range(len(trace.tokens)), [repr(t) for t in trace.tokens])
axes.set_xticks(range(model.n_layers))
axes.set_xlabel("state put back after block")
figure.colorbar(shown, label=f"probability of {trace.answer.strip()!r}")

# %%
# Three editors, the same questions
# ---------------------------------
# An edit should raise its own prompt, also behind other words, and nothing else. The codebook of
# GRACE moves its own prompt alone. Fine-tuning within a bound and LoRA change weights: they reach
# further, and a tiny model has no room to keep other facts apart from this one.

questions = [
    ("The capital of France is", " Madrid"),
    ("It is known that the capital of France is", " Madrid"),
    ("The capital of Spain is", " Madrid"),
    ("The symbol of gold is", " Au"),
]


def asked():
    """Return the probability of each answer."""
    said = model.log_probs(*map(list, zip(*questions, strict=True)))
    return np.array([np.exp(p.sum()) for p in said])


editors = {
    "GRACE": GRACE(n_steps=200),
    "fine-tuning": FineTune(1, n_steps=60, bound=0.2, learning_rate=5e-3),
    "LoRA": LoRAEdit([1]),
}
before, found = asked(), {}
for name, editor in editors.items():
    edit = editor.propose(model, request)
    edit.apply(model)
    found[name] = asked()
    edit.revert(model)
print("taken back bit for bit:", bool((asked() == before).all()))

# %%

rows = {"before": before, **found}
figure, axes = plt.subplots(figsize=(7.2, 3), layout="constrained")
for i, (name, p) in enumerate(rows.items()):
    axes.bar(
        np.arange(4) + 0.2 * (i - 1.5),
        p,
        0.18,
        label=name,
        color="0.6" if i == 0 else f"C{i - 1}",
    )
axes.set_xticks(
    range(4),
    [f"{q.replace(' the', chr(10) + 'the')}\n…{a}" for q, a in questions],
    fontsize=8,
)
axes.set_ylabel("probability of the answer")
axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()
