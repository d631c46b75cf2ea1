"""Where a causal language model keeps what editors touch: found by structure, not by lists of names."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from corrigible._utils.optional import require
from corrigible.errors import DataError

Module = Any


@dataclass(frozen=True, eq=False)
class Block:
    """One transformer block.

    Attributes
    ----------
    name : str
        Of the block in the network.
    module : torch module
    mlp, attention : str
        Names of the feed-forward and of the attention module; ``""`` where there is none.
    down : str
        Name of the projection that ends the feed-forward module; ``""`` where there is none.
    """

    name: str
    module: Module
    mlp: str
    attention: str
    down: str


def is_projection(module: Module) -> bool:
    """Whether a module is a matrix product: a linear layer, or the convolution of width 1 that GPT-2 uses."""
    nn = require("torch.nn", extra="lm", by="A language model")
    weight = getattr(module, "weight", None)
    return weight is not None and weight.ndim == 2 and (isinstance(module, nn.Linear) or hasattr(module, "nf"))


def sizes(module: Module) -> tuple[int, int]:
    """Return the number of inputs and of outputs of a projection."""
    rows, columns = (int(n) for n in module.weight.shape)
    return (rows, columns) if stores_inputs_first(module) else (columns, rows)


def stores_inputs_first(module: Module) -> bool:
    """Whether a projection's weight has shape (inputs, outputs), as GPT-2's has."""
    return hasattr(module, "nf") and not hasattr(module, "in_features")


def find_blocks(network: Module) -> list[Block]:
    """Return the transformer blocks of a causal language model, the first first.

    Parameters
    ----------
    network : torch module
        The model.

    Raises
    ------
    DataError
        If no list of equal modules with projections is there.
    """
    nn = require("torch.nn", extra="lm", by="A language model")
    lists = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(m) for m in module}) == 1
        and any(is_projection(m) for m in module[0].modules())
    ]  # fmt: skip
    if not lists:
        raise DataError(
            f"A language model must hold a list of equal blocks with projections. {type(network).__name__} holds none."
        )
    # The blocks hold most of the weights; inside them there may be further lists, of experts.
    name, found = max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))
    return [_block(f"{name}.{i}", module) for i, module in enumerate(found)]


def _block(name: str, block: Module) -> Block:
    mlp = attention = down = ""
    for child, module in block.named_children():
        if not any(is_projection(m) for m in module.modules()):
            continue  # a normalisation or dropout
        if _takes_one(module):
            mlp = f"{name}.{child}"
            down = _down(mlp, module)
        else:
            attention = f"{name}.{child}"
    return Block(name, block, mlp, attention, down)


def _takes_one(module: Module) -> bool:
    """Whether forward takes the hidden states alone, as a feed-forward module does and attention does not."""
    return len(inspect.signature(module.forward).parameters) == 1


def _down(name: str, mlp: Module) -> str:
    """Return the last projection from the wide inner layer; ``""`` for experts, of which none is the one."""
    nn = require("torch.nn", extra="lm", by="A language model")
    if any(isinstance(m, nn.ModuleList) for m in mlp.modules()):
        return ""
    inner = [(child, m) for child, m in mlp.named_modules() if is_projection(m)]
    if len(inner) < 2:
        return ""
    hidden = sizes(inner[0][1])[0]
    ends = [child for child, m in inner if sizes(m)[1] == hidden]
    return f"{name}.{ends[-1]}" if ends else ""
