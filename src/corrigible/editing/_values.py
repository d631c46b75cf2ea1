"""What the editors of one projection share: contexts, keys, and the search for the value that says the target."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from corrigible._utils.optional import require
from corrigible.models import EditRequest, LanguageModel, LowRank
from corrigible.models._lm_structure import stores_inputs_first

Tensor = Any
_STARTS = ("The", "Therefore", "Because", "I", "You")
_PREFIXES: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Search:
    """How a value is sought; the defaults are ROME's.

    Attributes
    ----------
    n_steps : int
        Steps of Adam.
    learning_rate : float
        Step size.
    weight_decay : float
        Weight of ``|delta| / |v|^2``.
    kl_factor : float
        Weight of the divergence on ``{subject} is a``.
    clamp : float
        Largest norm of delta, in norms of the value before the edit.
    stop : float
        Loss at which the search ends.
    """

    n_steps: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    kl_factor: float = 0.0625
    clamp: float = 4.0
    stop: float = 0.05


@dataclass(frozen=True, eq=False)
class Value:
    """The change of a projection's output that makes the model say the target.

    Attributes
    ----------
    delta : tensor of shape (n_hidden,)
    before : tensor of shape (n_hidden,)
        The output in the first context.
    keys : tensor of shape (n_contexts, n_inputs)
        The projection's inputs at that token, a context each.
    nll : float
        Mean negative log probability of a target token at the end, in nats.
    steps : int
        Steps taken.
    """

    delta: Tensor
    before: Tensor
    keys: Tensor
    nll: float
    steps: int


def model_prefixes(model: LanguageModel) -> list[str]:
    """Return five short sentences in the model's own words, for prompts to stand behind."""
    if model.module not in _PREFIXES:
        said = model.generate(_STARTS, max_new_tokens=10)
        texts = [" ".join(f"{start}{rest}".replace("{", " ").replace("}", " ").split()) for start, rest in
                 zip(_STARTS, said, strict=True)]  # fmt: skip
        _PREFIXES[model.module] = [f"{t.rstrip('.')}. " for t in texts]
    return _PREFIXES[model.module]


def subject_positions(model: LanguageModel, request: EditRequest, prefixes: Sequence[str]) -> list[int]:
    """Return the position of the subject's last token in the prompt behind each prefix."""
    return [model.last_token(p + request.text, request.subject) for p in prefixes]


def keys_at(model: LanguageModel, name: str, texts: Sequence[str], positions: Sequence[int]) -> Tensor:
    """Return what enters a module at one position of each text, (n, n_inputs)."""
    batch = model.batch([model.encode(t)[: p + 1] for t, p in zip(texts, positions, strict=True)])
    entered, _ = model.record(batch, inputs=[name])
    return entered[name][list(range(len(texts))), list(positions)]


def subject_keys(
    model: LanguageModel, request: EditRequest, prefixes: Sequence[str], layer: int, *, by: str
) -> Tensor:
    """Return the projection's inputs at the subject's last token behind each prefix, (n, n_inputs)."""
    texts, positions = [p + request.text for p in prefixes], subject_positions(model, request, prefixes)
    return keys_at(model, model.down(layer, by=by), texts, positions)


def find_value(
    model: LanguageModel,
    request: EditRequest,
    prefixes: Sequence[str],
    layer: int,
    search: Search,
    *,
    module: str,
    by: str,
    at: Sequence[int] | None = None,
) -> Value:
    """Search the change of a module's output at one token that makes the target most probable.

    Minimised are the mean negative log probability of the target behind all prefixes, plus the divergence of what
    follows ``{subject} is a`` from what followed before, plus the decay. The network up to the block runs once.

    Parameters
    ----------
    model : LanguageModel
        Left as it is.
    request : EditRequest
        The fact.
    prefixes : sequence of str
        Texts before the prompt; ``""`` is the bare prompt. The clamp is in norms of the first one's value.
    layer : int
        Block that holds the module.
    search : Search
        Settings.
    module : str
        Name of the module whose output is changed: the block's projection, or the block.
    by : str
        Who asks, for messages.
    at : sequence of int, optional
        Position of the token behind each prefix; by default the subject's last.
    """
    torch = require("torch", extra="lm", by=by)
    target = model.encode(request.answer, start=False)
    heads = [model.encode(p + request.text) for p in prefixes]
    rows = [h + target[:-1] for h in heads]
    positions = subject_positions(model, request, prefixes) if at is None else list(at)
    apart = f"{request.subject} is a"  # the subject's essence, which shall not drift
    rows.append(model.encode(apart))
    positions.append(model.last_token(apart, request.subject))
    where = [(r, len(h) - 1 + i) for r, h in enumerate(heads) for i in range(len(target))]
    where.append((len(heads), positions[-1]))
    wanted = torch.tensor(target * len(heads), device=model.device)
    batch, cut = model.tails(rows, positions)  # what comes before the change is the same throughout
    positions = [p - c for p, c in zip(positions, cut, strict=True)]
    where = [(r, p - cut[r]) for r, p in where]
    start = model.before_block(batch, layer)
    down = model.down(layer, by=by)
    with model.resumed(start):
        entered, left = model.record(batch, inputs=[down], outputs=[module])
        value = left[module][0, positions[0]].float()
        keys = entered[down][list(range(len(heads))), positions[:-1]].float()
        delta = torch.zeros_like(value, requires_grad=True)
        everyone = list(range(len(rows)))

        def moved(_: Any, args: Any, out: Any) -> Any:
            states = (out[0] if isinstance(out, tuple) else out).clone()
            states[everyone, positions] += delta.to(states.dtype)
            return (states, *out[1:]) if isinstance(out, tuple) else states

        hook = model.part(module).register_forward_hook(moved)
        try:
            with torch.enable_grad():
                nll, steps = _minimise(model, batch, where, wanted, delta, value, search)
        finally:
            hook.remove()
    return Value(delta.detach(), value, keys, nll, steps)


def _minimise(
    model: LanguageModel, batch: Any, where: Any, wanted: Tensor, delta: Tensor, value: Tensor, search: Search
) -> tuple[float, int]:
    torch = require("torch", extra="lm", by="An editor")
    optimiser = torch.optim.Adam([delta], lr=search.learning_rate)
    essence, limit = None, search.clamp * value.norm()
    for step in range(search.n_steps):
        log_p = model.logits(batch, where).float().log_softmax(dim=-1)
        essence = log_p[-1].detach() if essence is None else essence
        nll = -log_p[:-1].gather(1, wanted[:, None]).mean()
        drift = torch.nn.functional.kl_div(log_p[-1], essence, log_target=True, reduction="sum")
        decay = delta.norm() / value.norm() ** 2
        loss = nll + search.kl_factor * drift + search.weight_decay * decay
        if float(loss.detach()) < search.stop or step == search.n_steps - 1:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            norm = delta.norm()
            if norm > limit:
                delta.mul_(limit / norm)
    return float(nll.detach()), step + 1


def low_rank(model: LanguageModel, name: str, outputs: Tensor, inputs: Tensor) -> LowRank:
    """Return the delta ``outputs @ inputs`` of a projection as its weight stores it.

    Parameters
    ----------
    model : LanguageModel
        The model.
    name : str
        Of the projection.
    outputs : tensor of shape (n_outputs, rank)
        Left factor of a delta that maps inputs to outputs.
    inputs : tensor of shape (rank, n_inputs)
        Right factor.
    """
    left, right = outputs.float().contiguous(), inputs.float().contiguous()
    if stores_inputs_first(model.part(name)):
        left, right = right.T.contiguous(), left.T.contiguous()
    return LowRank(left, right)
