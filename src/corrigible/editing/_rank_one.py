"""What ROME and its repairs share: one edit a request, each on the model that holds the earlier ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from corrigible._utils.optional import require
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._key_statistics import KeyStatistics, key_statistics
from corrigible.editing._values import Search, Value, find_value, low_rank, model_prefixes
from corrigible.errors import InvalidParameterError
from corrigible.models import Edit, EditRequest, LanguageModel, LowRank, check_requests, joined

Tensor = Any
# Of the depth: where ROME's authors found subjects to be recalled (layer 17 of 48, 5 of 28).
_DEPTH = 0.3


@dataclass(frozen=True)
class Site:
    """Where an edit goes: block, name of its projection, and the statistics of what enters it."""

    layer: int
    name: str
    statistics: KeyStatistics


class AbstractRankOne(BaseEstimator):
    """An editor that adds matrices of low rank to the projection that ends one block's feed-forward module."""

    card_name: ClassVar[str] = ""

    def __init__(
        self,
        layer: int | str = "auto",
        *,
        prefixes: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        n_tokens: int = 8192,
        ridge: float = 0.1,
        n_steps: int = 20,
        learning_rate: float = 0.5,
        weight_decay: float = 0.5,
        kl_factor: float = 0.0625,
        clamp: float = 4.0,
        cache: str | Path | None = None,
    ) -> None:
        self.layer = layer
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
        """Return the edit that makes the model give each request's new target.

        Requests are taken one after another: each is computed on the model that holds those before it.

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
            If a request is not valid, two conflict, or the model lacks the projection.
        """
        by = type(self).__name__
        asked, start = check_requests(requests, by=by), time.perf_counter()
        search = self._search(by)
        site = find_site(model, self, by)
        done: list[Edit] = []
        try:
            for request in asked:
                deltas, told = self._write(model, request, site, search)
                edit = Edit(
                    self.card_name, {f"{site.name}.weight": deltas}, requests=[request.to_dict()], details=told
                )
                edit.apply(model)
                done.append(edit)
        finally:
            for edit in reversed(done):
                edit.revert(model)
        details = {
            "layer": site.layer,
            "seconds": round(time.perf_counter() - start, 3),
            "statistics_tokens": site.statistics.n_tokens,
            "requests": [e.details for e in done],
        }
        return joined(self.card_name, done, details)

    def _write(
        self, model: LanguageModel, request: EditRequest, site: Site, search: Search
    ) -> tuple[Any, dict[str, Any]]:
        """Return the delta of the projection for one request, and what is to be told of it."""
        raise NotImplementedError

    def _search(self, by: str) -> Search:
        check_number(self.ridge, name="ridge", by=by, low=0.0, closed="neither")
        check_count(self.n_tokens, name="n_tokens", by=by)
        return search_of(self, by)

    def _prefixes(self, model: LanguageModel) -> list[str]:
        return model_prefixes(model) if self.prefixes is None else list(self.prefixes)

    def _value(
        self, model: LanguageModel, request: EditRequest, prefixes: Sequence[str], site: Site, search: Search
    ) -> Value:
        by = type(self).__name__
        return find_value(model, request, prefixes, site.layer, search, module=site.name, by=by)


def search_of(editor: Any, by: str) -> Search:
    """Return the settings of the value's search that an editor's parameters of these names say, checked."""
    check_count(editor.n_steps, name="n_steps", by=by)
    check_number(editor.learning_rate, name="learning_rate", by=by, low=0.0, high=1e3, closed="right")
    for name in ("weight_decay", "kl_factor"):
        check_number(getattr(editor, name), name=name, by=by, low=0.0, high=1e6)
    check_number(editor.clamp, name="clamp", by=by, low=0.0, closed="right")
    return Search(editor.n_steps, editor.learning_rate, editor.weight_decay, editor.kl_factor, editor.clamp)


def chosen_layer(model: LanguageModel, layer: int | str, by: str) -> int:
    """Return the block that an editor's parameter `layer` names: a number, or ``"auto"``."""
    if layer == "auto":
        return round(_DEPTH * (model.n_layers - 1))
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < model.n_layers:
        raise InvalidParameterError(
            f"The 'layer' parameter of {by} must be 'auto' or a block's number, 0 to {model.n_layers - 1}. Got {layer!r}."
        )
    return layer


def find_site(model: LanguageModel, editor: Any, by: str, layer: int | None = None) -> Site:
    """Return where an editor writes, with the statistics of what enters there."""
    layer = chosen_layer(model, editor.layer, by) if layer is None else layer
    statistics = key_statistics(
        model, layer, by=by, texts=editor.texts, n_tokens=editor.n_tokens, ridge=editor.ridge, cache=editor.cache
    )
    return Site(layer, model.down(layer, by=by), statistics)


def least_change(
    model: LanguageModel, site: Site, keys: Tensor, changes: Tensor, *, directions: Tensor | None = None
) -> LowRank:
    """Return the least change of a projection, measured by its inputs' second moment C, that moves its outputs.

    With keys as columns of K and wanted changes as those of D it is ``D (K' C^-1 K)^-1 K' C^-1``.

    Parameters
    ----------
    model : LanguageModel
        The model.
    site : Site
        The projection and C.
    keys, changes : tensor of shape (n, n_inputs) and (n, n_outputs)
        Inputs, and what is added to their outputs.
    directions : tensor of shape (n, n_inputs), optional
        Keys that take the place of K in ``K' C^-1``: ROME's code has others there.
    """
    torch = require("torch", extra="lm", by="A rank-one edit")
    u = site.statistics.solve(keys if directions is None else directions)
    gram = keys.double() @ u
    # Two contexts whose keys hardly differ would ask for the impossible: a little give keeps the change small.
    gram = gram + 1e-6 * gram.diagonal().abs().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return low_rank(model, site.name, changes.T, torch.linalg.solve(gram, u.T))
