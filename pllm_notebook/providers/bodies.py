"""The parts of request bodies that all wire formats share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import ProviderMessage, Request, ToolCall, Turn

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

# `n` would hide samples from the cache; a streamed response cannot be stored as one body.
_OURS = frozenset({"messages", "input", "model", "n", "stream", "response_format", "text"})
# Left to the caller unless the request has tools of its own.
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "toolConfig", "tool_config"})


def extra(request: Request, ours: frozenset[str] = _OURS) -> dict[str, Any]:
    """Return the caller's `extra_body`, checked.

    Raises:
        UsageError: If it sets a field of *ours*, if it and the request both have tools, or if it cannot be written as
            JSON. Nothing was sent.
    """
    try:
        orjson.dumps(dict(request.extra_body))
    except TypeError as error:
        raise UsageError(f"extra_body is sent as JSON, and cannot be written so: {error}. Nothing was sent.") from error
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
    """Describe a schema in prose, for a server without structured output."""
    return (
        "Answer with one JSON value that matches this JSON schema, and with nothing else:\n"
        + orjson.dumps(schema).decode()
    )


def instructed(content: Any, instruction: str) -> Any:
    """Append *instruction* to *content*: a text, a list of text blocks, or None."""
    if isinstance(content, list):
        return [*content, {"type": "text", "text": instruction}]
    return f"{content}\n\n{instruction}" if content else instruction


def object_at(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object that *body* has under *name*, an empty one for anything else.

    A caller's own body may have anything anywhere; rejecting it is left to the provider.
    """
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}


def objects_at(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the objects in the list that *body* has under *name*, an empty list for anything else."""
    found = body.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, (list, tuple)) else []


def echoed(echo: ProviderMessage, form: str) -> Any:
    """Return a turn's message as its provider wrote it, None if it has another format."""
    return orjson.loads(echo.content) if echo.form == form else None


def prefilled(turns: Sequence[Turn]) -> bool:
    """Return whether the conversation ends with the beginning of its answer (a prefill)."""
    return bool(turns) and turns[-1].role == "assistant"


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments for a format that allows only an object."""
    try:
        arguments = orjson.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def numbered(index: int) -> str:
    """Return an id for a call that came without one."""
    return f"call_{index}"


def rolled_up(messages: Sequence[Mapping[str, Any]], field: str) -> list[dict[str, Any]]:
    """Merge consecutive messages of the same role.

    Args:
        messages: Messages in order; one without a neighbour of the same role is unchanged.
        field: Field of a message with its blocks, or with a text in their place.
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
"""Returns the part of a body that contains a value. Raises `ValueError` if the provider has no equivalent."""


def at(*path: str) -> FieldWriter:
    """Return a writer that puts a value, unchanged, at this path."""

    def write(value: Any) -> dict[str, Any]:
        for name in reversed(path):
            value = {name: value}
        return dict(value)

    return write


def one_of_at(words: Mapping[Any, Any], *path: str) -> FieldWriter:
    """Return a writer that puts the provider's word for a value at this path. *words* has all accepted values."""

    def write(value: Any) -> dict[str, Any]:
        if value not in words:
            raise ValueError(f"one of {', '.join(map(repr, words))}")
        return at(*path)(words[value])

    return write


def list_at(*path: str) -> FieldWriter:
    """Return a writer that puts a list at this path; a single text becomes a list of one."""
    return lambda value: at(*path)([value] if isinstance(value, str) else list(value))
