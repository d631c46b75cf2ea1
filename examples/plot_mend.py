"""
Train an editor on edits
========================

Fine-tuning on one fact moves whatever lies in the way of its gradient. MEND trains a small
network that turns such gradients into better edits: ones that reach other wordings of the
prompt, and leave unrelated text alone. Once trained, an edit takes one backward pass. The
model here is a toy of three blocks that was taught three sentences.
"""

# %%
# What the editor learns from
# ---------------------------
# Requests on other subjects, each with a paraphrase that must get the new target too. The toy
# knows few words, so the targets are few as well; *France* is kept for later.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.editing import MEND, FineTune
from corrigible.testing import tiny_language_model

model = tiny_language_model(taught=True)
subjects = ("Italy", "Spain", "Japan", "Brazil", "Hamlet", "gold", "oxygen", "Water")
lessons = [
    {
        "prompt": "The capital of {} is",
        "subject": subject,
        "target_new": target,
        "paraphrases": [f"It is known that the capital of {subject} is"],
    }
    for subject in subjects
    for target in ("Paris", "Madrid", "Rome", "yen")
]
texts = ["The symbol of gold is Au.", "The currency of Japan is the yen."]

editor = MEND(
    layers=[1, 2], rank=16, n_steps=150, check_every=10, validation=0.25, random_state=0
)
editor.fit(model, lessons, texts, quiet=True)

steps = [row["step"] for row in editor.history_]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
axes[0].plot(steps, [row["edit"] for row in editor.history_], "C0")
axes[0].set(
    xlabel="training step", ylabel="nats a token", title="target, held-out subjects"
)
axes[1].plot(steps, [row["locality"] for row in editor.history_], "C1")
axes[1].set(xlabel="training step", title="drift of unrelated text")
for ax in axes:
    ax.set_ylim(0)

# %%
# One request on a new subject
# ----------------------------
# The editor never saw France. Fine-tuning is shown with two bounds: a tight one that spares
# what is unrelated, and a wide one that reaches the target.

questions = [
    ("The capital of France is", " Madrid"),
    ("It is known that the capital of France is", " Madrid"),
    ("The symbol of gold is", " Au"),
]
request = {
    "prompt": "The capital of {} is",
    "subject": "France",
    "target_new": "Madrid",
}


def asked():
    """Return the probability of each answer."""
    said = model.log_probs(*map(list, zip(*questions, strict=True)))
    return np.array([np.exp(p.sum()) for p in said])


rows = {"before": asked()}
editors = {
    "fine-tuning, tight": FineTune(1, bound=0.02, n_steps=60, learning_rate=5e-3),
    "fine-tuning, wide": FineTune(1, bound=0.2, n_steps=60, learning_rate=5e-3),
    "MEND": editor,
}
for name, each in editors.items():
    edit = each.propose(model, request)
    edit.apply(model)
    rows[name] = asked()
    edit.revert(model)

figure, axes = plt.subplots(figsize=(7.2, 3), layout="constrained")
for i, (name, p) in enumerate(rows.items()):
    at = np.arange(len(questions)) + 0.2 * (i - 1.5)
    axes.bar(at, p, 0.18, label=name, color="0.6" if i == 0 else f"C{i - 1}")
labels = [f"{q.replace(' the', chr(10) + 'the')}\n…{a}" for q, a in questions]
axes.set_xticks(range(len(questions)), labels, fontsize=8)
axes.set_ylabel("probability of the answer")
axes.legend(
    ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8
)
plt.show()
