"""Canonical examples: the budget is kept, training is that of torch, the choice is by paraphrases, ensembles add up."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import (  # noqa: E402
    GRACE,
    CanonicalExamples,
    CanonicalTuning,
    FineTune,
    LogitEnsemble,
    LoRAEdit,
    canonical_hits,
)
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.models import Edit, EditRequest, applied_edits  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._editors import bits  # noqa: E402

TEXTS = ["It is known that water is made of hydrogen.", "Hamlet was written by William Shakespeare."]
SMALL = {"texts": TEXTS, "max_tokens": 24}


@pytest.fixture
def asked():
    return [
        EditRequest("The capital of {} is", "France", "Rome", paraphrases=("The capital city of France is",)),
        EditRequest("The language of {} is", "Brazil", "yen", paraphrases=("In Brazil, the language is",)),
    ]


def loss(model, texts=TEXTS[1:]):
    """Return the mean loss of a token on the passages that measure the budget, from the network itself."""
    found = []
    for text in texts:
        ids = torch.tensor([model.encode(text)[:24]])
        with torch.no_grad():
            log_p = model.module(input_ids=ids).logits[0, :-1].log_softmax(-1)
        found.append(-log_p.gather(1, ids[0, 1:, None])[:, 0])
    return float(torch.cat(found).mean())


# --- training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_full_training_is_adam_on_the_weights(family, asked):
    """Three epochs, divergence and cosine included, against torch training a copy of the network."""
    model = tiny_language_model(family)
    edit = CanonicalTuning(
        learning_rate=1e-3, n_epochs=3, kl_weight=0.2, budget=1e9, random_state=0, **SMALL
    ).propose(model, asked)
    network = copy.deepcopy(model.module).requires_grad_(True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.995))
    passage = torch.tensor([model.encode(TEXTS[0])[:24]])
    with torch.no_grad():
        original = model.module(input_ids=passage).logits[0, :-1].log_softmax(-1)
    for epoch in range(3):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * epoch / 3)) / 2
        optimiser.zero_grad()
        total = 0.0
        for request in asked:
            head, tail = model.encode(request.text), model.encode(request.answer, start=False)
            ids = torch.tensor([head + tail])
            log_p = network(input_ids=ids).logits[0, len(head) - 1 : -1].log_softmax(-1)
            total = total - log_p.gather(1, torch.tensor(tail)[:, None]).mean() / len(asked)
        now = network(input_ids=passage).logits[0, :-1].log_softmax(-1)
        (total + 0.2 * (original.exp() * (original - now)).sum()).backward()
        optimiser.step()
    moved, gaps = 0.0, []
    for name, parameter in network.named_parameters():
        before = dict(model.module.named_parameters())[name]
        gaps.append((edit.deltas[name].delta - (parameter - before)).abs().detach().ravel())
        moved = max(moved, float((parameter - before).abs().max().detach()))
    assert moved > 1.5e-3
    # Adam divides by gradients near zero: where these are rounding, as of a key's bias, an entry takes another sign.
    assert float((torch.cat(gaps) > 5e-4).double().mean()) < 1e-3
    assert float(torch.cat(gaps).median()) < 1e-6


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_low_rank_training(family, asked):
    """All feed-forward projections of the middle blocks, of the rank asked for, and the loss falls."""
    model = tiny_language_model(family)
    words = {"share": 0.34, "n_epochs": 5, "learning_rate": 0.01, "budget": 1e9, "random_state": 0}
    edit = CanonicalTuning(2, **words, **SMALL).propose(model, asked)
    assert all(".1.mlp." in name for name in edit.deltas)
    assert len(edit.deltas) == (3 if family == "llama" else 2)
    assert {d.rank for d in edit.deltas.values()} == {2}
    losses = [e["nll"] for e in edit.details["epochs"]]
    assert losses[-1] < losses[0]


def test_the_last_epoch_within_the_budget_is_kept(model, asked):
    """What is kept has the deviation that is told, and a budget below all epochs leaves the model alone."""
    words = {"learning_rate": 3e-3, "n_epochs": 6, "kl_weight": 0.0, "random_state": 0, **SMALL}
    free = CanonicalTuning(budget=1e9, **words).propose(model, asked)
    rises = [e["deviation"] for e in free.details["epochs"]]
    budget = float(np.median(rises))
    kept = CanonicalTuning(budget=budget, **words).propose(model, asked)
    expected = [r for r in rises if r < budget][-1]
    assert kept.details["deviation"] == pytest.approx(expected, rel=1e-6)
    before = loss(model)
    kept.apply(model)
    assert loss(model) / before - 1 == pytest.approx(expected, abs=1e-5)
    kept.revert(model)
    none = CanonicalTuning(budget=1e-12, **{**words, "learning_rate": 0.5}).propose(model, asked)
    assert none.deltas == {}
    assert none.touches == ()


# --- choosing --------------------------------------------------------------------------------------------


def test_an_editor_over_the_budget_is_scaled_down(taught):
    """The largest of the scales whose loss on the passages, measured anew, is within the budget."""
    model, texts = taught(), ["The symbol of gold is Au.", "The capital of France is Paris."]
    asked = EditRequest("The capital of {} is", "France", "Madrid")
    editor = LoRAEdit(random_state=0, n_steps=40)
    whole = editor.propose(model, asked)
    before = loss(model, texts[1:])

    def rise(scale):
        part = {n: replace(d, left=d.left * scale) for n, d in whole.deltas.items()}
        edit = Edit("lora_edit", part)
        edit.apply(model)
        found = loss(model, texts[1:]) / before - 1
        edit.revert(model)
        return found

    scales = [round(1 - 0.1 * k, 1) for k in range(10)]
    budget = (rise(0.5) + rise(0.6)) / 2
    expected = next(s for s in scales if rise(s) < budget)
    assert expected < 1
    edit = CanonicalExamples([editor], budget=budget, texts=texts, max_tokens=24).propose(model, asked)
    assert edit.details["scale"] == expected
    assert edit.details["deviation"] == pytest.approx(rise(expected), rel=1e-3)
    (name,) = whole.deltas
    torch.testing.assert_close(edit.deltas[name].full(), expected * whole.deltas[name].full())


def test_fit_chooses_by_paraphrases(taught):
    """Of an editor that does nothing and one that works, the one with hits on the paraphrases is taken for others."""
    model = taught()
    asked = [
        EditRequest(
            "The capital of {} is", "France", "Madrid", paraphrases=("It is known. The capital of France is",)
        )
    ]
    idle, works = FineTune(1, learning_rate=1e-9), LoRAEdit([1], random_state=0)
    editor = CanonicalExamples([idle, works], budget=10.0, threshold=0.2, random_state=0, **SMALL).fit(model, asked)
    assert [t.hit_rate for t in editor.trials_] == [0.0, 1.0]
    assert editor.chosen_ == 1
    other = EditRequest("The symbol of {} is", "gold", "Paris")
    assert editor.propose(model, other).details["chosen"].startswith("LoRAEdit")
    # Without fit, the canonical example itself decides.
    assert (
        CanonicalExamples([idle, works], budget=10.0, **SMALL)
        .propose(model, asked)
        .details["chosen"]
        .startswith("LoRAEdit")
    )


def test_hits_are_products_of_probabilities(model):
    prompts, targets = ["The capital of France is", "Water is"], [" Rome", " made of hydrogen"]
    products = np.array([np.exp(p).prod() for p in model.log_probs(prompts, targets)])
    for threshold in (*products * 0.999, *np.minimum(products * 1.001, 1.0)):
        expected = products >= threshold
        np.testing.assert_array_equal(canonical_hits(model, prompts, targets, threshold=threshold), expected)


def test_the_model_is_left_as_it_is(model, asked):
    before = bits(model)
    editor = CanonicalExamples([CanonicalTuning(n_epochs=1), FineTune()], random_state=0, **SMALL)
    editor.fit(model, asked).propose(model, asked)
    with pytest.raises(DataError, match="change weights"):
        CanonicalExamples([GRACE(n_steps=1)], **SMALL).propose(model, asked)
    assert bits(model) == before
    assert not applied_edits(model)
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())


# --- the ensemble ----------------------------------------------------------------------------------------


@pytest.fixture
def edit(model, asked):
    return FineTune(1, bound=0.05).propose(model, asked)


def test_a_model_with_its_own_change_is_the_edited_model(model, edit, asked):
    both = LogitEnsemble(tiny_language_model(), model, edit)
    prompts, targets = [r.text for r in asked], [r.answer for r in asked]
    found = both.log_probs(prompts, targets)
    said = both.generate(prompts, max_new_tokens=4)
    edit.apply(model)
    for a, b in zip(found, model.log_probs(prompts, targets), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert said == model.generate(prompts, max_new_tokens=4)


def test_weight_and_formula(model, edit, asked):
    large = tiny_language_model(seed=1)
    batch = large.batch([large.encode(asked[0].text)])
    where = [(0, p) for p in range(batch.lengths[0])]
    with torch.no_grad():
        own, small = large.logits(batch, where), model.logits(batch, where).log_softmax(-1)
        edit.apply(model)
        edited = model.logits(batch, where).log_softmax(-1)
        edit.revert(model)
        for weight in (0.0, 0.3, 2.0):
            found = LogitEnsemble(large, model, edit, weight=weight).logits(batch, where)
            torch.testing.assert_close(found, own + weight * (edited - small))


def test_the_ensemble_keeps_a_budget(model, asked):
    large = tiny_language_model(seed=1)
    edit = LoRAEdit([1], random_state=0).propose(model, asked)
    before = loss(large)
    weights = [1.0, 0.5, 0.25, 0.0625]

    def rise(weight):
        both = LogitEnsemble(large, model, edit, weight=weight)
        rows = [large.encode(TEXTS[1])[:24]]
        return -np.concatenate(both.token_log_probs(rows, [1])).mean() / before - 1

    rises = [rise(w) for w in weights]
    budget = max(sorted(rises)[1], 1e-4) * 1.01
    expected = next(w for w, r in zip(weights, rises, strict=True) if r < budget)
    assert LogitEnsemble(large, model, edit).within(budget, weights=weights, **SMALL).weight == expected
    none = LogitEnsemble(large, model, edit).within(1e-12, weights=[50.0], **SMALL)
    prompts, targets = [asked[0].text], [asked[0].answer]
    assert none.weight == 0.0
    np.testing.assert_allclose(none.log_probs(prompts, targets)[0], large.log_probs(prompts, targets)[0], rtol=1e-5)


def test_what_cannot_be_put_together(model, edit):
    other = tiny_language_model(seed=1)
    other.tokenizer = copy.deepcopy(other.tokenizer)
    other.tokenizer.add_tokens(["<new>"])
    with pytest.raises(DataError, match="one tokenizer"):
        LogitEnsemble(other, model, edit)
    edit.apply(model)
    with pytest.raises(DataError, match="Revert it first"):
        LogitEnsemble(tiny_language_model(seed=1), model, edit)


# --- bad input -------------------------------------------------------------------------------------------


def test_bad_parameters(model, asked):
    for words, hint in (
        ({"budget": 0.0}, "budget"), ({"threshold": 0.0}, "threshold"), ({"scales": [2.0]}, "scales"),
        ({"candidates": []}, "at least one"), ({"candidates": [3]}, "editors or names"), ({"n_texts": 0}, "n_texts"),
        ({"candidates": ["causal_trace"]}, "editors or names"), ({"max_tokens": 1}, "max_tokens"),
    ):  # fmt: skip
        with pytest.raises(InvalidParameterError, match=hint):
            CanonicalExamples(**{"candidates": [FineTune()], **words}).propose(model, asked)
    for words, hint in (
        ({"rank": 0}, "rank"), ({"share": 0.0}, "share"), ({"kl_weight": -1.0}, "kl_weight"), ({"n_epochs": 0}, "n_epochs"),
        ({"learning_rate": 0.0}, "learning_rate"), ({"budget": 0.0}, "budget"),
    ):  # fmt: skip
        with pytest.raises(InvalidParameterError, match=hint):
            CanonicalTuning(**words).propose(model, asked)
    with pytest.raises(DataError, match="paraphrases"):
        CanonicalExamples([FineTune()]).fit(model, replace(asked[0], paraphrases=()))
