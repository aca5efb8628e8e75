"""Conversations in Anthropic's format: files, tool calls and results, their order, and signed thoughts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.sim.thought_signatures import answer_of, signature
from pllm_notebook.sim.wire_types import Rejected, WireConversation
from pllm_notebook.sim.wires import data_urls

__all__ = ["read_messages", "text_of"]


def read_messages(messages: Sequence[Mapping[str, Any]], system: Any, *, thinking: bool) -> WireConversation:
    """Read a request's messages.

    Args:
        messages: Messages in order. Adjacent messages of one role are one turn.
        system: The request's system field.
        thinking: Whether the model thinks before tool calls.

    Raises:
        Rejected: If the provider would reject the messages.
    """
    said = WireConversation(text_of(system))
    names: dict[str, str] = {}
    open_calls: list[str] = []
    role = ""
    for index, message in enumerate(messages):
        same, role = message.get("role") == role, message.get("role") or ""
        content = message.get("content")
        if role == "assistant" and not same:
            said.results.clear()
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        if open_calls and role == "user" and not same:
            _check_results(blocks, open_calls, index)
            open_calls = []
        texts = []
        for at, block in enumerate(blocks):
            where, kind = f"messages.{index}.content.{at}", block.get("type")
            if kind == "text":
                if not block.get("text") and isinstance(content, list):
                    raise Rejected(400, "messages: text content blocks must be non-empty", param="messages")
                texts.append(block.get("text", ""))
            elif kind == "tool_use":
                if not isinstance(block["input"], dict):
                    raise Rejected(400, f"{where}.tool_use.input: Input should be a valid dictionary", param="messages")
                names[block["id"]] = block["name"]
                open_calls.append(block["id"])
                said.called.append(orjson.dumps([block["name"], block["input"]]).decode())
            elif kind == "tool_result":
                call = block["tool_use_id"]
                if call not in names:
                    raise Rejected(
                        400,
                        f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {call}. Each `tool_result` "
                        "block must have a corresponding `tool_use` block in the previous message.",
                        param="messages",
                    )
                said.results.append((names[call], text_of(block.get("content"))))
                said.messages.append(("tool", text_of(block.get("content"))))
            elif kind in ("image", "document"):
                said.media.append(_file(block, where))
        # A text that is split into blocks is the same text and gets the same answer.
        if texts or not any(block.get("type") == "tool_result" for block in blocks):
            said.messages.append((role, "".join(texts)))
    if open_calls:
        raise _unanswered(open_calls, len(messages) - 1)
    if said.prefill != said.prefill.rstrip():
        raise Rejected(400, "messages: final assistant content cannot end with trailing whitespace", param="messages")
    if thinking:
        _check_thoughts(messages)
    return said


def text_of(content: Any) -> str:
    """Return the text of *content*, which is a text or a list of blocks."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content or () if block.get("type") == "text")


def _check_results(blocks: Sequence[Mapping[str, Any]], calls: Sequence[str], index: int) -> None:
    given = []
    for block in blocks:  # a result after another block does not count
        if block.get("type") != "tool_result":
            break
        given.append(block.get("tool_use_id"))
    missing = [call for call in calls if call not in given]
    if missing:
        raise _unanswered(missing, index - 1)


def _unanswered(calls: Sequence[str], index: int) -> Rejected:
    return Rejected(
        400,
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        param="messages",
    )


def _check_thoughts(messages: Sequence[Mapping[str, Any]]) -> None:
    """Check the thoughts before the current tool calls. Older thoughts may be omitted."""
    for index in range(len(messages) - 1, -1, -1):
        blocks = messages[index].get("content")
        if not isinstance(blocks, list):
            return
        kinds = {block.get("type") for block in blocks}
        if messages[index].get("role") == "user" and "tool_result" not in kinds:
            return
        signed = [block.get("signature") for block in blocks if block.get("type") == "thinking"]
        for call in (block["id"] for block in blocks if block.get("type") == "tool_use"):
            number = answer_of(call, "toolu_")
            if number and not signed:
                raise Rejected(
                    400,
                    f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                    f"`{blocks[0].get('type')}`. When `thinking` is enabled, a final `assistant` message must start "
                    "with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks).",
                    param="messages",
                )
            if number and signature(number) not in signed:
                raise Rejected(
                    400,
                    f"messages.{index}.content.0: Invalid `signature` in `thinking` block",
                    param="messages",
                )


def _file(block: Mapping[str, Any], where: str) -> str:
    source = block.get("source") or {}
    kinds = data_urls.IMAGES if block["type"] == "image" else (data_urls.PDF,)
    place = f"{where}.{block['type']}.source"
    if source.get("type") == "url":
        if not data_urls.is_web(source.get("url")):
            raise Rejected(400, f"{place}.url.url: Only HTTPS URLs are supported.", param="messages")
        return str(source["url"])
    if source.get("type") != "base64":
        raise Rejected(
            400, f"{place}: Input tag '{source.get('type')}' is not one of the expected tags", param="messages"
        )
    if source.get("media_type") not in kinds:
        expected = " or ".join(f"'{kind}'" for kind in kinds)
        raise Rejected(400, f"{place}.base64.media_type: Input should be {expected}", param="messages")
    if not data_urls.is_base64(source.get("data")):
        raise Rejected(400, f"{place}.base64.data: Invalid base64 data", param="messages")
    return str(source["data"])
