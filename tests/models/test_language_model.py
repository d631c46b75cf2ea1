"""Language models: structure of every family, the calls against transformers' own, loading and its errors."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from corrigible.errors import CorrigibleError, DataError, UnsafeFileError  # noqa: E402
from corrigible.models import Dense, Edit, LanguageModel, load_lm  # noqa: E402
from corrigible.models._lm_structure import find_blocks, sizes, stores_inputs_first  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

TEXTS = ["The capital of France is", "It is known that the capital of Italy is Rome.", "Water"]
every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_structure(family):
    model = tiny_language_model(family)
    assert model.n_layers == 3
    for block in model.blocks:
        assert model.part(block.name) is block.module
        assert block.mlp.startswith(block.name)
        assert block.attention.startswith(block.name)
        assert block.attention != block.mlp
        assert sizes(model.part(block.down)) == (64, 32)
    assert stores_inputs_first(model.part(model.blocks[0].down)) == (family == "gpt2")


@every_family
def test_logits_of_rows_are_those_of_the_whole(family):
    model = tiny_language_model(family)
    batch = model.batch([model.encode(t) for t in TEXTS])
    where = [(0, 3), (1, 7), (1, 0), (2, 0)]
    with torch.no_grad():
        whole = model.module(input_ids=batch.ids, attention_mask=batch.mask).logits
        found = model.logits(batch, where)
    assert torch.allclose(found, torch.stack([whole[w] for w in where]), atol=1e-5)


@every_family
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_resumed_passes_give_the_same_bits(family, layer):
    model = tiny_language_model(family)
    batch = model.batch([model.encode(t) for t in TEXTS])
    where = [(0, 4), (1, 8), (2, 0)]
    with torch.no_grad():
        whole = model.logits(batch, where)
        with model.resumed(model.before_block(batch, layer)):
            assert torch.equal(model.logits(batch, where), whole)
        assert torch.equal(model.logits(batch, where), whole)


@every_family
def test_generation_is_greedy(family):
    """Against the plainest loop there is: one text, no cache, the whole sequence anew for each token."""
    model = tiny_language_model(family)
    ends = model.tokenizer.eos_token_id
    expected = []
    for text in TEXTS:
        ids = model.encode(text)
        said = []
        with torch.no_grad():
            while len(said) < 6:
                best = int(model.module(torch.tensor([ids + said])).logits[0, -1].argmax())
                if best == ends:
                    break
                said.append(best)
        expected.append(model.tokenizer.decode(said))
    assert model.generate(TEXTS, max_new_tokens=6) == expected


@every_family
def test_log_probs_and_perplexity(family):
    model = tiny_language_model(family)
    text = TEXTS[1]
    ids = torch.tensor([model.encode(text)])
    with torch.no_grad():
        loss = float(model.module(input_ids=ids, labels=ids).loss)
    found = model.perplexities([TEXTS[0], text])
    np.testing.assert_allclose(np.log(found[1]), loss, rtol=1e-5)
    whole = model.log_probs(
        ["It is known that", "The"], [text.removeprefix("It is known that"), " capital of France is"]
    )
    first = model.log_probs(["It"], [text.removeprefix("It")])[0]
    np.testing.assert_allclose(first[-len(whole[0]) :], whole[0], rtol=1e-4)


@every_family
def test_hidden_states(family):
    model = tiny_language_model(family)
    ids = torch.tensor([model.encode(TEXTS[0])])
    with torch.no_grad():
        states = model.module(input_ids=ids, output_hidden_states=True).hidden_states
    found = model.hidden_states(TEXTS, 1)
    assert [len(f) for f in found] == [len(model.encode(t)) for t in TEXTS]
    np.testing.assert_allclose(found[0], states[2][0].numpy(), rtol=1e-4, atol=1e-5)


def test_every_call_is_counted():
    model = tiny_language_model()
    model.module(input_ids=torch.tensor([[1, 2, 3]]))
    model.log_probs(["The"], [" capital"])
    assert model.calls.forwards == 2
    n = len(model.encode("The") + model.encode(" capital", start=False))
    assert model.calls.tokens == 3 + n


def test_last_token():
    model = tiny_language_model()
    text = "The capital of France is"
    ids = model.encode(text)
    assert model.tokenizer.decode(ids[: model.last_token(text, "France") + 1]) == "The capital of France"
    assert model.last_token(text, "The") == len(model.encode("The")) - 1


def test_folder_round_trip(tmp_path):
    model = tiny_language_model("gpt2")
    model.save(tmp_path / "m")
    again = load_lm(tmp_path / "m")
    batch = model.batch([model.encode(TEXTS[0])])
    assert again.encode(TEXTS[1]) == model.encode(TEXTS[1])
    with torch.no_grad():
        assert torch.equal(again.logits(batch, [(0, 2)]), model.logits(batch, [(0, 2)]))
    assert again.fingerprint() == model.fingerprint()
    assert next(load_lm(tmp_path / "m", dtype="bfloat16").module.parameters()).dtype == torch.bfloat16
    with pytest.raises(DataError, match="overwrite"):
        model.save(tmp_path / "m")


def test_fingerprint_is_of_the_weights_before_edits():
    model, other = tiny_language_model(), tiny_language_model(seed=1)
    edit = Edit("fine_tune", {"model.norm.weight": Dense(torch.ones(32))})
    edit.apply(model)
    assert model.fingerprint() == tiny_language_model().fingerprint() != other.fingerprint()


def test_pickled_weights_are_refused(tmp_path):
    model = tiny_language_model()
    model.save(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(model.module.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match="pickled"):
        load_lm(tmp_path / "m")
    assert load_lm(tmp_path / "m", trust_pickle=True).fingerprint() == model.fingerprint()


def test_damaged_weights(tmp_path):
    tiny_language_model().save(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be loaded"):
        load_lm(tmp_path / "m")


def test_weights_that_are_not_finite(tmp_path):
    model = tiny_language_model()
    with torch.no_grad():
        model.module.model.norm.weight[3] = float("nan")
    model.save(tmp_path / "m")
    with pytest.raises(DataError, match=r"model\.norm\.weight.*finite"):
        load_lm(tmp_path / "m")


@pytest.mark.parametrize(
    ("source", "hint"),
    [("no-such-model", "is none"), ("numpyy", "Did you mean 'numpy'"), ("numpy", "no GGUF file")],
)
def test_what_is_no_model(source, hint):
    with pytest.raises(DataError, match=hint):
        load_lm(source)


def test_folder_without_model(tmp_path):
    with pytest.raises(DataError, match=r"config\.json"):
        load_lm(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="GGUF"):
        load_lm(tmp_path / "notes.txt")


def test_experts_have_no_single_projection():
    experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(4))

    class Router(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = experts

        def forward(self, x):
            return experts[0](x)

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.moe = Router()

        def forward(self, x):
            return self.moe(x)

    network = torch.nn.Module()
    network.layers = torch.nn.ModuleList([Layer()])
    (block,) = find_blocks(network)
    assert (block.mlp, block.down) == ("layers.0.moe", "")
    with pytest.raises(DataError, match="equal blocks"):
        find_blocks(torch.nn.Linear(2, 2))


def test_empty_text():
    model = tiny_language_model()
    with pytest.raises(DataError, match="at least one token"):
        model.generate([""])
    with pytest.raises(DataError, match="two tokens"):
        model.perplexities(["T"])
    assert isinstance(model, LanguageModel)
    assert issubclass(DataError, CorrigibleError)
    assert json.dumps(vars(model.calls))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("starts", [[2, 0, 4], [1, 1, 1], [0, 0, 0]])
def test_texts_go_on_from_beginnings_that_have_run(family, starts):
    model = tiny_language_model(family)
    texts = ["The capital of France is Paris.", "It is", "Hamlet was written by William Shakespeare."]
    rows = [model.encode(t) for t in texts]
    where = [(r, p) for r, row in enumerate(rows) for p in range(starts[r], len(row))]
    whole = model.logits(model.batch(rows), where)
    batch, cut = model.tails(rows, starts)
    assert cut == starts
    for _ in range(2):  # the cache that is given is left as it was
        np.testing.assert_allclose(
            model.logits(batch, [(r, p - cut[r]) for r, p in where]).detach(), whole.detach(), atol=2e-5
        )


def test_networks_that_take_no_positions_run_whole_texts(monkeypatch):
    model = tiny_language_model()
    rows = [model.encode("The capital of France is")]
    forward = model.module.forward
    monkeypatch.setattr(model.module, "forward", lambda input_ids, **words: forward(input_ids, **words))
    batch, cut = model.tails(rows, [2])
    assert (cut, batch.past, batch.ids.shape[1]) == ([0], None, len(rows[0]))
