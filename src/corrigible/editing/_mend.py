"""MEND: a trained network turns the gradient of one request into an edit that reaches paraphrases and little else.

Paper: Fast Model Editing at Scale (Mitchell, Lin, Bosselut, Finn, Manning, ICLR 2022).
Original: https://github.com/eric-mitchell/mend
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.reference_texts import reference_texts
from corrigible._utils.files import atomic_path
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._gradient_factors import prepared, projections, target_tokens, together
from corrigible.editing._mend_network import FactorNetwork, by_shape
from corrigible.editing._mend_training import Course, Editor, Plan, train
from corrigible.editing._rank_one import chosen_layer
from corrigible.editing._values import low_rank
from corrigible.errors import DataError
from corrigible.models import Edit, LanguageModel, LowRank, applied_edits, check_requests
from corrigible.models._lm_structure import sizes

CARD = Card(
    name="mend",
    kind="editor",
    obj="MEND",
    papers=("mend",),
    refs=("mitchell2022fast",),
    source="https://github.com/eric-mitchell/mend",
    differs="Defaults are for a small model on one core: rank 256, 300 steps of 5 edits; the authors have "
    "1920 and batches of 10 until validation stops to improve. Inner factors start by Glorot's rule and the rate is 3e-4 "
    "(their code: unit normal and 1e-6). The edit descends, as the paper's equation has it; their code adds it. Of gated "
    "feed-forward modules all three projections are edited. Locality is compared at 8 tokens of a text a step.",
    inputs="model, requests",
    stochastic=True,
    cost="Training: n_steps passes of batch_size requests, forward and backward, through the blocks from the first edited "
    "one on. An edit: one such pass and no search",
    use_when="Many edits will be asked of one model over time, and facts like them are there to train the editor on.",
    avoid_when="One fact is to be mended, or no requests with paraphrases are there to train on.",
    requires=("lm",),
    test_params=({"layers": (1, 2), "rank": 8, "n_steps": 20, "batch_size": 2},),
)
_FORMAT = "corrigible-mend-1"
_WORDS = ("layers", "rank", "n_steps", "batch_size", "n_edits", "learning_rate", "step_size", "step_rate", "c_edit",
          "validation", "check_every")  # fmt: skip


class MEND(BaseEstimator):
    r"""Edit facts by a network that is trained to turn gradients into edits.

    The gradient of a request's loss in a weight is :math:`\sum_t \delta_t u_t^\top` over its tokens. A network g, shared
    by projections of one shape, maps each standardised pair to another, and the weight becomes
    :math:`W - \alpha \sum_t \tilde\delta_t \tilde u_t^\top`. g and the step sizes :math:`\alpha` are trained on requests
    to minimise ``c_edit * edit + locality``: the new target's negative log probability after a prompt or paraphrase, and
    the divergence of next tokens in unrelated text from what they were, both with the edit applied.

    Parameters
    ----------
    layers : sequence of int or "auto"
        Blocks whose feed-forward projections are edited; ``"auto"`` are the last three.
    rank : int
        Of the matrices in the network.
    n_steps, batch_size : int
        Steps of Adam in training, and edits tried in each.
    n_edits : int
        Requests that make up one edit in training; as many as will be proposed together.
    learning_rate : float
        Of the network.
    step_size, step_rate : float
        Step sizes before training, and their learning rate.
    c_edit : float
        Weight of the edit loss.
    validation : float
        Share of subjects kept from training; the state with the least loss on them is kept.
    check_every : int
        Steps between looks at that loss.
    random_state : None, int, Generator or RandomState
        Source of the network's start and of the order of training.

    Attributes
    ----------
    fingerprint_ : str
        Of the model that the editor was trained for.
    step_sizes_ : dict of str to float
        By projection.
    history_ : list of dict
        Losses at each look.

    See Also
    --------
    FineTune : Steps along the gradient itself.
    MEMIT : A batch of facts without training on others.

    References
    ----------
    .. [1] Mitchell, E., Lin, C., Bosselut, A., Finn, C., Manning, C. D. (2022). Fast Model Editing at Scale. ICLR.

    Examples
    --------
    >>> from corrigible.editing import MEND
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model()
    >>> known = [("Italy", "Paris"), ("Spain", "yen"), ("Japan", "Rome"), ("Brazil", "gold")]
    >>> prompt = "The capital of {} is"
    >>> lessons = [{"prompt": prompt, "subject": s, "target_new": t} for s, t in known]
    >>> editor = MEND(rank=8, n_steps=20, random_state=0).fit(model, lessons, quiet=True)
    >>> edit = editor.propose(model, {"prompt": prompt, "subject": "France", "target_new": "Rome"})
    >>> len(edit.deltas)
    9
    """

    def __init__(
        self,
        layers: Sequence[int] | str = "auto",
        *,
        rank: int = 256,
        n_steps: int = 300,
        batch_size: int = 5,
        n_edits: int = 1,
        learning_rate: float = 3e-4,
        step_size: float = 1e-4,
        step_rate: float = 1e-4,
        c_edit: float = 0.1,
        validation: float = 0.1,
        check_every: int = 50,
        random_state: RandomState = None,
    ) -> None:
        self.layers = layers
        self.rank = rank
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.n_edits = n_edits
        self.learning_rate = learning_rate
        self.step_size = step_size
        self.step_rate = step_rate
        self.c_edit = c_edit
        self.validation = validation
        self.check_every = check_every
        self.random_state = random_state

    def fit(
        self, model: LanguageModel, requests: Any, texts: Sequence[str] | None = None, *, quiet: bool = False
    ) -> MEND:
        """Train the editor for a model.

        Parameters
        ----------
        model : LanguageModel
            Left as it is.
        requests : iterable of EditRequest or mapping
            Edits to learn from, each on its own: those asked later should be like them. Paraphrases are learnt to be
            reached; without any the editor learns to reach the prompt alone.
        texts : sequence of str, optional
            What must not move; by default passages of Python's documentation.
        quiet : bool
            Show no progress.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If a request is not valid, there is no text, or the model carries edits or lacks the projections.
        """
        torch = require("torch", extra="lm", by="MEND")
        asked, plan = check_requests(requests, by="MEND.fit", alone=True), self._plan()
        if applied_edits(model):
            raise DataError("MEND.fit must see the model without edits. Revert those that are applied first.")
        kept = [t for t in (reference_texts(256) if texts is None else texts) if t.strip()]
        if not kept:
            raise DataError("MEND.fit needs texts that must not move. Got none that is not empty.")
        layers = self._layers(model)
        rng = as_generator(self.random_state)
        names = projections(model, layers, by="MEND")
        groups = by_shape({n: sizes(model.part(n)) for n in names})
        source = torch.Generator().manual_seed(integer_seed(rng))
        networks = {}
        for shape, same in groups.items():
            network = FactorNetwork.start(*sizes(model.part(same[0])), len(same), self.rank, source)
            networks[shape] = _on(network, model.device)
        steps = {n: torch.tensor(self.step_size, device=model.device) for n in names}
        editor = Editor(networks, groups, steps)
        course = Course(model, asked, kept, min(layers))
        self.history_ = train(course, editor, plan, rng, quiet=quiet)
        return self._keep(editor, layers, model.fingerprint())

    def propose(self, model: LanguageModel, requests: Any) -> Edit:
        """Return the edit that the network makes of the requests' gradients, on the model as it is now.

        Parameters
        ----------
        model : LanguageModel
            The one that the editor was trained for; left as it is.
        requests : EditRequest, mapping, or iterable of these
            What is asked.

        Returns
        -------
        Edit

        Raises
        ------
        NotFittedError
            If the editor is not trained.
        DataError
            If a request is not valid, two conflict, or the editor was trained for another model.
        """
        torch = require("torch", extra="lm", by="MEND")
        check_is_fitted(self, "fingerprint_", msg="MEND must be trained before it edits. Call fit with requests to "
                        "learn from, or MEND.load.")  # fmt: skip
        asked, start = check_requests(requests, by="MEND"), time.perf_counter()
        if model.fingerprint() != self.fingerprint_:
            raise DataError(
                f"MEND was trained for a model with fingerprint {self.fingerprint_}. This one has {model.fingerprint()}. "
                "Train the editor for it with fit."
            )
        layer = min(self.layers_)
        rows, returns_tuple = prepared(model, [target_tokens(model, r, r.text) for r in asked], layer)
        parts: dict[str, list[tuple[Any, Any]]] = {n: [] for n in self.editor_.names}
        for row in rows:
            with torch.no_grad():
                found = self.editor_.changes(model, together(model, [row], layer, returns_tuple))
            for name, (u, delta) in found.items():
                moved = (delta[0] != 0).any(-1)
                parts[name].append((u[0][moved], delta[0][moved]))
        deltas = {f"{n}.weight": _delta(model, n, each) for n, each in parts.items()}
        details = {"layers": list(self.layers_), "seconds": round(time.perf_counter() - start, 3)}
        return Edit("mend", dict(deltas), [], [r.to_dict() for r in asked], details)

    def save(self, path: str | Path) -> None:
        """Write the trained editor as one safetensors file, atomically.

        Parameters
        ----------
        path : str or Path
            Where; its folder must exist.
        """
        check_is_fitted(self, "fingerprint_", msg="MEND must be trained before it is saved. Call fit first.")
        torch_files = require("safetensors.torch", extra="lm", by="Saving MEND")
        tensors = {f"step.{n}": s for n, s in self.editor_.steps.items()}
        for shape, network in self.editor_.networks.items():
            tensors |= {f"{shape}.{k}": t for k, t in network.tensors().items()}
        words = {k: getattr(self, k) for k in _WORDS}
        said = {
            "format": _FORMAT, "fingerprint": self.fingerprint_, "layers": list(self.layers_), "words": words,
            "groups": self.editor_.groups, "history": self.history_,
        }  # fmt: skip
        stored = {k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()}
        with atomic_path(path) as temporary:
            torch_files.save_file(stored, temporary, metadata={"mend": json.dumps(said, default=float)})

    @classmethod
    def load(cls, path: str | Path) -> MEND:
        """Read a trained editor that `save` has written.

        Parameters
        ----------
        path : str or Path
            The safetensors file.

        Raises
        ------
        DataError
            If the file is absent, damaged or no editor.
        """
        tensors, said = _read(Path(path))
        made = cls(**said["words"])
        networks = {}
        for shape in said["groups"]:
            own = {k.removeprefix(f"{shape}."): t for k, t in tensors.items() if k.startswith(f"{shape}.")}
            networks[shape] = FactorNetwork.build(own, int(shape.split("x")[0]))
        steps = {k.removeprefix("step."): t for k, t in tensors.items() if k.startswith("step.")}
        names = [n for same in said["groups"].values() for n in same]
        made.history_ = said["history"]
        editor = Editor(networks, said["groups"], {n: steps[n] for n in names})
        return made._keep(editor, said["layers"], said["fingerprint"])

    def _keep(self, editor: Editor, layers: Sequence[int], fingerprint: str) -> MEND:
        self.editor_ = editor
        self.layers_ = list(layers)
        self.step_sizes_ = {n: float(s) for n, s in editor.steps.items()}
        self.fingerprint_ = fingerprint
        return self

    def _layers(self, model: LanguageModel) -> list[int]:
        if isinstance(self.layers, str) and self.layers == "auto":
            return list(range(max(model.n_layers - 3, 0), model.n_layers))
        chosen = [self.layers] if isinstance(self.layers, str) else list(self.layers)
        return sorted({chosen_layer(model, layer, "MEND") for layer in chosen})

    def _plan(self) -> Plan:
        for name in ("rank", "n_steps", "batch_size", "n_edits", "check_every"):
            check_count(getattr(self, name), name=name, by="MEND")
        for name in ("learning_rate", "step_size", "step_rate", "c_edit"):
            check_number(getattr(self, name), name=name, by="MEND", low=0.0, high=1e3, closed="right")
        check_number(self.validation, name="validation", by="MEND", low=0.0, high=0.9)
        return Plan(
            self.n_steps, self.batch_size, self.n_edits, self.learning_rate, self.step_rate, self.c_edit,
            self.validation, self.check_every,
        )  # fmt: skip


def _delta(model: LanguageModel, name: str, parts: list[tuple[Any, Any]]) -> LowRank:
    torch = require("torch", extra="lm", by="MEND")
    return low_rank(model, name, torch.cat([d for _, d in parts]).T, torch.cat([u for u, _ in parts]))


def _on(network: FactorNetwork, device: Any) -> FactorNetwork:
    moved = {k: t.to(device) for k, t in network.tensors().items()}
    return FactorNetwork.build(moved, network.n_inputs)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    safetensors = require("safetensors", extra="lm", by="Loading MEND")
    if not path.is_file():
        raise DataError(f"A trained MEND must be a file. There is none at {str(path)!r}.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {}).get("mend", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(f"The trained MEND {str(path)!r} cannot be read: {error}. Save it anew.") from error
    if said.get("format") != _FORMAT:
        raise DataError(f"The file {str(path)!r} holds no trained MEND. Write one with MEND.save.")
    return tensors, said
