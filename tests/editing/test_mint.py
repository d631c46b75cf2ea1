"""MINT: bases against the pseudoinverse, attribution against differences, patches against the formula, and what is told."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import MINT, semantic_bases  # noqa: E402
from corrigible.editing import _mint as mint  # noqa: E402
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.models import EditRequest  # noqa: E402
from corrigible.models._lm_structure import stores_inputs_first  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

# Tiny models have 64 neurons a block and write large vectors: one neuron moves them less than it does a real one.
STRONG = {"n_candidates": 64, "max_patches": 40, "strength": 10.0}


def _token(model, request, wanted=" Rome", layer=0):
    row = model.encode(request.text)
    (number,) = model.encode(wanted, start=False)
    return mint._Token(row, number, model.before_block(model.batch([row]), layer))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_token_is_said(family, request_):
    model = tiny_language_model(family)
    edit = MINT(**STRONG).propose(model, request_)
    (told,) = edit.details["requests"]
    edit.apply(model)
    assert model.generate([request_.text], max_new_tokens=1) == [" Rome"]
    assert told["wrong_tokens"] == told["mended_tokens"] == 1
    assert sum(t.rank for t in edit.diff(model)) == len(told["neurons"]) <= sum(map(len, told["patches"]))


def test_bases_are_rows_of_the_pseudoinverse(model):
    head = model.module.get_output_embeddings().weight.detach().double()
    expected = np.linalg.pinv(head.numpy().T)
    np.testing.assert_allclose(semantic_bases(model, [7, 3]).numpy(), expected[[7, 3]], rtol=1e-8, atol=1e-12)


def test_a_base_means_its_token_most(model):
    """Through the matrix that ends the network, each base gives its own token the largest logit."""
    head = model.module.get_output_embeddings().weight.detach().double()
    tokens = list(range(0, 400, 7))
    assert (semantic_bases(model, tokens) @ head.T).argmax(1).tolist() == tokens


def test_attribution_is_activation_times_gradient(model, request_):
    """Against central differences of the probability, in float64, of the neurons of all blocks."""
    model.module.double()
    token = _token(model, request_)
    found = mint._most_attributed(model, token, [0, 1, 2], 192)
    inner = [model.down(layer, by="test") for layer in range(3)]
    entered, _ = model.record(token.start.batch, inputs=inner)

    def probability(layer, position, unit, by):
        def moved(_, args):
            changed = args[0].clone()
            changed[0, position, unit] += by
            return (changed,)

        hook = model.part(inner[layer]).register_forward_pre_hook(moved)
        with torch.no_grad():
            p = model.logits(token.start.batch, [(0, len(token.row) - 1)])[0].softmax(-1)
        hook.remove()
        return float(p[token.wanted])

    def score(layer, unit):
        parts = []
        for position in range(len(token.row)):
            up, down = (probability(layer, position, unit, by) for by in (1e-5, -1e-5))
            parts.append((up - down) / 2e-5 * float(entered[inner[layer]][0, position, unit]))
        return float(np.linalg.norm(parts))

    # Gradients are of the probability in float32, so that only clear differences of rank can be asked for.
    scores = [score(*found[rank]) for rank in (0, 5, 20, 60, 190)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 5 * scores[-1]


@pytest.mark.parametrize(("family", "words"), [("llama", STRONG), ("gpt2", {"strength": 0.7})])
def test_patches_are_the_formula(family, words, request_):
    """Each neuron patched once writes (w + s d) / (1 + s), d over the range of its entries; all else stays."""
    model = tiny_language_model(family)
    token = _token(model, request_)
    wrong, strength = mint._said(model, token), words["strength"]
    edit = MINT(**words).propose(model, request_)
    (told,) = edit.details["requests"]
    assert len(told["neurons"]) == len(told["patches"][0]) > 0
    bases = np.linalg.pinv(model.module.get_output_embeddings().weight.detach().double().numpy().T)
    d = bases[token.wanted] - bases[wrong]
    d /= d.max() - d.min()
    expected = {n: p.detach().clone() for n, p in model.module.named_parameters()}
    for layer, unit in told["neurons"]:
        name = model.down(layer, by="test")
        weight = expected[f"{name}.weight"]
        column = weight[unit] if stores_inputs_first(model.part(name)) else weight[:, unit]
        column.copy_((column + strength * torch.from_numpy(d).float()) / (1 + strength))
    edit.apply(model)
    for name, parameter in model.module.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], atol=1e-6, rtol=0)


def test_trying_in_one_pass_is_patching_one_by_one(model, request_):
    """The candidate chosen is that whose patch, applied as an edit, leaves the wrong token least ahead."""
    editor, token = MINT(**STRONG), _token(model, request_)
    wrong = mint._said(model, token)
    wanted, said = semantic_bases(model, [token.wanted, wrong]).float()
    change = (wanted - said) / ((wanted - said).max() - (wanted - said).min())
    columns = {n: editor._patch(model, n, change) for n in mint._most_attributed(model, token, [0, 1, 2], 12)}
    gaps = {}
    for neuron, column in columns.items():
        name = model.down(neuron[0], by="test")
        delta = mint._column(model, name, neuron[1], column)
        edit = mint.Edit("mint", {f"{name}.weight": delta})
        edit.apply(model)
        p = model.logits(model.batch([token.row]), [(0, len(token.row) - 1)])[0].softmax(-1)
        gaps[neuron] = float(p[wrong] - p[token.wanted])
        edit.revert(model)
    assert mint._best(model, token, columns, wrong) == min(gaps, key=gaps.get)


def test_what_cannot_be_mended_is_taken_back(model, request_):
    edit = MINT(max_patches=1, strength=1e-6).propose(model, request_)
    assert edit.deltas == {}
    assert edit.details["requests"] == [{"wrong_tokens": 1, "mended_tokens": 0, "patches": [[]], "neurons": []}]


def test_what_is_right_is_left_alone(taught):
    edit = MINT().propose(taught(), EditRequest("The capital of {} is", "France", "Paris"))
    assert edit.deltas == {}
    assert edit.details["requests"][0]["wrong_tokens"] == 0


def test_requests_are_taken_on_top_of_each_other(model, request_):
    """The second edit is computed on the model that holds the first."""
    other = EditRequest("The language of {} is", "Brazil", "yen")
    both = MINT(**STRONG).propose(model, [request_, other])
    first = MINT(**STRONG).propose(model, request_)
    first.apply(model)
    second = MINT(**STRONG).propose(model, other)
    assert both.details["requests"] == [first.details["requests"][0], second.details["requests"][0]]
    second.apply(model)
    name = next(iter(second.deltas)).removesuffix(".weight")
    expected = model.part(name).weight.detach().clone()
    second.revert(model)
    first.revert(model)
    both.apply(model)
    torch.testing.assert_close(model.part(name).weight.detach(), expected, atol=1e-5, rtol=0)


def test_bad_parameters(model, request_):
    for words, hint in (
        ({"n_candidates": 0}, "n_candidates"),
        ({"max_patches": 0}, "max_patches"),
        ({"strength": 0.0}, "strength"),
        ({"layers": [3]}, "layer"),
    ):
        with pytest.raises(InvalidParameterError, match=hint):
            MINT(**words).propose(model, request_)
    with pytest.raises(DataError, match="needs at least one request"):
        MINT().propose(model, [])
