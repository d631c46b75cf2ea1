"""Combine the weights of trained models."""

from typing import Any

from corrigible._registry import Room

_room = Room(__name__)
__all__ = _room.names


def __getattr__(name: str) -> Any:
    return _room.attribute(name)


def __dir__() -> list[str]:
    return _room.names
