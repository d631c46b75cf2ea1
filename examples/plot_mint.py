"""
Mend a token by a neuron or two
===============================

`MINT` looks for the neurons that bear on the right token, gives one of them a vector that means the
right token and not the wrong one, and repeats until the model says it. How many neurons that takes,
and how much else moves, depends on how strong a patch is. The model is a random toy of three blocks,
so that the page builds in seconds; its neurons write much larger vectors than a real model's do.
"""

# %%
# One request, from weak patches to strong ones
# ---------------------------------------------
# A patch of strength s makes a neuron's vector w into (w + s d) / (1 + s), where d is the difference of
# two tokens' *semantic bases*: hidden states whose logits are one for a token and zero for the others.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.editing import MINT, semantic_bases
from corrigible.testing import tiny_language_model

model = tiny_language_model("gpt2")
request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
(rome,) = model.encode(" Rome", start=False)
head = model.module.get_output_embeddings().weight.detach().double()
logits = (semantic_bases(model, [rome]) @ head.T)[0]
print(
    "the base of ' Rome' gives the largest logit to:",
    model.tokenizer.decode([int(logits.argmax())]),
)

# %%

others = ["The capital of Spain is", "The symbol of gold is", "Water is made of"]


def says():
    """Return log probabilities of a token after prompts that the request does not name."""
    return np.concatenate(model.log_probs(others, [" Rome"] * len(others)))


strengths = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
before, patches, neurons, moved = says(), [], [], []
for strength in strengths:
    edit = MINT(strength=strength, max_patches=30).propose(model, request)
    (told,) = edit.details["requests"]
    patches.append(sum(map(len, told["patches"])))
    neurons.append(len(told["neurons"]))
    edit.apply(model)
    print(strength, model.generate(["The capital of France is"], max_new_tokens=1))
    moved.append(np.abs(says() - before).mean())
    edit.revert(model)

# %%
# Weak patches must be given again and again, strong ones once; other prompts move with either, because
# the neuron fires there, too.

figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
left.plot(strengths, patches, "o-", label="patches")
left.plot(strengths, neurons, "s-", label="neurons")
left.set_ylabel("number until ' Rome' is said")
left.legend(frameon=False)
right.plot(strengths, moved, "o-", color="C3")
right.set_ylabel("mean move on other prompts, nats")
for axes in (left, right):
    axes.set_xscale("log")
    axes.set_xlabel("strength of a patch")
    axes.set_ylim(bottom=0)
plt.show()
