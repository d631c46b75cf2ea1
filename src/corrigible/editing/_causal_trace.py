"""Causal tracing: which hidden states, put back into a run with a blurred subject, bring the answer back.

Paper: Locating and Editing Factual Associations in GPT (Meng, Bau, Andonian, Belinkov, NeurIPS 2022).
Original: https://github.com/kmeng01/rome
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._card import Card
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import AssumptionError
from corrigible.models import LanguageModel, check_requests

CARD = Card(
    name="causal_trace",
    kind="measure",
    obj="causal_trace",
    also=("CausalTrace",),
    papers=(),
    refs=("meng2022locating",),
    source="https://github.com/kmeng01/rome",
    differs="The noise has three times the standard deviation of the subjects' own embeddings in the prompt given, not of "
    "a list of subjects. A window of one block by default for hidden states, of ten for the parts, as in the paper.",
    inputs="model, requests",
    stochastic=True,
    cost="n_noise runs in one batch for each token and block",
    use_when="The block to edit is to be chosen for a model that nobody has studied.",
    avoid_when="The model does not know the fact: there is no answer to bring back.",
    requires=("lm",),
)
Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class CausalTrace:
    """Outcome of `causal_trace`.

    Attributes
    ----------
    tokens : list of str
        Of the prompt.
    subject : tuple of int
        First and last position of the subject.
    clean, blurred : float
        Probability of the answer's first token, as it is and with the subject blurred.
    restored : ndarray of shape (n_tokens, n_layers)
        That probability when the state of a token after a block is put back.
    answer : str
        The answer's first token.
    part : str
        What was put back.
    """

    tokens: list[str]
    subject: tuple[int, int]
    clean: float
    blurred: float
    restored: Floats = field(repr=False)
    answer: str
    part: str

    @property
    def best_layer(self) -> int:
        """Block whose state at the subject's last token brings back most."""
        return int(self.restored[self.subject[1]].argmax())

    def spec(self) -> dict[str, Any]:
        """Return the plot as a Vega-Lite specification: tokens down, blocks across, probability as colour."""
        cells = [
            {
                "token": f"{i} {token}{'*' if self.subject[0] <= i <= self.subject[1] else ''}",
                "block": layer,
                "p": float(p),
            }
            for i, (token, row) in enumerate(zip(self.tokens, self.restored, strict=True))
            for layer, p in enumerate(row)
        ]
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": f"p({self.answer.strip()}): {self.clean:.2f} clean, {self.blurred:.2f} with the subject (*) blurred",
            "data": {"values": cells},
            "mark": "rect",
            "encoding": {
                "x": {"field": "block", "type": "ordinal", "title": f"{self.part} put back after block"},
                "y": {"field": "token", "type": "ordinal", "sort": None, "title": None},
                "color": {"field": "p", "type": "quantitative", "scale": {"scheme": "purples"}, "title": "p"},
            },
        }

    def to_svg(self) -> str:
        """Return the plot as SVG."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.spec()))


def causal_trace(
    model: LanguageModel,
    request: Any,
    *,
    part: str = "state",
    window: int | None = None,
    noise: float = 3.0,
    n_noise: int = 10,
    random_state: RandomState = None,
) -> CausalTrace:
    """Return what each hidden state does for the answer, by putting it back into runs with a blurred subject.

    Parameters
    ----------
    model : LanguageModel
        Left as it is.
    request : EditRequest or mapping
        Prompt and subject; the answer traced is ``target_true``, or what the model itself says.
    part : {"state", "mlp", "attention"}
        What is put back: what leaves a block, or what its feed-forward or attention module adds.
    window : int, optional
        Blocks put back together around each; by default 1 for states and 10 for the others.
    noise : float
        Standard deviation of what is added to the subject's embeddings, in units of theirs.
    n_noise : int
        Blurred runs to average over.
    random_state : None, int, Generator or RandomState
        Source of the noise.

    Returns
    -------
    CausalTrace

    Raises
    ------
    AssumptionError
        If blurring does not lower the answer's probability: there is nothing to trace.

    References
    ----------
    .. [1] Meng, K. et al. (2022). Locating and Editing Factual Associations in GPT. NeurIPS.

    Examples
    --------
    >>> from corrigible.editing import causal_trace
    >>> from corrigible.testing import tiny_language_model
    >>> request = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}
    >>> trace = causal_trace(tiny_language_model(), request, random_state=0)
    >>> trace.restored.shape == (len(trace.tokens), 3)
    True
    """
    torch = require("torch", extra="lm", by="causal_trace")
    check_choice(part, ("state", "mlp", "attention"), name="part", by="causal_trace")
    check_number(noise, name="noise", by="causal_trace", low=0.0, closed="neither")
    check_count(n_noise, name="n_noise", by="causal_trace")
    (asked,) = check_requests(request, by="causal_trace")
    width = check_count(window or (1 if part == "state" else 10), name="window", by="causal_trace")
    ids = model.encode(asked.text)
    last = model.last_token(asked.text, asked.subject)
    start = asked.text.rindex(asked.subject)
    first = model.last_token(asked.text, asked.text[: start + 1]) if start else 0
    places = {"state": [b.name for b in model.blocks], "mlp": [b.mlp for b in model.blocks],
              "attention": [b.attention for b in model.blocks]}[part]  # fmt: skip
    whole = model.batch([ids])
    _, clean = model.record(whole, outputs=places)
    with torch.no_grad():
        p = model.logits(whole, [(0, len(ids) - 1)]).float().softmax(dim=-1)[0]
    answer = (
        int(p.argmax())
        if asked.target_true is None
        else model.encode(f" {asked.target_true.strip()}", start=False)[0]
    )
    source = torch.Generator().manual_seed(integer_seed(as_generator(random_state)))
    embedding = model.module.get_input_embeddings()
    spread = float(embedding.weight[ids[first : last + 1]].float().std())
    blur = noise * spread * torch.randn(n_noise, last + 1 - first, embedding.weight.shape[1], generator=source)
    batch = model.batch([ids] * n_noise)

    def blurred(put_back: dict[str, Any], position: int) -> float:
        with _changed(model, blur, (first, last), put_back, position), torch.no_grad():
            rows = model.logits(batch, [(i, len(ids) - 1) for i in range(n_noise)])
        return float(rows.float().softmax(dim=-1)[:, answer].mean())

    low, high = blurred({}, 0), float(p[answer])
    if not low < high:
        raise AssumptionError(
            f"causal_trace needs a fact that the model knows: blurring {asked.subject!r} does not lower the probability "
            f"of {model.tokenizer.decode([answer])!r}, {high:.3g}. Trace another fact."
        )
    found = np.array([
        [blurred({n: clean[n][0, i] for n in _around(places, layer, width)}, i) for layer in range(model.n_layers)]
        for i in range(len(ids))
    ])  # fmt: skip
    tokens = [model.tokenizer.decode([t]) for t in ids]
    return CausalTrace(tokens, (first, last), high, low, found, model.tokenizer.decode([answer]), part)


def _around(places: list[str], layer: int, width: int) -> list[str]:
    low = max(layer - (width - 1) // 2, 0)
    return places[low : layer + width // 2 + 1]


@contextmanager
def _changed(
    model: LanguageModel, blur: Any, subject: tuple[int, int], put_back: dict[str, Any], position: int
) -> Iterator[None]:
    """Inside, the subject's embeddings are blurred, and one token's outputs of modules are what they were without."""

    def add(_: Any, args: Any, out: Any) -> Any:
        states = out.clone()
        states[:, subject[0] : subject[1] + 1] += blur.to(states.dtype)
        return states

    def restore(_: Any, args: Any, out: Any, value: Any) -> Any:
        states = (out[0] if isinstance(out, tuple) else out).clone()
        states[:, position] = value
        return (states, *out[1:]) if isinstance(out, tuple) else states

    with ExitStack() as hooks:
        hooks.callback(model.module.get_input_embeddings().register_forward_hook(add).remove)
        for name, value in put_back.items():
            hook = model.part(name).register_forward_hook(lambda m, a, o, v=value: restore(m, a, o, v))
            hooks.callback(hook.remove)
        yield
