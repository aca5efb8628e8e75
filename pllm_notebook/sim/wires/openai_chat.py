"""The format of OpenAI Chat Completions and compatible servers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.wire_types import GeneratedAnswer, Headers, OfferedTool, ParsedRequest, Rejected, Tokens
from pllm_notebook.sim.wires import openai_rules as rules
from pllm_notebook.sim.wires.openai_strict import check_strict
from pllm_notebook.sim.wires.openai_turns import read_messages

__all__ = ["PARAMETERS", "OpenAIChat"]

_PARAMETERS_TEXT = (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
    "metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key "
    "prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed "
    "service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user "
    "verbosity web_search_options"
)
PARAMETERS = frozenset(_PARAMETERS_TEXT.split())
_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "refusal": "stop",
    "filtered": "content_filter",
}


class OpenAIChat:
    """POST /chat/completions.

    With `provider` "openai" it has OpenAI's rules. "compatible" accepts any parameter and has its own `rungs`.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check the bearer token."""
        rules.check_key(headers)

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as Chat Completions does."""
        ours = self.provider == "openai"
        model = rules.check_body(body, PARAMETERS if ours else frozenset(), options)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Rejected(
                400,
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array "
                "instead.",
                code="empty_array",
                param="messages",
            )
        if ours:
            rules.check_sampling(body, model, body.get("reasoning_effort"), "reasoning_effort")
            rules.check_logprobs(body)
        limit = body.get("max_completion_tokens")
        ask = ParsedRequest(
            self.provider,
            model,
            body,
            read_messages(messages),
            output_limit=body.get("max_tokens") if limit is None else limit,
        )
        if (form := body.get("response_format")) is not None:
            self._read_format(ask, form, options)
        if body.get("tools"):
            self._read_tools(ask, body)
        return ask

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return a chat completion."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": made.text,
            "refusal": None,
            "annotations": [],
        }
        if made.finish == "refusal":
            message["content"], message["refusal"] = None, made.text
        elif made.calls:
            message["content"] = made.text or None
            message["tool_calls"] = [
                {
                    "id": f"call_{number}{index}",
                    "type": "function",
                    "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
                }
                for index, (name, arguments) in enumerate(made.calls)
            ]
        logprobs = {"content": rules.logprobs(made.tokens, ask.body), "refusal": None} if made.tokens else None
        choice = {"message": message, "logprobs": logprobs, "finish_reason": _FINISH[made.finish]}
        return orjson.dumps(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": ask.model,
                "choices": [{"index": index, **choice} for index in range(ask.body.get("n") or 1)],
                "usage": {
                    "prompt_tokens": tokens.input,
                    "completion_tokens": tokens.output,
                    "total_tokens": tokens.input + tokens.output,
                    "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
                    "completion_tokens_details": {
                        "reasoning_tokens": tokens.reasoning,
                        "audio_tokens": 0,
                        "accepted_prediction_tokens": 0,
                        "rejected_prediction_tokens": 0,
                    },
                },
                "service_tier": "default",
                "system_fingerprint": "fp_simulated",
            }
        )

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return OpenAI's error body."""
        return rules.error_body(rejected)

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return x-ratelimit-*; for a compatible server, only the waiting time on a 429."""
        if self.provider == "openai":
            return rules.limit_headers(limit_state, refused)
        return [("retry-after", limit_state.retry_after)] if refused else []

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
        return "x-request-id", f"req_{number}"

    def _read_format(self, ask: ParsedRequest, form: Any, options: SimOptions) -> None:
        kind = form.get("type") if isinstance(form, dict) else None
        if kind not in ("text", "json_object", "json_schema"):
            raise Rejected(
                400,
                f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'.",
                code="invalid_value",
                param="response_format.type",
            )
        if kind == "text":
            return
        spec = form.get("json_schema") or {}
        if self.provider == "compatible":
            if "ignored" in options.rungs:
                ask.fenced = True
            elif kind not in options.rungs:
                raise Rejected(400, f"response_format type '{kind}' is not supported.", param="response_format")
        elif kind == "json_schema":
            if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
                raise Rejected(
                    400,
                    "Missing required parameter: 'response_format.json_schema.name'.",
                    code="missing_required_parameter",
                    param="response_format.json_schema.name",
                )
            if spec.get("strict"):
                check_strict(spec.get("schema"), f"response_format '{spec['name']}'", "response_format")
        elif "json" not in " ".join([ask.system, *(text for _, text in ask.messages)]).lower():
            raise Rejected(
                400,
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                param="messages",
            )
        if kind == "json_schema":
            ask.schema = spec.get("schema") or {}
        else:
            ask.json_mode = True

    def _read_tools(self, ask: ParsedRequest, body: Mapping[str, Any]) -> None:
        tools = []
        for index, tool in enumerate(body["tools"]):
            function = tool.get("function") or {}
            if "name" not in function:
                raise Rejected(
                    400,
                    f"Missing required parameter: 'tools[{index}].function.name'.",
                    code="missing_required_parameter",
                    param=f"tools[{index}].function.name",
                )
            parameters = function.get("parameters") or {}
            if function.get("strict") and self.provider == "openai":
                check_strict(
                    parameters,
                    f"function '{function['name']}'",
                    f"tools[{index}].function.parameters",
                    "invalid_function_parameters",
                )
            tools.append(OfferedTool(function["name"], parameters))
        ask.tools, ask.parallel = tools, body.get("parallel_tool_calls") is not False
        choice = body.get("tool_choice")
        if choice == "required":
            ask.forced = [tools[0].name]
        elif isinstance(choice, dict):
            if choice.get("type") == "function":
                ask.forced = [choice.get("function", {}).get("name", "")]
            elif choice.get("type") == "allowed_tools":
                allowed = choice.get("allowed_tools") or {}
                if allowed.get("mode") == "required":
                    ask.forced = [tool.get("function", {}).get("name", "") for tool in allowed.get("tools", ())][:1]
        unknown = [name for name in ask.forced if name not in {tool.name for tool in tools}]
        if unknown:
            raise Rejected(400, f"Tool choice '{unknown[0]}' not found in 'tools' parameter.", param="tool_choice")
