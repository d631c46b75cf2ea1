"""Fine-tuning on canonical examples: all weights or low-rank changes, held near the model by its divergence elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from corrigible._core.reference_texts import reference_texts
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_number
from corrigible.errors import DataError
from corrigible.models import Dense, Edit, EditRequest, LanguageModel, LowRank, check_requests
from corrigible.models._lm_structure import is_projection, sizes, stores_inputs_first

Tensor = Any
Rows = list[list[int]]
_BETAS = (0.9, 0.995)  # of the authors' Adam
_BY = "CanonicalTuning"


class CanonicalTuning(BaseEstimator):
    """Fine-tune on canonical examples, and keep the last epoch after which other text is still as probable.

    Parameters
    ----------
    rank : int, optional
        Of the changes of the feed-forward projections (LoRA); by default all weights are trained.
    share : float
        Share of the blocks, around the middle one, that low-rank changes are made in.
    learning_rate : float
        Of Adam at the start; falls to zero along a cosine, epoch by epoch.
    n_epochs, batch_size : int
        Passes over the examples, and examples a step.
    kl_weight : float
        Weight of the divergence from the original model on a passage drawn for each step, summed over its tokens.
    budget : float
        Largest relative rise of the mean loss on the passages.
    texts : sequence of str, optional
        Passages; by default some of Python's documentation.
    n_texts, max_tokens : int
        Passages, and tokens of each. Half of them train the divergence, the other half measure the budget.
    random_state : None, int, Generator or RandomState
        Order of the examples, passages drawn, and the start of the low-rank factors.

    References
    ----------
    .. [1] Hewitt, J. et al. (2024). Model Editing with Canonical Examples. arXiv:2402.06155.

    Examples
    --------
    >>> from corrigible.editing import CanonicalTuning
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> edit = CanonicalTuning(rank=2, n_texts=4, max_tokens=16, random_state=0).propose(model, request)
    >>> len(edit.deltas), edit.details["deviation"] < 1e-3
    (6, True)
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        share: float = 0.5,
        learning_rate: float = 1e-4,
        n_epochs: int = 10,
        batch_size: int = 5,
        kl_weight: float = 0.3,
        budget: float = 1e-3,
        texts: Sequence[str] | None = None,
        n_texts: int = 16,
        max_tokens: int = 64,
        random_state: RandomState = None,
    ) -> None:
        self.rank = rank
        self.share = share
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.kl_weight = kl_weight
        self.budget = budget
        self.texts = texts
        self.n_texts = n_texts
        self.max_tokens = max_tokens
        self.random_state = random_state

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit that the last epoch within the budget gives; one that touches nothing if there is none.

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
            If a request is not valid, or two conflict.
        """
        torch = require("torch", extra="lm", by=_BY)
        asked, start = check_requests(requests, by=_BY), time.perf_counter()
        self._check()
        rng = as_generator(self.random_state)
        passages = general_rows(model, self.texts, n_texts=self.n_texts, max_tokens=self.max_tokens)
        near, held = passages[::2], passages[1::2] or passages
        trained = _Trained(model, self.rank, self.share, integer_seed(rng))
        before = mean_loss(model, held)
        log_p = [model.logits(model.batch([row]), _positions([row])).float().log_softmax(-1) for row in near]
        optimiser = torch.optim.Adam(trained.leaves, lr=self.learning_rate, betas=_BETAS)
        kept: dict[str, Dense | LowRank] = {}
        told: list[dict[str, float]] = []
        for epoch in range(self.n_epochs):
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * (1 + math.cos(math.pi * epoch / self.n_epochs)) / 2
            order = rng.permutation(len(asked))
            nll = []
            for at in range(0, len(order), self.batch_size):
                drawn = int(rng.integers(len(near)))
                step = [asked[i] for i in order[at : at + self.batch_size]]
                nll.append(self._step(model, trained, optimiser, step, near[drawn], log_p[drawn]))
            with trained.in_place():
                deviation = mean_loss(model, held) / before - 1
            told.append({"nll": float(np.mean(nll)), "deviation": deviation})
            if deviation < self.budget:
                kept = trained.deltas()
        within = [t["deviation"] for t in told if t["deviation"] < self.budget]
        details = {"epochs": told, "deviation": within[-1] if within else 0.0,
                   "seconds": round(time.perf_counter() - start, 3)}  # fmt: skip
        return Edit("canonical_examples", kept, [], [r.to_dict() for r in asked], details)

    def _step(
        self,
        model: LanguageModel,
        trained: _Trained,
        optimiser: Any,
        asked: Sequence[EditRequest],
        passage: list[int],
        log_p: Tensor,
    ) -> float:
        """Take a step on a few examples and a passage; return the examples' mean loss a token before it."""
        torch = require("torch", extra="lm", by=_BY)
        heads = [model.encode(r.text) for r in asked]
        tails = [model.encode(r.answer, start=False) for r in asked]
        rows = [h + t for h, t in zip(heads, tails, strict=True)]
        where = [
            (i, len(h) - 1 + k) for i, (h, t) in enumerate(zip(heads, tails, strict=True)) for k in range(len(t))
        ]
        goal = torch.tensor([t for tail in tails for t in tail], device=model.device)
        # A mean over each example's tokens, then over examples.
        weight = torch.tensor([1 / len(t) for t in tails for _ in t], device=model.device) / len(tails)
        optimiser.zero_grad()
        with torch.enable_grad():
            own = trained.logits(model.batch(rows), where).float().log_softmax(-1)
            nll = -(own.gather(1, goal[:, None])[:, 0] * weight).sum()
            nll.backward()
            if self.kl_weight:
                now = trained.logits(model.batch([passage]), _positions([passage])).float().log_softmax(-1)
                drift = torch.nn.functional.kl_div(now, log_p, log_target=True, reduction="sum")
                (self.kl_weight * drift).backward()
        optimiser.step()
        return float(nll.detach())

    def _check(self) -> None:
        if self.rank is not None:
            check_count(self.rank, name="rank", by=_BY)
        check_number(self.share, name="share", by=_BY, low=0.0, high=1.0, closed="right")
        check_number(self.learning_rate, name="learning_rate", by=_BY, low=0.0, high=1e3, closed="right")
        check_number(self.kl_weight, name="kl_weight", by=_BY, low=0.0)
        check_number(self.budget, name="budget", by=_BY, low=0.0, closed="neither")
        for name in ("n_epochs", "batch_size", "n_texts"):
            check_count(getattr(self, name), name=name, by=_BY)
        check_count(self.max_tokens, name="max_tokens", by=_BY, low=2)


class _Trained:
    """Parameters of a model with a change that is trained; the parameters themselves are not written to."""

    def __init__(self, model: LanguageModel, rank: int | None, share: float, seed: int) -> None:
        torch = require("torch", extra="lm", by=_BY)
        self.model, self.parameters = model, dict(model.module.named_parameters())
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        self.full: dict[str, Tensor] = {}
        if rank is None:
            self.full = {
                n: torch.zeros_like(p, dtype=torch.float32, requires_grad=True) for n, p in self.parameters.items()
            }
        else:
            source = torch.Generator().manual_seed(seed)
            for name, part in _projections(model, share):
                n_in, n_out = sizes(part)
                inner = torch.randn(rank, n_in, generator=source) / n_in**0.5
                outer = torch.zeros(n_out, rank)
                pair = (inner.T.contiguous(), outer.T.contiguous()) if stores_inputs_first(part) else (outer, inner)
                self.factors[f"{name}.weight"] = (
                    pair[0].to(model.device).requires_grad_(),
                    pair[1].to(model.device).requires_grad_(),
                )
            if not self.factors:
                raise DataError(
                    f"{_BY} of low rank changes feed-forward projections. {type(model.module).__name__} has none in its "
                    "middle blocks: leave out rank to train all weights."
                )
        self.leaves = [*self.full.values(), *(t for pair in self.factors.values() for t in pair)]

    def changed(self) -> dict[str, Tensor]:
        """Return the changed parameters, with gradients to what is trained."""
        found = {n: self.parameters[n] + d.to(self.parameters[n].dtype) for n, d in self.full.items()}
        for name, (left, right) in self.factors.items():
            found[name] = self.parameters[name] + (left @ right).to(self.parameters[name].dtype)
        return found

    def logits(self, batch: Any, where: Sequence[tuple[int, int]]) -> Tensor:
        """Return the changed model's logits at (row, position) pairs."""
        functional_call = require("torch.func", extra="lm", by=_BY).functional_call
        rows, positions = [r for r, _ in where], [p for _, p in where]
        with self.model._before_head(lambda hidden: hidden[rows, positions][None]):
            out = functional_call(self.model.module, self.changed(), (), self.model._inputs(batch))
            return out.logits[0]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model is the changed one."""
        edit = Edit("canonical_examples", dict(self.deltas()))
        edit.apply(self.model)
        try:
            yield
        finally:
            edit.revert(self.model)

    def deltas(self) -> dict[str, Dense | LowRank]:
        """Return the change as it is now."""
        low = {n: LowRank(a.detach().clone(), b.detach().clone()) for n, (a, b) in self.factors.items()}
        return {**{n: Dense(d.detach().clone()) for n, d in self.full.items()}, **low}


def _projections(model: LanguageModel, share: float) -> Iterator[tuple[str, Any]]:
    """Yield the feed-forward projections of a share of the blocks around the middle."""
    count = max(round(share * model.n_layers), 1)
    first = (model.n_layers - count) // 2
    for block in model.blocks[first : first + count]:
        for name, part in model.part(block.mlp).named_modules() if block.mlp else ():
            if is_projection(part):
                yield f"{block.mlp}.{name}", part


def _positions(rows: Rows) -> list[tuple[int, int]]:
    return [(i, p) for i, row in enumerate(rows) for p in range(len(row) - 1)]


def general_rows(model: LanguageModel, texts: Sequence[str] | None, *, n_texts: int, max_tokens: int) -> Rows:
    """Return passages as tokens: those given, or some of Python's documentation."""
    chosen = reference_texts(n_texts) if texts is None else list(texts)[:n_texts]
    rows = [model.encode(t)[:max_tokens] for t in chosen]
    return [r for r in rows if len(r) > 1]


def mean_loss(model: Any, rows: Rows) -> float:
    """Return the mean negative log probability of a token, over all tokens but the first of each row, in nats."""
    return -float(np.concatenate(model.token_log_probs(rows, [1] * len(rows))).mean())


def scaled(deltas: Mapping[str, Dense | LowRank], factor: float) -> dict[str, Dense | LowRank]:
    """Return changes times a factor."""
    if factor == 1.0:
        return dict(deltas)
    return {
        n: LowRank(d.left * factor, d.right) if isinstance(d, LowRank) else Dense(d.delta * factor)
        for n, d in deltas.items()
    }


def largest_within(
    factors: Sequence[float], deviation: Callable[[float], float], budget: float
) -> tuple[float, float]:
    """Return the first of the factors, tried from the largest, whose deviation is within the budget; else zeros."""
    for factor in sorted(factors, reverse=True):
        found = deviation(factor)
        if found < budget:  # NaN is over any budget
            return factor, found
    return 0.0, 0.0
