"""Constrained fine-tuning: gradient steps on one projection, no weight moving farther than allowed.

Paper: Modifying Memories in Transformer Models (Zhu, Rawat, Zaheer, Bhojanapalli, Li, Yu, Kumar, 2020); the form for one
layer is that of Locating and Editing Factual Associations in GPT (Meng et al., NeurIPS 2022), called FT+L there.
Original: https://github.com/kmeng01/rome (baselines/ft)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._utils.optional import require
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._rank_one import chosen_layer
from corrigible.editing._trained_delta import train_delta
from corrigible.models import Dense, Edit, LanguageModel, check_requests
from corrigible.models._lm_structure import stores_inputs_first

CARD = Card(
    name="fine_tune",
    kind="editor",
    obj="FineTune",
    papers=(),
    refs=("zhu2020modifying", "meng2022locating"),
    source="https://github.com/kmeng01/rome",
    differs="Trains a delta beside frozen weights, which is the same. The drift of what follows '{subject} is a' can be "
    "weighted in; the paper's loss is the target's alone, the default here.",
    inputs="model, requests",
    stochastic=False,
    cost="n_steps passes, forward and backward, through the blocks from the changed one on",
    use_when="A baseline is wanted that any editor must beat.",
    avoid_when="Facts must be mended: within a tight bound the target is often not reached.",
    requires=("lm",),
)


class FineTune(BaseEstimator):
    """Edit facts by gradient steps on one feed-forward projection, each weight kept within a bound of its old value.

    Parameters
    ----------
    layer : int or "auto"
        Block whose projection is trained; ``"auto"`` is at three tenths of the depth.
    bound : float
        Largest change of a weight.
    n_steps, learning_rate : int, float
        Of Adam.
    kl_factor : float
        Weight of the drift of what follows ``{subject} is a``.
    stop : float
        Mean negative log probability of a target token, in nats, at which training ends.
    prefixes : sequence of str
        Texts that the prompt is put behind; the bare prompt alone by default.

    See Also
    --------
    LoRAEdit : Changes of low rank, without a bound.

    References
    ----------
    .. [1] Zhu, C. et al. (2020). Modifying Memories in Transformer Models. arXiv:2012.00363.

    Examples
    --------
    >>> from corrigible.editing import FineTune
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> edit = FineTune(bound=0.01).propose(model, request)
    >>> bool(edit.deltas["model.layers.1.mlp.down_proj.weight"].delta.abs().max() <= 0.01)
    True
    """

    def __init__(
        self,
        layer: int | str = "auto",
        *,
        bound: float = 5e-3,
        n_steps: int = 25,
        learning_rate: float = 2e-3,
        kl_factor: float = 0.0,
        stop: float = 0.01,
        prefixes: Sequence[str] = ("",),
    ) -> None:
        self.layer = layer
        self.bound = bound
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.kl_factor = kl_factor
        self.stop = stop
        self.prefixes = prefixes

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
            If a request is not valid, two conflict, or the model lacks the projection.
        """
        torch = require("torch", extra="lm", by="FineTune")
        asked, start = check_requests(requests, by="FineTune"), time.perf_counter()
        check_number(self.bound, name="bound", by="FineTune", low=0.0, closed="neither")
        check_count(self.n_steps, name="n_steps", by="FineTune")
        check_number(self.learning_rate, name="learning_rate", by="FineTune", low=0.0, high=1e3, closed="right")
        layer = chosen_layer(model, self.layer, "FineTune")
        name = model.down(layer, by="FineTune")
        part = model.part(name)
        delta = torch.zeros_like(part.weight, dtype=torch.float32, requires_grad=True)

        def change(entered: Any) -> Any:
            return entered.float() @ (delta if stores_inputs_first(part) else delta.T)

        nll, steps = train_delta(
            model, asked, list(self.prefixes), [layer], {name: change}, [delta], n_steps=self.n_steps,
            learning_rate=self.learning_rate, kl_factor=self.kl_factor, stop=self.stop,
            after_step=lambda: delta.clamp_(-self.bound, self.bound), by="FineTune",
        )  # fmt: skip
        details = {"layer": layer, "seconds": round(time.perf_counter() - start, 3), "nll": nll, "steps": steps}
        return Edit(
            "fine_tune", {f"{name}.weight": Dense(delta.detach())}, [], [r.to_dict() for r in asked], details
        )
