"""Type-checked readers for the fields of a response, which every wire format uses.

A provider, a proxy or a user's own server may send anything. Fields that determine the answer (text, refusal, tool
calls, the finish reason) must have the documented type, or the reply is malformed. Fields that only describe it (usage,
model, ids) are left out if they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.messages_types import ToolCall
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.types import Usage

__all__ = ["MOST_CALLS", "arguments", "calls", "label", "mapping", "mappings", "text", "tokens", "usage"]

MOST_CALLS = 128
"""Maximum number of tool calls in one reply; each of them is run, or costs a turn."""

_LONGEST_LABEL = 500
# No call has billions of tokens: a larger number is wrong, and would exhaust a budget.
_MOST_TOKENS = 2**31 - 1


def text(value: Any, what: str) -> str:
    """Return a text, "" for null.

    Args:
        value: The decoded value.
        what: Its name in the format, for the error.

    Raises:
        MalformedReply: If it is neither text nor null.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise _unexpected(what, value, "text")


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return an object, an empty one for null. Raises as `text` does."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise _unexpected(what, value, "an object")


def mappings(value: Any, what: str) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects, an empty one for null. Raises as `text` does."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _unexpected(what, value, "a list")
    for each in value:
        if not isinstance(each, dict):
            raise _unexpected(f"an item of {what}", each, "an object")
    return value


def label(value: Any) -> str:
    """Return the name of a model or the id of a reply, "" if the value is neither text nor a whole number."""
    if isinstance(value, str):
        return value[:_LONGEST_LABEL]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def tokens(value: Any) -> int | None:
    """Return a number of tokens, None if the value is not a whole number from 0 to 2**31 - 1."""
    if type(value) is int:
        return value if 0 <= value <= _MOST_TOKENS else None
    if isinstance(value, float) and value.is_integer():  # 12.0, as some servers write it
        value = int(value)
        return value if 0 <= value <= _MOST_TOKENS else None
    return None


def usage(total_in: Any, total_out: Any, read: Any = 0, written: Any = 0, reasoning: Any = 0) -> Usage | None:
    """Return the usage of a call from the numbers in its response.

    Args:
        total_in: Input tokens, including those of the prompt cache.
        total_out: Output tokens, including reasoning.
        read: Input tokens read from the prompt cache; null counts as 0.
        written: Input tokens written to the prompt cache; null counts as 0.
        reasoning: Output tokens of the reasoning; null counts as 0.

    Returns:
        None (unknown) if a number is not valid, or if the cached tokens exceed the input: a wrong number would give a
        wrong price.
    """
    given, produced = tokens(total_in), tokens(total_out)
    cached = 0 if read is None else tokens(read)
    stored = 0 if written is None else tokens(written)
    thought = 0 if reasoning is None else tokens(reasoning)
    if given is None or produced is None or cached is None or stored is None or thought is None:
        return None
    return Usage(given, produced, cached, stored, thought) if cached + stored <= given else None


def arguments(value: Any, what: str) -> str:
    """Return a tool call's arguments as JSON text, "{}" for none; some servers send an object instead of text.

    Raises:
        MalformedReply: For a list, a number, or an object that cannot be encoded as JSON.
    """
    if isinstance(value, dict):
        try:
            return orjson.dumps(value).decode()
        except TypeError as error:
            raise MalformedReply(f"{what} cannot be written as JSON ({error})") from None
    return text(value, what) or "{}"


def calls(made: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Return the tool calls of one reply, checked.

    Raises:
        MalformedReply: If a call names no tool, or there are more than `MOST_CALLS`.
    """
    if not made:
        return ()
    if len(made) > MOST_CALLS:
        raise MalformedReply(f"{len(made):,} tool calls in one reply, and at most {MOST_CALLS} are read")
    if not all(call.name for call in made):
        raise MalformedReply("a tool call without a name")
    return tuple(made)


def _unexpected(what: str, value: Any, expected: str) -> MalformedReply:
    found = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return MalformedReply(f"{what} is {found.get(type(value), 'a number')}, not {expected}")
