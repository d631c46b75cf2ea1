"""Edits one after another, with perplexity watched, and the knee at which the model starts to break.

Papers: The Butterfly Effect of Model Editing: Few Edits Can Trigger Large Language Models Collapse (Yang, Sun, Ma, Liu,
Yin, Cheng, Findings of ACL 2024); Model Editing at Scale leads to Gradual and Catastrophic Forgetting (Gupta, Rao,
Anumanchipalli, Findings of ACL 2024).
Original: https://github.com/WanliYoung/Collapse-in-Model-Editing
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from corrigible._card import Card
from corrigible._core.reference_texts import reference_texts
from corrigible._utils.validation import check_count, check_number, check_vector
from corrigible.models import Edit, LanguageModel, check_requests

CARD = Card(
    name="edit_sequence",
    kind="measure",
    obj="edit_sequence",
    also=("EditSequence", "forgetting_knee", "ForgettingKnee"),
    papers=("butterfly", "edit_scale"),
    refs=("yang2024butterfly", "gupta2024scale"),
    source="https://github.com/WanliYoung/Collapse-in-Model-Editing",
    differs="Perplexity is taken on passages of Python's documentation by default instead of ME-PPL, and a sequence stops "
    "when it has risen by a tenth; the paper calls a model collapsed above 1,000. The knee is where two straight lines "
    "fit the logarithm of the curve best; the paper reads it off a plot.",
    inputs="model, editor, requests",
    stochastic=False,
    cost="A proposal and n_texts short passages a request",
    use_when="Facts are edited into the weights one after another and it must be seen in time when that goes wrong.",
    avoid_when="The editor leaves the weights alone, as GRACE does: nothing accumulates.",
    requires=("lm",),
)


@dataclass(frozen=True, eq=False)
class EditSequence:
    """Outcome of `edit_sequence`; the kept edits are applied to the model.

    Attributes
    ----------
    edits : list of Edit
        Those that were kept, in order.
    perplexity : list of float
        Mean perplexity of the passages: before, and after each edit tried.
    stopped : int or None
        Number of the request at which the limit was passed; its edit is not kept. None if all went well.
    """

    edits: list[Edit] = field(repr=False)
    perplexity: list[float]
    stopped: int | None

    @property
    def ratio(self) -> float:
        """Perplexity with the kept edits over that before."""
        return self.perplexity[len(self.edits)] / self.perplexity[0]

    def revert(self, model: LanguageModel) -> None:
        """Take the kept edits off the model.

        Parameters
        ----------
        model : LanguageModel
            Changed in place.
        """
        for edit in reversed(self.edits):
            edit.revert(model)


@dataclass(frozen=True)
class ForgettingKnee:
    """Outcome of `forgetting_knee`.

    Attributes
    ----------
    knee : int
        Number of edits at which the second line begins.
    slope_before, slope_after : float
        Rise of the logarithm an edit, before and after.
    abrupt : bool
        Whether the second line rises at least five times as fast as the first, and by a tenth in all.
    """

    knee: int
    slope_before: float
    slope_after: float
    abrupt: bool


def edit_sequence(
    model: LanguageModel,
    editor: Any,
    requests: Any,
    *,
    limit: float = 1.1,
    texts: Sequence[str] | None = None,
    n_texts: int = 8,
    max_tokens: int = 64,
    after_each: Callable[[int, Edit], None] | None = None,
) -> EditSequence:
    """Edit one request after another, and stop when perplexity says that the model starts to break.

    Parameters
    ----------
    model : LanguageModel
        Changed in place; `EditSequence.revert` takes it back.
    editor : editor
        With ``propose``.
    requests : iterable of EditRequest or mapping
        In order.
    limit : float
        Largest ratio of mean perplexity to that before the first edit; ``inf`` never stops.
    texts : sequence of str, optional
        Passages to take perplexity of; by default some of Python's documentation.
    n_texts, max_tokens : int
        Passages, and tokens of each.
    after_each : callable, optional
        Called with the number and the edit after each one that is kept.

    Returns
    -------
    EditSequence

    References
    ----------
    .. [1] Yang, W. et al. (2024). The Butterfly Effect of Model Editing: Few Edits Can Trigger Large Language Models
       Collapse. ACL Findings.

    Examples
    --------
    >>> from corrigible.editing import FineTune, edit_sequence
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> asked = [{"prompt": "The capital of {} is", "subject": s, "target_new": "Rome"} for s in ("France", "Spain")]
    >>> found = edit_sequence(model, FineTune(), asked, limit=2.0)
    >>> len(found.edits), found.stopped
    (2, None)
    """
    asked = check_requests(requests, by="edit_sequence")
    check_number(limit, name="limit", by="edit_sequence", low=1.0)
    check_count(n_texts, name="n_texts", by="edit_sequence")
    passages = list(texts)[:n_texts] if texts is not None else reference_texts(n_texts, held_out=True)

    def surrogate() -> float:
        return float(model.perplexities(passages, max_tokens=max_tokens).mean())

    curve = [surrogate()]
    kept: list[Edit] = []
    for number, request in enumerate(asked):
        edit = editor.propose(model, request)
        edit.apply(model)
        curve.append(surrogate())
        if not curve[-1] <= limit * curve[0]:  # NaN is over any limit
            edit.revert(model)
            return EditSequence(kept, curve, number)
        kept.append(edit)
        if after_each is not None:
            after_each(number, edit)
    return EditSequence(kept, curve, None)


def forgetting_knee(perplexity: ArrayLike) -> ForgettingKnee:
    """Return where a curve of perplexity over edits turns from gradual to abrupt forgetting.

    The logarithm is fitted by two straight lines that meet; the break is the one of least squared error.

    Parameters
    ----------
    perplexity : array-like of shape (n_edits + 1,)
        Before the first edit, and after each; five points at least.

    Returns
    -------
    ForgettingKnee

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.editing import forgetting_knee
    >>> edits = np.arange(41)
    >>> forgetting_knee(np.exp(0.001 * edits + 0.3 * np.maximum(edits - 25, 0))).knee
    25
    """
    curve = check_vector(perplexity, name="perplexity", by="forgetting_knee", minimum=0.0)
    check_count(len(curve), name="perplexity", by="forgetting_knee", low=5)
    y, x = np.log(np.maximum(curve, 1e-300)), np.arange(len(curve), dtype=float)

    def fit(at: int) -> tuple[float, Any]:
        design = np.column_stack([np.ones_like(x), x, np.maximum(x - at, 0.0)])
        found = np.linalg.lstsq(design, y, rcond=None)[0]
        return float(((design @ found - y) ** 2).sum()), found

    knee = min(range(1, len(curve) - 2), key=lambda at: fit(at)[0])
    _, (_, before, more) = fit(knee)
    after, rise = before + more, (before + more) * (len(curve) - 1 - knee)
    return ForgettingKnee(
        knee, float(before), float(after), bool(after >= 5 * max(before, 0.0) and rise >= np.log(1.1))
    )
