"""
Edit stereotypes away, and see what else moves
==============================================

`stereotype_score` asks a language model which of three words it finds likeliest in a context: the
stereotype, its opposite, or a word that does not belong there. `DebiasingBenchmark` lets editors turn
some of them, and asks again: there, in other words, and about people who were not edited. The model is
a random toy, so that the page builds in seconds; on a real one, the first scores say what it has learnt.
"""

# %%
# What the model prefers
# ----------------------

import matplotlib.pyplot as plt

from corrigible.datasets import load_stereotypes
from corrigible.editing import GRACE, DebiasingBenchmark, FineTune, stereotype_score
from corrigible.testing import tiny_language_model

model, guests = tiny_language_model(), load_stereotypes("nation")
score = stereotype_score(model, guests)
low, high = score.ss_interval
print(
    f"stereotype score {score.ss:.2f} [{low:.2f}, {high:.2f}], language modelling {score.lms:.2f}"
)
print(score.each.head(3).round(2).to_string(index=False))

# %%
# A random model knows no language, so both scores are near one half: it prefers neither the stereotype
# nor the word that belongs there.

# %%
# Two editors
# -----------
# Both are asked to turn four guests. Fine-tuning changes a weight, and every other guest with it; GRACE
# answers from a codebook beside the model.

benchmark = DebiasingBenchmark(
    {"fine-tuning": FineTune(layer=0, bound=0.1), "GRACE": GRACE()}
)
table = benchmark.run(model, guests[:4], guests[4:], quiet=True)
print(
    table[["ss", "preference", "preference_change", "perplexity_ratio"]]
    .round(3)
    .to_string()
)

# %%
# The change of the preference, with its interval over contexts: below zero, the opposite gains.

places = ["edited", "paraphrases", "unseen nation"]
figure, axes = plt.subplots(figsize=(6.4, 3), layout="constrained")
for shift, name in ((-0.12, "fine-tuning"), (0.12, "GRACE")):
    rows = table.loc[name].loc[places]
    middle = rows["preference_change"]
    ends = [
        middle - rows["preference_change_low"],
        rows["preference_change_high"] - middle,
    ]
    axes.errorbar(
        [i + shift for i in range(len(places))], middle, yerr=ends, fmt="o", label=name
    )
axes.axhline(0, color="0.7", linewidth=1)
axes.set(
    xticks=range(len(places)),
    xticklabels=places,
    ylabel="change of the preference [nats]",
)
axes.legend()
plt.show()
