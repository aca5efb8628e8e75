"""The parts of one message: text, images, documents, calls and results, in each provider's format."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.media import ANY_IMAGE, load_media
from pllm_notebook.messages_types import Media, ToolCall, ToolCallOutput

__all__ = ["Part", "ProviderOnlyPart", "as_json", "call_of", "parts_of", "text_of"]


class ProviderOnlyPart:
    """A part that only its provider can read: reasoning, a signature, or a tool that the provider runs."""


Part = str | Media | ToolCall | ToolCallOutput | ProviderOnlyPart

_TEXTS = ("text", "input_text", "output_text")
_IMAGES = ("image", "image_url", "input_image")
_FILES = ("document", "file", "input_file")
_PRIVATE = ("thinking", "redacted_thinking", "server_tool_use", "web_search_tool_result")


def parts_of(content: Any, where: str) -> Iterator[Part]:
    """Read a message's content, in order.

    Args:
        content: Text, one part or a list of parts: mappings in the format of OpenAI, Anthropic or Google, or media
            that `load_media` accepts (bytes, a `Path`, a PIL image). None for no content.
        where: Name of the message for errors.

    Raises:
        UsageError: For an unsupported part. Nothing was sent.
    """
    if content is None:
        return
    for part in content if isinstance(content, (list, tuple)) else [content]:
        yield _part(part, where)


def text_of(content: Any, where: str) -> str:
    """Read content that must be text only.

    Raises:
        UsageError: For anything else. Nothing was sent.
    """
    texts = []
    for part in parts_of(content, where):
        if not isinstance(part, str):
            raise UsageError(f"{where} contains more than text, which is not supported there. Nothing was sent.")
        texts.append(part)
    return "\n".join(texts)


def call_of(call: Any, where: str) -> ToolCall:
    """Read a call in OpenAI's format, where calls are beside the content.

    Raises:
        UsageError: For a call without a function's name. Nothing was sent.
    """
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        raise UsageError(f"{where} has a tool call without a function's name. Nothing was sent.")
    return ToolCall(str(call.get("id") or ""), str(function["name"]), _arguments(function.get("arguments")))


def as_json(part: Any) -> Any:
    """Return a part as plain JSON. Bytes, which the SDKs use for files and signatures, become base64."""
    if isinstance(part, (bytes, bytearray)):
        return base64.b64encode(part).decode("ascii")
    if isinstance(part, Mapping):
        return {name: as_json(value) for name, value in part.items()}
    return [as_json(value) for value in part] if isinstance(part, (list, tuple)) else part


def _part(part: Any, where: str) -> Part:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return load_media(part)
    kind = part.get("type")
    read = _google(part, where) if kind is None else _typed(str(kind), part, where)
    if read is None:
        named = kind if kind is not None else ", ".join(map(str, part))
        raise UsageError(
            f"{where} has a part of type {named!r}; supported are text, images, documents, tool calls and tool "
            f"results. Nothing was sent."
        )
    return read


def _typed(kind: str, part: Mapping[str, Any], where: str) -> Part | None:
    """Read a part in OpenAI's, Anthropic's or this package's format. None for one that cannot be sent."""
    if kind in _TEXTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "refusal":
        return str(part.get("refusal") or "")
    if kind in _IMAGES or kind in _FILES:
        return _media(kind, part)
    if kind == "tool_use":
        return ToolCall(str(part.get("id") or ""), str(part.get("name") or ""), _arguments(part.get("input")))
    if kind == "tool_result":
        content = text_of(part.get("content"), where)
        return ToolCallOutput(str(part.get("tool_use_id") or ""), "", content, bool(part.get("is_error")))
    return ProviderOnlyPart() if kind in _PRIVATE else None


def _media(kind: str, part: Mapping[str, Any]) -> Media | None:
    source = part.get(kind)
    if source is None:
        source = part.get("source") or part.get("image_url") or part
    name = str(part.get("title") or part.get("filename") or "")
    if isinstance(source, Mapping):
        name = name or str(source.get("filename") or "")
        if source.get("type") == "text":  # a document in plain text
            return None
        if "media_type" in source and "data" in source:
            return Media(str(source["media_type"]), data=str(as_json(source["data"])), name=name)
        source = source.get("url") or source.get("file_data") or source.get("file_url")
        if source is None:
            return None
    media = load_media(source)
    if kind in _FILES:
        # A part declared as a document is a document, even if its URL does not show it.
        mime = "application/pdf" if media.mime == ANY_IMAGE else media.mime
        return replace(media, mime=mime, name=name or media.name)
    return media


def _google(part: Mapping[str, Any], where: str) -> Part | None:
    """Read a part in Google's format, with JSON or Python names. None for one that cannot be sent."""
    inline = part.get("inlineData") or part.get("inline_data")
    if isinstance(inline, Mapping):
        mime = str(inline.get("mimeType") or inline.get("mime_type") or "")
        data = inline.get("data")
        return load_media(data) if isinstance(data, bytes) else Media(mime, data=str(data or ""))
    file = part.get("fileData") or part.get("file_data")
    if isinstance(file, Mapping):
        mime = str(file.get("mimeType") or file.get("mime_type") or ANY_IMAGE)
        return Media(mime, url=str(file.get("fileUri") or file.get("file_uri") or ""))
    call = part.get("functionCall") or part.get("function_call")
    if isinstance(call, Mapping):
        return ToolCall(str(call.get("id") or ""), str(call.get("name") or ""), _arguments(call.get("args")))
    given = part.get("functionResponse") or part.get("function_response")
    if isinstance(given, Mapping):
        return _response(given)
    if part.get("thought"):
        return ProviderOnlyPart()
    return str(part["text"]) if isinstance(part.get("text"), str) else None


def _response(given: Mapping[str, Any]) -> ToolCallOutput:
    said = given.get("response")
    failed = isinstance(said, Mapping) and "error" in said
    if isinstance(said, Mapping) and len(said) == 1:
        said = next(iter(said.values()))  # {"result": …}, {"output": …} and {"error": …} only wrap a value
    content = said if isinstance(said, str) else orjson.dumps(said, default=str).decode()
    return ToolCallOutput(str(given.get("id") or ""), str(given.get("name") or ""), content, failed)


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else orjson.dumps({} if given is None else given).decode()
