"""LoRA as an editor: low rank, several blocks, seeded."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import LoRAEdit  # noqa: E402
from corrigible.errors import InvalidParameterError  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_what_training_saw_is_what_the_edit_gives(family, request_):
    """The loss reported at the end of training is the model's with the edit applied."""
    model = tiny_language_model(family)
    edit = LoRAEdit([0, 2], rank=2, prefixes=[""], random_state=0).propose(model, request_)
    assert [t.rank for t in edit.diff(model)] == [2, 2]
    edit.apply(model)
    found = model.log_probs([request_.text], [request_.answer])[0].mean()
    assert -found == pytest.approx(edit.details["nll"], rel=1e-3, abs=1e-4)
    for name, delta in edit.deltas.items():
        assert torch.linalg.matrix_rank(delta.full(), rtol=1e-4) <= 2, name


def test_seeds(model, request_):
    one, same, other = (LoRAEdit(random_state=s).propose(model, request_) for s in (0, 0, 1))
    (a,), (b,), (c,) = (e.deltas.values() for e in (one, same, other))
    assert torch.equal(a.full(), b.full())
    assert not torch.equal(a.full(), c.full())


def test_bad_parameters(model, request_):
    with pytest.raises(InvalidParameterError, match="rank"):
        LoRAEdit(rank=0).propose(model, request_)
    with pytest.raises(InvalidParameterError, match="layer"):
        LoRAEdit([5]).propose(model, request_)
