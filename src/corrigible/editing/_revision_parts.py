"""What a memory of revisions is made of: the revisions, and what embeds their prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from corrigible._core.reference_texts import reference_texts
from corrigible._utils.validation import check_choice, check_count
from corrigible.errors import DataError, InvalidParameterError
from corrigible.models import EditRequest, LanguageModel

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Revision:
    """What a user wants said.

    Attributes
    ----------
    prompt : str
        Text that the revision is found by.
    answer : str
        What shall follow it; shown to the model as an example.
    instruction : str
        Shown instead of prompt and answer where it is not empty.
    """

    prompt: str
    answer: str = ""
    instruction: str = ""


class StateEncoder:
    """Embed texts by a language model's own hidden states, averaged over tokens.

    States of one block point nearly the same way whatever the text, so that the mean over passages of no particular
    subject is taken off. The first token is left out: its state is large and the same in every text.

    Parameters
    ----------
    model : LanguageModel
        Whose states are read.
    layer : int or "auto"
        Block; ``"auto"`` is the middle one.
    n_texts : int
        Passages that the mean is taken over.

    Examples
    --------
    >>> from corrigible.editing import StateEncoder
    >>> from corrigible.testing import tiny_language_model
    >>> StateEncoder(tiny_language_model())(["The capital of France is", "Water"]).shape
    (2, 32)
    """

    def __init__(self, model: LanguageModel, layer: int | str = "auto", *, n_texts: int = 24) -> None:
        self.model = model
        self.layer = (
            model.n_layers // 2
            if layer == "auto"
            else check_choice(layer, range(model.n_layers), name="layer", by="StateEncoder")
        )
        check_count(n_texts, name="n_texts", by="StateEncoder")
        self._centre = self._means([t[:300] for t in reference_texts(n_texts)]).mean(0)

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings (n_texts, n_hidden) of texts."""
        return np.asarray(self._means(texts) - self._centre)

    def _means(self, texts: Sequence[str]) -> Floats:
        states = self.model.hidden_states(list(texts), self.layer)
        return np.stack([(s[1:] if len(s) > 1 else s).astype(np.float64).mean(0) for s in states])


def as_encoder(given: Any, *, by: str) -> Callable[[Any], Any]:
    """Return a function from texts to a matrix: the one given, a transformer's, or hashed character n-grams."""
    if given is None:
        vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**12, norm="l2")
        return vectorizer.transform  # type: ignore[no-any-return]
    if hasattr(given, "transform"):
        return given.transform  # type: ignore[no-any-return]
    if not callable(given):
        raise InvalidParameterError(
            f"The 'encoder' parameter of {by} must be a function from texts to a matrix, such as StateEncoder(model), or "
            f"a transformer of texts. Got {given!r}."
        )
    return given  # type: ignore[no-any-return]


def is_many(given: Any) -> bool:
    """Whether this is a list of revisions: a pair of texts is one revision."""
    if isinstance(given, Revision | EditRequest | Mapping | str) or not isinstance(given, Iterable):
        return False
    return not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, str) for part in given))


def as_revision(given: Any) -> Revision:
    """Return what was given as a revision, checked."""
    if isinstance(given, EditRequest):
        given = Revision(given.text, given.target_new)
    elif isinstance(given, tuple) and len(given) == 2:
        given = Revision(*given)
    elif isinstance(given, Mapping) and set(given) <= {"prompt", "answer", "instruction"}:
        given = Revision(**{"prompt": "", **given})
    texts: list[Any] = [given.prompt, given.answer, given.instruction] if isinstance(given, Revision) else [None]
    if not all(isinstance(t, str) for t in texts) or not texts[0].strip() or not "".join(texts[1:]).strip():
        raise DataError(
            f"A revision must be a prompt with an answer or an instruction, all of them text. Got {given!r}."
        )
    return given  # type: ignore[no-any-return]


def check_prompts(prompts: Any, *, by: str) -> None:
    """Raise unless these are texts that are not empty."""
    if isinstance(prompts, str) or not all(isinstance(p, str) and p for p in prompts):
        raise DataError(f"Prompts of {by} must be a list of texts that are not empty. Got {prompts!r:.80}.")
