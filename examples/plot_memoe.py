"""
Experts beside a block that wake when a subject is named
========================================================

`MEMoE` changes no weight. It puts a few matrices beside one feed-forward module, and a router that
sends each token to one of them by the token's state and by the *anchor*: the edited subject that the
text has named last. Before any is named nothing is added, so that text on other subjects passes by
without a bit of change. What does that leave untouched, and what not? The model is a toy of three
blocks that was taught three sentences, so that the page builds in seconds.
"""

# %%
# A batch of two edits
# --------------------
# Both are trained together; the anchors are the subjects of the requests.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.editing import MEMoE
from corrigible.testing import tiny_language_model

model = tiny_language_model(taught=True)
template = "The capital of {} is"
requests = [
    {"prompt": template, "subject": subject, "target_new": target}
    for subject, target in (("France", "Madrid"), ("Spain", "Paris"))
]
edit = MEMoE(n_experts=3, learning_rate=5e-3, random_state=0).propose(model, requests)
print("share of tokens by expert:", edit.details["shares"])

# %%
# Which tokens pass the experts
# -----------------------------
# An anchor holds from its last token on, until another is named.

(experts,) = edit.adaptors
texts = [
    "The capital of France is Madrid.",
    "The symbol of gold is Au.",
    "In Italy, Spain is known. France is, too.",
]
rows = [model.encode(text) for text in texts]
batch = model.batch(rows)
numbers, _ = experts.find(batch.ids.masked_fill(batch.mask == 0, -1))

figure, axes = plt.subplots(figsize=(8.4, 2.2), layout="constrained")
colours = {-1: "0.92", 0: "C0", 1: "C1"}
for i, row in enumerate(rows):
    for j, token in enumerate(row):
        held = int(numbers[i, j])
        axes.add_patch(plt.Rectangle((j, -i), 1, 0.8, color=colours[held], alpha=0.6))
        axes.text(
            j + 0.5,
            0.4 - i,
            model.tokenizer.decode([token]).strip(),
            ha="center",
            va="center",
            fontsize=7,
        )
axes.set_xlim(0, max(map(len, rows)))
axes.set_ylim(1 - len(rows), 1)
axes.axis("off")
axes.set_title("grey: passed by; blue: under France; orange: under Spain", fontsize=9)

# %%
# What it does to answers
# -----------------------
# The edited prompts move, also behind other words. Gold, which no request names, keeps its every bit.
# What else is said of an edited subject is not held by anything but training: it passes the experts.

questions = [
    ("The capital of France is", " Madrid"),
    ("The capital of Spain is", " Paris"),
    ("It is known that the capital of France is", " Madrid"),
    ("The symbol of gold is", " Au"),
    ("The symbol of France is", " Madrid"),
]


def asked():
    """Return the probability of each answer."""
    said = model.log_probs(*map(list, zip(*questions, strict=True)))
    return np.array([np.exp(p.sum()) for p in said])


before = asked()
edit.apply(model)
after = asked()
edit.revert(model)
print("gold, same bits:", bool(before[3] == after[3]))
print("taken back, same bits:", bool((asked() == before).all()))

figure, axes = plt.subplots(figsize=(8.4, 3), layout="constrained")
places = np.arange(len(questions))
axes.bar(places - 0.2, before, 0.38, label="before", color="0.6")
axes.bar(places + 0.2, after, 0.38, label="with the experts", color="C0")
labels = [f"{q.replace(' the c', chr(10) + 'the c')}\n…{a}" for q, a in questions]
axes.set_xticks(places, labels, fontsize=8)
axes.set_ylabel("probability of the answer")
axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()
