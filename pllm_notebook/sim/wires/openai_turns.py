"""Conversations in OpenAI's formats: files, tool calls and results, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.sim.thought_signatures import answer_of, signature
from pllm_notebook.sim.wire_types import Rejected, WireConversation
from pllm_notebook.sim.wires import data_urls
from pllm_notebook.sim.wires.openai_rules import text_of

__all__ = ["read_input", "read_messages"]

_CHAT_PARTS = ("text", "image_url", "input_audio", "refusal", "file")
_RESPONSE_PARTS = ("input_text", "output_text", "refusal", "input_image", "input_file", "text")


def read_messages(messages: Sequence[Mapping[str, Any]]) -> WireConversation:
    """Read the messages of Chat Completions. Raises `Rejected`."""
    said, systems = WireConversation(), []
    names: dict[str, str] = {}
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            call = message.get("tool_call_id", "")
            if call not in open_calls:
                raise Rejected(
                    400,
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    param=f"messages.[{index}].role",
                )
            open_calls.remove(call)
            said.results.append((names[call], text_of(content)))
        elif open_calls:
            raise _unanswered(open_calls, index)
        if role in ("system", "developer"):
            systems.append(text_of(content))
            continue
        said.messages.append((role or "", text_of(content)))
        for at, part in enumerate(content if isinstance(content, list) else ()):
            _read_part(said, part, f"messages[{index}].content[{at}]", _CHAT_PARTS)
        if role == "assistant":
            said.results.clear()
            for made in message.get("tool_calls") or ():
                names[made["id"]] = made["function"]["name"]
                open_calls.append(made["id"])
                said.called.append(orjson.dumps(made["function"]).decode())
    if open_calls:
        raise _unanswered(open_calls, len(messages) - 1)
    said.system = "\n".join(systems)
    return said


def read_input(given: Any, instructions: Any, *, signed: bool) -> WireConversation:
    """Read the input of Responses.

    Args:
        given: Text or items.
        instructions: The request's instructions.
        signed: Whether the reasoning before a call is required with the call.

    Raises:
        Rejected: If the provider would reject the input.
    """
    said, systems = WireConversation(), [text_of(instructions)]
    names: dict[str, str] = {}
    open_calls: list[str] = []
    reasoned: dict[str, Any] = {}
    for index, item in enumerate([{"role": "user", "content": given}] if isinstance(given, str) else given):
        kind = item.get("type", "message")
        if kind == "reasoning":
            reasoned[item.get("id", "")] = item.get("encrypted_content")
        elif kind == "function_call":
            call, number = item["call_id"], answer_of(item.get("id") or "", "fc_")
            if signed and number and reasoned.get(f"rs_{number}") != signature(number):
                raise Rejected(
                    400,
                    f"Item '{item['id']}' of type 'function_call' was provided without its required 'reasoning' item: "
                    f"'rs_{number}'.",
                    param="input",
                )
            names[call] = item["name"]
            open_calls.append(call)
            said.called.append(orjson.dumps([item["name"], item["arguments"]]).decode())
            said.results.clear()
        elif kind == "function_call_output":
            call = item["call_id"]
            if call not in open_calls:
                raise Rejected(400, f"No tool call found for function call output with call_id {call}.", param="input")
            open_calls.remove(call)
            text = text_of(item.get("output"))
            said.results.append((names[call], text))
            said.messages.append(("tool", text))
        elif kind == "message":
            content = item.get("content")
            if item.get("role") in ("system", "developer"):
                systems.append(text_of(content))
                continue
            said.messages.append((item.get("role", "user"), text_of(content)))
            if item.get("role") == "assistant":
                said.results.clear()
            for at, part in enumerate(content if isinstance(content, list) else ()):
                _read_part(said, part, f"input[{index}].content[{at}]", _RESPONSE_PARTS)
    if open_calls:
        raise Rejected(400, f"No tool output found for function call {open_calls[0]}.", param="input")
    said.system = "\n".join(filter(None, systems))
    return said


def _unanswered(calls: Sequence[str], index: int) -> Rejected:
    return Rejected(
        400,
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(calls)}",
        param=f"messages.[{index}].role",
    )


def _read_part(said: WireConversation, part: Mapping[str, Any], where: str, known: Sequence[str]) -> None:
    kind = part.get("type")
    if kind not in known:
        values = ", ".join(f"'{name}'" for name in known)
        raise Rejected(
            400,
            f"Invalid value: '{kind}'. Supported values are: {values}.",
            code="invalid_value",
            param=f"{where}.type",
        )
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        said.media.append(_image(image.get("url") if isinstance(image, Mapping) else image, where))
    elif kind in ("file", "input_file"):
        said.media.append(_file(part.get("file") or part, where))


def _image(url: Any, where: str) -> str:
    held = data_urls.split(url) if isinstance(url, str) else None
    if held is not None and held[0] not in data_urls.IMAGES:
        raise Rejected(
            400,
            "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
            "['png', 'jpeg', 'gif', 'webp'].",
            code="invalid_image_format",
            param=where,
        )
    if held is not None and not data_urls.is_base64(held[1]):
        raise Rejected(400, "Invalid base64 image_url.", code="invalid_base64", param=where)
    if held is None and not data_urls.is_web(url):
        raise Rejected(
            400,
            f"Invalid '{where}.image_url'. Expected a valid URL, but got a value with an invalid format.",
            code="invalid_value",
            param=where,
        )
    return str(url)


def _file(file: Mapping[str, Any], where: str) -> str:
    if data_urls.is_web(file.get("file_url")):
        return str(file["file_url"])
    held = data_urls.split(str(file.get("file_data") or ""))
    if held is None or held[0] != data_urls.PDF or not data_urls.is_base64(held[1]):
        raise Rejected(
            400,
            f"Invalid '{where}.file_data'. Expected a base64-encoded data URL with an application/pdf MIME type.",
            code="invalid_value",
            param=where,
        )
    if not file.get("filename"):
        raise Rejected(
            400, f"Missing required parameter: '{where}.filename'.", code="missing_required_parameter", param=where
        )
    return held[1]
