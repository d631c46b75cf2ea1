"""Reading GGUF files with numpy alone, and turning one into a Hugging Face folder.

Weights of the types F32, F16, Q8_0, Q4_0 and Q4_1 are read; architectures are those whose tensors have the names of
Llama's, that is Llama, Mistral and Qwen2; tokenizers are byte-level.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._utils.optional import require
from corrigible.errors import DataError

Floats = NDArray[np.float32]
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# Type: name, weights in a block, bytes of a block.
_TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 8: ("Q8_0", 32, 34)}
_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_HEADS = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands: its shape in numpy's order, its type and its first byte."""

    shape: tuple[int, ...]
    kind: int
    start: int


class GGUF:
    """A GGUF file: its metadata, and its tensors in float32.

    Parameters
    ----------
    path : str or Path
        The file.

    Attributes
    ----------
    metadata : dict
        Keys and values of the file.
    names : list of str
        Tensors.

    Raises
    ------
    DataError
        If it is no GGUF file, or ends before its last tensor.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._bytes = (
            np.memmap(self.path, dtype=np.uint8, mode="r") if self.path.stat().st_size else np.empty(0, np.uint8)
        )
        if bytes(self._bytes[:4]) != b"GGUF":
            raise DataError(f"The file {str(path)!r} is no GGUF file: it does not begin with GGUF.")
        self._at = 4
        try:
            self._read_header()
        except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
            raise DataError(f"The GGUF file {str(path)!r} ends or breaks in its header. Get it anew.") from error
        for name, place in self._places.items():
            if place.kind in _TYPES and place.start + _stored(place) > len(self._bytes):
                raise DataError(f"The GGUF file {str(path)!r} ends within the tensor {name!r}. Get it anew.")

    @property
    def names(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        return list(self._places)

    def tensor(self, name: str) -> Floats:
        """Return a tensor, in float32.

        Parameters
        ----------
        name : str
            One of `names`.

        Raises
        ------
        DataError
            If its type is not read here.
        """
        place = self._places[name]
        if place.kind not in _TYPES:
            read = ", ".join(known for known, _, _ in _TYPES.values())
            raise DataError(
                f"The tensor {name!r} of {self.path.name} is of the GGUF type {place.kind}; {read} are read. "
                "Take a file of one of these types."
            )
        raw = self._bytes[place.start : place.start + _stored(place)]
        return _decode(raw, _TYPES[place.kind][0]).reshape(place.shape)

    def _read_header(self) -> None:
        _, n_tensors, n_keys = self._unpack("<IQQ")
        self.metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self._text()
            self.metadata[key] = self._value(self._unpack("<I")[0])
        self._places: dict[str, _Place] = {}
        for _ in range(n_tensors):
            name, (n_axes,) = self._text(), self._unpack("<I")
            shape = self._unpack(f"<{n_axes}Q")[::-1]
            kind, start = self._unpack("<IQ")
            self._places[name] = _Place(tuple(int(n) for n in shape), kind, start)
        step = int(self.metadata.get("general.alignment", 32))
        first = -(-self._at // step) * step
        self._places = {k: _Place(p.shape, p.kind, p.start + first) for k, p in self._places.items()}

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        found = struct.unpack(layout, self._bytes[self._at : self._at + size].tobytes())
        self._at += size
        return found

    def _text(self) -> str:
        (n,) = self._unpack("<Q")
        if self._at + n > len(self._bytes):
            raise ValueError("text beyond the end")
        self._at += n
        return self._bytes[self._at - n : self._at].tobytes().decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            inner, n = self._unpack("<IQ")
            if n > len(self._bytes):
                raise ValueError("array beyond the end")
            if inner in _SCALARS:
                return list(self._unpack(f"<{n}{_SCALARS[inner]}"))
            return [self._value(inner) for _ in range(n)]
        return self._unpack(f"<{_SCALARS[kind]}")[0]


def _stored(place: _Place) -> int:
    """Return the bytes that a tensor takes."""
    _, weights, size = _TYPES[place.kind]
    return int(np.prod(place.shape, dtype=np.int64)) // weights * size


def _decode(raw: NDArray[np.uint8], kind: str) -> Floats:
    if kind in ("F32", "F16"):
        return np.asarray(raw.view(np.float32 if kind == "F32" else np.float16), dtype=np.float32)
    blocks = raw.reshape(-1, {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}[kind])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if kind == "Q8_0":
        return scale * blocks[:, 2:].view(np.int8)
    packed = blocks[:, 4 if kind == "Q4_1" else 2 :]
    # The first 16 weights of a block are the low halves of its bytes, the others the high ones.
    level = np.concatenate([packed & 15, packed >> 4], axis=1)
    if kind == "Q4_0":
        return scale * (level.astype(np.int8) - 8)
    return scale * level + blocks[:, 2:4].copy().view(np.float16).astype(np.float32)


def write_folder(path: str | Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a Hugging Face folder, in float32.

    Parameters
    ----------
    path : str or Path
        The GGUF file.
    folder : Path
        An empty folder to fill.
    """
    save_file = require("safetensors.numpy", extra="lm", by="Reading a GGUF file").save_file
    file = GGUF(path)
    config = _config(file)
    weights = {}
    for name in file.names:
        if name == "rope_freqs.weight":  # computed from the configuration
            continue
        weights[_hugging_face(name, file)] = _ordered(name, file)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    _tokenizer(file).save_pretrained(folder)


def _config(file: GGUF) -> dict[str, Any]:
    said, arch = file.metadata, file.metadata.get("general.architecture")
    if arch not in ("llama", "qwen2"):
        raise DataError(
            f"The GGUF file {file.path.name} holds the architecture {arch!r}; llama and qwen2 are read. Convert it to a "
            "Hugging Face folder with transformers, and pass the folder."
        )

    def of(key: str, default: Any = None) -> Any:
        return said.get(f"{arch}.{key}", default)

    heads = of("attention.head_count")
    config = {
        "architectures": ["LlamaForCausalLM" if arch == "llama" else "Qwen2ForCausalLM"],
        "model_type": arch,
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv", heads),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base", 10000.0),
        "rope_parameters": {"rope_type": "default", "rope_theta": of("rope.freq_base", 10000.0)},
        "vocab_size": of("vocab_size", len(said["tokenizer.ggml.tokens"])),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in file.names,
        "bos_token_id": said.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": said.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": said.get("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }
    return config


def _hugging_face(name: str, file: GGUF) -> str:
    stem, _, kind = name.rpartition(".")
    block, number = "", stem.split(".")
    if number[0] == "blk":
        block, stem = f"model.layers.{number[1]}.", ".".join(number[2:])
    if stem not in _NAMES:
        raise DataError(f"The GGUF file {file.path.name} has the tensor {name!r}, which no model read here has.")
    return f"{block}{_NAMES[stem]}.{kind}"


def _ordered(name: str, file: GGUF) -> Floats:
    """Return a tensor with the rows of Llama's queries and keys in the order of Hugging Face."""
    tensor, stem = file.tensor(name), name.split(".")[-2]
    if file.metadata["general.architecture"] != "llama" or stem not in _HEADS:
        return np.ascontiguousarray(tensor)
    heads = file.metadata.get(f"llama.{_HEADS[stem]}", file.metadata["llama.attention.head_count"])
    # GGUF pairs the coordinates that one rotation turns; Hugging Face keeps first and second ones apart.
    pairs = tensor.reshape(heads, tensor.shape[0] // heads // 2, 2, *tensor.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(tensor.shape))


def _tokenizer(file: GGUF) -> Any:
    said = file.metadata
    if said.get("tokenizer.ggml.model") != "gpt2":
        raise DataError(
            f"The GGUF file {file.path.name} has a tokenizer of the type {said.get('tokenizer.ggml.model')!r}; byte-level "
            "ones ('gpt2') are read. Pass a Hugging Face folder that holds the tokenizer."
        )
    tokenizers = require("tokenizers", extra="lm", by="Reading a GGUF file")
    words = said["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in said["tokenizer.ggml.merges"]]
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
    steps = [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if said.get("tokenizer.ggml.pre") == "smollm":
        steps.insert(0, tokenizers.pre_tokenizers.Digits(individual_digits=True))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    model.decoder = tokenizers.decoders.ByteLevel()
    control = [w for w, kind in zip(words, said["tokenizer.ggml.token_type"], strict=True) if kind == 3]
    model.add_special_tokens(control)
    special = {
        f"{role}_token": words[said[f"tokenizer.ggml.{key}_token_id"]]
        for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if f"tokenizer.ggml.{key}_token_id" in said
    }
    fast = require("transformers", extra="lm", by="Reading a GGUF file").PreTrainedTokenizerFast
    made = fast(tokenizer_object=model, clean_up_tokenization_spaces=False, **special)
    made.chat_template = said.get("tokenizer.chat_template")
    return made
