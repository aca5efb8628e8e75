"""Conversations in Gemini's format: files, function calls and responses, their number, and signed thoughts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.sim.thought_signatures import answer_of, signature
from pllm_notebook.sim.wire_types import Rejected, WireConversation
from pllm_notebook.sim.wires import data_urls

__all__ = ["read_contents", "signs", "text_of"]

# Accepted instead of the signature of a call that Gemini did not make.
_UNSIGNED = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_KINDS = ("image/", "audio/", "video/", "text/", "application/pdf")


def signs(model: str) -> bool:
    """Return whether *model* signs its calls and requires the signatures later: from Gemini 3 on."""
    found = re.match(r"gemini-(\d+)", model)
    return model.endswith("-latest") or (found is not None and int(found.group(1)) >= 3)


def read_contents(contents: Sequence[Mapping[str, Any]], system: Any, *, signed: bool) -> WireConversation:
    """Read a request's contents.

    Args:
        contents: Contents in order.
        system: The request's system instruction.
        signed: Whether calls must have their signatures.

    Raises:
        Rejected: If the provider would reject the contents.
    """
    said = WireConversation(text_of(system))
    open_calls = 0
    for index, content in enumerate(contents):
        role = "assistant" if content.get("role") == "model" else content.get("role") or "user"
        parts = [_Part(part) for part in content.get("parts") or ()]
        if role == "assistant":
            said.results.clear()
        responses = [part.response for part in parts if part.response is not None]
        if open_calls != len(responses):
            raise Rejected(
                400,
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn.",
                param="contents",
            )
        for response in responses:
            text = orjson.dumps(response.get("response")).decode()
            said.results.append((response["name"], text))
            said.messages.append(("tool", text))
        calls = [part for part in parts if part.call is not None]
        open_calls = len(calls)
        for part in calls:
            said.called.append(orjson.dumps([(part.call or {})["name"], (part.call or {}).get("args")]).decode())
        if signed and calls and _is_current(contents, index):
            _check_signature(calls[0], index)
        said.media += [file for at, part in enumerate(parts) if (file := part.file(f"contents[{index}].parts[{at}]"))]
        texts = [part.text for part in parts if part.text is not None]
        if texts or not responses:
            said.messages.append((role, "\n".join(texts)))
    if open_calls:
        raise Rejected(
            400,
            "Please ensure that function call turn comes immediately before a function response turn.",
            param="contents",
        )
    return said


def text_of(content: Any) -> str:
    """Return the text of *content*, which is a text or has parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in (content or {}).get("parts") or () if "text" in part)


class _Part:
    """One part, with field names in camelCase or snake_case."""

    def __init__(self, part: Mapping[str, Any]) -> None:
        self.text: str | None = part.get("text")
        self.call: Mapping[str, Any] | None = part.get("functionCall", part.get("function_call"))
        self.response: Mapping[str, Any] | None = part.get("functionResponse", part.get("function_response"))
        self.signature: str | None = part.get("thoughtSignature", part.get("thought_signature"))
        self._held: Mapping[str, Any] | None = part.get("inlineData", part.get("inline_data"))
        self._linked: Mapping[str, Any] | None = part.get("fileData", part.get("file_data"))

    def file(self, where: str) -> str:
        """Return the file's content or URL, "" if there is none. Raises `Rejected`."""
        if self._held is not None:
            kind = self._held.get("mimeType", self._held.get("mime_type", ""))
            if not kind.startswith(_KINDS):
                raise Rejected(400, f"Unsupported MIME type: {kind}", param=where)
            if not data_urls.is_base64(self._held.get("data")):
                raise Rejected(
                    400,
                    f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed",
                    param=where,
                )
            return str(self._held["data"])
        if self._linked is not None:
            url = self._linked.get("fileUri", self._linked.get("file_uri"))
            if not data_urls.is_web(url):
                raise Rejected(400, f"Invalid or unsupported file uri: {url}", param=where)
            return str(url)
        return ""


def _is_current(contents: Sequence[Mapping[str, Any]], index: int) -> bool:
    """Return whether only function responses follow. Signatures of older turns are not checked."""
    later = contents[index + 1 :]
    return not any(content.get("role") != "model" and _says(content) for content in later)


def _says(content: Mapping[str, Any]) -> bool:
    return any(part.get("text") for part in content.get("parts") or ())


def _check_signature(part: _Part, index: int) -> None:
    call = part.call or {}
    if not part.signature:
        raise Rejected(
            400,
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            "correctly, and missing thought_signature may lead to degraded model performance. Additional data, "
            f"function call `default_api:{call.get('name')}`, position {index + 1}.",
            param="contents",
        )
    number = answer_of(call.get("id") or "", "")
    if part.signature not in _UNSIGNED and number and part.signature != signature(number):
        raise Rejected(400, "Thought signature is not valid.", param="contents")
