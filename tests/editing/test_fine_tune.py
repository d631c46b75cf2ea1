"""Constrained fine-tuning against plain torch training of the weight itself."""

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import FineTune  # noqa: E402
from corrigible.errors import InvalidParameterError  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_as_torch_trains_the_weight(family, request_):
    model = tiny_language_model(family)
    edit = FineTune(1, bound=0.01, n_steps=6, learning_rate=3e-3, stop=0.0).propose(model, request_)
    (delta,) = edit.deltas.values()
    twin = copy.deepcopy(model.module)
    weight = twin.get_submodule(model.blocks[1].down).weight.requires_grad_()
    start = weight.detach().clone()
    target = model.encode(request_.answer, start=False)
    head = model.encode(request_.text)
    ids = torch.tensor([head + target])
    labels = torch.tensor([[-100] * len(head) + target])
    optimiser = torch.optim.Adam([weight], lr=3e-3)
    for _ in range(5):  # the sixth pass only measures
        optimiser.zero_grad()
        twin(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        with torch.no_grad():
            weight.copy_(torch.clamp(weight, start - 0.01, start + 0.01))
    assert torch.allclose(delta.full(), (weight - start).detach(), atol=2e-5)
    assert edit.details["steps"] == 5


def test_a_looser_bound_reaches_further(model, request_):
    found = []
    for bound in (1e-4, 1e-2):
        edit = FineTune(1, bound=bound).propose(model, request_)
        (delta,) = edit.deltas.values()
        assert delta.delta.abs().max() <= bound
        found.append(edit.details["nll"])
    assert found[0] > found[1]


def test_bad_parameters(model, request_):
    with pytest.raises(InvalidParameterError, match="bound"):
        FineTune(bound=0.0).propose(model, request_)
