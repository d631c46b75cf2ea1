"""Generation methods: a text for each prompt, the same each time, every call counted, the model left as it was."""

from __future__ import annotations

from typing import Any

from corrigible._card import Card
from corrigible._registry import load
from corrigible.testing._editors import REQUESTS, bits
from corrigible.testing._general import check_init_stores_only
from corrigible.testing._tiny_models import tiny_language_model

PROMPTS = [r["prompt"].replace("{}", r["subject"]) for r in REQUESTS]


def check_generates(card: Card, params: dict[str, Any]) -> None:
    """``generate(model, prompts)`` gives one text a prompt, twice the same, through calls that the model counts."""
    model = tiny_language_model("llama")
    before, found = bits(model), []
    for _ in range(2):
        method = load(card.name)(**params, **({"random_state": 0} if card.stochastic else {}))
        calls = model.calls.forwards
        found.append(method.generate(model, PROMPTS, max_new_tokens=4))
        assert model.calls.forwards > calls
    assert found[0] == found[1]
    assert [type(text) for text in found[0]] == [str] * len(PROMPTS)
    assert bits(model) == before


CHECKS = (check_init_stores_only, check_generates)
