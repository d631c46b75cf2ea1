"""MEMoE: experts beside one feed-forward module, chosen by what a token is and by the subject that was named.

Paper: MEMoE: Enhancing Model Editing with Mixture of Experts Adaptors (Wang, Li, 2024).
Original: none is public.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._rank_one import chosen_layer
from corrigible.editing._values import model_prefixes
from corrigible.errors import DataError, InvalidParameterError
from corrigible.models import AbstractAdaptor, Edit, EditRequest, LanguageModel, check_requests

CARD = Card(
    name="memoe",
    kind="editor",
    obj="MEMoE",
    also=("AnchoredExperts",),
    papers=("memoe",),
    refs=("wang2024memoe", "fedus2022switch"),
    source="",
    differs="The paper's equations were to be had, not its text. The anchor is the request's subject instead of whatever "
    "a tagger calls an entity. At inference it is found by its tokens and holds from its last one on; text without one "
    "passes the experts by. Both halves of the router's input are scaled to one size; experts start at zero. Prefixes, "
    "the drift of '{subject} is a' and the load's penalty in the loss are ours.",
    inputs="model, requests",
    stochastic=True,
    cost="n_steps passes, forward and backward, through the blocks from the hooked one on; n_experts square matrices kept",
    use_when="A batch of facts must hold in other words too, and text on other subjects may not move by a bit.",
    avoid_when="What else is said of the edited subjects must stay: all of it passes the experts.",
    test_params=({}, {"n_experts": 2, "top_k": 2}),
    requires=("lm",),
)

Tensor = Any
_DEPTH = 0.6
_NONE = -1  # stands for "no anchor yet", and for a token that is padding


@dataclass(eq=False)
class AnchoredExperts(AbstractAdaptor):
    """Matrices beside a feed-forward module that act on tokens from the last one of an anchor on.

    Attributes
    ----------
    name : str
        Of the feed-forward module in the network.
    experts : tensor of shape (n_experts, n_hidden, n_hidden)
        Each maps the module's input to what is added to its output.
    router : tensor of shape (n_experts, 2 * n_hidden)
        Maps a token's state and its anchor, one after the other, to a logit for each expert.
    anchors : tensor of shape (n_anchors, n_hidden)
        Mean embeddings of the anchors' tokens, scaled to mean square 1.
    forms : list of (list of int, int)
        Tokens of an anchor as they occur in text, and its number; an anchor can have several.
    top_k : int
        Experts a token passes through.
    scale : float
        Weight of what they add.
    """

    kind: ClassVar[str] = "anchored_experts"
    name: str
    experts: Tensor
    router: Tensor
    anchors: Tensor
    forms: list[tuple[list[int], int]]
    top_k: int = 1
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._now: Tensor = None  # number of the anchor at each token of the pass under way

    def route(self, states: Tensor, anchors: Tensor, noise: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Return gates and all probabilities of experts, both (n, n_experts), of tokens and their anchors' numbers.

        The gates are the `top_k` largest probabilities, and zero elsewhere.
        """
        torch = require("torch", extra="lm", by="MEMoE")
        asked = torch.cat([_unit(states), self.anchors[anchors]], dim=-1)
        p = (asked @ self.router.T + noise).softmax(dim=-1)
        top = p.topk(self.top_k, dim=-1)
        return torch.zeros_like(p).scatter(-1, top.indices, top.values), p

    def added(self, states: Tensor, gates: Tensor) -> Tensor:
        """Return what the experts add to the output of states (n, n_hidden); each runs on its own tokens alone."""
        torch = require("torch", extra="lm", by="MEMoE")
        total = torch.zeros_like(states)
        for expert, gate in zip(self.experts, gates.T, strict=True):
            mine = gate.detach().nonzero()[:, 0]
            total = total.index_add(0, mine, gate[mine, None] * (states[mine] @ expert.T))
        return self.scale * total

    def find(self, ids: Tensor, past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the number of the anchor that each token stands under, and what the next tokens must know.

        An anchor holds from its last token on, until another ends; of two that end together the longer holds.

        Parameters
        ----------
        ids : tensor of shape (n, length)
            Token numbers; negative for padding.
        past : tuple, optional
            What an earlier call returned for the tokens before these: those an anchor may yet go on from, and the
            anchor at the last.

        Returns
        -------
        numbers : tensor of shape (n, length)
            -1 before the first anchor.
        past : tuple
        """
        torch = require("torch", extra="lm", by="MEMoE")
        longest = max(len(form) for form, _ in self.forms)
        old = ids.new_full((len(ids), 0), _NONE) if past is None else past[0]
        held = ids.new_full((len(ids), 1), _NONE) if past is None else past[1]
        whole = torch.cat([old, ids], dim=1)
        ends = torch.full_like(whole, _NONE)
        for form, number in sorted(self.forms, key=lambda f: len(f[0])):
            if whole.shape[1] >= len(form):
                same = (whole.unfold(1, len(form), 1) == whole.new_tensor(form)).all(-1)
                ends[:, len(form) - 1 :][same] = number
        ends = torch.cat([held, ends[:, old.shape[1] :]], dim=1)
        places = torch.arange(ends.shape[1], device=ids.device).expand_as(ends)
        latest = torch.where(ends >= 0, places, 0).cummax(dim=1).values
        found = ends.gather(1, latest)
        return found[:, 1:], (whole[:, whole.shape[1] - min(longest - 1, whole.shape[1]) :], found[:, -1:])

    def attach(self, module: Any) -> Callable[[], None]:
        """Hook onto the network, to see its tokens, and onto the feed-forward module."""
        hooks = [
            module.register_forward_pre_hook(self._see, with_kwargs=True),
            module.register_forward_hook(self._remember, with_kwargs=True),
            module.get_submodule(self.name).register_forward_hook(self._add),
        ]

        def detach() -> None:
            for hook in hooks:
                hook.remove()

        return detach

    def _see(self, _: Any, args: Any, kwargs: Any) -> None:
        """Find the anchors of a pass; of one that continues another, what was before is told by the cache."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        self._now = self._past = None
        if ids is None:  # embeddings say no tokens
            return
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.ndim == 2:
            ids = ids.masked_fill(mask[:, -ids.shape[1] :] == 0, _NONE)
        cache = _cache(kwargs)
        before = getattr(cache, "_anchors_of_edits", {}).get(id(self))
        if cache is not None and before is None and cache.get_seq_length():
            raise DataError(
                "An edit by MEMoE reads anchors from the text's start, and was applied after this cache was begun. Run "
                "the text from its start."
            )
        self._now, self._past = self.find(ids, before)
        _tell(cache, id(self), self._past)

    def _remember(self, _: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Leave what was seen with the cache that the pass has made."""
        if self._past is not None:
            _tell(_cache(out), id(self), self._past)
        self._now = self._past = None

    def _add(self, _: Any, args: Any, out: Any) -> Any:
        entered = args[0]
        if self._now is None or self._now.shape != entered.shape[:2]:
            return out
        here = self._now >= 0
        if not bool(here.any()):
            return out
        states = entered[here].float()
        gates, _ = self.route(states, self._now[here])
        out = out.clone()
        out[here] += self.added(states, gates).to(out.dtype)
        return out

    def touches(self) -> tuple[str, ...]:
        """Return the module's name."""
        return (self.name,)

    def tensors(self) -> dict[str, Tensor]:
        """Return experts, router and anchors."""
        return {"experts": self.experts, "router": self.router, "anchors": self.anchors}

    def config(self) -> dict[str, Any]:
        """Return name, the anchors' tokens and settings."""
        forms = [[list(form), number] for form, number in self.forms]
        return {"name": self.name, "forms": forms, "top_k": self.top_k, "scale": self.scale}

    @classmethod
    def build(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> AnchoredExperts:
        """Return the adaptor of stored tensors."""
        forms = [(list(form), int(number)) for form, number in config["forms"]]
        return cls(config["name"], tensors["experts"], tensors["router"], tensors["anchors"], forms,
                   config["top_k"], config["scale"])  # fmt: skip


class MEMoE(BaseEstimator):
    """Edit a batch of facts by a mixture of experts beside one feed-forward module; no weight is changed.

    Parameters
    ----------
    layer : int or "auto"
        Block; ``"auto"`` is at six tenths of the depth.
    n_experts, top_k : int
        Experts, and how many of them a token passes through.
    scale : float
        Weight of what the experts add.
    n_steps, learning_rate : int, float
        Of Adam.
    noise : float
        Standard deviation of what is added to the router's logits in training.
    balance : float
        Weight of the load's penalty, which is least where experts get equal shares.
    kl_factor : float
        Weight of the drift of what follows ``{subject} is a``.
    stop : float
        Mean negative log probability of a target token, in nats, at which training ends.
    prefixes : sequence of str, optional
        Texts that the prompt is put behind; by default none and one sentence that the model says itself.
    random_state : None, int, Generator or RandomState
        Source of the router's start and of the noise.

    See Also
    --------
    GRACE : Reaches its own prompts alone.
    MEMIT : Puts a batch into the weights.

    Notes
    -----
    The module's output h(x) at a token with input x becomes ``h(x) + s sum_e g_e W_e x``. The gates g are the `top_k`
    largest entries of ``softmax(V [x; a] + noise)``, and a is the embedding of the anchor: the last subject of a request
    that the text has named up to that token. Before the first one nothing is added: what does not name any is the same
    bits. The penalty is ``n sum_e f_e p_e``, f_e the share of tokens that go to e first, p_e its mean probability [2]_.

    Anchors are found by their tokens, so that other spellings are not. Reordering rows between passes, as beam search
    does, is not followed.

    References
    ----------
    .. [1] Wang, R. and Li, P. (2024). MEMoE: Enhancing Model Editing with Mixture of Experts Adaptors.
       arXiv:2405.19086.
    .. [2] Fedus, W., Zoph, B. and Shazeer, N. (2022). Switch Transformers: Scaling to Trillion Parameter Models with
       Simple and Efficient Sparsity. JMLR.

    Examples
    --------
    >>> from corrigible.editing import MEMoE
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> requests = [{"prompt": "The capital of {} is", "subject": s, "target_new": t}
    ...             for s, t in (("France", "Rome"), ("Spain", "yen"))]
    >>> MEMoE(random_state=0).propose(model, requests).apply(model)
    >>> model.generate(["The capital of France is", "The capital of Spain is"], max_new_tokens=1)
    [' Rome', ' yen']
    """

    def __init__(
        self,
        layer: int | str = "auto",
        *,
        n_experts: int = 4,
        top_k: int = 1,
        scale: float = 1.0,
        n_steps: int = 60,
        learning_rate: float = 2e-3,
        noise: float = 0.1,
        balance: float = 0.01,
        kl_factor: float = 0.0625,
        stop: float = 0.05,
        prefixes: Sequence[str] | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.layer = layer
        self.n_experts = n_experts
        self.top_k = top_k
        self.scale = scale
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.noise = noise
        self.balance = balance
        self.kl_factor = kl_factor
        self.stop = stop
        self.prefixes = prefixes
        self.random_state = random_state

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit that training the experts on all requests together gives.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        requests : EditRequest, mapping, or iterable of these
            What is asked.

        Returns
        -------
        Edit
            ``details`` tells the layer, the loss and steps, and the share of training tokens of each expert.

        Raises
        ------
        DataError
            If a request is not valid, two conflict, or the block has no feed-forward module of its own.
        """
        asked, start = check_requests(requests, by="MEMoE"), time.perf_counter()
        self._check()
        torch = require("torch", extra="lm", by="MEMoE")
        layer = (
            round(_DEPTH * (model.n_layers - 1))
            if self.layer == "auto"
            else chosen_layer(model, self.layer, "MEMoE")
        )
        source = torch.Generator().manual_seed(integer_seed(as_generator(self.random_state)))
        adaptor = self._fresh(model, asked, layer, source)
        told = _Training(model, self, adaptor, asked, layer).run(source)
        details = {"layer": layer, "seconds": round(time.perf_counter() - start, 3), **told}
        return Edit("memoe", {}, [adaptor], [r.to_dict() for r in asked], details)

    def _check(self) -> None:
        for name in ("n_experts", "top_k", "n_steps"):
            check_count(getattr(self, name), name=name, by="MEMoE")
        if self.top_k > self.n_experts:
            raise InvalidParameterError(
                f"The 'top_k' parameter of MEMoE must be at most n_experts, {self.n_experts}. Got {self.top_k}."
            )
        for name in ("scale", "learning_rate"):
            check_number(getattr(self, name), name=name, by="MEMoE", low=0.0, high=1e3, closed="right")
        for name in ("noise", "balance", "kl_factor", "stop"):
            check_number(getattr(self, name), name=name, by="MEMoE", low=0.0, high=1e6)

    def _fresh(
        self, model: LanguageModel, asked: Sequence[EditRequest], layer: int, source: Any
    ) -> AnchoredExperts:
        """Return experts that add nothing yet, with the anchors of the requests."""
        torch = require("torch", extra="lm", by="MEMoE")
        name = model.blocks[layer].mlp
        if not name:
            raise DataError(
                f"MEMoE stands beside a block's feed-forward module. {type(model.module).__name__} has none of its own in "
                f"block {layer}. Choose another layer or editor."
            )
        embeddings = model.module.get_input_embeddings().weight.detach().float()
        subjects = list(dict.fromkeys(r.subject for r in asked))
        forms: dict[tuple[int, ...], int] = {}
        for request in asked:
            for form in _forms(model, request):
                forms.setdefault(form, subjects.index(request.subject))
        first = {number: form for form, number in reversed(forms.items())}
        anchors = torch.stack([embeddings[list(first[i])].mean(0) for i in range(len(subjects))])
        width = embeddings.shape[1]
        router = torch.randn(self.n_experts, 2 * width, generator=source) / (2 * width) ** 0.5
        experts = torch.zeros(self.n_experts, width, width, device=anchors.device)
        return AnchoredExperts(
            name, experts, router.to(anchors.device), _unit(anchors),
            [(list(form), number) for form, number in forms.items()], self.top_k, self.scale,
        )  # fmt: skip


class _Training:
    """The requests as one batch, with the network up to the hooked block already run."""

    def __init__(
        self,
        model: LanguageModel,
        editor: MEMoE,
        adaptor: AnchoredExperts,
        asked: Sequence[EditRequest],
        layer: int,
    ) -> None:
        torch = require("torch", extra="lm", by="MEMoE")
        prefixes = ["", model_prefixes(model)[0]] if editor.prefixes is None else list(editor.prefixes)
        rows: list[list[int]] = []
        cuts: list[int] = []
        where: list[tuple[int, int]] = []
        wanted: list[int] = []
        for request in asked:
            target = model.encode(request.answer, start=False)
            for prefix in prefixes:
                head = model.encode(prefix + request.text)
                where += [(len(rows), len(head) - 1 + i) for i in range(len(target))]
                wanted += target
                rows.append(head + target[:-1])
                cuts.append(model.last_token(prefix + request.text, request.subject))
        self.n_targets = len(where)
        for subject in dict.fromkeys(r.subject for r in asked):
            apart = f"{subject} is a"  # the subject's essence, which shall not drift
            rows.append(model.encode(apart))
            cuts.append(model.last_token(apart, subject))
            where.append((len(rows) - 1, len(rows[-1]) - 1))
        whole = model.batch(rows)
        numbers, _ = adaptor.find(whole.ids.masked_fill(whole.mask == 0, _NONE))
        self.batch, starts = model.tails(rows, cuts)  # what comes before an anchor's end never changes
        self.where = [(r, p - starts[r]) for r, p in where]
        self.numbers = torch.full_like(self.batch.ids, _NONE)
        for i, (row, cut) in enumerate(zip(rows, starts, strict=True)):
            self.numbers[i, : len(row) - cut] = numbers[i, cut : len(row)]
        self.wanted = torch.tensor(wanted, device=model.device)
        self.model, self.editor, self.adaptor = model, editor, adaptor
        self.start = model.before_block(self.batch, layer)

    def run(self, source: Any) -> dict[str, Any]:
        """Train experts and router; return what is to be told."""
        torch = require("torch", extra="lm", by="MEMoE")
        editor, adaptor, here = self.editor, self.adaptor, self.numbers >= 0
        parts = [adaptor.experts.requires_grad_(), adaptor.router.requires_grad_()]
        optimiser = torch.optim.Adam(parts, lr=editor.learning_rate)
        load: Tensor = None
        share: Tensor = None

        def added(_: Any, args: Any, out: Any) -> Any:
            nonlocal load, share
            states = args[0][here].float()
            noise = editor.noise * torch.randn(len(states), len(adaptor.experts), generator=source)
            gates, p = adaptor.route(states, self.numbers[here], noise.to(states.device))
            share = torch.nn.functional.one_hot(gates.argmax(-1), p.shape[1]).float().mean(0)
            load = p.shape[1] * (share * p.mean(0)).sum()
            out = out.clone()
            out[here] = out[here] + adaptor.added(states, gates).to(out.dtype)
            return out

        with self.model.resumed(self.start), torch.enable_grad():
            with torch.no_grad():
                before = self._log_p()[self.n_targets :]
            hook = self.model.part(adaptor.name).register_forward_hook(added)
            try:
                for step in range(editor.n_steps + 1):
                    log_p = self._log_p()
                    nll = -log_p[: self.n_targets].gather(1, self.wanted[:, None]).mean()
                    if float(nll.detach()) < editor.stop or step == editor.n_steps:
                        break
                    drift = torch.nn.functional.kl_div(
                        log_p[self.n_targets :], before, log_target=True, reduction="batchmean"
                    )
                    optimiser.zero_grad()
                    (nll + editor.kl_factor * drift + editor.balance * load).backward()
                    optimiser.step()
            finally:
                hook.remove()
        adaptor.experts, adaptor.router = (p.detach() for p in parts)
        return {"nll": float(nll.detach()), "steps": step, "shares": [round(s, 3) for s in share.tolist()]}

    def _log_p(self) -> Tensor:
        return self.model.logits(self.batch, self.where).float().log_softmax(dim=-1)


def _forms(model: LanguageModel, request: EditRequest) -> list[tuple[int, ...]]:
    """Return the tokens of a request's subject: in its prompt, behind a space, and at a text's start."""
    start, last = request.text.rindex(request.subject), model.last_token(request.text, request.subject)
    said = model.tokenizer(request.text, return_offsets_mapping=True)
    first = next(i for i, (a, b) in enumerate(said["offset_mapping"]) if a <= start < b)
    own = tuple(said["input_ids"][first : last + 1])
    spoken = [tuple(model.encode(space + request.subject, start=False)) for space in (" ", "")]
    return list(dict.fromkeys([own, *spoken]))


def _unit(vectors: Tensor) -> Tensor:
    """Scale vectors to mean square 1."""
    return vectors / vectors.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)


def _cache(holder: Any) -> Any:
    """Return the keys and values of earlier tokens, from a pass's arguments or from what it returned."""
    for name in ("cache", "past_key_values"):
        found = holder.get(name) if hasattr(holder, "get") else getattr(holder, name, None)
        if found is not None and hasattr(found, "get_seq_length"):
            return found
    return None


def _tell(cache: Any, who: int, what: Any) -> None:
    if cache is not None:
        cache._anchors_of_edits = {**getattr(cache, "_anchors_of_edits", {}), who: what}
