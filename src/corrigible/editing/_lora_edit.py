"""LoRA as an editor: changes of low rank, trained on the targets of the requests.

Paper: LoRA: Low-Rank Adaptation of Large Language Models (Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, ICLR 2022);
as an editor in Editing Large Language Models: Problems, Methods, and Opportunities (Yao et al., EMNLP 2023).
Original: https://github.com/microsoft/LoRA
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._rank_one import chosen_layer
from corrigible.editing._trained_delta import train_delta
from corrigible.editing._values import low_rank, model_prefixes
from corrigible.models import Edit, LanguageModel, check_requests
from corrigible.models._lm_structure import sizes

CARD = Card(
    name="lora_edit",
    kind="editor",
    obj="LoRAEdit",
    papers=(),
    refs=("hu2022lora", "yao2023editing"),
    source="https://github.com/microsoft/LoRA",
    differs="The feed-forward projections are adapted, not the attention's. Prompts stand bare and behind the model's own "
    "sentences, and the drift of what follows '{subject} is a' is weighted in, as ROME has it.",
    inputs="model, requests",
    stochastic=True,
    cost="n_steps passes, forward and backward, through the blocks from the first changed one on",
    use_when="Several facts are to be trained in at once, and a file of low rank is wanted.",
    avoid_when="Other subjects must not move: nothing but the drift of the subject holds the model.",
    requires=("lm",),
)


class LoRAEdit(BaseEstimator):
    """Edit facts by low-rank changes of feed-forward projections, trained on the targets.

    Parameters
    ----------
    layers : sequence of int or "auto"
        Blocks whose projections are changed; ``"auto"`` is the one at three tenths of the depth.
    rank : int
        Of each change.
    n_steps, learning_rate : int, float
        Of Adam.
    kl_factor : float
        Weight of the drift of what follows ``{subject} is a``.
    stop : float
        Mean negative log probability of a target token, in nats, at which training ends.
    prefixes : sequence of str, optional
        Texts that the prompt is put behind; by default none and five sentences that the model says itself.
    random_state : None, int, Generator or RandomState
        Source of the start of the inner factor; the outer one starts at 0.

    See Also
    --------
    FineTune : All weights of one projection, within a bound.

    References
    ----------
    .. [1] Hu, E. J. et al. (2022). LoRA: Low-Rank Adaptation of Large Language Models. ICLR.

    Examples
    --------
    >>> from corrigible.editing import LoRAEdit
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> edit = LoRAEdit(rank=2, random_state=0).propose(model, request)
    >>> edit.diff(model)[0].rank
    2
    """

    def __init__(
        self,
        layers: Sequence[int] | str = "auto",
        *,
        rank: int = 4,
        n_steps: int = 40,
        learning_rate: float = 0.02,
        kl_factor: float = 0.0625,
        stop: float = 0.05,
        prefixes: Sequence[str] | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.layers = layers
        self.rank = rank
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.kl_factor = kl_factor
        self.stop = stop
        self.prefixes = prefixes
        self.random_state = random_state

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit that training on all requests together gives.

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
        torch = require("torch", extra="lm", by="LoRAEdit")
        asked, start = check_requests(requests, by="LoRAEdit"), time.perf_counter()
        check_count(self.rank, name="rank", by="LoRAEdit")
        check_count(self.n_steps, name="n_steps", by="LoRAEdit")
        check_number(self.learning_rate, name="learning_rate", by="LoRAEdit", low=0.0, high=1e3, closed="right")
        chosen: list[int | str] = ["auto"] if self.layers == "auto" else list(self.layers)
        layers = [chosen_layer(model, layer, "LoRAEdit") for layer in chosen]
        source = torch.Generator().manual_seed(integer_seed(as_generator(self.random_state)))
        factors = {}
        for layer in layers:
            name = model.down(layer, by="LoRAEdit")
            n_in, n_out = sizes(model.part(name))
            inner = torch.randn(self.rank, n_in, generator=source) / n_in**0.5
            factors[name] = (torch.zeros(n_out, self.rank, requires_grad=True), inner.requires_grad_())
        changes = {n: lambda x, outer=b, inner=a: x.float() @ inner.T @ outer.T for n, (b, a) in factors.items()}
        prefixes = ["", *model_prefixes(model)] if self.prefixes is None else list(self.prefixes)
        nll, steps = train_delta(
            model, asked, prefixes, layers, changes, [t for pair in factors.values() for t in pair], n_steps=self.n_steps,
            learning_rate=self.learning_rate, kl_factor=self.kl_factor, stop=self.stop, after_step=lambda: None,
            by="LoRAEdit",
        )  # fmt: skip
        deltas = {f"{n}.weight": low_rank(model, n, b.detach(), a.detach()) for n, (b, a) in factors.items()}
        details = {"layers": layers, "seconds": round(time.perf_counter() - start, 3), "nll": nll, "steps": steps}
        return Edit("lora_edit", dict(deltas), [], [r.to_dict() for r in asked], details)
