"""Revision Transformer: revisions that users write are looked up and put before the prompts that they concern.

Paper: Revision Transformers: Instructing Language Models to Change their Values (Friedrich, Stammer, Schramowski,
Kersting, ECAI 2023).
Original: https://github.com/ml-research/Revision-Transformer
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._utils.folders import new_folder
from corrigible._utils.optional import require
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._revision_parts import Revision as Revision
from corrigible.editing._revision_parts import StateEncoder as StateEncoder
from corrigible.editing._revision_parts import as_encoder, as_revision, check_prompts, is_many
from corrigible.errors import DataError, InvalidParameterError, nearest
from corrigible.models import LanguageModel

CARD = Card(
    name="revision_retrieval",
    kind="generation",
    obj="RevisionRetrieval",
    also=("Revision", "RetrievalCalibration", "StateEncoder"),
    papers=("rit",),
    refs=("friedrich2023revision",),
    source="https://github.com/ml-research/Revision-Transformer",
    differs="Causal models instead of T0; any encoder instead of Sentence-T5, with the model's own states among them. The "
    "layout of the context is a template, not questions made by part-of-speech tags. The threshold can be calibrated on "
    "prompts that no revision concerns; the paper tries values. The paper's full text was not at hand: retrieval and "
    "layout follow the authors' code.",
    inputs="model, prompts",
    stochastic=False,
    cost="One encoding of each prompt and one dot product a revision; a prompt that is revised runs a second time, longer",
    use_when="Users correct answers from day to day, weights must stay as they are, and every correction must be readable, "
    "changed and withdrawn.",
    avoid_when="Prompts that must not be revised are worded like those that must: a neighbour on another subject can be "
    "nearer than a paraphrase. Or the model is called by code that builds its own prompts.",
    requires=("lm",),
)

Floats = NDArray[np.floating]
_BY = "RevisionRetrieval"
_FORMAT = "corrigible-revisions-1"
_TEMPLATE = "{prompt} {answer}.\n"


@dataclass(frozen=True)
class RetrievalCalibration:
    """Outcome of `RevisionRetrieval.calibrate`.

    Attributes
    ----------
    threshold : float
        Similarity above which a revision is used.
    alpha : float
        Bound on the chance that a further prompt which no revision concerns passes it.
    false_rate : float
        Share of the given prompts of that sort that pass it.
    recall : float
        Share of the given pairs whose revision is found; NaN where none was given.
    """

    threshold: float
    alpha: float
    false_rate: float
    recall: float


class RevisionRetrieval(BaseEstimator):
    r"""Answer with a memory of revisions: the ones nearest to a prompt are put before it, if they are near enough.

    Parameters
    ----------
    encoder : callable or transformer of texts, optional
        A function from a list of n texts to a matrix (n, d), such as a `StateEncoder` or a `corrigible.data.TextEncoder`,
        or a scikit-learn transformer of texts that needs no fitting. By default hashed character n-grams, which see
        wording alone.
    top_k : int
        Revisions put before a prompt at most, the nearest first.
    threshold : float
        Cosine similarity that a revision must exceed, until `calibrate` finds another.
    template : str
        How a revision is shown; holds ``{prompt}`` and ``{answer}``, as often as is wanted: a small model follows what it
        reads twice more often.

    Attributes
    ----------
    revisions : tuple of Revision
        What the memory holds.
    limit : float
        The threshold in force.

    See Also
    --------
    GRACE : A memory inside the network, found by hidden states alone.

    Notes
    -----
    A model's own forward pass does not know where the prompt ends, so that this is no `Edit` but a caller of the model:
    weights and module stay as they are. A prompt without a revision runs in the very batch it would have run in
    otherwise: text and log probabilities are the same bits.

    References
    ----------
    .. [1] Friedrich, F., Stammer, W., Schramowski, P. and Kersting, K. (2023). Revision Transformers: Instructing
       Language Models to Change their Values. ECAI.

    Examples
    --------
    >>> from corrigible.editing import RevisionRetrieval
    >>> from corrigible.testing import tiny_language_model
    >>> memory = RevisionRetrieval(threshold=0.6).add([("The capital of Australia is", "Canberra")])
    >>> memory.contextualize(["The capital city of Australia is", "Water is made of"])
    ['The capital of Australia is Canberra.\nThe capital city of Australia is', 'Water is made of']
    >>> model = tiny_language_model()
    >>> memory.generate(model, ["Water is made of"]) == model.generate(["Water is made of"])
    True
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        top_k: int = 1,
        threshold: float = 0.875,
        template: str = _TEMPLATE,
    ) -> None:
        self.encoder = encoder
        self.top_k = top_k
        self.threshold = threshold
        self.template = template

    # --- the memory -------------------------------------------------------------------------------------

    _held: list[Revision]
    _keys: Floats

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """What the memory holds, in the order in which it was added."""
        return tuple(getattr(self, "_held", ()))

    @property
    def limit(self) -> float:
        """The threshold in force: the calibrated one, or the parameter."""
        return float(getattr(self, "threshold_", self.threshold))

    def add(self, revisions: Any) -> Self:
        """Add revisions.

        Parameters
        ----------
        revisions : Revision, EditRequest, mapping, (prompt, answer) pair, or list of these
            What shall be said.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If one is not valid, or its prompt is held already.
        """
        given = revisions if is_many(revisions) else [revisions]
        fresh = [as_revision(r) for r in given]
        known = {r.prompt for r in self.revisions}
        for revision in fresh:
            if revision.prompt in known:
                raise DataError(
                    f"{_BY} holds a revision of {revision.prompt!r} already. Change it with edit, or remove it first."
                )
            known.add(revision.prompt)
        if fresh:
            keys = self._embed([r.prompt for r in fresh])
            if self.revisions and keys.shape[1] != self._keys.shape[1]:
                raise DataError(
                    f"The encoder of {_BY} gave {keys.shape[1]} dimensions, and {self._keys.shape[1]} before. Use the "
                    "encoder that the memory was made with."
                )
            self._keys = np.concatenate([self._keys, keys]) if self.revisions else keys
            self._held = [*self.revisions, *fresh]
        return self

    def remove(self, prompts: str | Iterable[str]) -> Self:
        """Remove the revisions of prompts.

        Parameters
        ----------
        prompts : str or iterable of str
            As they were added.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there is no revision of one of them; then none is removed.
        """
        gone = {self._number(p) for p in ([prompts] if isinstance(prompts, str) else prompts)}
        keep = [i for i in range(len(self.revisions)) if i not in gone]
        self._held = [self._held[i] for i in keep]
        self._keys = self._keys[keep]
        return self

    def edit(self, prompt: str, *, answer: str | None = None, instruction: str | None = None) -> Self:
        """Change what a revision says.

        Parameters
        ----------
        prompt : str
            As it was added.
        answer, instruction : str, optional
            Kept where None.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there is no revision of the prompt, or nothing would be left for it to say.
        """
        at = self._number(prompt)
        given = {k: v for k, v in (("answer", answer), ("instruction", instruction)) if v is not None}
        self._held[at] = as_revision(replace(self._held[at], **given))
        return self

    def _number(self, prompt: str) -> int:
        found = [r.prompt for r in self.revisions]
        if prompt not in found:
            raise DataError(f"{_BY} holds no revision of {prompt!r}.{nearest(prompt, found)}")
        return found.index(prompt)

    # --- retrieval --------------------------------------------------------------------------------------

    def similarity(self, prompts: Sequence[str]) -> Floats:
        """Return the cosine similarity (n_prompts, n_revisions) of prompts to the revisions."""
        if not self.revisions:
            return np.zeros((len(prompts), 0))
        unique = list(dict.fromkeys(prompts))
        at = {p: i for i, p in enumerate(unique)}
        found = self._embed(unique) @ self._keys.T if unique else np.zeros((0, len(self.revisions)))
        return np.asarray(found[[at[p] for p in prompts]])

    def retrieve(self, prompts: Sequence[str]) -> list[list[Revision]]:
        """Return the revisions that are put before each prompt, the nearest first.

        Parameters
        ----------
        prompts : sequence of str
            What the model is asked.

        Returns
        -------
        list of list of Revision
            Empty for a prompt that stays as it is.
        """
        check_count(self.top_k, name="top_k", by=_BY)
        check_number(self.threshold, name="threshold", by=_BY, low=-1.0, high=1.0)
        check_prompts(prompts, by=_BY)
        near = self.similarity(prompts)
        order = np.argsort(-near, axis=1, kind="stable")[:, : self.top_k]
        return [[self._held[j] for j in row if s[j] > self.limit] for row, s in zip(order, near, strict=True)]

    def contextualize(self, prompts: Sequence[str]) -> list[str]:
        """Return what the model is given for each prompt: its revisions and the prompt, or the prompt alone.

        Parameters
        ----------
        prompts : sequence of str
            What the model is asked.
        """
        if not isinstance(self.template, str) or any(f not in self.template for f in ("{prompt}", "{answer}")):
            raise InvalidParameterError(
                f"The 'template' parameter of {_BY} must be text that holds {{prompt}} and {{answer}}. Got "
                f"{self.template!r}."
            )
        return [
            "".join(map(self._shown, found)) + p for p, found in zip(prompts, self.retrieve(prompts), strict=True)
        ]

    def _shown(self, revision: Revision) -> str:
        if revision.instruction:
            return f"{revision.instruction.rstrip()}\n"
        # In one pass, and not formatted: users' texts may hold braces.
        words = {"{prompt}": revision.prompt, "{answer}": revision.answer.strip()}
        return re.sub(r"\{(?:prompt|answer)\}", lambda found: words[found[0]], self.template)

    def calibrate(
        self, out_of_scope: Sequence[str], in_scope: Sequence[tuple[str, str]] = (), *, alpha: float = 0.05
    ) -> RetrievalCalibration:
        """Set the threshold so that a prompt which no revision concerns passes it with a chance of `alpha` at most.

        The bound holds for a further prompt drawn as the given ones were, as in split conformal prediction, and for the
        memory as it is now: calibrate again when it has grown.

        Parameters
        ----------
        out_of_scope : sequence of str
            Prompts that no revision concerns; the harder they are, the more the bound is worth.
        in_scope : sequence of (prompt, prompt of its revision)
            Used to tell the recall.
        alpha : float
            The bound, in (0, 1).

        Returns
        -------
        RetrievalCalibration

        Raises
        ------
        DataError
            If the memory is empty, the prompts are too few for `alpha`, or one of them is a revision's own.
        """
        check_number(alpha, name="alpha", by=f"{_BY}.calibrate", low=0.0, high=1.0, closed="neither")
        if not self.revisions:
            raise DataError(f"{_BY}.calibrate needs at least one revision. Got an empty memory: add some first.")
        outside = list(out_of_scope)
        check_prompts(outside, by=_BY)
        if own := sorted({r.prompt for r in self.revisions} & set(outside)):
            raise DataError(f"A prompt out of scope must not be a revision's own. Got {own[0]!r}. Leave it out.")
        n = len(outside)
        at = math.ceil((n + 1) * (1 - alpha) - 1e-9)
        if at > n:
            raise DataError(
                f"{_BY}.calibrate needs {math.ceil(1 / alpha - 1 - 1e-9)} prompts out of scope for alpha={alpha:g}. Got "
                f"{n}. Give more, or raise alpha."
            )
        nearest_of = self.similarity(outside).max(1)
        self.threshold_ = float(np.sort(nearest_of)[at - 1])
        hits = [
            bool(found) and any(r.prompt == own for r in found)
            for found, (_, own) in zip(self.retrieve([p for p, _ in in_scope]), in_scope, strict=True)
        ]
        recall = float(np.mean(hits)) if hits else float("nan")
        return RetrievalCalibration(self.threshold_, alpha, float(np.mean(nearest_of > self.threshold_)), recall)

    def _embed(self, texts: Sequence[str]) -> Floats:
        """Return embeddings of length 1, in double precision."""
        encoder: Callable[[Any], Any] = as_encoder(self.encoder, by=_BY)
        found = encoder(list(texts))
        matrix = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)
        if matrix.ndim != 2 or len(matrix) != len(texts) or not np.isfinite(matrix).all():
            raise DataError(
                f"The encoder of {_BY} must give a finite matrix with a row for each of {len(texts)} texts. Got shape "
                f"{matrix.shape}."
            )
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        return np.asarray(matrix / np.where(norms > 0, norms, 1.0))

    # --- the model --------------------------------------------------------------------------------------

    def generate(self, model: LanguageModel, prompts: Sequence[str], *, max_new_tokens: int = 10) -> list[str]:
        """Return the most probable continuation of each prompt, given its revisions.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        prompts : sequence of str
            Texts to continue.
        max_new_tokens : int
            Tokens at most.

        Returns
        -------
        list of str
            The continuations alone.
        """
        return self._with_revisions(prompts, lambda texts, _: model.generate(texts, max_new_tokens=max_new_tokens))

    def log_probs(self, model: LanguageModel, prompts: Sequence[str], targets: Sequence[str]) -> list[Floats]:
        """Return the log probability of each token of each target after its prompt and its revisions, in nats.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        prompts, targets : sequence of str
            Targets begin with the white space that parts them from the prompt.

        Returns
        -------
        list of ndarray of shape (n_tokens,)
        """
        return self._with_revisions(
            prompts, lambda texts, which: model.log_probs(texts, [targets[i] for i in which])
        )

    def _with_revisions(
        self, prompts: Sequence[str], ask: Callable[[list[str], list[int]], list[Any]]
    ) -> list[Any]:
        """Ask for all prompts as they are, then again for those that are revised.

        A batch without the revised ones would be another batch, whose sums are rounded in another order.
        """
        texts, every = self.contextualize(prompts), list(range(len(prompts)))
        revised = [i for i in every if texts[i] != prompts[i]]
        said: list[Any] = [None] * len(prompts)
        if len(revised) < len(every):
            said = list(ask(list(prompts), every))
        if revised:
            for i, answer in zip(revised, ask([texts[i] for i in revised], revised), strict=True):
                said[i] = answer
        return said

    # --- files ------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the memory as a folder: ``revisions.json``, to be read by people, and ``keys.safetensors``.

        Parameters
        ----------
        folder : str or Path
            New or empty.
        overwrite : bool
            Whether an earlier memory there may be replaced.
        """
        files = require("safetensors.numpy", extra="lm", by=f"{_BY}.save")
        said = {
            "format": _FORMAT,
            "top_k": self.top_k,
            "threshold": self.limit,
            "template": self.template,
            "revisions": [asdict(r) for r in self.revisions],
        }
        keys = np.ascontiguousarray(self._keys) if self.revisions else np.zeros((0, 0))
        with new_folder(folder, marker="revisions.json", overwrite=overwrite) as made:
            (made / "revisions.json").write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")
            files.save_file({"keys": keys}, made / "keys.safetensors")

    @classmethod
    def load(cls, folder: str | Path, encoder: Any = None) -> RevisionRetrieval:
        """Read a memory that `save` has written.

        Parameters
        ----------
        folder : str or Path
            Where it is.
        encoder : callable or transformer of texts, optional
            The one that it was made with.

        Raises
        ------
        DataError
            If the folder is no memory, is damaged, or was made with another encoder.
        """
        files = require("safetensors.numpy", extra="lm", by=f"{_BY}.load")
        try:
            said = json.loads((Path(folder) / "revisions.json").read_text(encoding="utf-8"))
            keys = files.load_file(Path(folder) / "keys.safetensors")["keys"]
            if said["format"] != _FORMAT or len(keys) != len(said["revisions"]):
                raise ValueError("its parts do not belong together")
            held = [Revision(**r) for r in said["revisions"]]
            found = cls(encoder, top_k=said["top_k"], threshold=said["threshold"], template=said["template"])
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            require("safetensors", by=_BY, extra="lm").SafetensorError,
        ) as e:
            raise DataError(f"{str(folder)!r} holds no memory of {_BY} ({e}). Write one with save.") from e
        if held:
            found._held, found._keys = held, keys
            again = found._embed([held[0].prompt])[0]
            if again.shape != keys[0].shape or not np.allclose(again, keys[0], atol=1e-3):
                raise DataError(
                    f"The memory in {str(folder)!r} was made with another encoder. Pass that one to {_BY}.load."
                )
        return found
