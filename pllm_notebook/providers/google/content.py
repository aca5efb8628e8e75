"""Parts of Gemini's contents: text, files, function calls and responses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Media, Request, ToolCall, Turn
from pllm_notebook.providers import typed
from pllm_notebook.providers.bodies import arguments_of, echoed, numbered
from pllm_notebook.providers.media_parts import PDF, untaken

__all__ = ["calls", "content", "tools"]

_MODES = {"required": "ANY", "none": "NONE"}
# Signature for a call that Gemini did not make; Gemini 3 and later require one
# (ai.google.dev/gemini-api/docs/thought-signatures).
_UNSIGNED = "skip_thought_signature_validator"
# Ids from `bodies.numbered`, which Gemini did not send. It matches results without ids by the order of the calls.
_MADE = re.compile(r"call_\d{1,3}")
_KINDS = ("image/", "audio/", "video/", "text/", PDF)


def content(turn: Turn, form: str) -> dict[str, Any]:
    """Return one turn in Gemini's format, files before text.

    Raises:
        UsageError: For a file that Gemini does not accept. Nothing was sent.
    """
    if turn.role == "tool":
        parts: list[dict[str, Any]] = [
            {
                "functionResponse": {
                    **_named(done.id),
                    "name": done.name,
                    # Gemini gives a meaning to these two names.
                    "response": {"error" if done.failed else "output": done.content},
                }
            }
            for done in turn.results
        ]
        return {"role": "user", "parts": parts}
    echo: dict[str, Any] | None = None if turn.echo is None else echoed(turn.echo, form)
    if echo is not None:
        return {"role": "model"} | echo
    parts = [_shown(media) for media in turn.media]
    if turn.text or not (turn.media or turn.calls):
        parts.append({"text": turn.text})
    for index, call in enumerate(turn.calls):
        part: dict[str, Any] = {
            "functionCall": {**_named(call.id), "name": call.name, "args": arguments_of(call)},
        }
        # Only the first of parallel calls is signed.
        parts.append(part if index else part | {"thoughtSignature": _UNSIGNED})
    return {"role": "model" if turn.role == "assistant" else "user", "parts": parts}


def tools(request: Request) -> dict[str, Any]:
    """Return the fields for tools and tool choice.

    Raises:
        UsageError: If parallel calls are forbidden, which Gemini does not support. Nothing was sent.
    """
    if request.parallel_tool_calls is False:
        raise UsageError(
            f"{request.model} does not take parallel_tool_calls=False: Gemini has no way to forbid several calls in "
            f"one reply. Leave it out, or use another model. Nothing was sent."
        )
    functions = [
        {
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            "parametersJsonSchema": tool.schema,
        }
        for tool in request.tools
    ]
    fields: dict[str, Any] = {"tools": [{"functionDeclarations": functions}]}
    if request.tool_choice != "auto":
        calling: dict[str, Any] = {"mode": _MODES.get(request.tool_choice, "ANY")}
        if request.tool_choice not in _MODES:
            calling["allowedFunctionNames"] = [request.tool_choice]
        fields["toolConfig"] = {"functionCallingConfig": calling}
    return fields


def calls(parts: Sequence[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """Parse the calls of a reply. Each gets an id, which Gemini may omit.

    Raises:
        MalformedReply: If one is not a call.
    """
    made = [typed.mapping(part["functionCall"], "functionCall") for part in parts if part.get("functionCall")]
    return typed.calls(
        [
            ToolCall(
                typed.text(call.get("id"), "a functionCall's id") or numbered(index),
                typed.text(call.get("name"), "a functionCall's name"),
                typed.arguments(call.get("args"), "a functionCall's args"),
            )
            for index, call in enumerate(made)
        ]
    )


def _named(call: str) -> dict[str, str]:
    return {} if _MADE.fullmatch(call) else {"id": call}


def _shown(media: Media) -> dict[str, Any]:
    if media.url:
        # If the address does not show the kind, Gemini inspects what it fetches.
        kind = {} if not media.mime or "*" in media.mime else {"mimeType": media.mime}
        return {"fileData": {**kind, "fileUri": media.url}}
    if media.data and media.mime.startswith(_KINDS):
        return {"inlineData": {"mimeType": media.mime, "data": media.data}}
    raise untaken(media, "Gemini", "images, sound, video, PDF and text, by address or as files")
