"""The network of MEND: from the factors of a gradient to the factors of an edit."""

from __future__ import annotations

from typing import Any

from corrigible._utils.optional import require

Tensor = Any
N_BLOCKS = 2
_TINY = 1e-7  # added to a deviation, of directions that never vary


class FactorNetwork:
    """Two residual blocks of low rank on the standardised pair (u, delta), shared by projections of one shape.

    A block maps z to ``z + relu(s * (U V z + b) + o)`` with s and o of the projection's own. It starts as the identity:
    U, b and o are 0 and s is 1.

    Parameters
    ----------
    weights : dict of str to tensor
        Of each block: ``U``, ``V``, ``b``, ``s`` and ``o``, with its number.
    moments : dict of str to tensor
        ``count``, ``mean`` and ``squares`` (summed squared distances from the mean) of what came in so far.
    n_inputs : int
        Length of u.
    """

    def __init__(self, weights: dict[str, Tensor], moments: dict[str, Tensor], n_inputs: int) -> None:
        self.weights = weights
        self.moments = moments
        self.n_inputs = n_inputs

    @classmethod
    def start(cls, n_inputs: int, n_outputs: int, n_layers: int, rank: int, source: Any) -> FactorNetwork:
        """Return the network that changes nothing.

        Parameters
        ----------
        n_inputs, n_outputs : int
            Of the projections.
        n_layers : int
            How many projections have that shape.
        rank : int
            Of each block's matrix, at most that of its width.
        source : torch Generator
            Of the inner factors V.
        """
        torch = require("torch", extra="lm", by="MEND")
        width = n_inputs + n_outputs
        rank = min(rank, width)
        bound = (6 / (width + rank)) ** 0.5  # Glorot's
        weights: dict[str, Tensor] = {}
        for k in range(N_BLOCKS):
            weights |= {
                f"U{k}": torch.zeros(width, rank),
                f"V{k}": (2 * torch.rand(rank, width, generator=source) - 1) * bound,
                f"b{k}": torch.zeros(width),
                f"s{k}": torch.ones(n_layers, width),
                f"o{k}": torch.zeros(n_layers, width),
            }
        moments = {"count": torch.zeros(()), "mean": torch.zeros(width), "squares": torch.zeros(width)}
        return cls(weights, moments, n_inputs)

    def observe(self, pairs: Tensor) -> None:
        """Take more pairs (n, n_inputs + n_outputs) into the moments (Chan's formula)."""
        old, n = self.moments, len(pairs)
        count = old["count"] + n
        mean = pairs.mean(dim=0)
        shift = mean - old["mean"]
        squares = ((pairs - mean) ** 2).sum(dim=0) + shift**2 * (old["count"] * n / count)
        self.moments = {
            "count": count,
            "mean": old["mean"] + shift * (n / count),
            "squares": old["squares"] + squares,
        }

    def __call__(self, pairs: Tensor, layers: Tensor) -> Tensor:
        """Return the transformed pairs.

        Parameters
        ----------
        pairs : tensor of shape (n, n_inputs + n_outputs)
            u and delta.
        layers : tensor of shape (n,)
            Number of each pair's projection among those of its shape.
        """
        deviation = (self.moments["squares"] / (self.moments["count"] - 1).clamp(min=1)) ** 0.5
        z = (pairs - self.moments["mean"]) / (deviation + _TINY)
        w = self.weights
        for k in range(N_BLOCKS):
            inner = z @ w[f"V{k}"].T @ w[f"U{k}"].T + w[f"b{k}"]
            # Not relu: at 0, where training starts, the gradient of clamp passes.
            z = z + (w[f"s{k}"][layers] * inner + w[f"o{k}"][layers]).clamp(min=0)
        return z

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is stored."""
        return {**self.weights, **self.moments}

    @classmethod
    def build(cls, tensors: dict[str, Tensor], n_inputs: int) -> FactorNetwork:
        """Return the network that `tensors` came from."""
        moments = {k: tensors[k] for k in ("count", "mean", "squares")}
        return cls({k: t for k, t in tensors.items() if k not in moments}, moments, n_inputs)


def transformed(
    networks: dict[str, FactorNetwork], groups: dict[str, list[str]], factors: Any, *, learn: bool = False
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return every projection's factors as its network gives them, 0 at tokens whose gradient is 0.

    Parameters
    ----------
    networks : dict of str to FactorNetwork
        By shape.
    groups : dict of str to list of str
        Names of the projections of each shape.
    factors : dict of str to (u, delta)
        Of shapes (n, length, n_in) and (n, length, n_out).
    learn : bool
        Whether to take the factors into the moments first.
    """
    torch = require("torch", extra="lm", by="MEND")
    found = {}
    for shape, names in groups.items():
        network = networks[shape]
        kept = {n: (factors[n][0] != 0).any(-1) & (factors[n][1] != 0).any(-1) for n in names}
        pairs = torch.cat([torch.cat([f[kept[n]] for f in factors[n]], dim=-1) for n in names])
        counts = [int(kept[n].sum()) for n in names]
        layers = torch.arange(len(names), device=pairs.device).repeat_interleave(
            torch.tensor(counts, device=pairs.device)
        )
        if learn:
            network.observe(pairs)
        for name, part in zip(names, network(pairs, layers).split(counts), strict=True):
            out = torch.zeros(*kept[name].shape, part.shape[1], device=part.device)
            out = out.masked_scatter(kept[name][..., None], part)
            found[name] = (out[..., : network.n_inputs], out[..., network.n_inputs :])
    return found


def by_shape(shapes: dict[str, tuple[int, int]]) -> dict[str, list[str]]:
    """Return the names of projections by the shape they share, written ``"inputs x outputs"``."""
    groups: dict[str, list[str]] = {}
    for name, (n_in, n_out) in shapes.items():
        groups.setdefault(f"{n_in}x{n_out}", []).append(name)
    return groups


def all_weights(networks: dict[str, FactorNetwork]) -> list[Tensor]:
    """Return what is trained of all networks."""
    return [t for network in networks.values() for t in network.weights.values()]
