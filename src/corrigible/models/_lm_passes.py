"""What goes into a pass through a language model, what one can continue from, and how many there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Tensor = Any


@dataclass
class Calls:
    """What was asked of a model.

    Attributes
    ----------
    forwards, tokens : int
        Forward passes, and the tokens put in.
    """

    forwards: int = 0
    tokens: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts as token numbers, padded on the right, or what follows a beginning that has run already.

    Attributes
    ----------
    ids : tensor of shape (n, length)
    mask : tensor of shape (n, length of the beginning + length)
    lengths : list of int
    past : cache, optional
        Keys and values of the beginning, padded on the left.
    positions : tensor of shape (n, length), optional
        Positions in the whole texts.
    """

    ids: Tensor
    mask: Tensor
    lengths: list[int]
    past: Any = None
    positions: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Resumption:
    """The hidden states that enter a block, from which the rest of the network can run again and again."""

    layer: int
    hidden: Tensor
    batch: Batch
    returns_tuple: bool
