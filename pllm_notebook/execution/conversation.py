"""The messages of a request as readable text, for the body of any provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["conversation"]

_INSTRUCTIONS = ("instructions", "system", "systemInstruction", "system_instruction")
_TURNS = ("messages", "input", "contents")


def conversation(body: Mapping[str, Any] | None, prompt: str | None) -> list[tuple[str, str]]:
    """Return the turns of a request in order: role and text. Parts that are not text are named by their type.

    Args:
        body: The intended request body; None if unknown.
        prompt: The row's own text, used if the body is unknown or has no turns.
    """
    found: list[tuple[str, str]] = []
    body = body or {}
    for name in _INSTRUCTIONS:
        if body.get(name):
            found.append(("system", _text_of(body[name])))
    for name in _TURNS:
        turns = body.get(name)
        if isinstance(turns, str):
            found.append(("user", turns))
        elif isinstance(turns, list):
            for turn in turns:
                if isinstance(turn, Mapping):
                    content = turn.get("content", turn.get("parts", turn))
                    found.append((str(turn.get("role", "user")), _text_of(content)))
    return found or ([("user", prompt)] if prompt else [])


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text_of, content)))
    if isinstance(content, Mapping):
        for name in ("text", "parts", "content"):
            if name in content:
                return _text_of(content[name])
        return f"[{content.get('type', 'data')}]"
    return str(content)
