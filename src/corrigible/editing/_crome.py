"""C-ROME: ROME with prefixed keys throughout, and a prefix before the prompt when the model is asked.

Paper: The Fall of ROME: Understanding the Collapse of LLMs in Model Editing (Yang, Sun, Tan, Ma, Su, Yin, Shen,
Findings of EMNLP 2024).
Original: https://github.com/WanliYoung/Collapse-in-Model-Editing
"""

from __future__ import annotations

from typing import Any

from corrigible._card import Card
from corrigible.editing._rank_one import AbstractRankOne, Site, least_change
from corrigible.editing._values import Search
from corrigible.models import EditRequest, LanguageModel

CARD = Card(
    name="crome",
    kind="editor",
    obj="CROME",
    papers=("rome_collapse",),
    refs=("yang2024fall", "meng2022locating"),
    source="https://github.com/WanliYoung/Collapse-in-Model-Editing",
    differs="Prefixes and second moments as in `ROME`. The bare prompt is left out of the mean key, as the paper says; "
    "the authors' code keeps it as one of the contexts.",
    inputs="model, requests",
    stochastic=False,
    cost="As ROME",
    use_when="Prompts always stand behind other text, as in a conversation, and edits must not break the model.",
    avoid_when="The bare prompt must give the new answer too, and opens with the subject: use RROME(keys='both').",
    test_params=({"n_tokens": 256},),
    requires=("lm",),
)


class CROME(AbstractRankOne):
    """Edit facts by rank-one changes whose key is the mean over prefixed prompts, for prompts behind a prefix.

    Parameters
    ----------
    layer, prefixes, texts, n_tokens, ridge, n_steps, learning_rate, weight_decay, kl_factor, clamp, cache
        As in `ROME`.

    See Also
    --------
    RROME : Keeps the bare prompt among the contexts.

    Notes
    -----
    The first token of a text has a key of its own in autoregressive models. Where the subject opens the prompt, ROME's
    direction (of the mean key) and divisor (of the bare key) are then nearly orthogonal, and the change becomes huge.
    With the mean of the prefixed keys in both places it does not; the model is to be asked behind `prefix`, too.

    References
    ----------
    .. [1] Yang, W. et al. (2024). The Fall of ROME: Understanding the Collapse of LLMs in Model Editing. EMNLP Findings.

    Examples
    --------
    >>> from corrigible.editing import CROME
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> editor = CROME(n_tokens=256)
    >>> asked, target = [editor.prefix(model) + "The capital of France is"], [" Rome"]
    >>> before = model.log_probs(asked, target)[0].sum()
    >>> editor.propose(model, request).apply(model)
    >>> bool(model.log_probs(asked, target)[0].sum() > before)
    True
    """

    card_name = "crome"

    def prefix(self, model: LanguageModel) -> str:
        """Return the text to put before a prompt when the edited model is asked.

        Parameters
        ----------
        model : LanguageModel
            The model before the edit.
        """
        return self._prefixes(model)[0]

    def _write(
        self, model: LanguageModel, request: EditRequest, site: Site, search: Search
    ) -> tuple[Any, dict[str, Any]]:
        found = self._value(model, request, self._prefixes(model), site, search)
        key = found.keys.mean(0, keepdim=True)
        return least_change(model, site, key, found.delta[None]), {"nll": found.nll, "steps": found.steps}
