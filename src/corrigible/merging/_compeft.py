"""ComPEFT: keep of a fine-tuning update the signs of its largest values and one scale, in a file many times smaller.

Paper: ComPEFT: Compression for Communicating Parameter Efficient Updates via Sparsification and Quantization (Yadav,
Choshen, Raffel, Bansal, 2023).
Original: https://github.com/prateeky2806/compeft
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from corrigible._card import Card
from corrigible._core.model_weights import Weights, check_alike, weights_of, with_weights
from corrigible._core.tensor_blocks import kth_largest
from corrigible._core.tensor_files import read_tensors, write_tensors
from corrigible._utils.files import atomic_path
from corrigible._utils.validation import check_number
from corrigible.errors import DataError

CARD = Card(
    name="compeft",
    kind="merger",
    obj="ComPEFT",
    also=("CompressedUpdate",),
    papers=("compeft",),
    refs=("yadav2023compeft",),
    source="https://github.com/prateeky2806/compeft",
    differs="Positions are Rice coded (Golomb with a power of two, the best for the file), in a safetensors container. Of "
    "equal magnitudes at the threshold all are kept.",
    inputs="models, score",
    stochastic=False,
    cost="Two passes over the update; the search a score for each pair of density and alpha",
    use_when="Many fine-tunes of one base are stored or sent, and each should cost little.",
    avoid_when="No held-out rows are at hand to choose density and alpha by: the scale matters.",
)

_LAYOUT = "layout"
_DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
_ALPHAS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class CompressedUpdate:
    """A ternary update: signs by name, and one scale.

    Attributes
    ----------
    signs : dict of str to ndarray of int8
        -1, 0 or 1 a weight.
    scale : float
        What a sign adds.
    """

    signs: dict[str, NDArray[np.int8]]
    scale: float

    def apply(self, base: Any) -> Any:
        """Return the base with the update added.

        Parameters
        ----------
        base : mapping, torch module or estimator
            What the update was computed from.
        """
        weights = weights_of(base, by="CompressedUpdate")
        check_alike([weights, self.signs], by="CompressedUpdate")
        made = {k: np.asarray(v + self.scale * self.signs[k], dtype=v.dtype) for k, v in weights.items()}
        return with_weights(base, made)

    def save(self, path: str | Path) -> int:
        """Write the update to a file, atomically, and return its size in bytes.

        Parameters
        ----------
        path : str or Path
            Where; its folder must exist.
        """
        flat = np.concatenate([s.reshape(-1) for s in self.signs.values()]) if self.signs else np.empty(0, np.int8)
        kept = np.flatnonzero(flat)
        gaps = np.diff(kept, prepend=-1) - 1
        rice = _best_rice(gaps)
        ends = np.cumsum((gaps >> rice) + 1)  # a quotient is so many zeros and a one
        unary = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=bool)
        unary[ends - 1] = True
        rest = ((gaps[:, None] >> np.arange(rice)) & 1).astype(bool)
        layout = {"scale": self.scale.hex() if isinstance(self.scale, float) else float(self.scale).hex(),
                  "rice": rice, "kept": len(kept), "shapes": {k: s.shape for k, s in self.signs.items()}}  # fmt: skip
        stored = {
            _LAYOUT: np.frombuffer(json.dumps(layout).encode(), dtype=np.uint8), "unary": np.packbits(unary),
            "rest": np.packbits(rest.reshape(-1)), "positive": np.packbits(flat[kept] > 0),
        }  # fmt: skip
        with atomic_path(path) as temporary:
            made = temporary.with_suffix(".safetensors")
            write_tensors(made, stored)
            made.replace(temporary)
        return Path(path).stat().st_size

    @classmethod
    def load(cls, path: str | Path) -> CompressedUpdate:
        """Read an update from a file.

        Parameters
        ----------
        path : str or Path
            What `save` wrote.
        """
        stored = read_tensors(Path(path))
        if set(stored) != {_LAYOUT, "unary", "rest", "positive"}:
            raise DataError(f"The file {str(path)!r} holds no compressed update.")
        try:
            layout = json.loads(stored[_LAYOUT].tobytes())
            n, rice = int(layout["kept"]), int(layout["rice"])
            ones = np.flatnonzero(np.unpackbits(stored["unary"]))[:n]
            quotients = np.diff(ones, prepend=-1) - 1
            rest = np.unpackbits(stored["rest"], count=n * rice).reshape(n, rice).astype(np.int64)
            gaps = (quotients << rice) + rest @ (1 << np.arange(rice))
            flat = np.zeros(sum(math.prod(s) for s in layout["shapes"].values()), dtype=np.int8)
            flat[np.cumsum(gaps + 1) - 1] = np.where(np.unpackbits(stored["positive"], count=n), 1, -1)
            scale = float.fromhex(layout["scale"])
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise DataError(f"The compressed update {str(path)!r} is damaged ({type(error).__name__}).") from error
        signs, start = {}, 0
        for name, shape in layout["shapes"].items():
            size = math.prod(shape)
            signs[name] = flat[start : start + size].reshape(shape)
            start += size
        return cls(signs, scale)


class ComPEFT:
    """Compress an update to signs and a scale, chosen on held-out rows where a score is given.

    Parameters
    ----------
    density : float, default=0.2
        Share of the update's values that is kept, the largest over all tensors; used without a score.
    alpha : float, default=1.0
        Scale in standard deviations of the update; used without a score.
    score : callable, optional
        Takes a model like those fitted and gives a number, higher is better, on held-out rows.
    densities, alphas : sequence of float
        What is tried with a score: the paper's.

    Attributes
    ----------
    update_ : CompressedUpdate
        Signs and scale.
    density_, alpha_ : float
        What was chosen; of equal scores the smaller.
    score_ : float
        Its score; NaN without one.

    References
    ----------
    .. [1] Yadav, P., Choshen, L., Raffel, C. and Bansal, M. (2023). ComPEFT: Compression for Communicating Parameter
       Efficient Updates via Sparsification and Quantization.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import ComPEFT
    >>> base = {"w": np.zeros(4)}
    >>> update = ComPEFT(density=0.5).fit({"w": np.array([3.0, -0.1, 0.2, -2.0])}, base).update_
    >>> update.signs["w"], round(update.scale, 2)
    (array([ 1,  0,  0, -1], dtype=int8), 1.79)
    """

    def __init__(
        self,
        *,
        density: float = 0.2,
        alpha: float = 1.0,
        score: Callable[[Any], float] | None = None,
        densities: Sequence[float] = _DENSITIES,
        alphas: Sequence[float] = _ALPHAS,
    ) -> None:
        self.density = density
        self.alpha = alpha
        self.score = score
        self.densities = densities
        self.alphas = alphas

    def fit(self, tuned: Any, base: Any) -> Self:
        """Compress what a fine-tuned model adds to its base.

        Parameters
        ----------
        tuned, base : mapping, torch module or estimator
            Of one architecture.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the architectures differ or a weight is not finite.
        """
        by = type(self).__name__
        after, before = weights_of(tuned, by=by), weights_of(base, by=by)
        check_alike([after, before], by=by)
        update = {k: np.asarray(after[k], dtype=np.float64) - before[k] for k in after}
        if not all(np.isfinite(d).all() for d in update.values()):
            raise DataError(f"{by} needs finite weights. Some are NaN or infinite.")
        spread = _spread(update)
        densities, alphas = (self.densities, self.alphas) if self.score else ((self.density,), (self.alpha,))
        best: tuple[float, float, float] | None = None
        for density in sorted(densities):
            check_number(density, name="density", by=by, low=0.0, high=1.0, closed="right")
            signs = _signs(update, density)
            for alpha in sorted(alphas):
                check_number(alpha, name="alpha", by=by, low=0.0, high=1e6, closed="right")
                made = CompressedUpdate(signs, float(alpha * spread))
                value = float(self.score(made.apply(base))) if self.score else float("nan")
                if best is None or value > best[0]:
                    best, self.update_ = (value, density, alpha), made
        assert best is not None
        self.score_, self.density_, self.alpha_ = best
        return self


def _spread(update: Weights) -> float:
    """Return the standard deviation over all tensors."""
    n = sum(d.size for d in update.values())
    mean = sum(float(d.sum()) for d in update.values()) / max(n, 1)
    return math.sqrt(sum(float(((d - mean) ** 2).sum()) for d in update.values()) / max(n, 1))


def _signs(update: Weights, density: float) -> dict[str, NDArray[np.int8]]:
    n = sum(d.size for d in update.values())

    def magnitudes() -> Iterator[Any]:
        for d in update.values():
            yield np.abs(d).reshape(-1)

    kept = int(density * n)
    limit = kth_largest(magnitudes, kept) if kept else np.inf
    return {k: (np.sign(d) * (np.abs(d) >= limit)).astype(np.int8) for k, d in update.items()}


def _best_rice(gaps: NDArray[np.int64]) -> int:
    """Return the number of low bits stored as they are that makes the gaps shortest."""
    if not len(gaps):
        return 0
    sizes = [int((gaps >> r).sum()) + len(gaps) * (1 + r) for r in range(32)]
    return int(np.argmin(sizes))
