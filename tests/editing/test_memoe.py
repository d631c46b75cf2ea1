"""MEMoE: other subjects pass by bit for bit, routing against a loop, anchors found alike in one pass and token by token."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import AnchoredExperts, MEMoE  # noqa: E402
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.models import Edit, EditRequest  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

OTHERS = ["The capital of Italy is", "It is known that water is made of hydrogen", "Hamlet is"]
ASKED = [
    EditRequest("The capital of {} is", s, t) for s, t in (("France", "Rome"), ("Spain", "yen"), ("Japan", "gold"))
]


def _adaptor(forms, n_hidden=4, n_experts=3, top_k=2, seed=0):
    source = torch.Generator().manual_seed(seed)
    n = 1 + max(number for _, number in forms)
    return AnchoredExperts(
        "x", torch.randn(n_experts, n_hidden, n_hidden, generator=source),
        torch.randn(n_experts, 2 * n_hidden, generator=source), torch.randn(n, n_hidden, generator=source), forms,
        top_k, 0.5,
    )  # fmt: skip


def _logits(model, texts):
    batch = model.batch([model.encode(t) for t in texts])
    with torch.no_grad():
        return model.module(input_ids=batch.ids, attention_mask=batch.mask).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_learned_and_others_do_not_move(family):
    model = tiny_language_model(family)
    before, said = _logits(model, OTHERS), model.generate(OTHERS, max_new_tokens=4)
    edit = MEMoE(n_steps=100, learning_rate=5e-3, random_state=0).propose(model, ASKED)
    edit.apply(model)
    assert torch.equal(before, _logits(model, OTHERS))
    mixed = model.generate([*OTHERS, *(r.text for r in ASKED)], max_new_tokens=4)
    assert mixed[:3] == said
    assert all(s.startswith(r.answer) for s, r in zip(mixed[3:], ASKED, strict=True))


def test_routing_and_experts_against_a_loop():
    adaptor = _adaptor([([1], 0), ([2], 1)])
    states = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    numbers = torch.tensor([0, 1, 1, 0, 0, 1])
    gates, p = adaptor.route(states, numbers)
    added = adaptor.added(states, gates)
    for i, (x, number) in enumerate(zip(states.double().numpy(), numbers, strict=True)):
        asked = np.concatenate([x / np.sqrt((x**2).mean()), adaptor.anchors[number].double().numpy()])
        logits = adaptor.router.double().numpy() @ asked
        share = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(p[i].numpy(), share, rtol=1e-4)
        kept = np.argsort(share)[-2:]
        expected = sum(0.5 * share[e] * adaptor.experts[e].double().numpy() @ x for e in kept)
        np.testing.assert_allclose(added[i].numpy(), expected, rtol=1e-4, atol=1e-5)
        assert int((gates[i] > 0).sum()) == 2


def test_anchors_hold_until_the_next_and_the_longer_wins():
    adaptor = _adaptor([([5], 0), ([4, 5], 1), ([6, 6], 2)])
    ids = torch.tensor([[1, 5, 2, 4, 5, 3, 6, 6, 9], [4, 4, 6, 1, 6, 5, -1, -1, -1]])
    found, _ = adaptor.find(ids)
    assert found.tolist() == [[-1, 0, 0, 0, 1, 1, 1, 2, 2], [-1, -1, -1, -1, -1, 0, 0, 0, 0]]


@pytest.mark.parametrize("step", [1, 2, 5])
def test_anchors_found_piece_by_piece_are_the_same(step):
    """However a text is cut into passes, also in the middle of an anchor."""
    ids = torch.randint(0, 3, (8, 40), generator=torch.Generator().manual_seed(step))
    adaptor = _adaptor([([0, 1, 2], 0), ([2, 2], 1), ([1, 0, 1, 1, 0], 2)])
    whole, _ = adaptor.find(ids)
    past, parts = None, []
    for at in range(0, 40, step):
        numbers, past = adaptor.find(ids[:, at : at + step], past)
        parts.append(numbers)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert (whole >= 0).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_with_and_without_a_cache(family):
    """Greedy decoding, which sees one token a pass, says what whole passes say, and so do resumed texts."""
    model = tiny_language_model(family)
    edit = MEMoE(n_steps=20, random_state=0).propose(model, ASKED)
    edit.apply(model)
    text = "It is known that the capital of France"
    row = model.encode(text)
    said = model._greedy([row], 5)[0]
    for token in said:
        assert int(model.logits(model.batch([row]), [(0, len(row) - 1)])[0].argmax()) == token
        row.append(token)
    rows = [model.encode(t) for t in (text, OTHERS[0], "Spain is")]
    where = [(i, len(r) - 1) for i, r in enumerate(rows)]
    batch, cut = model.tails(rows, [len(r) - 1 for r in rows])
    ends = model.logits(batch, [(i, p - c) for (i, p), c in zip(where, cut, strict=True)])
    torch.testing.assert_close(ends, model.logits(model.batch(rows), where), atol=1e-4, rtol=1e-4)


def test_a_cache_begun_without_the_edit_is_refused(model, request_):
    edit = MEMoE(n_steps=2, random_state=0).propose(model, request_)
    batch, _ = model.tails([model.encode(request_.text)], [3])
    edit.apply(model)
    with pytest.raises(DataError, match="after this cache was begun"):
        model.logits(batch, [(0, 0)])


def test_two_edits_see_the_same_text(model):
    """Each reads anchors from the cache for itself."""
    edits = [MEMoE(n_steps=80, random_state=0, learning_rate=5e-3).propose(model, r) for r in ASKED[:2]]
    for edit in edits:
        edit.apply(model)
    said = model.generate([r.text for r in ASKED[:2]], max_new_tokens=3)
    assert all(s.startswith(r.answer) for s, r in zip(said, ASKED[:2], strict=True))


def test_embeddings_in_place_of_tokens_pass_by(model, request_):
    ids = model.batch([model.encode(request_.text)]).ids
    inputs = model.module.get_input_embeddings()(ids)
    with torch.no_grad():
        before = model.module(inputs_embeds=inputs).logits
        MEMoE(n_steps=5, random_state=0).propose(model, request_).apply(model)
        assert torch.equal(before, model.module(inputs_embeds=inputs).logits)


def test_a_file_holds_the_anchors(model, request_, tmp_path):
    edit = MEMoE(n_steps=5, random_state=0).propose(model, request_)
    edit.save(tmp_path / "edit.safetensors")
    (old,), (new,) = edit.adaptors, Edit.load(tmp_path / "edit.safetensors").adaptors
    assert old.config() == new.config()
    assert all(torch.equal(a, new.tensors()[n]) for n, a in old.tensors().items())
    assert not new.experts.requires_grad


def test_the_penalty_spreads_the_load(model):
    """Trained with a strong penalty, no expert has more than a half; the shares add to one."""
    told = MEMoE(n_experts=4, balance=5.0, n_steps=60, stop=0.0, random_state=0).propose(model, ASKED).details
    assert sum(told["shares"]) == pytest.approx(1.0, abs=2e-3)
    assert max(told["shares"]) <= 0.6


def test_bad_parameters(model, request_):
    for words, hint in (
        ({"n_experts": 0}, "n_experts"),
        ({"top_k": 5}, "top_k"),
        ({"scale": 0.0}, "scale"),
        ({"noise": -1.0}, "noise"),
        ({"layer": 9}, "layer"),
    ):
        with pytest.raises(InvalidParameterError, match=hint):
            MEMoE(**words).propose(model, request_)
