"""Find, foresee, fix and prevent the errors of trained models.

Rooms are imported when first used, so ``import corrigible`` is quick and needs neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from corrigible._registry import card, cite, list_methods, load

__version__ = "0.1.0"

_ROOMS = (
    "audit", "compare", "data", "datasets", "editing", "errors", "fairness", "library", "merging", "models", "papers",
    "report", "scaling", "shift", "testing", "uncertainty", "versions", "watch", "web",
)  # fmt: skip

__all__ = ["__version__", "card", "cite", "list_methods", "load", "show_versions", *_ROOMS]


def show_versions() -> dict[str, str]:
    """Print and return the versions of Python, Corrigible and what it stands on.

    Returns
    -------
    dict of str to str
        Package name to version; ``"absent"`` where an optional package is not installed.
    """
    from corrigible._utils.versions import versions

    found = versions()
    for name, version in found.items():
        print(f"{name:>16}: {version}")
    return found


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"corrigible.{name}")
    raise AttributeError(f"module 'corrigible' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
