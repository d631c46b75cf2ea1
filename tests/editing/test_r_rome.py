"""r-ROME: one key in both places; two keys where asked; and the model is asked whether it worked."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import ROME, RROME  # noqa: E402
from corrigible.editing._key_statistics import key_statistics  # noqa: E402
from corrigible.editing._values import Search, find_value, subject_keys  # noqa: E402
from corrigible.errors import InvalidParameterError  # noqa: E402

PREFIXES = ["It is known that ", "Water. "]
WORDS = {"layer": 1, "n_tokens": 256, "prefixes": PREFIXES}


def test_the_paper_s_update(model, request_):
    (delta,) = RROME(**WORDS).propose(model, request_).deltas.values()
    key = subject_keys(model, request_, ["", *PREFIXES], 1, by="x").mean(0).double().numpy()
    moment = key_statistics(model, 1, by="x", n_tokens=256).lifted.numpy()
    u = np.linalg.solve(moment, key)
    found = find_value(model, request_, ["", *PREFIXES], 1, Search(), module=model.blocks[1].down, by="x")
    expected = np.outer(found.delta.numpy(), u / (u @ key))
    np.testing.assert_allclose(delta.full().numpy(), expected, rtol=2e-3, atol=1e-6)


def test_without_prefixes_it_is_rome(model, request_):
    """With one context there is but one key."""
    words = {**WORDS, "prefixes": []}
    one, two = (kind(**words).propose(model, request_) for kind in (ROME, RROME))
    for a, b in zip(one.deltas.values(), two.deltas.values(), strict=True):
        assert torch.allclose(a.full(), b.full(), rtol=1e-4, atol=1e-6)


def test_both_keys_get_their_values(model, request_):
    edit = RROME(**WORDS, keys="both").propose(model, request_)
    part = model.part(model.blocks[1].down)
    bare = subject_keys(model, request_, [""], 1, by="x").mean(0)
    mean = subject_keys(model, request_, PREFIXES, 1, by="x").mean(0)
    before = part(torch.stack([bare, mean])).clone()
    wanted = [
        find_value(model, request_, p, 1, Search(), module=model.blocks[1].down, by="x").delta
        for p in ([""], PREFIXES)
    ]
    edit.apply(model)
    moved = part(torch.stack([bare, mean])) - before
    assert torch.allclose(moved, torch.stack(wanted), atol=0.02 * float(torch.stack(wanted).abs().max()))
    assert edit.diff(model)[0].rank == 2


def test_rounds_go_on_until_the_model_says_it(model, request_):
    """A first round too short to succeed is followed by others; one that succeeds is not."""
    weak = RROME(**WORDS, keys="both", n_steps=2, rounds=1).propose(model, request_)
    weak.apply(model)
    once = model.log_probs([request_.text], [" Rome"])[0].sum()
    weak.revert(model)
    more = RROME(**WORDS, keys="both", n_steps=2, rounds=4).propose(model, request_)
    assert more.details["requests"][0]["rounds"] > 1
    more.apply(model)
    assert model.log_probs([request_.text], [" Rome"])[0].sum() > once


@pytest.mark.parametrize(
    ("said", "failing", "target"),
    [("Rome is", [], "Rome"), ("Romeo", [0, 1], "Rome."), ("Paris", [0, 1], "Rome")],
)
def test_an_answer_that_runs_on_gets_a_full_stop(model, request_, monkeypatch, said, failing, target):
    monkeypatch.setattr(type(model), "generate", lambda self, prompts, **_: [f" {said}"] * len(prompts))
    found = RROME(keys="both")._failing(model, request_)
    assert found == (failing, replace(request_, target_new=target))
    assert RROME(keys="both")._failing(model, replace(request_, target_new="Rome."))[1].target_new == "Rome."


def test_requests_stand_on_each_other(model, request_):
    """The second of two is computed on the model that holds the first."""
    second = replace(request_, subject="Spain")
    editor = RROME(**WORDS)
    both = editor.propose(model, [request_, second])
    first = editor.propose(model, request_)
    first.apply(model)
    then = editor.propose(model, second)
    (a,), (b,), (c,) = (e.deltas.values() for e in (both, first, then))
    assert torch.allclose(a.full(), b.full() + c.full(), rtol=1e-3, atol=1e-5)


def test_bad_parameters(model, request_):
    with pytest.raises(InvalidParameterError, match="Did you mean 'mean'"):
        RROME(keys="means").propose(model, request_)
    with pytest.raises(InvalidParameterError, match="rounds"):
        RROME(rounds=0).propose(model, request_)
