"""ROME: one rank-one change of a feed-forward projection that stores a fact.

Paper: Locating and Editing Factual Associations in GPT (Meng, Bau, Andonian, Belinkov, NeurIPS 2022).
Original: https://github.com/kmeng01/rome
"""

from __future__ import annotations

from typing import Any

from corrigible._card import Card
from corrigible.editing._rank_one import AbstractRankOne, Site, least_change
from corrigible.editing._values import Search
from corrigible.models import EditRequest, LanguageModel

CARD = Card(
    name="rome",
    kind="editor",
    obj="ROME",
    papers=(),
    refs=("meng2022locating",),
    source="https://github.com/kmeng01/rome",
    differs="The five prefixes are the model's own greedy sentences instead of twenty sampled ones. Second moments are "
    "taken of a few thousand tokens with a ridge instead of 100,000 Wikipedia articles. As in the authors' code, the "
    "divisor is the key of the bare prompt and the direction that of the mean key; the paper has the mean key in both "
    "places, which is `RROME`.",
    inputs="model, requests",
    stochastic=False,
    cost="One pass over n_tokens a layer and model, kept in a file; then 20 passes through the later blocks a fact",
    use_when="Results of the published code are to be repeated.",
    avoid_when="Edits are to be kept: single edits can break the model when the subject opens the prompt. Use RROME.",
    test_params=({"n_tokens": 256},),
    requires=("lm",),
)


class ROME(AbstractRankOne):
    """Edit facts by rank-one changes of one feed-forward projection, as ROME's published code does.

    Parameters
    ----------
    layer : int or "auto"
        Block whose projection is changed; ``"auto"`` is at three tenths of the depth.
    prefixes : sequence of str, optional
        Texts that the prompt is also put behind; by default five sentences that the model says itself.
    texts : sequence of str, optional
        Text to take second moments of; by default passages of Python's documentation.
    n_tokens : int
        Tokens of it, at most.
    ridge : float
        Added to the moments' diagonal, in units of its mean.
    n_steps, learning_rate : int, float
        Of Adam, in the search of the value.
    weight_decay, kl_factor : float
        Weights of the value's norm, and of the drift of what follows ``{subject} is a``.
    clamp : float
        Largest norm of the value's change, in norms of the value.
    cache : path, optional
        Where moments are kept; see `corrigible.models.cache_folder`.

    See Also
    --------
    RROME : With one key in both places.
    CROME : With prefixed keys alone.

    Notes
    -----
    The projection W gets ``delta u' / (u'k)`` added, with ``u = C^-1 k*``. ``k*`` is the mean over contexts of the
    projection's input at the subject's last token, ``k`` that input in the bare prompt, C the second moment of inputs,
    and ``delta`` what must be added to the output at that token to make the target probable.

    References
    ----------
    .. [1] Meng, K. et al. (2022). Locating and Editing Factual Associations in GPT. NeurIPS.

    Examples
    --------
    >>> from corrigible.editing import ROME
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> edit = ROME(n_tokens=256).propose(model, request)
    >>> edit.touches
    ('model.layers.1.mlp.down_proj.weight',)
    """

    card_name = "rome"

    def _write(
        self, model: LanguageModel, request: EditRequest, site: Site, search: Search
    ) -> tuple[Any, dict[str, Any]]:
        found = self._value(model, request, ["", *self._prefixes(model)], site, search)
        direction = found.keys.mean(0, keepdim=True)
        delta = least_change(model, site, found.keys[:1], found.delta[None], directions=direction)
        return delta, {"nll": found.nll, "steps": found.steps}
