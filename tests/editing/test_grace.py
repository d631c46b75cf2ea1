"""GRACE: unrelated outputs are the same bits, its own prompt gets the answer, and the codebook follows the rules."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import GRACE, Codebook  # noqa: E402
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.models import EditRequest  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

OTHERS = ["The capital of Spain is", "It is known that water is made of hydrogen", "France is"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_said_and_nothing_else_moves(family, request_):
    model = tiny_language_model(family)
    batch = model.batch([model.encode(t) for t in OTHERS])
    with torch.no_grad():
        before = model.module(input_ids=batch.ids, attention_mask=batch.mask).logits
    said = model.generate(OTHERS, max_new_tokens=4)
    edit = GRACE().propose(model, request_)
    edit.apply(model)
    with torch.no_grad():
        after = model.module(input_ids=batch.ids, attention_mask=batch.mask).logits
    assert torch.equal(before, after)
    mixed = model.generate([*OTHERS, request_.text], max_new_tokens=4)
    assert mixed[:3] == said
    assert mixed[3].startswith(" Rome")


def test_a_subject_key_reaches_what_begins_alike(model, request_):
    """All prompts share the state at the subject whose text up to it is the same."""
    longer = "The capital of France was called"
    for key, reached in (("last", False), ("subject", True)):
        edit = GRACE(key=key).propose(model, request_)
        before = model.log_probs([longer], [" Rome"])[0]
        edit.apply(model)
        assert (not np.array_equal(model.log_probs([longer], [" Rome"])[0], before)) == reached
        edit.revert(model)


def test_rules_of_the_codebook(model, request_):
    """A second prompt within reach: with the same target the radius grows, with another both are halved."""
    near = replace(request_, prompt="The capital of {} was")
    states = [model.before_block(model.batch([model.encode(r.text)]), 1).hidden[0, -1] for r in (request_, near)]
    distance = float((states[0] - states[1]).norm())
    words = {"layer": 1, "epsilon": 0.7 * distance, "relative": False, "n_steps": 5}
    (grown,) = GRACE(**words).propose(model, [request_, near]).adaptors
    assert grown.radii.tolist() == pytest.approx([distance], rel=1e-4)
    (split,) = GRACE(**words).propose(model, [request_, replace(near, target_new="yen")]).adaptors
    assert split.radii.tolist() == pytest.approx([distance / 2, distance / 2], rel=1e-3)
    assert split.labels == [" Rome", " yen"]
    (apart,) = GRACE(**{**words, "epsilon": 0.3 * distance}).propose(model, [request_, near]).adaptors
    assert apart.radii.tolist() == pytest.approx([0.3 * distance] * 2)


def test_many_edits_in_a_stream(model):
    """Every one of ten prompts gives its target at the end, and unrelated outputs are the same bits."""
    subjects = ["France", "Italy", "Spain", "Brazil", "Japan", "Water", "gold", "Hamlet", "oxygen", "Paris"]
    templates = [
        "The capital of {} is",
        "It is known that the language of {} is",
        "The symbol of {} is",
        "In {} the",
    ]
    targets = ["Rome", "yen", "gold", "Madrid"]
    asked = [
        EditRequest(t, s, targets[(i + j) % 4]) for i, s in enumerate(subjects) for j, t in enumerate(templates)
    ]
    before = model.log_probs(OTHERS[1:], [" yen"] * 2)
    edit = GRACE().propose(model, asked)
    edit.apply(model)
    said = model.generate([r.text for r in asked], max_new_tokens=4)
    assert np.mean([s.startswith(r.answer) for s, r in zip(said, asked, strict=True)]) == 1.0
    np.testing.assert_array_equal(np.concatenate(before), np.concatenate(model.log_probs(OTHERS[1:], [" yen"] * 2)))


def test_screening_agrees_with_distances():
    """The quick product never hides a state that the exact distance lets in, at states as large as 1e4."""
    source = torch.Generator().manual_seed(0)
    keys = 1e4 * torch.randn(20, 16, generator=source)
    states = keys[torch.arange(200) % 20] + torch.randn(200, 16, generator=source)
    book = Codebook("x", keys, torch.zeros(20, 16), torch.full((20,), 4.0), ["a"] * 20)
    distances = torch.from_numpy(
        np.linalg.norm(states.double().numpy()[:, None] - keys.double().numpy()[None], axis=2)
    )
    near = book._candidates(states[None])[:, 1].tolist()
    assert set((distances.min(1).values <= 4).nonzero()[:, 0].tolist()) <= set(near)
    found, which = book.nearest(states)
    assert torch.allclose(found, distances.min(1).values)
    assert torch.equal(which, distances.argmin(1))


def test_two_answers_to_one_prompt(model, request_):
    with pytest.raises(DataError, match="conflict"):
        GRACE().propose(model, [request_, replace(request_, target_new="yen")])


def test_bad_parameters(model, request_):
    for words, hint in (({"key": "first"}, "key"), ({"epsilon": 0.0}, "epsilon"), ({"n_steps": 0}, "n_steps")):
        with pytest.raises(InvalidParameterError, match=hint):
            GRACE(**words).propose(model, request_)
