"""Correct what a trained network says, without retraining it."""

from typing import Any

from corrigible._registry import Room

_room = Room(__name__)
__all__ = _room.names


def __getattr__(name: str) -> Any:
    return _room.attribute(name)


def __dir__() -> list[str]:
    return _room.names
