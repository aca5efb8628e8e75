"""What the bodies of all wire formats have in common: the caller's own fields, words for a schema, parts of turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Request, ToolCall, Turn

__all__ = [
    "FieldWriter",
    "arguments_of",
    "at",
    "echoed",
    "extra",
    "instructed",
    "list_at",
    "numbered",
    "object_at",
    "objects_at",
    "one_of_at",
    "prefilled",
    "rolled_up",
    "schema_instruction",
]

# `n` would hide samples from the cache; a stream cannot be stored as a body.
_OURS = frozenset({"messages", "input", "model", "n", "stream", "response_format", "text"})
# The caller's, as long as the request has no tools of its own.
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "toolConfig", "tool_config"})


def extra(request: Request, ours: frozenset[str] = _OURS) -> dict[str, Any]:
    """Take the caller's own fields, less those that are ours to fill.

    Raises:
        UsageError: For a field of *ours*, or for tools that are given here and as the request's own. Nothing was sent.
    """
    for name in request.extra_body:
        if name in ours:
            raise UsageError(f"extra_body may not set {name!r}, which this package fills itself. Nothing was sent.")
        if request.tools and name in _TOOLS:
            raise UsageError(
                f"extra_body sets {name!r}, and the question has tools of its own. Give all tools, and how they may "
                f"be called, in one of the two places. Nothing was sent."
            )
    return dict(request.extra_body)


def schema_instruction(schema: Mapping[str, Any]) -> str:
    """Word a schema for a server that has no structured output."""
    return (
        "Answer with one JSON value that matches this JSON schema, and with nothing else:\n"
        + orjson.dumps(schema).decode()
    )


def instructed(content: Any, instruction: str) -> Any:
    """Put *instruction* at the end of an instruction: a text, blocks of text, or None for none."""
    if isinstance(content, list):
        return [*content, {"type": "text", "text": instruction}]
    return f"{content}\n\n{instruction}" if content else instruction


def object_at(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object that *body* has under *name*, an empty one for anything else.

    A body of a caller's own may have anything anywhere; what is wrong with it is for its provider to say.
    """
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}


def objects_at(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the objects in the list that *body* has under *name*, none for anything else."""
    found = body.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, (list, tuple)) else []


def echoed(turn: Turn, form: str) -> Any:
    """Return the message of *turn* as its provider wrote it, None where it is of another format or was not kept."""
    return orjson.loads(turn.echo.content) if turn.echo is not None and turn.echo.form == form else None


def prefilled(turns: Sequence[Turn]) -> bool:
    """Return whether the conversation ends with the beginning of its own answer."""
    return bool(turns) and turns[-1].role == "assistant"


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments for a format that has no room for anything but an object."""
    try:
        arguments = orjson.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def numbered(index: int) -> str:
    """Make the id of a reply's call where the provider gave none."""
    return f"call_{index}"


def rolled_up(messages: Sequence[Mapping[str, Any]], field: str) -> list[dict[str, Any]]:
    """Make one message of neighbours that have one role.

    Args:
        messages: In order; a message that stands alone stays as it is.
        field: Where a message has its blocks, or a text in their place.
    """
    rolled: list[dict[str, Any]] = []
    for message in messages:
        if rolled and rolled[-1]["role"] == message["role"]:
            rolled[-1] = {**rolled[-1], field: [*_blocks(rolled[-1][field]), *_blocks(message[field])]}
        else:
            rolled.append(dict(message))
    return rolled


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


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
