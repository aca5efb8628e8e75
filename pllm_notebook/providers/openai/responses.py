"""OpenAI's Responses, the format for models that Chat Completions does not serve."""

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
    object_at,
    objects_at,
    prefilled,
    schema_instruction,
)
from pllm_notebook.providers.media_parts import PDF, data_url, is_image, untaken
from pllm_notebook.providers.openai import errors as openai_errors
from pllm_notebook.providers.openai.chat import keyed
from pllm_notebook.providers.openai.keywords import RESPONSES_KEYWORDS
from pllm_notebook.types import Finish, Reply

__all__ = ["Responses"]

# A model's reasoning before a tool call: OpenAI does not store it, so it must be sent back with the results.
_REASONING = "reasoning.encrypted_content"
# Reasons why a Response is incomplete. With any other reason there is no answer.
_CUT_OFF = {"": Finish.TRUNCATED, "max_output_tokens": Finish.TRUNCATED, "content_filter": Finish.FILTERED}


class Responses:
    """`/responses`. Consecutive turns of one role stay separate."""

    format_name = "responses"
    input_field = "input"
    model_in_path = False
    reply_fields = ("output",)
    keywords = RESPONSES_KEYWORDS
    error_from = staticmethod(openai_errors.error_from)
    limits = staticmethod(openai_errors.limits)

    def path(self, model: str) -> str:
        return "/responses"

    def encode(self, request: Request) -> dict[str, Any]:
        if prefilled(request.turns):
            raise UsageError(
                "The conversation ends with an assistant's turn, the beginning of an answer, and OpenAI does not "
                "continue an answer. End it with a user's turn. Nothing was sent."
            )
        # OpenAI keeps responses for 30 days by default; bulk data should not be kept.
        body: dict[str, Any] = {"model": request.model, "store": False}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_output_tokens is not None:
            body["max_output_tokens"] = request.max_output_tokens
        body |= extra(request)
        if request.schema is not None:
            form = {"type": "json_schema", "name": request.schema_name, "schema": request.schema, "strict": True}
            body["text"] = {"format": form}
        elif request.json_object:
            body["text"] = {"format": {"type": "json_object"}}
        if request.tools:
            body |= _tools(request)
            body["include"] = [*(name for name in body.get("include") or () if name != _REASONING), _REASONING]
        if request.system:
            body["instructions"] = request.system
        body["input"] = [item for turn in request.turns for item in self._items(turn)]
        return body

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        text = object_at(body, "text")
        schema = object_at(object_at(text, "format"), "schema")
        if schema_level == 0 or not schema:
            return dict(body)
        loose = {name: value for name, value in body.items() if name not in ("text", "input")}
        rest = {name: value for name, value in text.items() if name != "format"}
        if rest:
            loose["text"] = rest
        loose["instructions"] = instructed(loose.get("instructions"), schema_instruction(schema))
        return loose | {"input": body.get("input")}

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        said = objects_at(body, "input")[:shown] if shown else None
        return [body.get("tools"), body.get("text"), body.get("instructions"), said]

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        return dict(body) if name is None else keyed(body, name)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return body.get("max_output_tokens")

    def decode(self, body: Mapping[str, Any]) -> Reply:
        if "output" not in body:
            raise MalformedReply("no output")
        output = typed.mappings(body["output"], "output")
        status = typed.text(body.get("status"), "status")
        texts: list[str] = []
        refusals_seen: list[str] = []
        calls: list[ToolCall] = []
        for item in output:
            kind = typed.text(item.get("type"), "an item's type")
            if kind == "function_call":
                calls.append(_call(item))
            # A message with commentary is the model thinking aloud, not an answer.
            if kind != "message" or item.get("phase") == "commentary":
                continue
            for part in typed.mappings(item.get("content"), "content"):
                if part.get("type") == "refusal":
                    refusals_seen.append(typed.text(part.get("refusal"), "refusal"))
                else:
                    texts.append(typed.text(part.get("text"), "text"))
        made = typed.calls(calls)
        details = typed.mapping(body.get("incomplete_details"), "incomplete_details")
        reason = typed.text(details.get("reason"), "reason")
        if status in ("", "completed"):
            end = Finish.REFUSED if refusals_seen else Finish.CALLED if made else Finish.COMPLETE
        elif status == "incomplete":
            end = _CUT_OFF.get(reason, Finish.UNFINISHED)
        else:
            end = Finish.UNFINISHED
        called = end is Finish.CALLED
        return Reply(
            text="".join(texts),
            finish=end,
            usage=openai_errors.usage_of(body.get("usage"), "input_tokens", "output_tokens"),
            model=typed.label(body.get("model")),
            request_id=typed.label(body.get("id")),
            detail=" ".join(refusals_seen) or (reason or status if end is Finish.UNFINISHED else ""),
            calls=made if called else (),
            echo=ProviderMessage(self.format_name, orjson.dumps(output).decode()) if called else None,
        )

    def _items(self, turn: Turn) -> list[dict[str, Any]]:
        if turn.role == "tool":
            return [
                {"type": "function_call_output", "call_id": done.id, "output": done.content} for done in turn.results
            ]
        echo: list[dict[str, Any]] | None = None if turn.echo is None else echoed(turn.echo, self.format_name)
        if echo is not None:
            return echo
        if turn.calls:
            calls = [
                {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
                for call in turn.calls
            ]
            return [*([{"role": "assistant", "content": turn.text}] if turn.text else []), *calls]
        if not turn.media:
            return [{"role": turn.role, "content": turn.text}]
        parts = [_part(media) for media in turn.media]
        if turn.text:
            parts.append({"type": "input_text", "text": turn.text})
        return [{"role": turn.role, "content": parts}]


def _tools(request: Request) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "parameters": tool.schema,
                # Never omitted: the default here is true.
                "strict": tool.strict,
            }
            for tool in request.tools
        ]
    }
    if request.tool_choice in ("required", "none"):
        fields["tool_choice"] = request.tool_choice
    elif request.tool_choice != "auto":
        fields["tool_choice"] = {"type": "function", "name": request.tool_choice}
    if request.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields


def _call(item: Mapping[str, Any]) -> ToolCall:
    call_id = typed.text(item.get("call_id"), "a function call's call_id")
    if not call_id:
        raise MalformedReply("a function call without a call_id")
    name = typed.text(item.get("name"), "a function call's name")
    return ToolCall(call_id, name, typed.arguments(item.get("arguments"), "a function call's arguments"))


def _part(media: Media) -> dict[str, Any]:
    if is_image(media) and (media.url or media.data):
        return {"type": "input_image", "image_url": media.url or data_url(media)}
    if media.mime == PDF and media.url:
        return {"type": "input_file", "file_url": media.url}
    if media.mime == PDF and media.data:
        return {"type": "input_file", "filename": media.name or "document.pdf", "file_data": data_url(media)}
    raise untaken(media, "Responses", "images (PNG, JPEG, GIF, WebP) and PDF, by address or as files")
