"""r-ROME: ROME with one definition of the key, so that edits in sequence do not break the model.

Paper: Rebuilding ROME: Resolving Model Collapse during Sequential Model Editing (Gupta, Baskaran, Anumanchipalli,
EMNLP 2024).
Original: https://github.com/scalable-model-editing/rebuilding-rome
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corrigible._card import Card
from corrigible._core.answers import names
from corrigible._utils.optional import require
from corrigible._utils.validation import check_choice, check_count
from corrigible.editing._rank_one import AbstractRankOne, Site, least_change
from corrigible.editing._values import Search, subject_keys
from corrigible.models import Dense, Edit, EditRequest, LanguageModel, LowRank, joined
from corrigible.models._lm_structure import sizes

CARD = Card(
    name="r_rome",
    kind="editor",
    obj="RROME",
    papers=("r_rome",),
    refs=("gupta2024rebuilding", "meng2022locating"),
    source="https://github.com/scalable-model-editing/rebuilding-rome",
    differs="Prefixes and second moments as in `ROME`. The keys 'both', and rounds beyond the first, are ours.",
    inputs="model, requests",
    stochastic=False,
    cost="As ROME; with keys='both' twice that a round, and a few generated tokens",
    use_when="Facts of a language model are to be corrected in its weights, one or many after another.",
    avoid_when="Nothing else may move at all, or thousands of facts are to be changed: use GRACE.",
    test_params=({"n_tokens": 256}, {"n_tokens": 256, "keys": "both", "rounds": 2}),
    requires=("lm",),
)
_CHECK = "It is known that "


class RROME(AbstractRankOne):
    """Edit facts by rank-one changes with the same key throughout, checked by what the model then says.

    Parameters
    ----------
    layer : int or "auto"
        Block whose projection is changed; ``"auto"`` is at three tenths of the depth.
    keys : {"mean", "both"}
        ``"mean"`` is the paper's: one key, the mean over all contexts. ``"both"`` fixes two, that of the bare prompt
        and the mean of the prefixed ones: where the subject opens the prompt these point elsewhere, and the mean
        reaches only one.
    rounds : int
        After each round the model is asked, bare and behind a prefix that no search has seen; while an answer does not
        begin with the target, a further round corrects what is left, with half the loss to stop at.
    prefixes, texts, n_tokens, ridge, n_steps, learning_rate, weight_decay, kl_factor, clamp, cache
        As in `ROME`.

    See Also
    --------
    ROME : The published code, for comparison.
    GRACE : Leaves the weights alone.

    Notes
    -----
    With keys as the columns of K and the changes wanted of the outputs as those of D, the projection gets
    ``D (K' C^-1 K)^-1 K' C^-1`` added: the least change, measured by C, that does what is wanted. For one key this is
    r-ROME's ``delta (C^-1 k)' / (k' C^-1 k)``.

    References
    ----------
    .. [1] Gupta, A. et al. (2024). Rebuilding ROME: Resolving Model Collapse during Sequential Model Editing. EMNLP.

    Examples
    --------
    >>> from corrigible.editing import RROME
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> edit = RROME(n_tokens=256).propose(model, request)
    >>> before = model.log_probs(["The capital of France is"], [" Rome"])[0].sum()
    >>> edit.apply(model)
    >>> bool(model.log_probs(["The capital of France is"], [" Rome"])[0].sum() > before)
    True
    """

    card_name = "r_rome"

    def __init__(
        self,
        layer: int | str = "auto",
        *,
        keys: str = "mean",
        rounds: int = 1,
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
        super().__init__(
            layer, prefixes=prefixes, texts=texts, n_tokens=n_tokens, ridge=ridge, n_steps=n_steps,
            learning_rate=learning_rate, weight_decay=weight_decay, kl_factor=kl_factor, clamp=clamp, cache=cache,
        )  # fmt: skip
        self.keys = keys
        self.rounds = rounds

    def _search(self, by: str) -> Search:
        check_choice(self.keys, ("mean", "both"), name="keys", by=by)
        check_count(self.rounds, name="rounds", by=by)
        return super()._search(by)

    def _write(
        self, model: LanguageModel, request: EditRequest, site: Site, search: Search
    ) -> tuple[LowRank | Dense, dict[str, Any]]:
        weight, prefixes = f"{site.name}.weight", self._prefixes(model)
        groups = [["", *prefixes]] if self.keys == "mean" else [[""], prefixes]
        failing, parts, nll = list(range(len(groups))), [], 0.0
        try:
            for number in range(self.rounds):
                stricter = replace(search, stop=search.stop * 0.5**number)
                delta, nll = self._round(model, request, groups, failing, site, stricter)
                parts.append(Edit(self.card_name, {weight: delta}))
                parts[-1].apply(model)
                if number + 1 == self.rounds:
                    break
                failing, request = self._failing(model, request)
                if not failing:
                    break
        finally:
            for part in reversed(parts):
                part.revert(model)
        return joined(self.card_name, parts).deltas[weight], {"nll": nll, "rounds": len(parts)}

    def _round(
        self,
        model: LanguageModel,
        request: EditRequest,
        groups: Any,
        failing: list[int],
        site: Site,
        search: Search,
    ) -> tuple[LowRank | Dense, float]:
        """Return the least change that gives the failing groups their values and leaves the others'."""
        torch = require("torch", extra="lm", by="RROME")
        keys, changes, worst = [], [], 0.0
        for number, prefixes in enumerate(groups):
            if number in failing:
                found = self._value(model, request, prefixes, site, search)
                keys.append(found.keys.mean(0))
                changes.append(found.delta)
                worst = max(worst, found.nll)
            else:
                keys.append(subject_keys(model, request, prefixes, site.layer, by="RROME").mean(0).float())
                changes.append(torch.zeros(sizes(model.part(site.name))[1]))
        return least_change(model, site, torch.stack(keys), torch.stack(changes)), worst

    def _failing(self, model: LanguageModel, request: EditRequest) -> tuple[list[int], EditRequest]:
        """Return the groups in which the model does not begin with the target, and what to ask for next.

        Where it writes on in the target's last word, as 255 for 25, the target gets a full stop.
        """
        n = len(model.encode(request.answer, start=False)) + 1
        said = model.generate([request.text, _CHECK + request.text], max_new_tokens=n)
        wrong = [i for i, text in enumerate(said) if not names(text, request.target_new, at_once=True)]
        on = any(said[i].strip().startswith(request.target_new.strip()) for i in wrong)
        if on and not request.target_new.endswith("."):
            request = replace(request, target_new=request.target_new.rstrip() + ".")
        return (wrong if self.keys == "both" else wrong[:1] and [0]), request
