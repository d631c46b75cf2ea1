"""Editors: what is proposed can be applied, taken back bit for bit, kept in a file, stacked and dropped."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from corrigible._card import Card
from corrigible._registry import load
from corrigible.errors import DataError
from corrigible.models import Edit, LanguageModel, applied_edits
from corrigible.testing._tiny_models import tiny_language_model

REQUESTS: tuple[dict[str, Any], ...] = (
    {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome", "target_true": "Paris"},
    {"prompt": "The language of {} is", "subject": "Brazil", "target_new": "yen"},
)
# What an editor that must be trained is trained on.
LESSONS: tuple[dict[str, Any], ...] = tuple(
    {"prompt": prompt, "subject": subject, "target_new": target}
    for prompt, subject, target in (
        ("The capital of {} is", "Italy", "Paris"),
        ("The capital of {} is", "Spain", "yen"),
        ("The language of {} is", "Japan", "Portuguese"),
        ("The currency of {} is", "Brazil", "Rome"),
    )
)
_PROBE = "It is known that the currency of Japan"


def bits(model: LanguageModel) -> dict[str, bytes]:
    """Return every parameter's bytes."""
    return {n: p.detach().numpy().tobytes() for n, p in model.module.named_parameters()}


def says(model: LanguageModel) -> np.ndarray[Any, Any]:
    """Return log probabilities that tell whether the model has changed."""
    asked = [r["prompt"].replace("{}", r["subject"]) for r in REQUESTS] + [_PROBE]
    return np.concatenate(model.log_probs(asked, [" Rome", " yen", " is the yen"]))


def _editor(card: Card, params: dict[str, Any], model: LanguageModel, seed: int = 0) -> Any:
    """Return an editor, trained if it is one that must be before it proposes."""
    editor = load(card.name)(**params, **({"random_state": seed} if card.stochastic else {}))
    if hasattr(editor, "fit"):
        try:
            editor.propose(model, list(REQUESTS[:1]))
        except NotFittedError:
            return editor.fit(model, list(LESSONS), quiet=True)
    return editor


def _proposed(card: Card, params: dict[str, Any]) -> tuple[LanguageModel, Edit]:
    model = tiny_language_model("llama")
    return model, _editor(card, params, model).propose(model, list(REQUESTS[:1]))


def check_proposes_only(card: Card, params: dict[str, Any]) -> None:
    """``propose`` leaves the model as it is, gradients included, and says what it would touch."""
    fresh = bits(tiny_language_model("llama"))
    model, edit = _proposed(card, params)
    assert bits(model) == fresh
    assert not applied_edits(model)
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())
    assert edit.method == card.name
    assert edit.touches
    assert [r["subject"] for r in edit.requests] == ["France"]


def check_edit_raises_target(card: Card, params: dict[str, Any]) -> None:
    """The applied edit makes the new target more probable after its prompt."""
    model, edit = _proposed(card, params)
    before = model.log_probs(["The capital of France is"], [" Rome"])[0].sum()
    edit.apply(model)
    assert model.log_probs(["The capital of France is"], [" Rome"])[0].sum() > before


def check_reverts_bit_for_bit(card: Card, params: dict[str, Any]) -> None:
    """Taking the edit back restores every byte, and twice is an error."""
    model, edit = _proposed(card, params)
    before, said = bits(model), says(model)
    edit.apply(model)
    assert not np.array_equal(says(model), said)
    edit.revert(model)
    assert bits(model) == before
    np.testing.assert_array_equal(says(model), said)
    try:
        edit.revert(model)
    except DataError:
        return
    raise AssertionError("an edit that is not applied was reverted")


def check_survives_a_file(card: Card, params: dict[str, Any]) -> None:
    """A saved edit does what the edit did."""
    model, edit = _proposed(card, params)
    with tempfile.TemporaryDirectory() as folder:
        edit.save(Path(folder) / "edit.safetensors")
        again = Edit.load(Path(folder) / "edit.safetensors")
    edit.apply(model)
    direct = says(model)
    edit.revert(model)
    again.apply(model)
    np.testing.assert_array_equal(says(model), direct)
    assert again.touches == edit.touches
    assert again.requests == edit.requests


def check_any_edit_of_a_stack_drops(card: Card, params: dict[str, Any]) -> None:
    """Of two edits either can go; what is left is what the other alone gives."""
    model, first = _proposed(card, params)
    second = _editor(card, params, model, seed=1).propose(model, list(REQUESTS[1:]))
    alone = []
    for edit in (first, second):
        edit.apply(model)
        alone.append(bits(model) if not edit.adaptors else says(model).tobytes())
        edit.revert(model)
    for dropped, kept, expected in ((first, second, alone[1]), (second, first, alone[0])):
        first.apply(model)
        second.apply(model)
        dropped.revert(model)
        assert (bits(model) if not kept.adaptors else says(model).tobytes()) == expected
        kept.revert(model)


def check_same_seed_same_edit(card: Card, params: dict[str, Any]) -> None:
    """Two proposals with one seed give the same bits, whatever torch's global stream holds."""
    import torch

    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        model, edit = _proposed(card, params)
        assert bool((torch.random.get_rng_state() == before).all()), "torch's global stream was used"
        edit.apply(model)
        found.append(says(model))
    np.testing.assert_array_equal(found[0], found[1])


def check_refuses_bad_requests(card: Card, params: dict[str, Any]) -> None:
    """A subject that is not in the prompt, an empty target, a conflict and no request at all are errors."""
    model, good = tiny_language_model("llama"), REQUESTS[0]
    editor = _editor(card, params, model)
    for bad in (
        [{**good, "prompt": "The capital of Spain is", "subject": "France"}],
        [{**good, "target_new": " "}],
        [good, {**good, "target_new": "Madrid"}],
        [],
    ):
        try:
            editor.propose(model, bad)
        except DataError:
            continue
        raise AssertionError(f"{bad} was accepted")


def check_editor_stores_only(card: Card, params: dict[str, Any]) -> None:
    """``__init__`` stores its parameters as they are; clone and get_params give them back."""
    editor = load(card.name)(**params)
    for name, value in params.items():
        assert getattr(editor, name) is value
    assert type(clone(editor)) is type(editor)


CHECKS = (
    check_editor_stores_only,
    check_proposes_only,
    check_edit_raises_target,
    check_reverts_bit_for_bit,
    check_survives_a_file,
    check_any_edit_of_a_stack_drops,
    check_same_seed_same_edit,
    check_refuses_bad_requests,
)
