"""MEMIT: many facts at once, spread over the projections of several blocks.

Paper: Mass-Editing Memory in a Transformer (Meng, Sharma, Andonian, Belinkov, Bau, ICLR 2023).
Original: https://github.com/kmeng01/memit
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._utils.optional import require
from corrigible._utils.validation import check_number
from corrigible.editing._rank_one import chosen_layer, find_site, search_of
from corrigible.editing._values import find_value, low_rank, model_prefixes, subject_keys, subject_positions
from corrigible.models import Edit, EditRequest, LanguageModel, check_requests

CARD = Card(
    name="memit",
    kind="editor",
    obj="MEMIT",
    papers=(),
    refs=("meng2023mass",),
    source="https://github.com/kmeng01/memit",
    differs="Prefixes and second moments as in `ROME`. The weight of the moments is 20 instead of 15,000 to 20,000, which "
    "stand for edits by the ten thousand in models of billions of weights.",
    inputs="model, requests",
    stochastic=False,
    cost="A value search a fact, and one solve of the width of the projection a layer",
    use_when="A batch of facts is to be corrected in the weights at once.",
    avoid_when="Facts come one after another over a long time: use RROME or GRACE.",
    test_params=({"n_tokens": 256, "update_weight": 0.1},),
    requires=("lm",),
)

Tensor = Any


class MEMIT(BaseEstimator):
    """Edit many facts at once by least-squares changes of the feed-forward projections of several blocks.

    Parameters
    ----------
    layers : sequence of int or "auto"
        Blocks, ascending; ``"auto"`` is five (or fewer) that end at three tenths of the depth.
    update_weight : float
        Weight of the moments of other text against the facts' keys: larger changes less.
    prefixes, texts, n_tokens, ridge, n_steps, learning_rate, weight_decay, kl_factor, cache
        As in `ROME`.
    clamp : float
        Largest norm of the change of a hidden state, in norms of the state.

    See Also
    --------
    RROME : One fact after another, in one block.

    Notes
    -----
    For each fact a change z of the last block's output is sought. Then block by block, the projection gets
    ``R K' (w C + K K')^-1`` added: K are the facts' keys there, R what is still missing to z over the number of blocks
    left, C the second moment of inputs, w its weight.

    References
    ----------
    .. [1] Meng, K. et al. (2023). Mass-Editing Memory in a Transformer. ICLR.

    Examples
    --------
    >>> from corrigible.editing import MEMIT
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> requests = [{"prompt": "The capital of {} is", "subject": s, "target_new": "Rome"} for s in ("France", "Spain")]
    >>> len(MEMIT([0, 1], n_tokens=256).propose(model, requests).touches)
    2
    """

    def __init__(
        self,
        layers: Sequence[int] | str = "auto",
        *,
        update_weight: float = 20.0,
        prefixes: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        n_tokens: int = 8192,
        ridge: float = 0.1,
        n_steps: int = 20,
        learning_rate: float = 0.5,
        weight_decay: float = 0.5,
        kl_factor: float = 0.0625,
        clamp: float = 0.75,
        cache: str | Path | None = None,
    ) -> None:
        self.layers = layers
        self.update_weight = update_weight
        self.prefixes = prefixes
        self.texts = texts
        self.n_tokens = n_tokens
        self.ridge = ridge
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.kl_factor = kl_factor
        self.clamp = clamp
        self.cache = cache

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit that makes the model give all requests' new targets.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        requests : EditRequest, mapping, or iterable of these
            What is asked.

        Returns
        -------
        Edit

        Raises
        ------
        DataError
            If a request is not valid, two conflict, or the model lacks a projection.
        """
        torch = require("torch", extra="lm", by="MEMIT")
        asked, start = check_requests(requests, by="MEMIT"), time.perf_counter()
        check_number(self.update_weight, name="update_weight", by="MEMIT", low=0.0, closed="neither")
        search, layers = search_of(self, "MEMIT"), self._layers(model)
        sites = [find_site(model, self, "MEMIT", layer) for layer in layers]
        prefixes = model_prefixes(model) if self.prefixes is None else list(self.prefixes)
        last = model.blocks[layers[-1]].name
        found = [find_value(model, r, ["", *prefixes], layers[-1], search, module=last, by="MEMIT") for r in asked]
        goals = torch.stack([v.before + v.delta for v in found])
        parts: list[Edit] = []
        try:
            for number, site in enumerate(sites):
                missing = (goals - _states(model, asked, last)) / (len(sites) - number)
                keys = torch.stack([_key(model, r, prefixes, site.layer) for r in asked]).double()
                weighted = self.update_weight * site.statistics.lifted + keys.T @ keys
                inputs = torch.linalg.solve(weighted, keys.T).T
                delta = low_rank(model, site.name, missing.T, inputs)
                parts.append(Edit("memit", {f"{site.name}.weight": delta}))
                parts[-1].apply(model)
        finally:
            for part in reversed(parts):
                part.revert(model)
        details = {
            "layers": layers,
            "seconds": round(time.perf_counter() - start, 3),
            "nll": [v.nll for v in found],
        }
        deltas = {name: delta for part in parts for name, delta in part.deltas.items()}
        return Edit("memit", deltas, [], [r.to_dict() for r in asked], details)

    def _layers(self, model: LanguageModel) -> list[int]:
        if self.layers != "auto":
            return sorted(chosen_layer(model, layer, "MEMIT") for layer in self.layers)
        last = chosen_layer(model, "auto", "MEMIT")
        return list(range(max(last - 4, 0), last + 1))


def _states(model: LanguageModel, asked: Sequence[EditRequest], block: str) -> Tensor:
    """Return what leaves a block at the subject's last token of each bare prompt, (n, n_hidden)."""
    positions = [subject_positions(model, r, [""])[0] for r in asked]
    batch = model.batch([model.encode(r.text)[: p + 1] for r, p in zip(asked, positions, strict=True)])
    _, left = model.record(batch, outputs=[block])
    return left[block][list(range(len(asked))), positions].float()


def _key(model: LanguageModel, request: EditRequest, prefixes: Sequence[str], layer: int) -> Tensor:
    """Return the mean of the bare prompt's key and of the mean of the prefixed ones."""
    keys = subject_keys(model, request, ["", *prefixes], layer, by="MEMIT").float()
    return (keys[0] + keys[1:].mean(0)) / 2 if len(keys) > 1 else keys[0]
