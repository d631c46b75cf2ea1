"""MEND: factors are torch's gradient, the network starts as the identity, training pays, and files bring it back."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sklearn.exceptions import NotFittedError  # noqa: E402

from corrigible.editing import GRACE, MEND  # noqa: E402
from corrigible.editing._gradient_factors import (  # noqa: E402
    changed,
    gradient_factors,
    prepared,
    projections,
    target_tokens,
    together,
)
from corrigible.editing._mend_network import FactorNetwork, by_shape, transformed  # noqa: E402
from corrigible.editing._mend_training import Course, Editor  # noqa: E402
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.models import EditRequest  # noqa: E402
from corrigible.models._lm_structure import sizes, stores_inputs_first  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

SUBJECTS = ("Italy", "Spain", "Japan", "Brazil", "Water", "Hamlet", "gold", "oxygen")
TARGETS = ("Paris", "yen", "Madrid", "gold")
PROMPT = "The capital of {} is"
SMALL = {"layers": (1, 2), "rank": 8, "n_steps": 40, "batch_size": 4, "check_every": 20, "random_state": 0}


def lessons():
    return [
        EditRequest(PROMPT, s, t, paraphrases=(f"It is known that the capital of {s} is",))
        for i, s in enumerate(SUBJECTS)
        for t in (TARGETS[i % 4], TARGETS[(i + 1) % 4])
    ]


@pytest.fixture(scope="module")
def trained():
    model = tiny_language_model(taught=True)
    return model, MEND(**SMALL).fit(model, lessons(), quiet=True)


def rows_of(model, requests, layer):
    rows, returns_tuple = prepared(model, [target_tokens(model, r, r.text) for r in requests], layer)
    return together(model, rows, layer, returns_tuple)


@pytest.mark.parametrize("family", FAMILIES)
def test_factors_multiply_to_the_gradient_that_torch_gives(family):
    """Each text's factors, in one padded batch, against a pass of that text alone with its own labels."""
    model = tiny_language_model(family)
    asked = [EditRequest(PROMPT, "France", "Rome"), EditRequest("In {} the", "Brazil, it is known, water", "Au")]
    names = projections(model, [1, 2], by="test")
    assert len(names) == (4 if family.startswith("gpt") else 6)
    factors = gradient_factors(model, rows_of(model, asked, 1), names)
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())
    for i, request in enumerate(asked):
        tokens, first = target_tokens(model, request, request.text)
        labels = torch.tensor([[-100] * first + tokens[first:]])
        weights = [model.part(n).weight.requires_grad_() for n in names]
        loss = model.module(input_ids=torch.tensor([tokens]), labels=labels).loss
        expected = torch.autograd.grad(loss, weights)
        model.module.requires_grad_(False)
        for name, full in zip(names, expected, strict=True):
            u, delta = factors[name]
            found = delta[i].T @ u[i]
            found = found.T if stores_inputs_first(model.part(name)) else found
            torch.testing.assert_close(found, full, rtol=1e-3, atol=1e-5 * float(full.abs().max()))


def test_the_network_starts_as_the_standardised_pair():
    source = torch.Generator().manual_seed(0)
    network = FactorNetwork.start(5, 3, 2, 4, source)
    seen = 100 + 3 * torch.randn(50, 8, generator=source)
    for part in seen.split([1, 7, 42]):
        network.observe(part)
    values = seen.double().numpy()
    expected = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    found = network(seen, torch.arange(50) % 2)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_training_can_leave_the_identity_and_layers_differ():
    """At the start the gradient of U, offset and bias is not 0, though what they feed is."""
    source = torch.Generator().manual_seed(0)
    network = FactorNetwork.start(5, 3, 2, 4, source)
    seen = torch.randn(20, 8, generator=source)
    network.observe(seen)
    for weight in network.weights.values():
        weight.requires_grad_()
    (network(seen, torch.zeros(20, dtype=torch.long)) ** 3).sum().backward()
    assert all(float(network.weights[k].grad.abs().sum()) > 0 for k in ("U0", "U1", "b0", "b1", "o0", "o1"))
    assert float(network.weights["o0"].grad[1].abs().sum()) == 0
    with torch.no_grad():
        network.weights["o1"][1] = 2.0
        first, second = (
            network(seen, torch.zeros(20, dtype=torch.long)),
            network(seen, torch.ones(20, dtype=torch.long)),
        )
    torch.testing.assert_close(second, first + 2.0)


def test_tokens_without_gradient_give_nothing():
    """In the last block only the tokens before the target's have one, so that is the rank."""
    model = tiny_language_model()
    editor = MEND(**SMALL).fit(model, lessons()[:4], quiet=True)
    request = EditRequest(PROMPT, "France", "Rome")
    edit = editor.propose(model, request)
    n = len(model.encode(request.answer, start=False))
    last, earlier = (edit.deltas[f"model.layers.{i}.mlp.down_proj.weight"] for i in (2, 1))
    assert last.rank == n < earlier.rank == len(model.encode(request.text)) + n - 1


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_an_identity_editor_descends_along_standardised_factors(family):
    """Against the sum over tokens written out, in the weight's own orientation."""
    model, request = tiny_language_model(family), EditRequest(PROMPT, "France", "Rome")
    names = projections(model, [1, 2], by="test")
    groups = by_shape({n: sizes(model.part(n)) for n in names})
    source = torch.Generator().manual_seed(0)
    networks = {
        shape: FactorNetwork.start(*sizes(model.part(same[0])), len(same), 4, source)
        for shape, same in groups.items()
    }
    rows = rows_of(model, [request], 1)
    factors = gradient_factors(model, rows, names)
    transformed(networks, groups, factors, learn=True)
    editor = Editor(networks, groups, {n: torch.tensor(0.01) for n in names})
    given = editor.changes(model, rows)
    for same in groups.values():
        kept = {n: (factors[n][1][0] != 0).any(-1) for n in same}
        pairs = np.concatenate([torch.cat([f[0][kept[n]] for f in factors[n]], 1).double().numpy() for n in same])
        for n in same:
            u, delta = (f[0][kept[n]].double().numpy() for f in factors[n])
            z = (np.concatenate([u, delta], 1) - pairs.mean(0)) / (pairs.std(0, ddof=1) + 1e-7)
            expected = -0.01 * z[:, u.shape[1] :].T @ z[:, : u.shape[1]]
            found = (given[n][1][0].mT @ given[n][0][0]).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_training_sees_is_what_the_edit_gives(family):
    """The edit loss of a lesson is the model's own with the edit applied."""
    model = tiny_language_model(family)
    editor = MEND(**SMALL).fit(model, lessons(), quiet=True)
    request = EditRequest(PROMPT, "France", "Rome")
    course = Course(model, [request], ["The symbol of gold is Au."], 1)
    with torch.no_grad():
        loss, locality = course.losses(editor.editor_, course.lessons, 1, np.random.default_rng(0), learn=False)
    edit = editor.propose(model, request)
    edit.apply(model)
    found = model.log_probs([request.text], [request.answer])[0].mean()
    assert float(loss) == pytest.approx(-found, rel=1e-3)
    assert float(locality) > 0


def test_rows_get_changes_of_their_own(model):
    """A row with zero factors is the model's own, whatever its neighbour gets."""
    name = model.down(1, by="test")
    batch = model.batch([model.encode("The capital of France is")] * 2)
    where = [(0, 3), (1, 3)]
    plain = model.logits(batch, where)
    u = torch.stack([torch.zeros(1, 64), torch.ones(1, 64)])
    with changed(model, {name: (u, torch.ones(2, 1, 32))}):
        found = model.logits(batch, where)
    assert torch.equal(found[0], plain[0])
    assert not torch.allclose(found[1], plain[1])


def test_training_helps_on_subjects_it_never_saw(trained):
    """Prompt and paraphrase reach the target far better than without the edit; other text moves little."""
    model, editor = trained
    request = EditRequest(PROMPT, "France", "Madrid")
    asked = [request.text, "It is known that the capital of France is"]
    other = ["The symbol of gold is"]
    before = [p.mean() for p in model.log_probs(asked, [" Madrid"] * 2)]
    kept = model.log_probs(other, [" Au"])[0].mean()
    edit = editor.propose(model, request)
    edit.apply(model)
    after = [p.mean() for p in model.log_probs(asked, [" Madrid"] * 2)]
    moved = abs(model.log_probs(other, [" Au"])[0].mean() - kept)
    edit.revert(model)
    gains = np.array(after) - np.array(before)
    assert (gains > 0.5).all()
    assert moved < gains.min()


def test_the_state_kept_is_the_best_on_subjects_held_out():
    model = tiny_language_model(taught=True)
    words = {**SMALL, "validation": 0.25, "check_every": 5, "learning_rate": 0.05, "n_steps": 20}
    editor = MEND(**words).fit(model, lessons(), quiet=True)
    assert [h["step"] for h in editor.history_] == [5, 10, 15, 20]
    best = min(editor.history_, key=lambda h: h["loss"])["step"]
    shorter = MEND(**{**words, "n_steps": best}).fit(model, lessons(), quiet=True)
    assert shorter.history_ == editor.history_[: best // 5]
    assert shorter.step_sizes_ == editor.step_sizes_


def test_requests_together_are_the_sum_of_each(trained):
    model, editor = trained
    asked = [EditRequest(PROMPT, "France", "Rome"), EditRequest("The symbol of {} is", "gold", "yen")]
    both, *each = (editor.propose(model, r) for r in (asked, asked[0], asked[1]))
    for name, delta in both.deltas.items():
        torch.testing.assert_close(delta.full(), each[0].deltas[name].full() + each[1].deltas[name].full())


def test_training_for_edits_of_several_requests():
    model = tiny_language_model(taught=True)
    editor = MEND(**{**SMALL, "n_edits": 3, "n_steps": 5, "validation": 0.5}).fit(model, lessons(), quiet=True)
    assert np.isfinite([h["loss"] for h in editor.history_]).all()
    assert len(editor.propose(model, lessons()[::2]).requests) == 8


def test_an_edit_on_an_edited_model(trained):
    """A second edit is computed on the model that holds the first."""
    model, editor = trained
    first = editor.propose(model, EditRequest(PROMPT, "France", "Rome"))
    asked = EditRequest(PROMPT, "Spain", "yen")
    alone = editor.propose(model, asked)
    first.apply(model)
    after = editor.propose(model, asked)
    first.revert(model)
    name = "model.layers.1.mlp.down_proj.weight"
    assert not torch.allclose(alone.deltas[name].full(), after.deltas[name].full())


def test_a_file_brings_the_editor_back(trained, tmp_path):
    model, editor = trained
    editor.save(tmp_path / "mend.safetensors")
    again = MEND.load(tmp_path / "mend.safetensors")
    request = EditRequest(PROMPT, "France", "Rome")
    one, two = editor.propose(model, request), again.propose(model, request)
    assert all(torch.equal(d.full(), two.deltas[n].full()) for n, d in one.deltas.items())
    assert again.history_ == editor.history_
    assert again.rank == 8
    with pytest.raises(DataError, match="trained for a model with fingerprint"):
        again.propose(tiny_language_model(seed=1), request)


def test_files_that_hold_no_editor(trained, tmp_path):
    model, editor = trained
    with pytest.raises(DataError, match="There is none at"):
        MEND.load(tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read"):
        MEND.load(tmp_path / "broken.safetensors")
    editor.propose(model, lessons()[0]).save(tmp_path / "edit.safetensors")
    with pytest.raises(DataError, match="holds no trained MEND"):
        MEND.load(tmp_path / "edit.safetensors")


def test_half_precision():
    model = tiny_language_model(taught=True)
    model.module.to(torch.bfloat16)
    editor = MEND(**{**SMALL, "n_steps": 3}).fit(model, lessons(), quiet=True)
    edit = editor.propose(model, lessons()[0])
    edit.apply(model)
    assert np.isfinite(model.log_probs(["The capital of Italy is"], [" Paris"])[0]).all()


def test_bad_input(model, request_):
    with pytest.raises(NotFittedError, match="must be trained before it edits"):
        MEND().propose(model, request_)
    with pytest.raises(NotFittedError, match="must be trained before it is saved"):
        MEND().save("x.safetensors")
    for name, value in (("rank", 0), ("c_edit", 0.0), ("validation", 1.0), ("n_edits", 0)):
        with pytest.raises(InvalidParameterError, match=name):
            MEND(**{name: value}).fit(model, lessons())
    with pytest.raises(InvalidParameterError, match="layer"):
        MEND([7]).fit(model, lessons())
    with pytest.raises(DataError, match="texts that must not move"):
        MEND().fit(model, lessons(), [" "])
    with pytest.raises(DataError, match="at least one request"):
        MEND().fit(model, [])
    edit = GRACE().propose(model, request_)
    edit.apply(model)
    with pytest.raises(DataError, match="without edits"):
        MEND().fit(model, lessons())


def test_training_that_diverges_says_so(model):
    with pytest.raises(DataError, match="keep losses finite"):
        MEND(**{**SMALL, "step_size": 1e3, "learning_rate": 1e3, "step_rate": 1e3}).fit(
            model, lessons(), quiet=True
        )
