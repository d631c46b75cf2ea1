"""Changes of one parameter: of low rank, or of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Tensor = Any


@dataclass(frozen=True, eq=False)
class LowRank:
    """A delta ``left @ right`` of a matrix parameter, in the parameter's own orientation.

    Attributes
    ----------
    left : tensor of shape (n_rows, rank)
    right : tensor of shape (rank, n_columns)
    """

    left: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return (int(self.left.shape[0]), int(self.right.shape[1]))

    @property
    def rank(self) -> int:
        """Columns of `left`."""
        return int(self.left.shape[1])

    def full(self) -> Tensor:
        """Return the delta as one tensor, in float32."""
        return self.left.float() @ self.right.float()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored."""
        return {"left": self.left, "right": self.right}


@dataclass(frozen=True, eq=False)
class Dense:
    """A delta of any parameter, of its shape.

    Attributes
    ----------
    delta : tensor
    """

    delta: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return tuple(int(n) for n in self.delta.shape)

    @property
    def rank(self) -> int:
        """The largest rank a matrix of that shape can have."""
        return min(self.shape) if self.shape else 1

    def full(self) -> Tensor:
        """Return the delta, in float32."""
        return self.delta.float()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored."""
        return {"delta": self.delta}
