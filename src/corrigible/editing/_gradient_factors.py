"""What MEND reads and writes: the factors of a loss's gradient at projections, and passes with a change for each row.

The gradient of a text's loss in the weight of a projection is ``sum_t delta_t u_t'``: ``u_t`` enters the projection at
token t, and ``delta_t`` is the gradient in what leaves it. The blocks before the first changed one run once a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from corrigible._utils.optional import require
from corrigible.models import EditRequest, LanguageModel
from corrigible.models._lm_passes import Resumption
from corrigible.models._lm_structure import is_projection

Tensor = Any
Factors = dict[str, tuple[Tensor, Tensor]]
_ROWS = 16


@dataclass(frozen=True, eq=False)
class Row:
    """One text, ready to run from a block on.

    Attributes
    ----------
    tokens : list of int
    hidden : tensor of shape (n_tokens, n_hidden)
        What enters the block.
    first : int
        Number of the first token whose probability counts.
    """

    tokens: list[int]
    hidden: Tensor
    first: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Texts in one batch, and what is asked of them.

    Attributes
    ----------
    start : Resumption
        To run the network from.
    where : list of (int, int)
        Row and position of every next token that counts.
    goal : tensor of shape (n_counted,)
        Those tokens.
    share : tensor of shape (n_counted,)
        One over how many count in the row: sums with it are sums over rows of means.
    """

    start: Resumption
    where: list[tuple[int, int]]
    goal: Tensor
    share: Tensor


def projections(model: LanguageModel, layers: Sequence[int], *, by: str) -> list[str]:
    """Return the names of all projections in the feed-forward modules of blocks.

    Parameters
    ----------
    model : LanguageModel
        The model.
    layers : sequence of int
        Numbers of the blocks.
    by : str
        Who asks, for messages.
    """
    found = []
    for layer in layers:
        model.down(layer, by=by)  # refuses experts, whose parts are not one matrix
        mlp = model.blocks[layer].mlp
        found += [f"{mlp}.{n}" for n, m in model.part(mlp).named_modules() if n and is_projection(m)]
    return found


def target_tokens(model: LanguageModel, request: EditRequest, prompt: str) -> tuple[list[int], int]:
    """Return the tokens of a prompt with the new target behind it, and where the target begins."""
    head, gap = model.encode(prompt), "" if prompt[-1:].isspace() else " "
    return head + model.encode(gap + request.target_new.strip(), start=False), len(head)


def prepared(model: LanguageModel, texts: Sequence[tuple[list[int], int]], layer: int) -> tuple[list[Row], bool]:
    """Run texts up to a block, once.

    Parameters
    ----------
    model : LanguageModel
        The model.
    texts : sequence of (tokens, first)
        See `Row`.
    layer : int
        The block.

    Returns
    -------
    rows : list of Row
    returns_tuple : bool
        What blocks of this network return.
    """
    rows: list[Row | None] = [None] * len(texts)
    order, returns_tuple = sorted(range(len(texts)), key=lambda i: len(texts[i][0])), False
    for at in range(0, len(order), _ROWS):
        group = order[at : at + _ROWS]
        start = model.before_block(model.batch([texts[i][0] for i in group]), layer)
        returns_tuple = start.returns_tuple
        for number, i in enumerate(group):
            tokens, first = texts[i]
            rows[i] = Row(tokens, start.hidden[number, : len(tokens)].clone(), first)
    return [r for r in rows if r is not None], returns_tuple


def together(model: LanguageModel, rows: Sequence[Row], layer: int, returns_tuple: bool) -> Rows:
    """Put prepared texts into one batch."""
    torch = require("torch", extra="lm", by="MEND")
    batch = model.batch([r.tokens for r in rows])
    hidden = torch.nn.utils.rnn.pad_sequence([r.hidden for r in rows], batch_first=True)
    where = [(n, p - 1) for n, r in enumerate(rows) for p in range(r.first, len(r.tokens))]
    goal = [t for r in rows for t in r.tokens[r.first :]]
    share = [1 / (len(r.tokens) - r.first) for r in rows for _ in r.tokens[r.first :]]
    return Rows(
        Resumption(layer, hidden, batch, returns_tuple),
        where,
        torch.tensor(goal, device=model.device),
        torch.tensor(share, device=model.device),
    )


def mean_losses(model: LanguageModel, rows: Rows) -> Tensor:
    """Return the sum over texts of the mean negative log probability of the tokens that count, in nats."""
    with model.resumed(rows.start):
        log_p = model.logits(rows.start.batch, rows.where).float().log_softmax(dim=-1)
    return -(log_p.gather(1, rows.goal[:, None])[:, 0] * rows.share).sum()


def gradient_factors(model: LanguageModel, rows: Rows, names: Sequence[str]) -> Factors:
    """Return ``u`` (n, length, n_in) and ``delta`` (n, length, n_out) of each text's loss at each projection.

    Parameters
    ----------
    model : LanguageModel
        Left as it is; gradients reach no parameter.
    rows : Rows
        Texts with targets.
    names : sequence of str
        The projections.
    """
    torch = require("torch", extra="lm", by="MEND")
    entered: dict[str, Tensor] = {}
    left: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for name in names:

            def tapped(_: Any, args: Any, out: Any, name: str = name) -> Any:
                entered[name], left[name] = args[0].detach(), torch.zeros_like(out).requires_grad_()
                return out + left[name]

            hooks.callback(model.part(name).register_forward_hook(tapped).remove)
        loss = mean_losses(model, rows)
        gradients = torch.autograd.grad(loss, [left[n] for n in names])
    return {n: (entered[n].float(), g.float()) for n, g in zip(names, gradients, strict=True)}


@contextmanager
def changed(model: LanguageModel, changes: Mapping[str, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Inside, every row of a batch runs through weights of its own.

    Parameters
    ----------
    model : LanguageModel
        The model.
    changes : mapping of str to (inputs, outputs)
        By projection: tensors of shapes (n, rank, n_in) and (n, rank, n_out). Added to the output of row i at ``x`` is
        ``outputs_i' inputs_i x``.
    """
    with ExitStack() as hooks:
        for name, (inputs, outputs) in changes.items():

            def added(_: Any, args: Any, out: Any, inputs: Tensor = inputs, outputs: Tensor = outputs) -> Any:
                return out + (args[0].float() @ inputs.mT @ outputs).to(out.dtype)

            hooks.callback(model.part(name).register_forward_hook(added).remove)
        yield
