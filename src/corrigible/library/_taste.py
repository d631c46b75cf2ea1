"""What a reader likes, learned from votes: a linear classifier of words, so that it can say which words decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from corrigible.library._schema import papers, votes

ENOUGH, OF_EACH = 10, 3  # votes in all, and of each sign: fewer say more about chance than about taste
_WORDS = 3


class Taste:
    """A classifier of papers into those voted up and down.

    Parameters
    ----------
    texts : sequence of str
        Of the papers voted on.
    values : sequence of int
        The votes, 1 or -1.
    """

    def __init__(self, texts: Sequence[str], values: Sequence[int]) -> None:
        self._tfidf = TfidfVectorizer(stop_words="english", sublinear_tf=True, strip_accents="unicode")
        self._model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
        self._model.fit(self._tfidf.fit_transform(texts), np.asarray(values) > 0)
        self._names = self._tfidf.get_feature_names_out()

    def judge(self, texts: Sequence[str]) -> list[tuple[float, tuple[str, ...]]]:
        """Return of each text its log odds of being liked, and the words that spoke most for it."""
        if not texts:
            return []
        found = self._tfidf.transform(texts).tocsr()
        scores = self._model.decision_function(found)
        shares = found.multiply(self._model.coef_).tocsr()
        return [(float(s), self._deciding(shares[i])) for i, s in enumerate(scores)]

    def _deciding(self, row: object) -> tuple[str, ...]:
        order = sorted(zip(row.data, row.indices, strict=True), reverse=True)  # type: ignore[attr-defined]
        return tuple(str(self._names[j]) for share, j in order[:_WORDS] if share > 0)


def taste_of(connection: sa.Connection, user: int | None) -> Taste | None:
    """Return what a user's votes teach, or None while they are fewer than 10 or all but two of one sign."""
    joined = votes.join(papers, votes.c.paper_id == papers.c.id)
    asked = sa.select(papers.c.title, papers.c.abstract, votes.c.value).select_from(joined)
    rows = connection.execute(asked.where(votes.c.user_id == user).order_by(papers.c.id)).all()
    ups = sum(row.value > 0 for row in rows)
    if len(rows) < ENOUGH or min(ups, len(rows) - ups) < OF_EACH:
        return None
    return Taste([f"{row.title} {row.abstract}" for row in rows], [row.value for row in rows])
