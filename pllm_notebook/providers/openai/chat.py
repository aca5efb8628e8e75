"""Chat Completions, the format of OpenAI and of every compatible server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Media, ProviderMessage, Request, ToolCall, Turn
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import typed
from pllm_notebook.providers.bodies import (
    echoed,
    extra,
    instructed,
    numbered,
    object_at,
    objects_at,
    prefilled,
    schema_instruction,
)
from pllm_notebook.providers.media_parts import PDF, data_url, is_image, untaken
from pllm_notebook.providers.openai import errors as openai_errors
from pllm_notebook.types import Finish, Reply

__all__ = ["Chat", "answered", "keyed"]

# Fields that OpenAI accepts back of its own message; other servers need all of them (reasoning, signatures).
_ECHOED = frozenset({"role", "content", "tool_calls"})
# Finish reasons in lower case. Compatible servers have their own words for a complete and a truncated answer. Any other
# reason ("error", "abort", "insufficient_system_resource") means that there is no answer.
_FINISH = {
    **dict.fromkeys(
        ("", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "tool_calls", "function_call"),
        Finish.COMPLETE,
    ),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens"), Finish.TRUNCATED),
    "content_filter": Finish.FILTERED,
}
_THINKING = (("<think>", "</think>"), ("<seed:think>", "</seed:think>"))


class Chat:
    """`/chat/completions`.

    Consecutive turns of one role stay separate, as OpenAI and most servers accept them.

    Args:
        limit_field: Field for the output limit: `max_completion_tokens` for OpenAI, whose reasoning models reject the
            old name; `max_tokens` for most other servers.
        strict: Whether it is OpenAI's own format, in which schemas are marked strict (guaranteed) and a prefill is not
            accepted.
    """

    format_name = "chat"
    input_field = "messages"
    model_in_path = False
    reply_fields = ("choices",)
    keywords = None  # the fields are named after the keywords
    error_from = staticmethod(openai_errors.error_from)
    limits = staticmethod(openai_errors.limits)

    def __init__(self, limit_field: str = "max_completion_tokens", *, strict: bool = True) -> None:
        self._limit_field = limit_field
        self._strict = strict

    def path(self, model: str) -> str:
        return "/chat/completions"

    def encode(self, request: Request) -> dict[str, Any]:
        if self._strict and prefilled(request.turns):
            raise _prefill_error()
        body: dict[str, Any] = {"model": request.model}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_output_tokens is not None:
            body[self._limit_field] = request.max_output_tokens
        body |= extra(request)
        if request.schema is not None:
            described: dict[str, Any] = {"name": request.schema_name, "schema": request.schema}
            if self._strict:
                described["strict"] = True
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        elif request.json_object:
            body["response_format"] = {"type": "json_object"}
        if request.tools:
            body |= self._tools(request)
        messages: list[dict[str, Any]] = []
        if request.system:
            messages.append({"role": "system", "content": request.system})
        for turn in request.turns:
            messages += self._messages(turn)
        body["messages"] = messages
        return body

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        form = object_at(body, "response_format")
        schema = object_at(object_at(form, "json_schema"), "schema")
        if schema_level == 0 or not (schema or (schema_level > 1 and form.get("type") == "json_object")):
            return dict(body)
        loose = {name: value for name, value in body.items() if name != "response_format"}
        if not schema:
            return loose  # the prompt already asks for JSON, as OpenAI requires
        if schema_level == 1:
            loose["response_format"] = {"type": "json_object"}
        loose.pop("messages", None)
        messages: list[Mapping[str, Any]] = objects_at(body, "messages")
        instruction = schema_instruction(schema)
        if messages and messages[0].get("role") == "system":
            messages[0] = {"role": "system", "content": instructed(messages[0].get("content"), instruction)}
        else:
            messages.insert(0, {"role": "system", "content": instruction})
        loose["messages"] = messages
        return loose

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        system = [message for message in objects_at(body, "messages") if message.get("role") == "system"]
        said = [message for message in objects_at(body, "messages") if message.get("role") != "system"]
        return [body.get("tools"), body.get("response_format"), [*system, *said[:shown]]]

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        return dict(body) if name is None else keyed(body, name)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def decode(self, body: Mapping[str, Any]) -> Reply:
        usage = openai_errors.usage_of(body.get("usage"), "prompt_tokens", "completion_tokens")
        choices = typed.mappings(body.get("choices"), "choices")
        if not choices:
            raise MalformedReply("no choices[0].message")
        choice = choices[0]
        finish = typed.text(choice.get("finish_reason"), "finish_reason").lower()
        # Azure omits the message if its filter removed the answer.
        if "message" not in choice and finish != "content_filter":
            raise MalformedReply("no choices[0].message")
        message = typed.mapping(choice.get("message"), "message")
        refusal = typed.text(message.get("refusal"), "refusal")
        calls = _calls(message) if message.get("tool_calls") is not None or message.get("function_call") else ()
        content = message.get("content")
        text = _joined(content) if isinstance(content, list) else typed.text(content, "content")
        end = _FINISH.get(finish, Finish.UNFINISHED)
        if end is Finish.COMPLETE:
            end = Finish.REFUSED if refusal else Finish.CALLED if calls else Finish.COMPLETE
        called = end is Finish.CALLED
        return Reply(
            model=typed.label(body.get("model")),
            request_id=typed.label(body.get("id")),
            text=answered(text),
            finish=end,
            usage=usage,
            detail=refusal or (finish if end is Finish.UNFINISHED else ""),
            calls=calls if called else (),
            echo=self._echo(message) if called else None,
        )

    def _tools(self, request: Request) -> dict[str, Any]:
        functions: list[dict[str, Any]] = []
        for tool in request.tools:
            function: dict[str, Any] = {"name": tool.name, "parameters": tool.schema}
            if tool.description:
                function["description"] = tool.description
            if tool.strict and self._strict:
                function["strict"] = True
            functions.append({"type": "function", "function": function})
        fields: dict[str, Any] = {"tools": functions}
        if request.tool_choice in ("required", "none"):
            fields["tool_choice"] = request.tool_choice
        elif request.tool_choice != "auto":
            fields["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice}}
        if request.parallel_tool_calls is not None:
            fields["parallel_tool_calls"] = request.parallel_tool_calls
        return fields

    def _messages(self, turn: Turn) -> list[dict[str, Any]]:
        if turn.role == "tool":
            return [{"role": "tool", "tool_call_id": done.id, "content": done.content} for done in turn.results]
        echo = None if turn.echo is None else echoed(turn.echo, self.format_name)
        if echo is not None:
            return [{name: said for name, said in echo.items() if not self._strict or name in _ECHOED}]
        if turn.calls:
            calls = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in turn.calls
            ]
            return [{"role": "assistant", "content": turn.text or None, "tool_calls": calls}]
        if not turn.media:
            return [{"role": turn.role, "content": turn.text}]
        parts = [self._part(media) for media in turn.media]
        if turn.text:
            parts.append({"type": "text", "text": turn.text})
        return [{"role": turn.role, "content": parts}]

    def _part(self, media: Media) -> dict[str, Any]:
        known = is_image(media) or (not self._strict and media.mime.startswith("image/"))
        if known and (media.url or media.data):
            return {"type": "image_url", "image_url": {"url": media.url or data_url(media)}}
        if media.mime == PDF and media.data:
            return {"type": "file", "file": {"filename": media.name or "document.pdf", "file_data": data_url(media)}}
        raise untaken(
            media, "Chat Completions", "images (PNG, JPEG, GIF, WebP), by address or as files, and PDF as files"
        )

    def _echo(self, message: Mapping[str, Any]) -> ProviderMessage | None:
        made: list[dict[str, Any]] = message.get("tool_calls") or []
        if not made or not all(call.get("id") for call in made):
            return None  # without ids, results could not refer to the calls
        said = {"role": "assistant"} | {name: part for name, part in message.items() if part or name == "content"}
        return ProviderMessage(self.format_name, orjson.dumps(said).decode())


def keyed(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Add a cache key, by which OpenAI routes requests to the machine that has their prefix; a caller's key is kept."""
    return {"prompt_cache_key": name} | dict(body)


def answered(text: str) -> str:
    """Return the answer without the reasoning that the server left in front of it.

    Some servers do not separate reasoning from the answer: `<think>…</think>` comes first, or only the closing tag if
    the opening one was prefilled. Reasoning without a closing tag leaves no answer.
    """
    if "think>" not in text:  # no closing tag
        return text
    said = text.lstrip()
    for opening, closing in _THINKING:
        if said.startswith(opening):
            return said[len(opening) :].partition(closing)[2].lstrip()
        before, found, after = text.partition(closing)
        if found and opening not in before:
            return after.lstrip()
    return text


def _joined(content: list[Any]) -> str:
    """Join an answer that a server sent in parts."""
    return "".join(typed.text(part.get("text"), "text") for part in typed.mappings(content, "content"))


def _calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    calls = []
    for index, call in enumerate(typed.mappings(message.get("tool_calls"), "tool_calls")):
        function = typed.mapping(call.get("function"), "function")
        call_id = typed.text(call.get("id"), "a tool call's id") or numbered(index)
        calls.append(_call(call_id, function))
    if not calls and message.get("function_call"):  # the older format, with one call
        calls.append(_call(numbered(0), typed.mapping(message["function_call"], "function_call")))
    return typed.calls(calls)


def _call(call_id: str, function: Mapping[str, Any]) -> ToolCall:
    name = typed.text(function.get("name"), "a tool call's name")
    return ToolCall(call_id, name, typed.arguments(function.get("arguments"), "a tool call's arguments"))


def _prefill_error() -> UsageError:
    return UsageError(
        "The conversation ends with an assistant's turn, the beginning of an answer, and OpenAI does not continue an "
        "answer. End it with a user's turn, or use a model that continues answers (Gemini, Claude before 4.6, a server "
        "of your own). Nothing was sent."
    )
