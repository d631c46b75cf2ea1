"""
Is the converted model still the model?
=======================================

A model is trained in scikit-learn and served from ONNX. :class:`~corrigible.compare.ConverterCheck` runs both on real
rows and on rows at the edges, and says where they part. Here a converter's fault is planted: trees branch at ``<``
instead of ``<=``, which no random row shows.
"""

# %%
# A sound conversion passes; what it is told beside are risks, on rows unlike those of training.

import matplotlib.pyplot as plt
import onnx
from sklearn.datasets import load_wine
from sklearn.tree import DecisionTreeClassifier

from corrigible.compare import ConverterCheck

X, y = load_wine(return_X_y=True)
X = X.round(1)
model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y)
sound = ConverterCheck(random_state=0).run(model, X)
print(sound.passed)
sound.frame()[["family", "severity", "n_differ", "cause"]]

# %%
# The fault: one attribute of one node.

broken = onnx.ModelProto()
broken.CopyFrom(sound.converted)
tree = broken.graph.node[0]
modes = next(a for a in tree.attribute if a.name == "nodes_modes")
modes.strings[:] = [b"BRANCH_LT" if m == b"BRANCH_LEQ" else m for m in modes.strings]

found = ConverterCheck(random_state=0).run(model, X, converted=broken)
print(found.cause)
print("first node that diverges:", found.divergence.node)

# %%
# Rows that stand exactly at a threshold differ: a check on real rows would have passed. Missing values are a risk of
# the sound conversion too: the rows given have none, and the converter sends them another way than scikit-learn.

families = ["real", "within range", "boundaries", "thresholds of trees", "missing"]
counts = {f.family: f.n_differ for f in found.findings}
fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
bars = ax.barh(
    families[::-1], [counts.get(f, 0) for f in families[::-1]], color="#4269d0"
)
ax.bar_label(bars, padding=3)
ax.set_xlabel("rows on which original and conversion differ")
ax.margins(x=0.1)
ax.spines[["top", "right"]].set_visible(False)
