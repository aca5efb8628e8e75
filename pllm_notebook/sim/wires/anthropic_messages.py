"""The format of Anthropic Messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from pllm_notebook.sim.prompt_cache_model import marked
from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.thought_signatures import signature
from pllm_notebook.sim.wire_types import GeneratedAnswer, Headers, OfferedTool, ParsedRequest, Rejected, Tokens
from pllm_notebook.sim.wires.anthropic_rules import (
    check_schema,
    forces_no_tools,
    max_output,
    takes_no_prefill,
    takes_no_sampling,
    thinks,
)
from pllm_notebook.sim.wires.anthropic_turns import read_messages

__all__ = ["PARAMETERS", "AnthropicMessages"]

_PARAMETERS_TEXT = (
    "cache_control container diagnostics inference_geo max_tokens messages metadata model output_config service_tier "
    "speed stop_sequences stream system thinking tool_choice tools user_profile_id workspace_id"
)
PARAMETERS = frozenset(_PARAMETERS_TEXT.split())
# The SDK no longer has them, but the API still accepts them for older models.
SAMPLING = frozenset({"temperature", "top_p", "top_k"})
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "api_error",
    529: "overloaded_error",
}
_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "filtered": "refusal",
}


class AnthropicMessages:
    """POST /v1/messages."""

    provider = "anthropic"

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check the version and the key, which is in x-api-key or a bearer token (the SDK sends either)."""
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if not key or key == "bad-key":
            raise Rejected(401, "invalid x-api-key")
        if "anthropic-version" not in headers:
            raise Rejected(400, "anthropic-version: header is required")

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as Messages does."""
        for name in options.unsupported_parameters:
            if name in body:
                raise Rejected(400, f"`{name}` is not supported for this model.", param=name)
            if name == "cache_control" and (place := marked(body)):
                raise Rejected(400, f"{place}: Extra inputs are not permitted", param=name)
        if not body.keys() <= PARAMETERS:
            extra = [name for name in body if name not in PARAMETERS and name not in SAMPLING]
            for name in extra:
                raise Rejected(400, f"{name}: Extra inputs are not permitted", param=name)
        for name in ("model", "max_tokens", "messages"):
            if body.get(name) is None:
                raise Rejected(400, f"{name}: Field required", param=name)
        model, messages, limit = body["model"], body["messages"], body["max_tokens"]
        if model.startswith(("missing-model", "gpt-", "gemini-")):
            raise Rejected(404, f"model: {model}")
        if takes_no_sampling(model) and (rejected := SAMPLING & body.keys()):
            raise Rejected(400, f"`{min(rejected)}` is deprecated for this model.", param=min(rejected))
        if limit > (most := max_output(model)):
            raise Rejected(
                400,
                f"max_tokens: {limit} > {most}, which is the maximum allowed number of output tokens for {model}",
            )
        if not messages:
            raise Rejected(400, "messages: at least one message is required")
        if body.get("stream"):
            raise Rejected(400, "stream: streaming is not simulated")
        if messages[-1].get("role") == "assistant" and takes_no_prefill(model):
            raise Rejected(
                400,
                "This model does not support assistant message prefill. The conversation must end with a user message.",
            )
        said = read_messages(messages, body.get("system"), thinking=thinks(model, body))
        ask = ParsedRequest("anthropic", model, body, said, output_limit=limit)
        form = (body.get("output_config") or {}).get("format")
        if form:
            ask.schema = form.get("schema") or {}
            check_schema(ask.schema, "output_config.format.schema")
        if body.get("tools"):
            self._read_tools(ask, body)
        return ask

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return a message. A refusal has no content; a filtered answer has the part before the cut."""
        content: list[dict[str, Any]] = []
        if made.calls and thinks(ask.model, ask.body):
            content.append({"type": "thinking", "thinking": "", "signature": signature(number)})
        if made.text and made.finish != "refusal":
            content.append({"type": "text", "text": made.text, "citations": None})
        for index, (name, arguments) in enumerate(made.calls):
            content.append({"type": "tool_use", "id": f"toolu_{number}{index}", "name": name, "input": arguments})
        details: dict[str, Any] | None = None
        if made.finish == "refusal":
            details = {"type": "refusal", "category": "general_harms", "explanation": made.text}
        elif made.finish == "filtered":
            details = {"type": "refusal", "category": None, "explanation": None}
        return orjson.dumps(
            {
                "id": f"msg_{number}",
                "type": "message",
                "role": "assistant",
                "model": ask.model,
                "content": content,
                "stop_reason": _STOP[made.finish],
                "stop_sequence": None,
                "stop_details": details,
                "container": None,
                "usage": {
                    "input_tokens": tokens.input - tokens.cached - tokens.written,
                    "cache_creation_input_tokens": tokens.written,
                    "cache_read_input_tokens": tokens.cached,
                    "cache_creation": {"ephemeral_5m_input_tokens": tokens.written, "ephemeral_1h_input_tokens": 0},
                    "output_tokens": tokens.output,
                    "output_tokens_details": {"thinking_tokens": tokens.reasoning},
                    "service_tier": "batch" if tokens.batch else "standard",
                },
            }
        )

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return Anthropic's error body."""
        kind = _KINDS.get(rejected.status, "api_error" if rejected.status >= 500 else "invalid_request_error")
        error = {"type": kind, "message": rejected.message}
        return orjson.dumps({"type": "error", "error": error, "request_id": f"req_{number}"})

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return anthropic-ratelimit-*, with reset times as timestamps, and on a 429 also the waiting time."""
        headers: Headers = []
        now = datetime.now(UTC)
        for bucket, names in (
            (limit_state.requests, ("requests",)),
            (limit_state.tokens, ("tokens", "input-tokens", "output-tokens")),
        ):
            if bucket is None:
                continue
            # In whole seconds, rounded up, as sent by the provider.
            reset = (now + timedelta(seconds=bucket.full_in_s + 0.999)).strftime("%Y-%m-%dT%H:%M:%SZ")
            for name in names:
                headers.append((f"anthropic-ratelimit-{name}-limit", str(int(bucket.per_min))))
                headers.append((f"anthropic-ratelimit-{name}-remaining", str(max(0, int(bucket.level)))))
                headers.append((f"anthropic-ratelimit-{name}-reset", reset))
        if refused:
            headers.append(("retry-after", limit_state.retry_after))
        return headers

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
        return "request-id", f"req_{number}"

    def _read_tools(self, ask: ParsedRequest, body: Mapping[str, Any]) -> None:
        tools = []
        for index, tool in enumerate(body["tools"]):
            if tool.get("type", "custom") != "custom":
                continue
            for name in ("name", "input_schema"):
                if name not in tool:
                    raise Rejected(400, f"tools.{index}.custom.{name}: Field required", param="tools")
            if tool.get("strict"):
                check_schema(tool["input_schema"], f"tools.{index}.custom.input_schema")
            tools.append(OfferedTool(tool["name"], tool["input_schema"]))
        ask.tools = tools
        choice = body.get("tool_choice") or {}
        ask.parallel = choice.get("disable_parallel_tool_use") is not True
        if choice.get("type") in ("any", "tool"):
            if forces_no_tools(ask.model):
                raise Rejected(
                    400, f"tool_choice: type `{choice['type']}` is not supported for this model.", param="tool_choice"
                )
            ask.forced = [choice.get("name", "")] if choice["type"] == "tool" else [tool.name for tool in tools][:1]
            if any(name not in {tool.name for tool in tools} for name in ask.forced):
                raise Rejected(400, f"Tool '{ask.forced[0]}' not found in provided tools", param="tool_choice")
