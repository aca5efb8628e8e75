"""The format of OpenAI Responses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.thought_signatures import signature
from pllm_notebook.sim.wire_types import GeneratedAnswer, Headers, OfferedTool, ParsedRequest, Rejected, Tokens
from pllm_notebook.sim.wires import openai_rules as rules
from pllm_notebook.sim.wires.openai_strict import check_strict
from pllm_notebook.sim.wires.openai_turns import read_input

__all__ = ["PARAMETERS", "OpenAIResponses"]

_PARAMETERS_TEXT = (
    "access_programs background context_management conversation image include input instructions max_output_tokens "
    "max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key "
    "prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream "
    "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
PARAMETERS = frozenset(_PARAMETERS_TEXT.split())
_LEAST_OUTPUT = 16


class OpenAIResponses:
    """POST /responses. Nothing is stored: `previous_response_id` is accepted but not looked up."""

    provider = "openai"

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check the bearer token."""
        rules.check_key(headers)

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as Responses does."""
        model = rules.check_body(body, PARAMETERS, options)
        given = body.get("input")
        if not given:
            raise Rejected(
                400, "Missing required parameter: 'input'.", code="missing_required_parameter", param="input"
            )
        rules.check_sampling(body, model, (body.get("reasoning") or {}).get("effort"), "reasoning.effort")
        limit = body.get("max_output_tokens")
        if limit is not None and limit < _LEAST_OUTPUT:
            raise Rejected(
                400,
                f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {_LEAST_OUTPUT}, "
                f"but got {limit} instead.",
                code="integer_below_min_value",
                param="max_output_tokens",
            )
        said = read_input(given, body.get("instructions"), signed=_signs(body))
        ask = ParsedRequest("openai", model, body, said, output_limit=limit)
        form = (body.get("text") or {}).get("format") or {"type": "text"}
        if form.get("type") == "json_schema":
            if form.get("strict"):
                check_strict(form.get("schema"), f"response_format '{form.get('name')}'", "text.format.schema")
            ask.schema = form.get("schema") or {}
        elif form.get("type") == "json_object":
            ask.json_mode = True
        if body.get("tools"):
            self._read_tools(ask, body)
        return ask

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return a response."""
        body, now = ask.body, int(time.time())
        cut = made.finish in ("length", "filtered")
        output: list[dict[str, Any]] = []
        if made.calls and _signs(body):
            thoughts = {"id": f"rs_{number}", "type": "reasoning", "summary": []}
            output.append(thoughts | {"encrypted_content": signature(number)})
        if made.finish == "refusal":
            output.append(_message(number, "completed", {"type": "refusal", "refusal": made.text}))
        elif made.text or not (made.calls or cut):
            logprobs = rules.logprobs(made.tokens, body)
            part = {"type": "output_text", "text": made.text, "annotations": [], "logprobs": logprobs}
            output.append(_message(number, "incomplete" if cut else "completed", part))
        for index, (name, arguments) in enumerate(made.calls):
            output.append(
                {
                    "type": "function_call",
                    "id": f"fc_{number}{index}",
                    "call_id": f"call_{number}{index}",
                    "name": name,
                    "arguments": orjson.dumps(arguments).decode(),
                    "status": "completed",
                }
            )
        reason = {"length": "max_output_tokens", "filtered": "content_filter"}.get(made.finish)
        return orjson.dumps(
            {
                "id": f"resp_{number}",
                "object": "response",
                "created_at": now,
                "completed_at": None if cut else now,
                "status": "incomplete" if cut else "completed",
                "background": False,
                "error": None,
                "incomplete_details": {"reason": reason} if reason else None,
                "instructions": body.get("instructions"),
                "max_output_tokens": body.get("max_output_tokens"),
                "max_tool_calls": body.get("max_tool_calls"),
                "model": ask.model,
                "output": output,
                "parallel_tool_calls": body.get("parallel_tool_calls", True),
                "previous_response_id": body.get("previous_response_id"),
                "prompt_cache_key": body.get("prompt_cache_key"),
                "reasoning": {"effort": (body.get("reasoning") or {}).get("effort"), "summary": None},
                "safety_identifier": body.get("safety_identifier"),
                "service_tier": "default",
                "temperature": body.get("temperature", 1.0),
                "text": _text(body.get("text")),
                "tool_choice": body.get("tool_choice", "auto"),
                "tools": [_tool(tool) for tool in body.get("tools") or ()],
                "top_logprobs": body.get("top_logprobs", 0),
                "top_p": body.get("top_p", 1.0),
                "truncation": body.get("truncation", "disabled"),
                "usage": {
                    "input_tokens": tokens.input,
                    "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
                    "output_tokens": tokens.output,
                    "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
                    "total_tokens": tokens.input + tokens.output,
                },
                "user": body.get("user"),
                "metadata": body.get("metadata") or {},
            }
        )

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return OpenAI's error body."""
        return rules.error_body(rejected)

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return x-ratelimit-*."""
        return rules.limit_headers(limit_state, refused)

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
        return "x-request-id", f"req_{number}"

    def _read_tools(self, ask: ParsedRequest, body: Mapping[str, Any]) -> None:
        tools = []
        for index, tool in enumerate(body["tools"]):
            if tool.get("type") != "function":
                continue
            parameters = tool.get("parameters") or {}
            if tool.get("strict"):
                check_strict(
                    parameters,
                    f"function '{tool.get('name')}'",
                    f"tools[{index}].parameters",
                    "invalid_function_parameters",
                )
            tools.append(OfferedTool(tool["name"], parameters))
        ask.tools, ask.parallel = tools, body.get("parallel_tool_calls") is not False
        choice = body.get("tool_choice")
        if choice == "required" and tools:
            ask.forced = [tools[0].name]
        elif isinstance(choice, dict) and choice.get("type") == "function":
            ask.forced = [choice.get("name", "")]
            if ask.forced[0] not in {tool.name for tool in tools}:
                raise Rejected(
                    400, f"Tool choice '{ask.forced[0]}' not found in 'tools' parameter.", param="tool_choice"
                )


def _signs(body: Mapping[str, Any]) -> bool:
    """Return whether the reasoning before a tool call is returned, and is required with the call's result."""
    return rules.reasons(body["model"]) and "reasoning.encrypted_content" in (body.get("include") or ())


def _message(number: str, status: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": status, "content": [part]}


def _text(config: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(config or {})
    form = given.get("format") or {"type": "text"}
    if form.get("type") == "json_schema":
        form = {"description": None, "strict": False, **form}
    return {"verbosity": "medium", **given, "format": form}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return dict(tool)
    return {"description": None, "parameters": {}, "strict": True, **tool}
