"""Blocks of Anthropic's messages: text, files, tool calls and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.messages_types import Media, Request, ToolCall, Turn
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import typed
from pllm_notebook.providers.bodies import arguments_of, echoed
from pllm_notebook.providers.media_parts import PDF, is_image, untaken

__all__ = ["calls", "has_mark", "marked", "marked_message", "marked_turns", "message", "tools"]

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def message(turn: Turn, form: str) -> dict[str, Any]:
    """Return one turn as a message: tool results first, files before text.

    Raises:
        UsageError: For a file that Anthropic does not accept. Nothing was sent.
    """
    if turn.role == "tool":
        return {"role": "user", "content": [_result(done.id, done.content, done.failed) for done in turn.results]}
    echo = None if turn.echo is None else echoed(turn.echo, form)
    if echo is not None:
        return {"role": "assistant", "content": echo}
    if not turn.media and not turn.calls:
        return {"role": turn.role, "content": turn.text}
    content = [_shown(media) for media in turn.media]
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)} for call in turn.calls
    ]
    return {"role": turn.role, "content": content}


def tools(request: Request) -> dict[str, Any]:
    """Return the fields for tools and tool choice."""
    fields: dict[str, Any] = {
        "tools": [
            {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "input_schema": tool.schema,
                **({"strict": True} if tool.strict else {}),
            }
            for tool in request.tools
        ]
    }
    kind = _CHOICES.get(request.tool_choice)
    choice: dict[str, Any] = {"type": "tool", "name": request.tool_choice} if kind is None else {"type": kind}
    if request.parallel_tool_calls is False and kind != "none":
        choice["disable_parallel_tool_use"] = True
    # The default is omitted.
    return fields if choice == {"type": "auto"} else fields | {"tool_choice": choice}


def calls(content: Sequence[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """Parse the calls of the caller's tools; calls of tools that Anthropic runs are skipped.

    Raises:
        MalformedReply: If one is not a call.
    """
    return typed.calls([_call(block) for block in content if block.get("type") == "tool_use"])


def _call(block: Mapping[str, Any]) -> ToolCall:
    call_id = typed.text(block.get("id"), "a tool_use block's id")
    if not call_id:
        raise MalformedReply("a tool_use block without an id")
    name = typed.text(block.get("name"), "a tool_use block's name")
    return ToolCall(call_id, name, typed.arguments(block.get("input"), "a tool_use block's input"))


def marked(text: str) -> dict[str, Any]:
    """Return a text block with a cache mark at its end."""
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


def marked_turns(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Mark the last two user messages: the earlier one to read what an earlier request cached, the last one to write.

    A conversation that ends with a prefill is unchanged, since its continuation is unknown.
    """
    places = [at for at, one in enumerate(messages) if one.get("role") == "user"][-2:]
    if not places or places[-1] != len(messages) - 1:
        return list(messages)
    return [marked_message(one) if at in places else one for at, one in enumerate(messages)]


def marked_message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mark the end of a message. An empty message, or one with a mark at its end, is unchanged."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": [marked(content)]} if content.strip() else message
    if not isinstance(content, list) or not content or not isinstance(content[-1], dict) or has_mark(content[-1:]):
        return message
    return {**message, "content": [*content[:-1], content[-1] | {"cache_control": {"type": "ephemeral"}}]}


def has_mark(content: Any) -> bool:
    """Return whether one of these blocks or tools has a cache mark; plain text has none."""
    return isinstance(content, list) and any("cache_control" in block for block in content if isinstance(block, dict))


def _result(call: str, content: str, failed: bool) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call, "content": content}
    return block | {"is_error": True} if failed else block


def _shown(media: Media) -> dict[str, Any]:
    source: dict[str, Any] = {"type": "base64", "media_type": media.mime, "data": media.data}
    if media.url:
        source = {"type": "url", "url": media.url}
    if is_image(media) and (media.url or media.data):
        return {"type": "image", "source": source}
    if media.mime == PDF and (media.url or media.data):
        return {"type": "document", "source": source, **({"title": media.name} if media.name else {})}
    raise untaken(media, "Anthropic", "images (PNG, JPEG, GIF, WebP) and PDF, by address or as files")
