"""Editing with one canonical example per behaviour under a budget of loss, and the ensemble with a larger model.

Paper: Model Editing with Canonical Examples (Hewitt, Chen, Xie, Adams, Liang, Manning, 2024).
Original: https://github.com/john-hewitt/model-editing-canonical-examples
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from corrigible._card import Card
from corrigible._registry import card, load
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed, seed_estimator
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._canonical_tuning import CanonicalTuning as CanonicalTuning
from corrigible.editing._canonical_tuning import Rows, general_rows, largest_within, mean_loss, scaled
from corrigible.errors import DataError, InvalidParameterError
from corrigible.models import Edit, EditRequest, LanguageModel, applied_edits, check_requests

CARD = Card(
    name="canonical_examples",
    kind="editor",
    obj="CanonicalExamples",
    also=("CanonicalTuning", "CanonicalTrial", "LogitEnsemble", "canonical_hits"),
    papers=("canonical",),
    refs=("hewitt2024model",),
    source="https://github.com/john-hewitt/model-editing-canonical-examples",
    differs="No sense finetuning: it needs a Backpack language model, of which none is at hand; full finetuning, LoRA and "
    "MEMIT are there, and any editor that changes weights. Editors without epochs to choose from are scaled down until "
    "they keep the budget, as the paper does with the weight of the ensemble. Good behaviour alone is trained on, not bad "
    "or balanced behaviour. Accumulated gradients are all used; the authors' code clears them at every example. Passages "
    "are Python's documentation by default, 64 tokens each. The paper's full text was not at hand: procedure and "
    "constants follow the authors' code.",
    inputs="model, requests",
    stochastic=True,
    cost="All candidates' edits, and a pass over the passages for each epoch, or scale, that is tried",
    use_when="A model is to be improved from one plain example a behaviour, and how much all else may suffer is given.",
    avoid_when="Nothing else may move at all (GRACE, RevisionRetrieval), or the very prompts are known (RROME).",
    test_params=({"n_texts": 4, "max_tokens": 24, "budget": 0.05},
                 {"candidates": ("fine_tune", "lora_edit"), "n_texts": 4, "max_tokens": 24, "budget": 0.05}),
    requires=("lm",),
)  # fmt: skip

Tensor = Any
Floats = NDArray[np.floating]
_BY = "CanonicalExamples"
_SCALES = tuple(round(1 - 0.1 * k, 1) for k in range(10))  # 1.0, 0.9, ..., 0.1


@dataclass(frozen=True)
class CanonicalTrial:
    """What a candidate did.

    Attributes
    ----------
    candidate : str
        The editor and its parameters.
    scale : float
        What its changes were multiplied by to keep the budget; 0 where no scale does.
    deviation : float
        Relative rise of the mean loss on the passages.
    hit_rate : float
        Share of paraphrases that are hits; NaN where none were looked at.
    nll : float
        Mean loss of an example's target, in nats: of the paraphrases, or of the canonical examples where none were
        looked at.
    """

    candidate: str
    scale: float
    deviation: float
    hit_rate: float
    nll: float


class CanonicalExamples(BaseEstimator):
    """Edit by canonical examples, with the editor that generalises best among those that keep a budget of loss.

    Parameters
    ----------
    candidates : sequence of editor or str, optional
        Editors that change weights, or names of such; by default full and low-rank `CanonicalTuning`, each at three
        learning rates.
    budget : float
        Largest relative rise of the mean loss on the passages; the paper's are 1e-3, 1e-4 and 1e-5.
    threshold : float
        Probability of the whole target at which an example is a hit.
    scales : sequence of float
        Factors that a candidate over the budget is multiplied by, the largest first.
    texts : sequence of str, optional
        Passages; by default some of Python's documentation.
    n_texts, max_tokens : int
        Passages, and tokens of each; the budget is measured on half of them.
    random_state : None, int, Generator or RandomState
        Seeds candidates that take one and have none.

    Attributes
    ----------
    chosen_ : int
        Number of the candidate that `fit` chose.
    trials_ : list of CanonicalTrial
        What each did in `fit`.

    See Also
    --------
    LogitEnsemble : Bring the edit of a small model to a larger one.

    Notes
    -----
    `fit` chooses on requests whose paraphrases are the examples out of distribution, and `propose` edits others: a
    candidate is not to be chosen on the facts that it is judged by. Without `fit`, `propose` takes the candidate under
    which the canonical examples themselves are most probable, and looks at no paraphrase.

    References
    ----------
    .. [1] Hewitt, J., Chen, S., Xie, L. L., Adams, E., Liang, P. and Manning, C. D. (2024). Model Editing with Canonical
       Examples. arXiv:2402.06155.

    Examples
    --------
    >>> from corrigible.editing import CanonicalExamples, FineTune, LoRAEdit
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> editor = CanonicalExamples([FineTune(), LoRAEdit()], budget=0.01, n_texts=4, max_tokens=24, random_state=0)
    >>> edit = editor.propose(model, request)
    >>> edit.details["deviation"] < 0.01
    True
    """

    def __init__(
        self,
        candidates: Sequence[Any] | None = None,
        *,
        budget: float = 1e-3,
        threshold: float = 0.05,
        scales: Sequence[float] = _SCALES,
        texts: Sequence[str] | None = None,
        n_texts: int = 16,
        max_tokens: int = 64,
        random_state: RandomState = None,
    ) -> None:
        self.candidates = candidates
        self.budget = budget
        self.threshold = threshold
        self.scales = scales
        self.texts = texts
        self.n_texts = n_texts
        self.max_tokens = max_tokens
        self.random_state = random_state

    def fit(self, model: LanguageModel, requests: Any) -> Self:
        """Choose the candidate with the most hits among the requests' paraphrases.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        requests : EditRequest, mapping, or iterable of these
            For choosing alone; each with paraphrases.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If a request is not valid or has no paraphrase.
        """
        asked = check_requests(requests, by=f"{_BY}.fit")
        if bare := [r.text for r in asked if not r.paraphrases]:
            raise DataError(f"Requests of {_BY}.fit must have paraphrases to be judged by. {bare[0]!r} has none.")
        self.trials_ = [trial for _, trial in self._tried(model, asked, judged=True)]
        # Ties of hits, and there are many with few facts, go to the more probable targets.
        self.chosen_ = max(range(len(self.trials_)), key=lambda i: (self.trials_[i].hit_rate, -self.trials_[i].nll))
        return self

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the chosen candidate's edit within the budget; one that touches nothing if the candidate has none.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        requests : EditRequest, mapping, or iterable of these
            The canonical examples.

        Returns
        -------
        Edit

        Raises
        ------
        DataError
            If a request is not valid, two conflict, or a candidate does not change weights.
        """
        asked, start = check_requests(requests, by=_BY), time.perf_counter()
        found = list(self._tried(model, asked, judged=False, only=getattr(self, "chosen_", None)))
        edit, trial = min(found, key=lambda pair: pair[1].nll)
        details = {"chosen": trial.candidate, "scale": trial.scale, "deviation": trial.deviation, "nll": trial.nll,
                   "seconds": round(time.perf_counter() - start, 3), "candidate": edit.details}  # fmt: skip
        return Edit("canonical_examples", edit.deltas, [], [r.to_dict() for r in asked], details)

    def _tried(
        self, model: LanguageModel, asked: list[EditRequest], *, judged: bool, only: int | None = None
    ) -> Iterator[tuple[Edit, CanonicalTrial]]:
        """Yield each candidate's edit within the budget, and what it did."""
        editors = self._editors()
        rows = general_rows(model, self.texts, n_texts=self.n_texts, max_tokens=self.max_tokens)
        rows = rows[1::2] or rows
        before = mean_loss(model, rows)
        prompts = [(p, r.answer) for r in asked for p in (r.paraphrases if judged else (r.text,))]
        for editor in editors if only is None else editors[only : only + 1]:
            edit, scale, deviation = self._within(model, editor.propose(model, asked), editor, rows, before)
            with applied(model, edit):
                log_p = [float(p.sum()) for p in model.log_probs(*map(list, zip(*prompts, strict=True)))]
            hits = float(np.mean(np.exp(log_p) >= self.threshold)) if judged else float("nan")
            yield edit, CanonicalTrial(_said(editor), scale, deviation, hits, -float(np.mean(log_p)))

    def _within(
        self, model: LanguageModel, edit: Edit, editor: Any, rows: Rows, before: float
    ) -> tuple[Edit, float, float]:
        """Return the edit scaled down to the budget, the scale, and the deviation."""
        if edit.adaptors:
            raise DataError(
                f"Candidates of {_BY} must change weights, which can be scaled. {type(editor).__name__} does not: use it "
                "by itself."
            )

        def deviation(scale: float) -> float:
            with applied(model, Edit(edit.method, scaled(edit.deltas, scale))):
                return mean_loss(model, rows) / before - 1

        if not edit.deltas:  # the candidate kept the budget itself, and found nothing within it
            return edit, 0.0, 0.0
        scale, found = largest_within(self.scales, deviation, self.budget)
        deltas = scaled(edit.deltas, scale) if scale else {}
        return Edit(edit.method, deltas, [], edit.requests, edit.details), scale, found

    def _editors(self) -> list[Any]:
        check_number(self.budget, name="budget", by=_BY, low=0.0, closed="neither")
        check_number(self.threshold, name="threshold", by=_BY, low=0.0, high=1.0, closed="right")
        check_count(self.n_texts, name="n_texts", by=_BY)
        check_count(self.max_tokens, name="max_tokens", by=_BY, low=2)
        for scale in self.scales:
            check_number(scale, name="scales", by=_BY, low=0.0, high=1.0, closed="right")
        given = _default_candidates() if self.candidates is None else list(self.candidates)
        if not given or not self.scales:
            raise InvalidParameterError(f"{_BY} needs at least one candidate and one scale. Got none.")
        rng, found = as_generator(self.random_state), []
        for one in given:
            editor = load(one)() if isinstance(one, str) and card(one).kind == "editor" else one
            if not hasattr(editor, "propose"):
                raise InvalidParameterError(f"Candidates of {_BY} must be editors or names of such. Got {one!r}.")
            editor = seed_estimator(clone(editor), integer_seed(rng), only_unset=True)
            if isinstance(editor, CanonicalTuning):  # keeps the budget epoch by epoch
                editor.set_params(
                    budget=self.budget, texts=self.texts, n_texts=self.n_texts, max_tokens=self.max_tokens
                )
            found.append(editor)
        return found


class LogitEnsemble:
    """A larger model plus what an edit changed in a smaller one: logits, and a weight times the change of log probability.

    Parameters
    ----------
    large : LanguageModel
        Not edited.
    small : LanguageModel
        Of the same tokenizer; without the edit.
    edit : Edit
        Of the small model.
    weight : float
        Of the change.

    Examples
    --------
    >>> from corrigible.editing import FineTune, LogitEnsemble
    >>> from corrigible.testing import tiny_language_model
    >>> large, small = tiny_language_model(seed=1), tiny_language_model(seed=0)
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> both = LogitEnsemble(large, small, FineTune(bound=0.1).propose(small, request))
    >>> prompt, target = ["The capital of France is"], [" Rome"]
    >>> bool(both.log_probs(prompt, target)[0].sum() > large.log_probs(prompt, target)[0].sum())
    True
    """

    def __init__(self, large: LanguageModel, small: LanguageModel, edit: Edit, *, weight: float = 1.0) -> None:
        check_number(weight, name="weight", by="LogitEnsemble", low=0.0)
        if large.tokenizer.get_vocab() != small.tokenizer.get_vocab():
            raise DataError(
                "The two models of LogitEnsemble must have one tokenizer, so that their logits are of the same tokens. "
                f"{large.name!r} and {small.name!r} have different ones."
            )
        if any(e is edit for e in applied_edits(small)):
            raise DataError("The edit of LogitEnsemble is applied to the small model. Revert it first.")
        self.large, self.small, self.edit, self.weight = large, small, edit, weight

    def logits(self, batch: Any, where: Sequence[tuple[int, int]]) -> Tensor:
        """Return the logits at (row, position) pairs, (n_pairs, n_vocabulary)."""
        own = self.large.logits(batch, where).float()
        if not self.weight:
            return own
        with applied(self.small, self.edit):
            edited = self.small.logits(batch, where).float().log_softmax(-1)
        change = edited - self.small.logits(batch, where).float().log_softmax(-1)
        width = min(own.shape[1], change.shape[1])  # vocabularies are padded to sizes of their own
        own[:, :width] += self.weight * change[:, :width]
        return own

    def token_log_probs(self, rows: Rows, starts: Sequence[int]) -> list[Floats]:
        """Return the log probability of each token from position `start` on, for each row of tokens."""
        torch = require("torch", extra="lm", by="LogitEnsemble")
        found = []
        with torch.no_grad():
            for row, start in zip(rows, starts, strict=True):
                where = [(0, p - 1) for p in range(start, len(row))]
                log_p = self.logits(self.large.batch([row]), where).log_softmax(-1)
                wanted = torch.tensor(row[start:], device=log_p.device)
                found.append(log_p.gather(1, wanted[:, None])[:, 0].cpu().numpy().astype(np.float64))
        return found

    def log_probs(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Floats]:
        """Return the log probability of each token of each target after its prompt, in nats."""
        heads = [self.large.encode(p) for p in prompts]
        tails = [self.large.encode(t, start=False) for t in targets]
        return self.token_log_probs([h + t for h, t in zip(heads, tails, strict=True)], [len(h) for h in heads])

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 10) -> list[str]:
        """Return the most probable continuation of each prompt, token by token; every token is a whole pass.

        Parameters
        ----------
        prompts : sequence of str
            Texts to continue.
        max_new_tokens : int
            Tokens at most.
        """
        torch = require("torch", extra="lm", by="LogitEnsemble")
        check_count(max_new_tokens, name="max_new_tokens", by="LogitEnsemble.generate")
        said = []
        with torch.no_grad():
            for prompt in prompts:
                row = self.large.encode(prompt)
                start = len(row)
                while len(row) < start + max_new_tokens:
                    token = int(self.logits(self.large.batch([row]), [(0, len(row) - 1)])[0].argmax())
                    if token in self.large._ends():
                        break
                    row = [*row, token]
                said.append(self.large.tokenizer.decode(row[start:], skip_special_tokens=True))
        return said

    def within(
        self,
        budget: float,
        *,
        weights: Sequence[float] = _SCALES,
        texts: Sequence[str] | None = None,
        n_texts: int = 16,
        max_tokens: int = 64,
    ) -> LogitEnsemble:
        """Return the ensemble with the largest of the weights that keeps a budget of loss on passages; 0 if none does.

        Parameters
        ----------
        budget : float
            Largest relative rise of the large model's mean loss.
        weights : sequence of float
            Tried from the largest.
        texts, n_texts, max_tokens
            As in `CanonicalExamples`.
        """
        check_number(budget, name="budget", by="LogitEnsemble.within", low=0.0, closed="neither")
        rows = general_rows(self.large, texts, n_texts=n_texts, max_tokens=max_tokens)
        rows = rows[1::2] or rows
        before = mean_loss(self.large, rows)

        def deviation(weight: float) -> float:
            return mean_loss(LogitEnsemble(self.large, self.small, self.edit, weight=weight), rows) / before - 1

        weight, _ = largest_within(weights, deviation, budget)
        return LogitEnsemble(self.large, self.small, self.edit, weight=weight)


def canonical_hits(
    model: Any, prompts: Sequence[str], targets: Sequence[str], *, threshold: float = 0.05
) -> NDArray[np.bool_]:
    """Return which targets are hits: at least as probable as the threshold, all their tokens together.

    Parameters
    ----------
    model : LanguageModel or LogitEnsemble
        Anything with ``log_probs``.
    prompts, targets : sequence of str
        Targets begin with the white space that parts them from the prompt.
    threshold : float
        Least probability of a hit; the authors' code has 0.05 and 0.2.

    Returns
    -------
    ndarray of bool of shape (n_prompts,)
    """
    check_number(threshold, name="threshold", by="canonical_hits", low=0.0, high=1.0, closed="right")
    return np.array([p.sum() >= np.log(threshold) for p in model.log_probs(prompts, targets)], dtype=bool)


@contextmanager
def applied(model: LanguageModel, edit: Edit) -> Iterator[None]:
    """Inside, the edit is applied."""
    edit.apply(model)
    try:
        yield
    finally:
        edit.revert(model)


def _default_candidates() -> list[Any]:
    full = [CanonicalTuning(learning_rate=rate) for rate in (1e-6, 1e-5, 1e-4)]
    return [*full, *(CanonicalTuning(rank=8, learning_rate=rate) for rate in (1e-4, 1e-3, 1e-2))]


def _said(editor: Any) -> str:
    """Return the editor in one line, without what stands aside of its parameters."""
    return " ".join(repr(editor).split())
