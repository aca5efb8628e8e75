"""Positions of values in a JSON text, by path."""

from __future__ import annotations

import contextlib
from json import JSONDecoder
from typing import Any

__all__ = ["Path", "spans_by_path"]

Path = tuple[str, ...]

_DECODER = JSONDecoder()
_BLANKS = " \t\r\n"


def spans_by_path(text: str) -> dict[Path, tuple[int, int]]:
    """Return start and end of each value of an object, in characters, as far as the text can be read.

    A span starts after the colon, so it includes white space before the value. Items of lists have no spans.

    Args:
        text: A text that contains an object. Everything before the first brace is skipped.
    """
    spans: dict[Path, tuple[int, int]] = {}
    # In a truncated text, the values read so far are correct.
    with contextlib.suppress(ValueError, IndexError, RecursionError):
        _read_object(text, text.index("{"), (), spans)
    return spans


def _read_object(text: str, at: int, path: Path, spans: dict[Path, tuple[int, int]]) -> int:
    """Read the object that starts at *at*, and return its end."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        if text[at] != '"':
            raise ValueError("a key must be text")
        key: Any
        key, at = _DECODER.raw_decode(text, at)
        colon = _skip(text, at)
        if text[colon] != ":":
            raise ValueError("a colon must follow a key")
        start = _skip(text, colon + 1)
        if text[start] == "{":
            at = _read_object(text, start, (*path, key), spans)
        else:
            found: Any = _DECODER.raw_decode(text, start)
            at = found[1]
        spans[(*path, key)] = (colon + 1, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return at + 1


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANKS:
        at += 1
    return at
