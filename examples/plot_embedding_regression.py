"""
Regression on rows written as text
==================================

Rows of words, numbers and gaps can be written as text and embedded, with no columns to
encode. Whether that helps shows before any training: the target must be smooth over the
embedding. Here the embedding is made of character pieces and needs no language model; a
`TextEncoder` of a local one goes in its place.
"""

# %%
# Rows with words in them
# -----------------------

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from corrigible.data import EmbeddingRegression, normalized_lipschitz, rows_as_text

rng = np.random.default_rng(0)
n = 600
makers = {
    "Vega": 3.0,
    "Vega Pro": 5.5,
    "Orion": 2.0,
    "Orion Lite": 1.0,
    "Lyra Pro": 5.0,
}
table = pd.DataFrame(
    {
        "model": rng.choice(list(makers), size=n),
        "size": rng.choice(["small", "medium", "large"], size=n),
        "city": rng.choice(["Graz", "Lyon", "Oslo", "Porto"], size=n),
        "km": rng.integers(5_000, 200_000, size=n),
    }
)
price = (
    table["model"].map(makers)
    + table["size"].map({"small": 0.0, "medium": 0.7, "large": 1.6})
    - table["km"] / 100_000
    + 0.3 * rng.normal(size=n)
).to_numpy()
print(rows_as_text(table)[0])

# %%
# How smooth is the target?
# -------------------------
# Factors compare the change of the target from row to near row with its spread. Codes put
# models in the order of the alphabet; the pieces of their names put "Pro" beside "Pro".

pieces = make_pipeline(
    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)),
    TruncatedSVD(25, random_state=0),
)
embedded = pieces.fit_transform(rows_as_text(table))
codes = OrdinalEncoder().fit_transform(table)
factors = {
    "as codes": normalized_lipschitz(codes / codes.std(axis=0), price),
    "as text": normalized_lipschitz(embedded, price),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
for name, found in factors.items():
    left.hist(
        np.clip(found.factors, 0, 4),
        bins=40,
        alpha=0.6,
        label=f"{name}, median {found.median:.2f}",
    )
left.set(xlabel="factor of a row, at most 4 (smooth is left)", ylabel="rows")
left.legend()

# %%
# And what a regression makes of it
# ---------------------------------

head = RidgeCV(np.logspace(-3, 3, 13))
text_model = EmbeddingRegression(pieces, head=head)
for name, model, X in (
    ("as codes", head, codes),
    ("as text", text_model, table),
):
    predicted = cross_val_predict(model, X, price, cv=5)
    right.scatter(
        price, predicted, s=6, label=f"{name}, R2 {r2_score(price, predicted):.2f}"
    )
right.axline((2, 2), slope=1, color="gray", lw=1)
right.set(xlabel="price", ylabel="predicted out of fold")
right.legend()
fig.tight_layout()
