"""Second moments of what enters a projection: streamed over text, kept in a file, reused."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrigible._core.reference_texts import reference_texts
from corrigible._utils.files import atomic_path
from corrigible._utils.optional import require
from corrigible.errors import DataError
from corrigible.models import LanguageModel, cache_folder

Tensor = Any
_PASS_TOKENS = 128  # tokens of one text in one pass
_ROWS = 8
_LOADED: weakref.WeakKeyDictionary[Any, dict[str, KeyStatistics]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class KeyStatistics:
    """The uncentred second moment ``C = E[k k']`` of a projection's inputs, in float64, with a ridge.

    Attributes
    ----------
    moment : tensor of shape (n_inputs, n_inputs)
    n_tokens : int
    lifted : tensor of shape (n_inputs, n_inputs)
        ``moment + ridge mean(diag(moment)) I``.
    factor : tensor of shape (n_inputs, n_inputs)
        Cholesky factor of `lifted`.
    """

    moment: Tensor
    n_tokens: int
    lifted: Tensor
    factor: Tensor

    def solve(self, keys: Tensor) -> Tensor:
        """Return ``C^-1 keys'`` for keys (n, n_inputs): shape (n_inputs, n), in float64."""
        torch = require("torch", extra="lm", by="Key statistics")
        return torch.cholesky_solve(keys.double().T.contiguous(), self.factor)


def key_statistics(
    model: LanguageModel,
    layer: int,
    *,
    by: str,
    texts: Sequence[str] | None = None,
    n_tokens: int = 8192,
    ridge: float = 0.1,
    cache: str | Path | None = None,
) -> KeyStatistics:
    """Return the statistics of the inputs of a block's last feed-forward projection.

    The first call runs text through the blocks up to that projection and writes the moment to the cache, under a hash
    of the model's weights before any edit, of the texts and of the settings; later calls read it.

    Parameters
    ----------
    model : LanguageModel
        Its weights as they are now are used; the file is keyed by those before any edit.
    layer : int
        Block.
    by : str
        Who asks, for messages.
    texts : sequence of str, optional
        Text to take statistics of; by default passages of Python's documentation.
    n_tokens : int
        Tokens to use at most.
    ridge : float
        Added to the diagonal, in units of its mean: few tokens leave directions that were never seen.
    cache : path, optional
        See `cache_folder`.
    """
    chosen = list(texts) if texts is not None else reference_texts(2 * n_tokens // _PASS_TOKENS)
    name = model.down(layer, by=by)
    key = hashlib.sha256(repr((model.fingerprint(), name, chosen, n_tokens, _PASS_TOKENS)).encode()).hexdigest()[
        :32
    ]
    memory = _LOADED.setdefault(model.module, {})
    if f"{key}-{ridge}" not in memory:
        path = cache_folder(cache) / "key-statistics" / f"{key}.safetensors"
        found = _read(path) or _measured(model, name, chosen, n_tokens, path, by)
        memory[f"{key}-{ridge}"] = _with_factor(*found, ridge)
    return memory[f"{key}-{ridge}"]


def _measured(
    model: LanguageModel, name: str, texts: Sequence[str], n_tokens: int, path: Path, by: str
) -> tuple[Tensor, int]:
    torch = require("torch", extra="lm", by=by)
    rows = [model.encode(t)[:_PASS_TOKENS] for t in texts if t.strip()]
    total, seen = None, 0
    for at in range(0, len(rows), _ROWS):
        if seen >= n_tokens:
            break
        batch = model.batch(rows[at : at + _ROWS])
        entered, _ = model.record(batch, inputs=[name])
        keys = entered[name][batch.mask.bool()].float()[: n_tokens - seen]
        product = (keys.T @ keys).double()
        total = product if total is None else total + product
        seen += len(keys)
    if total is None:
        raise DataError(f"{by} needs texts to take key statistics of. Got none that is not empty.")
    moment = total / seen
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file = require("safetensors.torch", extra="lm", by=by).save_file
    with atomic_path(path) as temporary:
        save_file({"moment": moment.float(), "n_tokens": torch.tensor(seen)}, temporary)
    return moment.float(), seen


def _read(path: Path) -> tuple[Tensor, int] | None:
    if not path.is_file():
        return None
    load_file = require("safetensors.torch", extra="lm", by="Key statistics").load_file
    try:
        found = load_file(path)
        return found["moment"], int(found["n_tokens"])
    except Exception:  # a damaged cache is measured anew
        return None


def _with_factor(moment: Tensor, n_tokens: int, ridge: float) -> KeyStatistics:
    torch = require("torch", extra="lm", by="Key statistics")
    moment = moment.double()
    lifted = moment + ridge * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    return KeyStatistics(moment, n_tokens, lifted, torch.linalg.cholesky(lifted))
