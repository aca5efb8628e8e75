"""The place of each value in a JSON text, by its path."""

from __future__ import annotations

import contextlib
from json import JSONDecoder
from typing import Any

__all__ = ["Path", "value_spans"]

Path = tuple[str, ...]

_DECODER = JSONDecoder()
_BLANKS = " \t\r\n"


def value_spans(text: str) -> dict[Path, tuple[int, int]]:
    """Return begin and end of each value below an object's keys, in characters, as far as the text can be read.

    A span begins behind the colon, so that white space before the value is in it; what lists hold is not looked into.

    Args:
        text: With an object in it; what comes before the first brace is passed over.
    """
    spans: dict[Path, tuple[int, int]] = {}
    # Of a text that is cut off, what was read so far is right.
    with contextlib.suppress(ValueError, IndexError, RecursionError):
        _read_object(text, text.index("{"), (), spans)
    return spans


def _read_object(text: str, at: int, path: Path, spans: dict[Path, tuple[int, int]]) -> int:
    """Read the object that begins at *at*; return where it ends."""
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
