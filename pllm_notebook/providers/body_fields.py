"""Put a value of OpenAI's client into the body of another provider, for the keyword maps of wires."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FieldWriter", "at", "list_at", "one_of_at"]

FieldWriter = Callable[[Any], dict[str, Any]]
"""Returns the part of a body that holds a value. Raises `ValueError` where the provider has no equal of the value."""


def at(*path: str) -> FieldWriter:
    """Write a value as it is."""

    def write(value: Any) -> dict[str, Any]:
        for name in reversed(path):
            value = {name: value}
        return dict(value)

    return write


def one_of_at(words: Mapping[Any, Any], *path: str) -> FieldWriter:
    """Write a value as the provider spells it."""

    def write(value: Any) -> dict[str, Any]:
        if value not in words:
            raise ValueError(f"one of {', '.join(map(repr, words))}")
        return at(*path)(words[value])

    return write


def list_at(*path: str) -> FieldWriter:
    """Write a list; a text alone becomes a list of one."""
    return lambda value: at(*path)([value] if isinstance(value, str) else list(value))
