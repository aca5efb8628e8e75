"""Convert messages in the format of OpenAI's client to system prompt, history and last message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages import dialogue_from_messages
from pllm_notebook.messages_types import Dialogue, Turn

__all__ = ["RequestMessages", "read_messages"]

_SYSTEM = ("system", "developer")
_ROLES: dict[str, Literal["user", "assistant"]] = {"user": "user", "assistant": "assistant"}
# Fields that OpenAI's client adds to a reply, which a program may put back among the messages. Not part of the content.
_ADDED = frozenset({"role", "content", "parsed", "annotations"})


@dataclass(frozen=True, slots=True)
class RequestMessages:
    """The contents of one request.

    Attributes:
        system: The system prompt. None for none.
        history: The turns before the last, in order, with alternating roles.
        prompt: The last message: the user's text, or a turn with media or tool results.
    """

    system: str | None
    history: tuple[Turn, ...]
    prompt: str | Dialogue


def read_messages(messages: Iterable[Any] | None) -> RequestMessages:
    """Convert messages to a system prompt, a history and the last message.

    "system" and "developer" messages become one system prompt, wherever they are. Consecutive messages of one
    role become one turn, with a blank line between, because not every provider accepts turns that do not alternate.

    Args:
        messages: Mappings, or the message objects of OpenAI's client. Media and tool calls may be in OpenAI's,
            Anthropic's or Google's format.

    Raises:
        UsageError: For a role, part or field that is not supported, or if the last message is neither the user's
            nor a tool result. Nothing was sent.
    """
    if not isinstance(messages, Iterable) or isinstance(messages, (str, bytes, Mapping)):
        raise UsageError("messages is a list of {'role': …, 'content': …}. Nothing was sent.")
    messages = list(messages)
    if any(_is_more_than_text(message) for message in messages):
        return _conversation(dialogue_from_messages(messages))
    system: list[str] = []
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        fields = _fields(message, at)
        role, text = fields.get("role"), _text(fields.get("content"), at)
        if role in _SYSTEM:
            system.append(text)
            continue
        if role not in _ROLES:
            raise UsageError(
                f"messages[{at}] has the role {role!r}; the supported roles are system, developer, user and "
                f"assistant. Nothing was sent."
            )
        if turns and turns[-1].role == role:
            turns[-1] = Turn(turns[-1].role, f"{turns[-1].text}\n\n{text}")
        else:
            turns.append(Turn(_ROLES[role], text))
    if not turns or turns[-1].role != "user":
        raise UsageError("The last of the messages must be the user's: the model answers it. Nothing was sent.")
    return RequestMessages("\n\n".join(system) if system else None, tuple(turns[:-1]), turns[-1].text)


def _conversation(dialogue: Dialogue) -> RequestMessages:
    *history, last = dialogue.turns or (Turn("assistant", ""),)
    if last.role == "assistant":
        raise UsageError(
            "The last of the messages must be the user's or the result of a tool: the model answers it. Nothing was "
            "sent."
        )
    alone = last == Turn("user", last.text)
    return RequestMessages(dialogue.system, tuple(history), last.text if alone else Dialogue((last,)))


def _is_more_than_text(message: Any) -> bool:
    fields = message if isinstance(message, Mapping) else getattr(message, "__dict__", {})
    if fields.get("role") in ("tool", "function", "model") or fields.get("tool_calls") or "parts" in fields:
        return True
    content = fields.get("content")
    parts = content if isinstance(content, (list, tuple)) else ()
    kinds = [part.get("type") if isinstance(part, Mapping) else type(part).__name__ for part in parts]
    return any(kind != "text" for kind in kinds)


def _fields(message: Any, at: int) -> Mapping[str, Any]:
    fields = message if isinstance(message, Mapping) else getattr(message, "__dict__", None)
    if not isinstance(fields, Mapping) or "role" not in fields:
        raise UsageError(f"messages[{at}] is {type(message).__name__} without a role. Nothing was sent.")
    for name, value in fields.items():
        if name not in _ADDED and value:
            raise UsageError(
                f"messages[{at}] has {name!r}, which is not sent to the model: pass only its role and content. "
                f"Nothing was sent."
            )
    return fields


def _text(content: Any, at: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise UsageError(f"messages[{at}] has no text: its content is {type(content).__name__}. Nothing was sent.")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise UsageError(
                f"messages[{at}] has a part of type {kind!r}; only 'text' parts are supported. Nothing was sent."
            )
        texts.append(part["text"])
    return "\n".join(texts)
