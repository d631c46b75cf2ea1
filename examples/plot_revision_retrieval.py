"""
Corrections that users write, change and withdraw
=================================================

`RevisionRetrieval` keeps what users want said, looks up the revision nearest to each prompt, and
puts it before the prompt if it is near enough. All hangs on *near enough*: too low a threshold
answers the capital of Austria with that of Australia, too high a one misses every paraphrase. The
encoder here is the default, which sees nothing but character n-grams, so that the page builds in
seconds; a sentence encoder (`corrigible.data.TextEncoder`) is worth far more.
"""

# %%
# A memory, and what the model is given
# -------------------------------------

import matplotlib.pyplot as plt
import numpy as np

from corrigible.datasets import load_facts
from corrigible.editing import RevisionRetrieval

facts = load_facts()
order = np.random.default_rng(0).permutation(len(facts))
revised = [facts[i].request for i in order[:40]]
memory = RevisionRetrieval().add(revised)

# %%
# A threshold from prompts that no revision concerns
# --------------------------------------------------
# Two hundred other facts, most of them worded like a revision, are asked how near they come. The
# threshold is the order statistic below which a further prompt of this kind stays with a chance of
# 95 % or more.

outside = [facts[i].request.text for i in order[40:240]]
inside = [(p, r.text) for r in revised for p in r.paraphrases]
found = memory.calibrate(outside, inside, alpha=0.05)
print(found)

# %%

unseen = [facts[i].request.text for i in order[240:440]]
groups = {
    "revised prompts": [r.text for r in revised],
    "their paraphrases": [p for p, _ in inside],
    "other facts": unseen,
}
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
bins = np.linspace(0, 1.0001, 41)
for (name, prompts), colour in zip(groups.items(), ("C2", "C0", "0.6"), strict=True):
    near = memory.similarity(prompts).max(axis=1)
    passed = float(np.mean(near > memory.limit))
    axes.hist(
        near,
        bins,
        weights=np.full(len(near), 1 / len(near)),
        color=colour,
        alpha=0.65,
        label=f"{name}: {passed:.0%} above",
    )
axes.axvline(memory.limit, color="k", lw=1)
axes.set_xlabel("similarity to the nearest revision")
axes.set_ylabel("share of prompts")
axes.legend(frameon=False)

# %%
# Changed and withdrawn
# ---------------------
# What a revision says can be edited, and taken out; the prompt is then the bare one again.

prompt = revised[0].text
print(repr(memory.contextualize([prompt])[0]))
memory.edit(prompt, instruction="Do not guess. If you are not sure, say so.")
print(repr(memory.contextualize([prompt])[0]))
memory.remove(prompt)
print(repr(memory.contextualize([prompt])[0]))
plt.show()
