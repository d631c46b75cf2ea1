"""Model files: skops by default, ONNX, pickle only when told to."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

from corrigible._utils.files import atomic_path
from corrigible._utils.optional import require
from corrigible.errors import DataError, UnsafeFileError, nearest
from corrigible.models._onnx import load_onnx

# Types from these packages are code that is installed here on purpose; loading them runs nothing from the file.
_TRUSTED = (
    "corrigible.", "numpy.", "scipy.", "sklearn.", "skrub.", "pandas.", "builtins.", "collections.", "functools.",
    "datetime.", "lightgbm.", "xgboost.",
)  # fmt: skip
_PICKLES = (".pkl", ".pickle", ".joblib")


def save_model(model: Any, path: str | Path) -> None:
    """Write a scikit-learn model as skops, atomically.

    Parameters
    ----------
    model : estimator
        Fitted scikit-learn estimator.
    path : str or Path
        Where; its folder must exist.
    """
    import skops.io

    with atomic_path(path) as temporary:
        skops.io.dump(model, temporary)


def load_model(path: str | Path, *, trust_pickle: bool = False) -> Any:
    """Load a model file without running code from it.

    Parameters
    ----------
    path : str or Path
        A ``.skops`` or ``.onnx`` file; or, if `trust_pickle`, a pickle or joblib file.
    trust_pickle : bool
        Allow a pickle, which can run any code when loaded.

    Raises
    ------
    DataError
        If there is no such file or it is no model file.
    UnsafeFileError
        If it is a pickle and not trusted, or a skops file with types of unknown packages.
    """
    path = Path(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"--model must name a file. There is none at {str(path)!r}.{nearest(path.name, siblings)}")
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"The model file {str(path)!r} cannot be read: {error.strerror}.") from error
    if path.suffix.lower() == ".onnx":
        return load_onnx(path)
    if not start.startswith(b"PK"):
        return _load_pickle(path, start, trust_pickle)
    skops_io = require("skops.io", extra="all", by="Loading a model")
    try:
        unknown = skops_io.get_untrusted_types(file=path)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"The model file {str(path)!r} is no skops file ({_reason(error)}).") from error
    foreign = [t for t in unknown if not t.startswith(_TRUSTED)]
    if foreign:
        raise UnsafeFileError(
            f"The model file {str(path)!r} holds types of packages that are not trusted: {', '.join(foreign[:5])}. "
            "Load it yourself with skops.io.load(path, trusted=[...]) and pass the model in Python."
        )
    try:
        return skops_io.load(path, trusted=unknown)
    except Exception as error:  # whatever the constructors of a package of another version raise
        raise DataError(
            f"The model file {str(path)!r} cannot be loaded with the packages that are installed ({_reason(error)})."
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _load_pickle(path: Path, start: bytes, trust_pickle: bool) -> Any:
    if start[:1] != b"\x80" and path.suffix not in _PICKLES:
        raise DataError(f"The model file {str(path)!r} is neither skops nor pickle. Save it with skops.io.dump.")
    if not trust_pickle:
        raise UnsafeFileError(
            f"The model file {str(path)!r} is a pickle, which can run any code when loaded. Save the model with "
            "skops.io.dump, or pass --trust-pickle if you made the file yourself."
        )
    try:
        if path.suffix == ".joblib":
            import joblib

            return joblib.load(path)
        with open(path, "rb") as file:
            return pickle.load(file)
    except Exception as error:  # a pickle may raise anything
        raise DataError(f"The model file {str(path)!r} cannot be unpickled ({_reason(error)}).") from error
