"""ROME: the written key gives the wanted value, by the closed form computed anew; every family can be edited."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import ROME  # noqa: E402
from corrigible.editing._key_statistics import key_statistics  # noqa: E402
from corrigible.editing._rank_one import Site, least_change  # noqa: E402
from corrigible.editing._values import Search, find_value, subject_keys  # noqa: E402
from corrigible.errors import InvalidParameterError  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

PREFIXES = ["It is known that ", "Water. "]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_edited(family, request_):
    model = tiny_language_model(family)
    before = -model.log_probs([request_.text], [" Rome"])[0].mean()
    edit = ROME(1, n_tokens=256, prefixes=[], learning_rate=0.1, clamp=100.0, weight_decay=0.0).propose(
        model, request_
    )
    (name,) = edit.touches
    assert name == model.blocks[1].down + ".weight"
    assert edit.deltas[name].rank == 1
    edit.apply(model)
    after = -model.log_probs([request_.text], [" Rome"])[0].mean()
    assert after < before


def test_closed_form(model, request_):
    """delta (C^-1 k*)' / (k' C^-1 k*) by numpy in double precision, with C from a plain pass over the text."""
    texts = [
        "The currency of Japan is the yen, and the symbol of gold is Au.",
        "Water is made of hydrogen and oxygen.",
    ] * 3
    editor = ROME(1, n_tokens=64, ridge=0.1, texts=texts, prefixes=PREFIXES)
    edit = editor.propose(model, request_)
    part = model.part(model.blocks[1].down)
    seen = []
    hook = part.register_forward_hook(lambda _, args, out: seen.append(args[0].detach()[0].double().numpy()))
    for t in texts:
        model.module(torch.tensor([model.encode(t)]))
    keys = np.concatenate(seen)[:64]
    seen.clear()
    at = []
    for prefix in ["", *PREFIXES]:
        ids = model.encode(prefix + request_.text)
        model.module(torch.tensor([ids]))
        at.append(seen[-1][model.last_token(prefix + request_.text, "France")])
    hook.remove()
    moment = keys.T @ keys / len(keys)
    moment += 0.1 * np.trace(moment) / len(moment) * np.eye(len(moment))
    u = np.linalg.solve(moment, np.mean(at, axis=0))
    found = find_value(model, request_, ["", *PREFIXES], 1, Search(), module=model.blocks[1].down, by="x")
    expected = np.outer(found.delta.numpy(), u / (u @ at[0]))
    (delta,) = edit.deltas.values()
    np.testing.assert_allclose(delta.full().numpy(), expected, rtol=2e-3, atol=1e-6)


def test_the_bare_key_gets_the_value(model, request_):
    """After the write the projection's output at the bare key has moved by exactly what the search asked for."""
    edit = ROME(1, n_tokens=256, prefixes=PREFIXES).propose(model, request_)
    key = subject_keys(model, request_, [""], 1, by="x")[0]
    part = model.part(model.blocks[1].down)
    before = part(key).clone()
    found = find_value(model, request_, ["", *PREFIXES], 1, Search(), module=model.blocks[1].down, by="x")
    edit.apply(model)
    assert torch.allclose(part(key) - before, found.delta, atol=1e-3)


def test_the_least_change_is_least(model):
    """Any other change with the same effect on the keys is larger, measured by C."""
    statistics = key_statistics(model, 1, by="x", n_tokens=256)
    site = Site(1, model.blocks[1].down, statistics)
    source = torch.Generator().manual_seed(0)
    keys, changes = torch.randn(2, 64, generator=source), torch.randn(2, 32, generator=source)
    found = least_change(model, site, keys, changes).full().double()
    assert torch.allclose(found @ keys.double().T, changes.double().T, atol=1e-3)
    size = torch.trace(found @ statistics.lifted @ found.T)
    off = torch.randn(32, 64, generator=source, dtype=torch.float64)
    basis = torch.linalg.qr(keys.double().T)[0]
    other = found + 0.01 * (off - off @ basis @ basis.T)
    assert torch.trace(other @ statistics.lifted @ other.T) > size


def test_statistics_are_kept_and_reused(model, tmp_path):
    first = key_statistics(model, 0, by="x", n_tokens=128, cache=tmp_path)
    (file,) = (tmp_path / "key-statistics").iterdir()
    calls = model.calls.forwards
    again = key_statistics(tiny_language_model(), 0, by="x", n_tokens=128, cache=tmp_path)
    assert torch.equal(first.moment, again.moment)
    assert model.calls.forwards == calls
    file.write_bytes(b"damaged")
    anew = key_statistics(tiny_language_model(), 0, by="x", n_tokens=128, cache=tmp_path)
    assert torch.equal(first.moment, anew.moment)
    assert first.n_tokens == 128
    other = key_statistics(tiny_language_model(seed=1), 0, by="x", n_tokens=128, cache=tmp_path)
    assert not torch.equal(first.moment, other.moment)


def test_the_search_lowers_the_loss(model, request_):
    losses = [
        find_value(model, request_, [""], 1, Search(n_steps=n), module=model.blocks[1].down, by="x").nll
        for n in (1, 5, 20)
    ]
    assert losses[0] > losses[1] > losses[2]
    tight = find_value(model, request_, [""], 1, Search(clamp=0.5), module=model.blocks[1].down, by="x")
    assert tight.delta.norm() <= 0.5 * tight.before.norm() * (1 + 1e-5)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ({"layer": 3}, "0 to 2"), ({"layer": True}, "block's number"), ({"ridge": 0.0}, "ridge"),
        ({"n_steps": 0}, "n_steps"), ({"clamp": -1.0}, "clamp"), ({"learning_rate": "x"}, "learning_rate"),
    ],
)  # fmt: skip
def test_bad_parameters(model, request_, words, hint):
    with pytest.raises(InvalidParameterError, match=hint):
        ROME(**{"n_tokens": 64, **words}).propose(model, request_)
