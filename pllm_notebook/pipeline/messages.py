"""Messages as providers write them, read into turns: OpenAI's, Anthropic's and Google's, told by their shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.media import media_of
from pllm_notebook.records import Media, ToolCall, ToolResult, Turn

__all__ = ["ROLES", "SYSTEM", "is_message", "read_message"]

SYSTEM = ("system", "developer")
"""Who gives instructions."""

ROLES: Mapping[str, Literal["user", "assistant", "tool"]] = {
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""A role as providers name it, and whose turn it is."""

# OpenAI's Responses API has calls and their outputs beside the messages.
_ITEMS = ("function_call", "function_call_output")


def is_message(value: Mapping[str, Any]) -> bool:
    """Tell a message from other data: it has a role that there is, and content (or calls)."""
    if value.get("type") in _ITEMS and "call_id" in value:
        return True
    known = value.get("role") in ROLES or value.get("role") in SYSTEM
    return known and any(name in value for name in ("content", "parts", "tool_calls"))


def read_message(message: Mapping[str, Any]) -> tuple[Turn, ...] | str:
    """Read one message: its turns (tools' results before what a user adds to them), or the text of an instruction.

    Args:
        message: For which `is_message` holds.

    Raises:
        UsageError: For a part that cannot be read. Nothing was sent.
    """
    if message.get("type") in _ITEMS:
        return _item(message)
    said = _Said(str(message["role"]))
    content = message.get("parts", message.get("content"))
    if message["role"] in ("tool", "function") and "parts" not in message:  # OpenAI's: the message is the result
        said.result(message.get("tool_call_id", ""), message.get("name", ""), _text_of(content))
        content = None
    for part in [content] if isinstance(content, (str, Mapping)) else content or ():
        said.part(part)
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        said.call(call.get("id", ""), function.get("name", ""), function.get("arguments", ""))
    return said.whole()


class _Said:
    """One message, as it is read part by part."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._texts: list[str] = []
        self._media: list[Media] = []
        self._calls: list[ToolCall] = []
        self._results: list[ToolResult] = []

    def part(self, part: Any) -> None:
        """Take in one part of the content."""
        if isinstance(part, str):
            self._texts.append(part)
            return
        if not isinstance(part, Mapping):
            raise _unread(self._role, type(part).__name__)
        kind = part.get("type") or next((name for name in part if name in _PARTS), "")
        reader = _PARTS.get(kind)
        if reader is None:
            raise _unread(self._role, kind or ", ".join(map(str, part)))
        try:
            reader(self, part)
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"A {kind!r} part of a message of {self._role!r} lacks what its provider documents ({error}). "
                f"Nothing was sent."
            ) from error

    def call(self, id: str, name: str, arguments: Any) -> None:  # noqa: A002  # the providers' word
        """Take in a call of a tool."""
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
        self._calls.append(ToolCall(id, name, text))

    def result(self, id: str, name: str, content: str, *, failed: bool = False) -> None:  # noqa: A002  # likewise
        """Take in what a tool gave."""
        self._results.append(ToolResult(id, name, content, failed))

    def text(self, text: str) -> None:
        """Take in words."""
        self._texts.append(text)

    def show(self, source: Any) -> None:
        """Take in an image or a document."""
        self._media.append(media_of(source))

    def whole(self) -> tuple[Turn, ...] | str:
        """Give the turns.

        Texts of one message are one text, a line each.
        """
        text = "\n".join(self._texts)
        if self._role in SYSTEM:
            return text
        results = (Turn("tool", "", results=tuple(self._results)),) if self._results else ()
        if results and not (text or self._media or self._calls):
            return results
        return (*results, Turn(ROLES[self._role], text, tuple(self._media), tuple(self._calls)))


def _item(item: Mapping[str, Any]) -> tuple[Turn, ...] | str:
    said = _Said("assistant" if item["type"] == "function_call" else "tool")
    if item["type"] == "function_call":
        said.call(item["call_id"], item.get("name", ""), item.get("arguments", ""))
    else:
        said.result(item["call_id"], item.get("name", ""), _text_of(item.get("output")))
    return said.whole()


def _text_of(content: Any) -> str:
    """Give a tool's result as its reader sees it."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "\n".join(str(part["text"]) for part in content)
    return "" if content is None else orjson.dumps(content).decode()


def _source(said: _Said, source: Mapping[str, Any]) -> None:
    """Read Anthropic's source of an image or document."""
    kind = source["type"]
    if kind == "base64":
        said.show(f"data:{source['media_type']};base64,{source['data']}")
    elif kind == "url":
        said.show(source["url"])
    elif kind == "text":
        said.text(source["data"])
    else:
        raise _unread("user", f"source {kind}")


def _inline(said: _Said, blob: Mapping[str, Any]) -> None:
    mime = blob.get("mimeType") or blob["mime_type"]
    said.show(f"data:{mime};base64,{blob['data']}")


def _image_url(said: _Said, image: Any) -> None:
    said.show(image if isinstance(image, str) else image["url"])


def _google_call(said: _Said, call: Mapping[str, Any]) -> None:
    said.call(call.get("id", ""), call["name"], call.get("args"))


def _google_result(said: _Said, given: Mapping[str, Any]) -> None:
    response = given.get("response", {})
    failed = set(response) == {"error"}
    plain = next(iter(response.values())) if set(response) in ({"result"}, {"output"}, {"error"}) else response
    content = plain if isinstance(plain, str) else orjson.dumps(plain).decode()
    said.result(given.get("id", ""), given["name"], content, failed=failed)


# Of each kind of part, told by its "type" or, with Google, by the name of its one field.
_PARTS: Mapping[str, Callable[[_Said, Mapping[str, Any]], None]] = {
    "text": lambda said, part: said.text(part["text"]),
    "input_text": lambda said, part: said.text(part["text"]),
    "output_text": lambda said, part: said.text(part["text"]),
    "image_url": lambda said, part: _image_url(said, part["image_url"]),
    "input_image": lambda said, part: _image_url(said, part["image_url"]),
    "file": lambda said, part: said.show(part["file"]["file_data"]),
    "input_file": lambda said, part: said.show(part.get("file_data") or part["file_url"]),
    "image": lambda said, part: _source(said, part["source"]),
    "document": lambda said, part: _source(said, part["source"]),
    "tool_use": lambda said, part: said.call(part["id"], part["name"], part["input"]),
    "tool_result": lambda said, part: said.result(
        part["tool_use_id"], "", _text_of(part.get("content")), failed=bool(part.get("is_error"))
    ),
    "inlineData": lambda said, part: _inline(said, part["inlineData"]),
    "inline_data": lambda said, part: _inline(said, part["inline_data"]),
    "functionCall": lambda said, part: _google_call(said, part["functionCall"]),
    "function_call": lambda said, part: _google_call(said, part["function_call"]),
    "functionResponse": lambda said, part: _google_result(said, part["functionResponse"]),
    "function_response": lambda said, part: _google_result(said, part["function_response"]),
}


def _unread(role: str, kind: str) -> UsageError:
    return UsageError(
        f"A message of {role!r} has a part {kind!r}, which is not understood; there are text, images, documents, "
        f"calls of tools and their results. Nothing was sent."
    )
