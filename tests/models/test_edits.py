"""Edits: bits come back, stacks drop any of them, files hold them, and the wrong model is refused."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from corrigible.errors import CorrigibleError, DataError  # noqa: E402
from corrigible.models import Dense, Edit, LowRank, applied_edits, joined, revert_all  # noqa: E402
from corrigible.models._edits import original_parameter, set_parameters  # noqa: E402


def layer(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Linear(5, 4).to(dtype)


def low(seed, rank=2):
    source = torch.Generator().manual_seed(seed)
    left, right = torch.randn(4, rank, generator=source), torch.randn(rank, 5, generator=source)
    return Edit("rome", {"weight": LowRank(left, right)})


def dense(seed):
    source = torch.Generator().manual_seed(seed)
    return Edit("fine_tune", {"weight": Dense(torch.randn(4, 5, generator=source)), "bias": Dense(torch.ones(4))})


def bits(module):
    return {n: p.detach().view(torch.uint8).numpy().tobytes() for n, p in module.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_apply_adds_and_revert_restores(dtype):
    module, edit = layer(dtype), low(1)
    before = bits(module)
    old = module.weight.detach().clone()
    edit.apply(module)
    delta = edit.deltas["weight"]
    expected = (old.float().numpy() + delta.left.numpy() @ delta.right.numpy()).astype(np.float32)
    np.testing.assert_allclose(module.weight.detach().float().numpy(), expected, rtol=0.01, atol=1e-5)
    assert torch.equal(original_parameter(module, "weight"), old)
    edit.revert(module)
    assert bits(module) == before


def test_bits_come_back_where_subtracting_would_lose_them():
    module = layer()
    edit = Edit("fine_tune", {"weight": Dense(torch.full((4, 5), 1e30))})
    before = bits(module)
    edit.apply(module)
    lost = module.weight.detach() - 1e30
    edit.revert(module)
    assert bits(module) == before
    assert not torch.equal(lost, module.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_a_stack_without_one_is_the_others_alone(dtype, dropped):
    edits = [low(1), dense(2), low(3)]
    module, alone = layer(dtype), layer(dtype)
    for edit in edits:
        edit.apply(module)
    edits[dropped].revert(module)
    rest = [e for e in edits if e is not edits[dropped]]
    assert applied_edits(module) == rest
    for edit in rest:
        edit.apply(alone)
    assert bits(module) == bits(alone)
    revert_all(module)
    assert bits(module) == bits(layer(dtype))
    assert applied_edits(module) == []


def test_half_precision_loses_no_small_edit():
    """Sixty-four steps of a 512th each are an eighth, though none of them moves a bfloat16 near 1."""
    module = layer(torch.bfloat16)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for _ in range(64):
        Edit("fine_tune", {"weight": Dense(torch.full((4, 5), 1 / 512))}).apply(module)
    assert float(module.weight.detach()[0, 0]) == 1.125


def test_twice_and_never():
    module, edit = layer(), low(1)
    edit.apply(module)
    with pytest.raises(DataError, match="applied already"):
        edit.apply(module)
    edit.revert(module)
    with pytest.raises(DataError, match="nothing to revert"):
        edit.revert(module)
    with pytest.raises(DataError, match="LanguageModel or a torch module"):
        edit.apply([1])


def test_the_wrong_model():
    with pytest.raises(DataError, match="Did you mean 'weight'"):
        Edit("rome", {"weights": Dense(torch.ones(4, 5))}).apply(layer())
    with pytest.raises(DataError, match=r"shape \(5, 4\)"):
        Edit("rome", {"weight": Dense(torch.ones(5, 4))}).apply(layer())
    module = layer()
    with pytest.raises(DataError):
        Edit("rome", {"weight": Dense(torch.ones(4, 5)), "x": Dense(torch.ones(1))}).apply(module)
    assert bits(module) == bits(layer())


def test_training_in_between_is_noticed():
    module, edit = layer(), low(1)
    edit.apply(module)
    with torch.no_grad():
        module.weight.add_(1.0)
    with pytest.raises(CorrigibleError, match="changed by something else"):
        edit.revert(module)


def test_files(tmp_path):
    edit = joined("r_rome", [low(1), low(2)], {"layer": 3})
    edit.requests = [{"prompt": "ä", "subject": "ä", "target_new": "b"}]
    edit.save(tmp_path / "e.safetensors")
    again = Edit.load(tmp_path / "e.safetensors")
    assert (again.method, again.requests, again.details) == ("r_rome", edit.requests, {"layer": 3})
    assert again.deltas["weight"].rank == 4
    one, two = layer(), layer()
    edit.apply(one)
    again.apply(two)
    assert bits(one) == bits(two)
    assert [p.name for p in tmp_path.iterdir()] == ["e.safetensors"]


def test_bad_files(tmp_path):
    path = tmp_path / "e.safetensors"
    with pytest.raises(DataError, match="none at"):
        Edit.load(path)
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(DataError, match="cannot be read"):
        Edit.load(path)
    low(1).save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="cannot be read"):
        Edit.load(path)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(DataError, match="holds no edit"):
        Edit.load(path)


def test_a_file_names_no_code(tmp_path):
    import json

    from safetensors.torch import save_file

    said = {"format": "corrigible-edit-1", "method": "grace", "deltas": [], "requests": [], "details": {},
            "adaptors": [{"kind": "os.system", "config": {}}]}  # fmt: skip
    save_file({"a": torch.ones(1)}, tmp_path / "e.safetensors", metadata={"edit": json.dumps(said)})
    with pytest.raises(DataError, match="no adaptor of kind 'os.system'"):
        Edit.load(tmp_path / "e.safetensors")


def test_joined_and_diff():
    module = layer()
    both = joined("x", [low(1), dense(2)])
    one, two = low(1), dense(2)
    expected = one.deltas["weight"].full() + two.deltas["weight"].full()
    assert torch.allclose(both.deltas["weight"].full(), expected)
    found = {t.name: t for t in both.diff(module)}
    assert found["weight"].norm == pytest.approx(float(expected.norm()))
    assert found["weight"].relative == pytest.approx(float(expected.norm() / module.weight.detach().norm()))
    assert both.touches == ("weight", "bias")
    both.apply(module)
    assert {t.name: t.relative for t in both.diff(module)} == {t.name: t.relative for t in found.values()}


def test_set_parameters():
    module, other = layer(), copy.deepcopy(layer())
    low(1).apply(other)
    set_parameters(other_without_stack := copy.deepcopy(other), {"weight": module.weight.detach()})
    assert bits(other_without_stack) == bits(module)
    with pytest.raises(DataError, match="carries edits"):
        set_parameters(other, {"weight": module.weight.detach()})
