"""MINT: mend a wrong next token by rewriting one or two neurons towards what the right token means.

Paper: Neuron Patching: Semantic-based Neuron-level Language Model Repair for Code Generation (Gu, Aleti, Chen, Zhang,
2023), called MENT in its first versions.
Original: none is public; read was the port of it in LM Lens, a viewer for repairs (lm_lens/function/core/mint_core.py)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._utils.optional import require
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._rank_one import chosen_layer
from corrigible.editing._values import low_rank
from corrigible.models import Dense, Edit, EditRequest, LanguageModel, LowRank, check_requests, joined
from corrigible.models._lm_passes import Resumption
from corrigible.models._lm_structure import stores_inputs_first

CARD = Card(
    name="mint",
    kind="editor",
    obj="MINT",
    also=("semantic_bases",),
    papers=("mint",),
    refs=("gu2023neuron",),
    source="",
    differs="The paper's text was not to be had, so that the steps follow a port of the authors' code. That port also "
    "turns each patch away from those of earlier tokens, which the paper does not tell of and is left out. Its factor "
    "of 0.01 for a patch, the hundredth part of what its comments have, is `strength` here.",
    inputs="model, requests",
    stochastic=False,
    cost="A wrong token: one pass with gradients through the last blocks, and one of n_candidates rows a patch",
    use_when="One wrong next token is to be mended with the fewest numbers changed, and where is of interest.",
    avoid_when="The fact is asked in other words too: a patch holds where its neuron fires.",
    test_params=({"n_candidates": 64, "max_patches": 40, "strength": 10.0},),
    requires=("lm",),
)

Tensor = Any
Neuron = tuple[int, int]


@dataclass(frozen=True)
class _Token:
    """One token of a target: what stands before it, the token, and where the last blocks resume."""

    row: list[int]
    wanted: int
    start: Resumption


def semantic_bases(model: LanguageModel, tokens: Sequence[int]) -> Tensor:
    """Return the hidden states whose logits are closest to one for a token and zero for all others.

    Parameters
    ----------
    model : LanguageModel
        The model.
    tokens : sequence of int
        Numbers of tokens.

    Returns
    -------
    tensor of shape (n_tokens, n_hidden)
        Rows of the pseudoinverse of the matrix that ends the network, in float64.

    Examples
    --------
    >>> from corrigible.editing import semantic_bases
    >>> from corrigible.testing import tiny_language_model
    >>> tuple(semantic_bases(tiny_language_model(), [3, 5]).shape)
    (2, 32)
    """
    torch = require("torch", extra="lm", by="semantic_bases")
    head = model.module.get_output_embeddings().weight.detach().double()
    # The matrix is tall: its pseudoinverse comes from the small product, of which the rows asked for are enough.
    inverse = torch.linalg.pinv(head.T @ head, hermitian=True)
    return head[list(tokens)] @ inverse


class MINT(BaseEstimator):
    """Mend wrong tokens one after another by patches of single neurons of the last blocks.

    Parameters
    ----------
    layers : sequence of int or "auto"
        Blocks whose neurons may be patched; ``"auto"`` is the last three.
    n_candidates : int
        Neurons, by attribution, of which the best is patched.
    max_patches : int
        Patches at most for a token; where they do not mend it, all are taken back.
    strength : float
        Weight of the patch beside the neuron's old vector, which has weight 1.

    See Also
    --------
    RROME : Changes a whole projection, and reaches paraphrases.

    Notes
    -----
    A neuron is a unit of a feed-forward module's inner layer with the vector w that it writes. For each token t of the
    target, given those before it, where the model would say another, a:

    1. neurons are ranked by the norm over positions of activation times gradient of t's probability;
    2. the patch is ``d = b_t - b_a``, b the tokens' `semantic_bases`, over the range of its entries;
    3. each candidate is tried, and the one that leaves the least ``p_a - p_t`` gets ``(w + s d) / (1 + s)``;
    4. until t is what the model says. A neuron can be patched more than once.

    References
    ----------
    .. [1] Gu, J., Aleti, A., Chen, C. and Zhang, H. (2023). Neuron Patching: Semantic-based Neuron-level Language Model
       Repair for Code Generation. arXiv:2312.05356.

    Examples
    --------
    >>> from corrigible.editing import MINT
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model("gpt2")
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> edit = MINT().propose(model, request)
    >>> edit.details["requests"][0]["neurons"]
    [(1, 5)]
    >>> edit.apply(model)
    >>> model.generate(["The capital of France is"], max_new_tokens=1)
    [' Rome']
    """

    def __init__(
        self,
        layers: Sequence[int] | str = "auto",
        *,
        n_candidates: int = 10,
        max_patches: int = 10,
        strength: float = 1.0,
    ) -> None:
        self.layers = layers
        self.n_candidates = n_candidates
        self.max_patches = max_patches
        self.strength = strength

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit whose patches make the model give each request's new target.

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
            Of rank one a neuron. ``details["requests"]`` tells for each request how many tokens were wrong and how many
            of these were mended, the (block, unit) of each patch by token, and the distinct ones of all tokens.

        Raises
        ------
        DataError
            If a request is not valid, two conflict, or the model lacks a projection.
        """
        asked, start = check_requests(requests, by="MINT"), time.perf_counter()
        check_count(self.n_candidates, name="n_candidates", by="MINT")
        check_count(self.max_patches, name="max_patches", by="MINT")
        check_number(self.strength, name="strength", by="MINT", low=0.0, high=1e6, closed="right")
        layers = self._layers(model)
        done: list[Edit] = []
        told = []
        try:
            for request in asked:
                told.append(self._mend(model, request, layers, done))
        finally:
            for edit in reversed(done):
                edit.revert(model)
        details = {"layers": layers, "seconds": round(time.perf_counter() - start, 3), "requests": told}
        whole = joined("mint", done, details)
        # Patches of one neuron are one column: the file need not hold each.
        deltas: dict[str, LowRank | Dense] = {}
        for name, delta in whole.deltas.items():
            deltas[name] = _one_column_each(model, name.removesuffix(".weight"), delta)
        return Edit("mint", deltas, [], [r.to_dict() for r in asked], details)

    def _layers(self, model: LanguageModel) -> list[int]:
        if self.layers == "auto":
            return list(range(max(model.n_layers - 3, 0), model.n_layers))
        return sorted({chosen_layer(model, layer, "MINT") for layer in self.layers})

    def _mend(
        self, model: LanguageModel, request: EditRequest, layers: list[int], done: list[Edit]
    ) -> dict[str, Any]:
        """Patch until the model says each token of the target after those before it, and tell of it."""
        row = model.encode(request.text)
        patches: list[list[Neuron]] = []
        for wanted in model.encode(request.answer, start=False):
            token = _Token(list(row), wanted, model.before_block(model.batch([row]), layers[0]))
            if _said(model, token) != wanted:
                patches.append(self._mend_token(model, token, layers, done))
            row.append(wanted)
        return {
            "wrong_tokens": len(patches),
            "mended_tokens": sum(map(bool, patches)),
            "patches": patches,
            "neurons": sorted({n for p in patches for n in p}),
        }

    def _mend_token(self, model: LanguageModel, token: _Token, layers: list[int], done: list[Edit]) -> list[Neuron]:
        """Return the neurons patched for one token, in their order; none where it could not be mended."""
        said, before = _said(model, token), len(done)
        wanted, wrong = semantic_bases(model, [token.wanted, said]).float()
        change = wanted - wrong
        change = change / (change.max() - change.min())
        candidates = _most_attributed(model, token, layers, self.n_candidates)
        patched: list[Neuron] = []
        while said != token.wanted:
            if len(patched) == self.max_patches:
                while len(done) > before:
                    done.pop().revert(model)
                return []
            columns = {n: self._patch(model, n, change) for n in candidates}
            neuron = _best(model, token, columns, said)
            name = model.down(neuron[0], by="MINT")
            delta = _column(model, name, neuron[1], columns[neuron])
            edit = Edit("mint", {f"{name}.weight": delta})
            edit.apply(model)
            done.append(edit)
            patched.append(neuron)
            said = _said(model, token)
        return patched

    def _patch(self, model: LanguageModel, neuron: Neuron, change: Tensor) -> Tensor:
        """Return what is added to the vector that a neuron writes."""
        part = model.part(model.down(neuron[0], by="MINT"))
        old = (part.weight[neuron[1]] if stores_inputs_first(part) else part.weight[:, neuron[1]]).detach().float()
        return self.strength * (change - old) / (1.0 + self.strength)


def _said(model: LanguageModel, token: _Token) -> int:
    """Return the token that the model says in that place."""
    torch = require("torch", extra="lm", by="MINT")
    with model.resumed(token.start), torch.no_grad():
        return int(model.logits(token.start.batch, [(0, len(token.row) - 1)])[0].argmax())


def _most_attributed(model: LanguageModel, token: _Token, layers: list[int], n: int) -> list[Neuron]:
    """Return the neurons of largest norm, over positions, of activation times gradient of the token's probability."""
    torch = require("torch", extra="lm", by="MINT")
    entered: list[Tensor] = []

    def keep(_: Any, args: Any) -> Any:
        inner = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        entered.append(inner)
        return (inner, *args[1:])

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(model.part(model.down(layer, by="MINT")).register_forward_pre_hook(keep).remove)
        stack.enter_context(model.resumed(token.start))
        stack.enter_context(torch.enable_grad())
        logits = model.logits(token.start.batch, [(0, len(token.row) - 1)])[0]
        gradients = torch.autograd.grad(logits.float().softmax(-1)[token.wanted], entered)
    scores = torch.stack([(g * x.detach())[0].float().norm(dim=0) for g, x in zip(gradients, entered, strict=True)])
    top = scores.flatten().topk(min(n, scores.numel())).indices.tolist()
    return [(layers[i // scores.shape[1]], i % scores.shape[1]) for i in top]


def _best(model: LanguageModel, token: _Token, columns: dict[Neuron, Tensor], said: int) -> Neuron:
    """Return the candidate whose patch leaves the wrong token least ahead; all are tried in one pass, a row each."""
    torch = require("torch", extra="lm", by="MINT")
    neurons = list(columns)
    batch = model.batch([token.row] * len(neurons))
    hidden = token.start.hidden.expand(len(neurons), -1, -1)
    start = Resumption(token.start.layer, hidden, batch, token.start.returns_tuple)
    where = [(i, len(token.row) - 1) for i in range(len(neurons))]
    with _tried(model, columns), model.resumed(start), torch.no_grad():
        p = model.logits(batch, where).float().softmax(-1)
    return neurons[int((p[:, said] - p[:, token.wanted]).argmin())]


@contextmanager
def _tried(model: LanguageModel, columns: dict[Neuron, Tensor]) -> Iterator[None]:
    """Inside, each row of a batch runs with the patch of its own candidate."""
    rows: dict[int, list[tuple[int, int, Tensor]]] = {}
    for row, ((layer, unit), column) in enumerate(columns.items()):
        rows.setdefault(layer, []).append((row, unit, column))

    def added(_: Any, args: Any, out: Any, mine: list[tuple[int, int, Tensor]]) -> Any:
        out = out.clone()
        for row, unit, column in mine:
            out[row] += (args[0][row, :, unit, None].float() * column).to(out.dtype)
        return out

    with ExitStack() as hooks:
        for layer, mine in rows.items():
            part = model.part(model.down(layer, by="MINT"))
            hooks.callback(part.register_forward_hook(lambda m, a, o, mine=mine: added(m, a, o, mine)).remove)
        yield


def _column(model: LanguageModel, name: str, unit: int, column: Tensor) -> LowRank:
    """Return the delta of a projection that adds to what one unit writes."""
    torch = require("torch", extra="lm", by="MINT")
    part = model.part(name)
    inputs = torch.zeros(1, part.weight.shape[0 if stores_inputs_first(part) else 1])
    inputs[0, unit] = 1.0
    return low_rank(model, name, column.cpu()[:, None], inputs)


def _one_column_each(model: LanguageModel, name: str, delta: Any) -> LowRank:
    """Return the same delta with one rank a neuron."""
    torch = require("torch", extra="lm", by="MINT")
    full = delta.full() if stores_inputs_first(model.part(name)) else delta.full().T
    units = full.abs().amax(1).nonzero()[:, 0].tolist()
    inputs = torch.zeros(len(units), full.shape[0])
    inputs[range(len(units)), units] = 1.0
    return low_rank(model, name, full[units].T, inputs)
