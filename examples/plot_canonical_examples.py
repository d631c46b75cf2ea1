"""
One example, and a budget for everything else
=============================================

A model is shown one plain example of what it shall say. How far may it go? `CanonicalTuning` keeps
the last epoch after which other text is still nearly as probable as before; `CanonicalExamples`
chooses among editors under that budget. The model is a toy of three blocks that was taught three
sentences, so that the page builds in seconds.
"""

# %%
# Epoch by epoch
# --------------
# All weights, or changes of rank 4, each trained on one example. Both learn it; what it costs
# elsewhere decides where to stop.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.editing import CanonicalTuning, FineTune, LogitEnsemble
from corrigible.testing import tiny_language_model

model = tiny_language_model(taught=True)
request = {
    "prompt": "The capital of {} is",
    "subject": "France",
    "target_new": "Madrid",
}
texts = [
    "The capital of Spain is Madrid.",
    "The symbol of gold is Au.",
    "The symbol of gold is Au.",
    "The capital of Spain is Madrid.",
]
budget = 0.5
runs = {
    "all weights": CanonicalTuning(learning_rate=1e-3),
    "rank 4": CanonicalTuning(4, share=1.0, learning_rate=5e-3),
}
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
edits = {}
for name, editor in runs.items():
    editor.set_params(
        budget=budget, texts=texts, n_epochs=25, kl_weight=0.02, random_state=0
    )
    edits[name] = editor.propose(model, request)
    told = edits[name].details["epochs"]
    axes.plot(
        [e["nll"] for e in told], [e["deviation"] for e in told], "o-", ms=3, label=name
    )
axes.axhline(budget, color="k", lw=1, ls=":")
axes.text(0.02, budget, "budget", va="bottom", transform=axes.get_yaxis_transform())
axes.invert_xaxis()
axes.set_xlabel("loss on the example, falling to the right (nats a token)")
axes.set_ylabel("rise of loss on other text")
axes.legend(frameon=False)

# %%
# The change of a small model in a larger one
# -------------------------------------------
# What an edit changes in the log probabilities of one model can be added to the logits of another
# with the same tokenizer, which itself stays as it is.

other = tiny_language_model(taught=True, seed=3)
edit = FineTune(1, n_steps=60, bound=0.2, learning_rate=5e-3).propose(model, request)
prompts, targets = ["The capital of France is"] * 2, [" Madrid", " Paris"]
weights = np.linspace(0, 1, 6)
p = [
    [
        np.exp(one.sum())
        for one in LogitEnsemble(other, model, edit, weight=w).log_probs(
            prompts, targets
        )
    ]
    for w in weights
]
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.plot(weights, p, "o-", label=targets)
axes.set_xlabel("weight of the change")
axes.set_ylabel("probability in the other model")
axes.legend(frameon=False)
plt.show()
