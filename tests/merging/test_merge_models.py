"""The driver: what it writes, from every form of model, and what it refuses."""

import hashlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from corrigible._core.tensor_files import TensorFiles, TensorWriter, read_tensors, write_tensors
from corrigible.cli import app
from corrigible.merging import linear, merge_models, slerp, ties

pytest.importorskip("yaml")
SHAPES = {
    "model.embed_tokens.weight": (11, 4),
    **{f"model.layers.{i}.mlp.weight": (6, 4) for i in range(4)},
    **{f"model.layers.{i}.norm.weight": (4,) for i in range(4)},
    "model.norm.weight": (4,),
}
TOKENS = {"model": {"vocab": {c: i for i, c in enumerate("abcdefghijk")}}, "added_tokens": []}


def weights(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def model(folder, seed, dtype=np.float32, **config):
    folder.mkdir()
    write_tensors(folder / "model.safetensors", weights(seed, dtype))
    config = {"model_type": "toy", "num_hidden_layers": 4, **config}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENS))
    return str(folder)


@pytest.fixture
def models(tmp_path):
    return [model(tmp_path / name, seed) for seed, name in enumerate(("base", "a", "b"))]


def recipe(method, models, base=None, **more):
    found = {"merge_method": method, "models": [m if isinstance(m, dict) else {"model": m} for m in models], **more}
    return found | ({"base_model": base} if base else {})


def merged(given, out, **words):
    return read_tensors(merge_models(given, out, **words).out / "model.safetensors")


def test_each_tensor_is_the_merger_s(models, tmp_path):
    w = [weights(s) for s in range(3)]
    found = merged(recipe("linear", models[1:]), tmp_path / "linear")
    assert list(found) == list(SHAPES)
    for name, value in found.items():
        np.testing.assert_array_equal(value, linear([w[1][name], w[2][name]]))
    parts = [
        {"model": m, "parameters": {"density": 0.5, "weight": v}} for m, v in zip(models[1:], (1, 0.3), strict=True)
    ]
    found = merged(recipe("ties", parts, models[0], parameters={"lambda": 0.7}), tmp_path / "ties")
    for name, value in found.items():
        expected = ties([w[1][name], w[2][name]], w[0][name], density=0.5, weights=[1, 0.3], scale=0.7)
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("task_arithmetic", {}), ("dare_linear", {"density": 0.5}), ("dare_ties", {"density": 0.5, "normalize": True}),
     ("breadcrumbs", {"gamma": 0.1}), ("breadcrumbs_ties", {}), ("sce", {"select_topk": 0.5}), ("model_stock", {})],
)  # fmt: skip
def test_models_that_are_their_base_give_it_back(models, tmp_path, method, parameters):
    """Named as two copies, since a base among the models is left out."""
    copies = [model(tmp_path / f"copy{i}", 0) for i in range(2)]
    found = merged(recipe(method, copies, models[0], parameters=parameters), tmp_path / "out")
    for name, value in weights(0).items():
        np.testing.assert_array_equal(found[name], value)


def test_threads_shards_and_seed(models, tmp_path):
    given = recipe("dare_ties", models[1:], models[0], parameters={"density": 0.4})
    one = merged(given, tmp_path / "one", n_threads=1, rng=5)
    four = merge_models(given, tmp_path / "four", n_threads=4, rng=5, shard_bytes=300)
    index = json.loads((four.out / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 1
    with TensorFiles([four.out / f for f in files], "x") as sharded:
        for name, value in one.items():
            t = sharded.tensors[name]
            np.testing.assert_array_equal(t.read(0, t.size).reshape(t.shape), value)
    again = merged(
        recipe("linear", [str(four.out), str(tmp_path / "one")]), tmp_path / "again"
    )  # shards are read too
    for name, value in one.items():
        np.testing.assert_array_equal(again[name], value)
    other = merged(given, tmp_path / "other", rng=6)
    assert not np.array_equal(other["model.norm.weight"], one["model.norm.weight"])


def test_files_beside_the_weights(models, tmp_path):
    path = tmp_path / "merge.yml"
    path.write_text(f"merge_method: slerp\nmodels:\n- model: {models[1]}\n- model: {models[2]}\ndtype: bfloat16\n")
    report = merge_models(path, tmp_path / "out")
    assert json.loads((report.out / "config.json").read_text())["dtype"] == "bfloat16"
    assert (report.out / "tokenizer.json").is_file()
    assert (report.out / "merge.yaml").read_text() == path.read_text()
    card = (report.out / "README.md").read_text()
    assert "Animating Rotation" in card
    assert "MergeKit" in card
    assert models[2] in card
    assert "causal language model" in report.unchecked
    w = [weights(s) for s in (1, 2)]
    found = read_tensors(report.out / "model.safetensors")
    for name, value in found.items():
        np.testing.assert_allclose(value, slerp([w[0][name], w[1][name]]), rtol=2**-8)


def test_gradients_and_filters(models, tmp_path):
    parameters = {"weight": [{"filter": "mlp", "value": [0.0, 1.0]}, {"value": 0.25}]}
    parts = [{"model": models[1], "parameters": parameters}, {"model": models[2], "parameters": {"weight": 1}}]
    given = recipe("linear", parts, parameters={"normalize": False})
    found, (a, b) = merged(given, tmp_path / "out"), (weights(1), weights(2))
    for i in range(4):
        name = f"model.layers.{i}.mlp.weight"
        np.testing.assert_allclose(found[name], i / 3 * a[name] + b[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        found["model.norm.weight"], 0.25 * a["model.norm.weight"] + b["model.norm.weight"], rtol=1e-5
    )


def test_slices_stack_layers(models, tmp_path):
    slices = [{"sources": [{"model": models[1], "layer_range": [0, 3]}]},
              {"sources": [{"model": models[2], "layer_range": [1, 4]}]}]  # fmt: skip
    report = merge_models({"merge_method": "passthrough", "slices": slices}, tmp_path / "out")
    found, (a, b) = read_tensors(report.out / "model.safetensors"), (weights(1), weights(2))
    assert json.loads((report.out / "config.json").read_text())["num_hidden_layers"] == 6
    for i in range(6):
        source, j = (a, i) if i < 3 else (b, i - 2)
        np.testing.assert_array_equal(found[f"model.layers.{i}.mlp.weight"], source[f"model.layers.{j}.mlp.weight"])
    np.testing.assert_array_equal(found["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    np.testing.assert_array_equal(found["model.norm.weight"], b["model.norm.weight"])


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_half_precision_files(tmp_path, dtype):
    kind = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    two = [model(tmp_path / n, s, kind) for s, n in ((1, "a"), (2, "b"))]
    report = merge_models(recipe("linear", two), tmp_path / "out")
    with TensorFiles([report.out / "model.safetensors"], "x") as files:
        for name, t in files.tensors.items():
            assert t.kind == kind.name
            expected = linear([weights(s, kind)[name] for s in (1, 2)])
            np.testing.assert_array_equal(t.read(0, t.size), expected.reshape(-1).view(t.read(0, 1).dtype))


def test_integer_buffers_are_copied(tmp_path):
    for i in range(2):
        write_tensors(tmp_path / f"{i}.safetensors", {"w": np.full(2, float(i)), "steps": np.array([3, 4])})
    found = merged(recipe("linear", [str(tmp_path / f"{i}.safetensors") for i in range(2)]), tmp_path / "out")
    np.testing.assert_array_equal(found["steps"], [3, 4])


@pytest.mark.parametrize("turned", [False, True])
def test_adapters_are_applied_to_their_base(models, tmp_path, turned):
    rng = np.random.default_rng(9)
    shape = (4, 6) if turned else (6, 4)
    base = {"h.0.c.weight": rng.normal(size=shape).astype(np.float32), "n.weight": np.ones(3, np.float32)}
    (tmp_path / "plain").mkdir()
    write_tensors(tmp_path / "plain/model.safetensors", base)
    products = []
    for i in range(2):
        down, up = rng.normal(size=(2, 4)).astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
        folder = tmp_path / f"adapter{i}"
        folder.mkdir()
        stem = "base_model.model.h.0.c.lora_"
        write_tensors(folder / "adapter_model.safetensors", {f"{stem}A.weight": down, f"{stem}B.weight": up})
        config = {
            "lora_alpha": 8,
            "r": 2,
            "fan_in_fan_out": turned,
            "base_model_name_or_path": str(tmp_path / "plain"),
        }
        (folder / "adapter_config.json").write_text(json.dumps(config))
        products.append(4 * (up @ down).T if turned else 4 * up @ down)
    named = [f"{tmp_path}/plain+{tmp_path}/adapter0", str(tmp_path / "adapter1")]
    found = merged(recipe("linear", named), tmp_path / "out")
    np.testing.assert_allclose(found["h.0.c.weight"], base["h.0.c.weight"] + np.mean(products, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found["n.weight"], base["n.weight"])


@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_a_real_architecture_loads_and_is_measured(tmp_path, family):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    sizes = (
        {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        if family == "Llama" else {"n_embd": 16, "n_layer": 2, "n_head": 2}
    )  # fmt: skip
    words = {w: i for i, w in enumerate(["[UNK]", *"abcdefghijklmnopqrstuvwxyz", "the", "and"])}
    tokens = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    for seed in range(2):
        torch.manual_seed(seed)
        config = getattr(transformers, f"{family}Config")(vocab_size=len(words), **sizes)
        getattr(transformers, f"{family}{'ForCausalLM' if family == 'Llama' else 'LMHeadModel'}")(
            config
        ).save_pretrained(tmp_path / f"{seed}")
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokens).save_pretrained(tmp_path / f"{seed}")
    report = merge_models(recipe("linear", [str(tmp_path / f"{s}") for s in range(2)]), tmp_path / "out")
    assert list(report.perplexities) == ["merged", str(tmp_path / "0"), str(tmp_path / "1")]
    assert all(5 < p < 100 for p in report.perplexities.values())  # random models guess among 29 words


# --- what is refused: one sentence, exit 2, nothing written ---------------------------------------------------


def refused(tmp_path, given, *words):
    """Run the command on a recipe it must refuse; return what it says."""
    path, out = tmp_path / "recipe.yml", tmp_path / "refused"
    path.write_text(given if isinstance(given, str) else json.dumps(given))  # JSON is YAML
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["merge", str(path), "--out", str(out), *words])
    assert result.exit_code == 2, result.output
    said = result.stderr
    assert said.startswith("corrigible: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before
    return said


def test_other_architecture(models, tmp_path):
    (tmp_path / "c").mkdir()
    write_tensors(tmp_path / "c/model.safetensors", {f"x{i:02d}": np.ones(2) for i in range(12)})
    said = refused(tmp_path, recipe("linear", [models[1], str(tmp_path / "c")]))
    assert "model.embed_tokens.weight (11x4 in" in said
    assert said.count(" in ") >= 20  # ten tensors, in two models each
    assert "and 12 more" in said  # 10 + 12 tensors differ
    heads = model(tmp_path / "heads", 3, num_attention_heads=4)
    two = model(tmp_path / "two", 3, num_attention_heads=2)
    assert "num_attention_heads is 4" in refused(tmp_path, recipe("linear", [heads, two]))


def test_other_tokens(models, tmp_path):
    other = {"model": {"vocab": {**TOKENS["model"]["vocab"], "k": 9, "j": 10}}}
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(other))
    said = refused(tmp_path, recipe("linear", models[1:]))
    assert "differ in 2 tokens: 'j' (9 in" in said
    merge_models(
        recipe("linear", models[1:], tokenizer_source=models[1]), tmp_path / "out"
    )  # the user's own choice
    assert json.loads((tmp_path / "out/tokenizer.json").read_text()) == TOKENS


@pytest.mark.parametrize("kept", [4, 60, 400, -8])
def test_truncated_file(models, tmp_path, kept):
    path = tmp_path / "b" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    said = refused(tmp_path, recipe("linear", models[1:]))
    assert "truncated" in said
    assert "model.safetensors" in said


@pytest.mark.parametrize("text", [b"x" * 40, b"\x02" + b"\0" * 7 + b"[]", b"\x08" + b"\0" * 7 + b'{"a":{}}'])
def test_no_safetensors_file(models, tmp_path, text):
    (tmp_path / "b" / "model.safetensors").write_bytes(text)
    assert "safetensors" in refused(tmp_path, recipe("linear", models[1:]))


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare_linear", "passthrough"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(models, tmp_path, method, value):
    w = weights(2)
    w["model.layers.2.mlp.weight"][3, 1] = value
    write_tensors(tmp_path / "b/model.safetensors", w)
    base = models[0] if method in ("ties", "dare_linear") else None
    given = recipe(method, models[1:], base)
    if method == "passthrough":
        given = {"merge_method": method, "slices": [{"sources": [{"model": models[2], "layer_range": [0, 4]}]}]}
    said = refused(tmp_path, given)
    assert f"model.layers.2.mlp.weight of {models[2]}" in said
    assert "finite" in said


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [("merge_metod", "linear", "'merge_method'"), ("base_modle", "x", "'base_model'"),
     ("parameters", {"wieght": 1}, "'weight'"), ("dtype", "flot16", "dtype"), ("merge_method", "tie", "'ties'"),
     ("slices", [], "either models or slices"), ("tokenizer_source", "union", "union")],
)  # fmt: skip
def test_unknown_keys(models, tmp_path, key, value, hint):
    assert hint in refused(tmp_path, recipe("linear", models[1:]) | {key: value})


def test_other_recipes_that_are_refused(models, tmp_path):
    assert "is no YAML" in refused(tmp_path, "merge_method: [linear")
    assert "must be a mapping" in refused(tmp_path, "- 1\n")
    assert "needs base_model" in refused(tmp_path, recipe("ties", models[1:]))
    assert "two models" in refused(tmp_path, recipe("slerp", models))
    assert "no model at" in refused(tmp_path, recipe("linear", [models[1] + "x"]))
    assert "layer_range" in refused(
        tmp_path, {"merge_method": "linear", "slices": [{"sources": [{"model": models[1]}]}]}
    )
    said = refused(tmp_path, recipe("linear", [{"model": models[1], "parameters": {"weight": "much"}}, models[2]]))
    assert "'weight' must be a number" in said
    far = {"merge_method": "passthrough", "slices": [{"sources": [{"model": models[1], "layer_range": [0, 2]}]},
           {"sources": [{"model": models[2], "layer_range": [3, 9]}]}]}  # fmt: skip
    assert "layer" in refused(tmp_path, far)


def test_output_folder_with_content(models, tmp_path):
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "mine.txt").write_text("x")
    assert "holds other files" in refused(tmp_path, recipe("linear", models[1:]))
    merge_models(recipe("linear", models[1:]), tmp_path / "out")
    with pytest.raises(Exception, match="--overwrite"):
        merge_models(recipe("linear", models[1:]), tmp_path / "out")
    merge_models(recipe("linear", models[1:]), tmp_path / "out", overwrite=True)


def test_pickled_weights(models, tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "b" / "model.safetensors").unlink()
    state = {k: torch.tensor(v) for k, v in weights(2).items()}
    torch.save(state, tmp_path / "b" / "pytorch_model.bin")
    assert "--trust-pickle" in refused(tmp_path, recipe("linear", models[1:]))
    found = merged(recipe("linear", models[1:]), tmp_path / "out", trust_pickle=True)
    np.testing.assert_array_equal(
        found["model.norm.weight"], linear([weights(s)["model.norm.weight"] for s in (1, 2)])
    )


def test_the_command_writes_and_tells(models, tmp_path):
    path = tmp_path / "r.yml"
    path.write_text(json.dumps(recipe("linear", models[1:])))
    done = CliRunner().invoke(app, ["merge", str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "10 tensors, 160 parameters" in done.output
    assert "Perplexity was not measured" in done.output
    said = json.loads(
        CliRunner().invoke(app, ["merge", str(path), "--out", str(tmp_path / "two"), "--json"]).output
    )
    assert said["n_parameters"] == 160
    one, two = (hashlib.sha256((tmp_path / n / "model.safetensors").read_bytes()).digest() for n in ("out", "two"))
    assert one == two


def test_safetensors_reads_what_is_written(tmp_path):
    """The format's own package agrees, both ways."""
    safetensors = pytest.importorskip("safetensors.numpy")
    w = weights(0) | {"scalar": np.array(2.0), "none": np.empty((0, 3), np.float16), "flag": np.array([True])}
    write_tensors(tmp_path / "a.safetensors", w)
    theirs = safetensors.load_file(tmp_path / "a.safetensors")
    safetensors.save_file(w, tmp_path / "b.safetensors")
    ours = read_tensors(tmp_path / "b.safetensors")
    for name, value in w.items():
        np.testing.assert_array_equal(theirs[name], value)
        np.testing.assert_array_equal(ours[name], value)
        assert ours[name].dtype == value.dtype
    with TensorWriter(tmp_path, [("x", (2, 2), "float32")], stem="c") as writer:
        writer.sinks["x"].write(2, np.ones(2, np.float32))
    np.testing.assert_array_equal(read_tensors(tmp_path / "c.safetensors")["x"], [[0, 0], [1, 1]])
