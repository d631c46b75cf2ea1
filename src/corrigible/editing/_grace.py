"""GRACE: a codebook of keys and values in front of one block, which leaves the weights alone.

Paper: Aging with GRACE: Lifelong Model Editing with Discrete Key-Value Adaptors (Hartvigsen, Sankaranarayanan,
Palangi, Kim, Ghassemi, NeurIPS 2023).
Original: https://github.com/Thartvigsen/GRACE
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._core.answers import names
from corrigible._utils.optional import require
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.editing._rank_one import chosen_layer
from corrigible.editing._values import Search, Value, find_value
from corrigible.models import AbstractAdaptor, Edit, EditRequest, LanguageModel, check_requests

CARD = Card(
    name="grace",
    kind="editor",
    obj="GRACE",
    also=("Codebook",),
    papers=("grace",),
    refs=("hartvigsen2023aging",),
    source="https://github.com/Thartvigsen/GRACE",
    differs="Every token's state is looked up, not only that of a token named by the caller, so that the edit holds in "
    "generation. The value replaces the output at the key's token alone ('replace_last' of the authors' code) and "
    "starts from that output instead of noise. The radius is in units of the key's norm by default. Keys at the "
    "subject's last token are ours.",
    inputs="model, requests",
    stochastic=False,
    cost="Up to n_steps passes through the later blocks a fact; one distance a token and key in use",
    use_when="Many errors are to be mended one after another, and nothing unrelated may move, not by a bit.",
    avoid_when="Paraphrases must get the new answer too: a key lies close to its own prompt alone.",
    test_params=({}, {"key": "subject"}),
    requires=("lm",),
)

Tensor = Any
_DEPTH = 0.6


@dataclass(eq=False)
class Codebook(AbstractAdaptor):
    """Keys, values and radii in front of a block: where a token's state lies near a key, its output is the value.

    Attributes
    ----------
    name : str
        Of the block in the network.
    keys : tensor of shape (n, n_hidden)
        States that enter the block.
    values : tensor of shape (n, n_hidden)
        What then leaves it.
    radii : tensor of shape (n,)
        Largest distance at which a key holds.
    labels : list of str
        Targets.
    """

    kind: ClassVar[str] = "codebook"
    name: str
    keys: Tensor
    values: Tensor
    radii: Tensor
    labels: list[str] = field(default_factory=list)

    def nearest(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to, and the number of, the key nearest to each of the states (n, n_hidden)."""
        torch = require("torch", extra="lm", by="GRACE")
        distances = torch.cdist(states.double(), self.keys.double(), compute_mode="donot_use_mm_for_euclid_dist")
        return distances.min(dim=1)

    def attach(self, module: Any) -> Callable[[], None]:
        """Hook onto the block."""
        hook = module.get_submodule(self.name).register_forward_hook(self._replace, with_kwargs=True)
        return hook.remove  # type: ignore[no-any-return]

    def _replace(self, _: Any, args: Any, kwargs: Any, out: Any) -> Any:
        entered = args[0] if args else kwargs["hidden_states"]
        near = self._candidates(entered)
        if not len(near):
            return out
        states = out[0] if isinstance(out, tuple) else out
        distances, which = self.nearest(entered[near[:, 0], near[:, 1]])
        held = distances <= self.radii[which]
        if not bool(held.any()):
            return out
        states, near = states.clone(), near[held]
        states[near[:, 0], near[:, 1]] = self.values[which[held]].to(states.dtype)
        return (states, *out[1:]) if isinstance(out, tuple) else states

    def _candidates(self, entered: Tensor) -> Tensor:
        """Return (row, position) of states that may lie near a key: one matrix product, with room for its rounding."""
        keys = self.keys.to(entered.dtype)
        size, own = (entered * entered).sum(-1, keepdim=True), (keys * keys).sum(-1)
        squares = size + own - 2 * (entered @ keys.T)
        slack = (1e-5 if entered.element_size() == 4 else 0.05) * (size + own)
        return (squares <= self.radii.to(entered.dtype) ** 2 + slack).any(-1).nonzero()

    def touches(self) -> tuple[str, ...]:
        """Return the block's name."""
        return (self.name,)

    def tensors(self) -> dict[str, Tensor]:
        """Return keys, values and radii."""
        return {"keys": self.keys, "values": self.values, "radii": self.radii}

    def config(self) -> dict[str, Any]:
        """Return the block's name and the labels."""
        return {"name": self.name, "labels": self.labels}

    @classmethod
    def build(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> Codebook:
        """Return the codebook of stored tensors."""
        return cls(config["name"], tensors["keys"], tensors["values"], tensors["radii"], config["labels"])

    def add(self, key: Tensor, value: Tensor, radius: float, label: str) -> None:
        """Append an entry."""
        torch = require("torch", extra="lm", by="GRACE")
        self.keys = torch.cat([self.keys, key[None]])
        self.values = torch.cat([self.values, value[None]])
        self.radii = torch.cat([self.radii, torch.tensor([radius], dtype=self.radii.dtype)])
        self.labels.append(label)


class GRACE(BaseEstimator):
    """Edit answers by a codebook that replaces a block's output where the input lies near a stored key.

    Parameters
    ----------
    layer : int or "auto"
        Block; ``"auto"`` is at six tenths of the depth.
    key : {"last", "subject"}
        Token whose state is the key: the prompt's last, as in the paper, or the subject's last, which all prompts share
        that are alike up to there.
    epsilon : float
        Radius of a new key.
    relative : bool
        Whether `epsilon` is in units of the key's norm; if not, it is a distance, as in the paper.
    n_steps : int
        Steps of Adam that train a value.
    learning_rate : float
        Step size.

    See Also
    --------
    RROME : Changes weights, and reaches paraphrases.

    Notes
    -----
    A request whose state lies farther than ``epsilon`` beyond every radius gets an entry of its own. Within, and with
    the same target, the nearest entry's radius grows to reach it; with another target both are cut to half the distance
    between them. Unrelated inputs pass through unchanged code: their outputs are the same bits.

    References
    ----------
    .. [1] Hartvigsen, T. et al. (2023). Aging with GRACE: Lifelong Model Editing with Discrete Key-Value Adaptors.
       NeurIPS.

    Examples
    --------
    >>> from corrigible.editing import GRACE
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> GRACE().propose(model, request).apply(model)
    >>> model.generate(["The capital of France is"], max_new_tokens=1)
    [' Rome']
    """

    def __init__(
        self,
        layer: int | str = "auto",
        *,
        key: str = "last",
        epsilon: float = 0.02,
        relative: bool = True,
        n_steps: int = 100,
        learning_rate: float = 1.0,
    ) -> None:
        self.layer = layer
        self.key = key
        self.epsilon = epsilon
        self.relative = relative
        self.n_steps = n_steps
        self.learning_rate = learning_rate

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit that holds a codebook for the requests, taken one after another.

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
            If a request is not valid or two conflict.
        """
        asked, start = check_requests(requests, by="GRACE"), time.perf_counter()
        check_choice(self.key, ("last", "subject"), name="key", by="GRACE")
        check_number(self.epsilon, name="epsilon", by="GRACE", low=0.0, closed="neither")
        check_count(self.n_steps, name="n_steps", by="GRACE")
        check_number(self.learning_rate, name="learning_rate", by="GRACE", low=0.0, high=1e3, closed="right")
        layer = (
            round(_DEPTH * (model.n_layers - 1))
            if self.layer == "auto"
            else chosen_layer(model, self.layer, "GRACE")
        )
        codebook = _empty(model, layer)
        told = [self._enter(model, codebook, layer, request) for request in asked]
        details = {"layer": layer, "seconds": round(time.perf_counter() - start, 3), "entries": len(codebook.labels),
                   "requests": told}  # fmt: skip
        return Edit("grace", {}, [codebook], [r.to_dict() for r in asked], details)

    def _enter(self, model: LanguageModel, book: Codebook, layer: int, request: EditRequest) -> dict[str, Any]:
        """Enter one request: a new entry, a wider radius, or two halved ones."""
        tokens = model.encode(request.text)
        at = len(tokens) - 1 if self.key == "last" else model.last_token(request.text, request.subject)
        query = model.before_block(model.batch([tokens]), layer).hidden[0, at].float()
        radius = self.epsilon * float(query.norm()) if self.relative else self.epsilon
        distance, which = float("inf"), 0
        if book.labels:
            found = book.nearest(query[None])
            distance, which = float(found[0][0]), int(found[1][0])
        near = distance <= radius + float(book.radii[which]) if book.labels else False
        if near and book.labels[which] == request.answer:
            book.radii[which] = max(float(book.radii[which]), distance * (1 + 1e-6))
            return {"entry": which, "kind": "expanded"}
        value, said = self._value(model, book.name, layer, request, query, radius, at)
        if near:  # the states between belong to the nearer of the two
            book.radii[which] = min(float(book.radii[which]), distance / 2 - 1e-5)
            radius = min(radius, distance / 2)
        book.add(query, value.before + value.delta, radius, request.answer)
        return {
            "entry": len(book.labels) - 1,
            "kind": "split" if near else "new",
            "nll": value.nll,
            "steps": value.steps,
            "said": said,
        }

    def _value(
        self,
        model: LanguageModel,
        name: str,
        layer: int,
        request: EditRequest,
        query: Tensor,
        radius: float,
        at: int,
    ) -> tuple[Value, str]:
        """Return the value of an entry, and what the model then says.

        Nothing tells a search where the answer ends, so that a word can run on ("Tolstoyoyo"). Then it is sought anew
        with a full stop after it.
        """
        torch = require("torch", extra="lm", by="GRACE")
        search = Search(self.n_steps, self.learning_rate, 0.0, 0.0, float("inf"), stop=0.01)
        n = len(model.encode(request.answer, start=False)) + 2
        for asked in (request, replace(request, target_new=f"{request.target_new}.")):
            value = find_value(model, asked, [""], layer, search, module=name, by="GRACE", at=[at])
            alone = Codebook(name, query[None], (value.before + value.delta)[None], torch.tensor([radius]))
            detach = alone.attach(model.module)
            try:
                said = model.generate([request.text], max_new_tokens=n)[0]
            finally:
                detach()
            if names(said, request.target_new, at_once=True):
                break
        return value, said


def _empty(model: LanguageModel, layer: int) -> Codebook:
    torch = require("torch", extra="lm", by="GRACE")
    width = int(model.module.get_input_embeddings().weight.shape[1])
    return Codebook(model.blocks[layer].name, torch.empty(0, width), torch.empty(0, width), torch.empty(0))
