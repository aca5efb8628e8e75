"""Gemini's generateContent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import ProviderMessage, Request
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import errors, typed
from pllm_notebook.providers.bodies import extra, object_at, objects_at, rolled_up, schema_instruction
from pllm_notebook.providers.google import content as parts
from pllm_notebook.providers.google.facts import KEYWORDS
from pllm_notebook.providers.token_probabilities import TOP, TokenFormat, token
from pllm_notebook.schema import Token
from pllm_notebook.types import Finish, LimitReport, RawReply, Reply, Usage

__all__ = ["TOKENS", "Generate"]

_OURS = frozenset({"contents", "model", "systemInstruction"})
# Anything else (UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS) is not an answer.
_FINISH = {"STOP": Finish.COMPLETE, "MAX_TOKENS": Finish.TRUNCATED}
_FILTERS = frozenset(
    {"SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "IMAGE_SAFETY", "LANGUAGE", "OTHER"}
)


class Generate:
    """`models/NAME:generateContent`, with the REST body in camelCase, as in batch files.

    Consecutive turns of one role are merged into one content, as Gemini requires.
    """

    format_name = "generate"
    input_field = "contents"
    model_in_path = True
    reply_fields = ("candidates", "promptFeedback")
    keywords = KEYWORDS

    def path(self, model: str) -> str:
        return f"models/{model}:generateContent"

    def encode(self, request: Request) -> dict[str, Any]:
        body = extra(request, _OURS)
        config: dict[str, Any] = dict(body.pop("generationConfig", {}))
        if request.temperature is not None:
            config["temperature"] = request.temperature
        if request.max_output_tokens is not None:
            config["maxOutputTokens"] = request.max_output_tokens
        if request.schema is not None:
            config["responseMimeType"] = "application/json"
            config["responseJsonSchema"] = request.schema
        elif request.json_object:
            config["responseMimeType"] = "application/json"
        if request.tools:
            body |= parts.tools(request)
        if request.system:
            body["systemInstruction"] = {"parts": [{"text": request.system}]}
        if config:
            body["generationConfig"] = config
        body["contents"] = rolled_up([parts.content(turn, self.format_name) for turn in request.turns], "parts")
        return body

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        config = dict(object_at(body, "generationConfig"))
        schema = config.pop("responseJsonSchema", None)
        any_shape = schema is None and config.get("responseMimeType") == "application/json"
        if schema_level == 0 or (schema is None and not (any_shape and schema_level > 1)):
            return dict(body)
        if schema_level > 1:
            config.pop("responseMimeType", None)
        if schema is None:  # the prompt already asks for JSON
            return {**body, "generationConfig": config}
        instruction = {"text": schema_instruction(schema)}
        system = {"parts": [*objects_at(object_at(body, "systemInstruction"), "parts"), instruction]}
        rest = {k: v for k, v in body.items() if k not in ("generationConfig", "systemInstruction", "contents")}
        return rest | {"systemInstruction": system, "generationConfig": config, "contents": body.get("contents")}

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        return [body.get("tools"), body.get("systemInstruction"), objects_at(body, "contents")[:shown]]

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        return dict(body)  # Gemini detects equal prefixes itself

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        limit: int | None = object_at(body, "generationConfig").get("maxOutputTokens")
        return limit

    def decode(self, body: Mapping[str, Any]) -> Reply:
        about: dict[str, Any] = {
            "usage": _usage(body.get("usageMetadata")),
            "model": typed.label(body.get("modelVersion")),
            "request_id": typed.label(body.get("responseId")),
        }
        feedback = typed.mapping(body.get("promptFeedback"), "promptFeedback")
        blocked = typed.text(feedback.get("blockReason"), "blockReason")
        candidates = typed.mappings(body.get("candidates"), "candidates")
        if not candidates and blocked:
            return Reply(text="", finish=Finish.FILTERED, detail=blocked, **about)
        if not candidates:
            raise MalformedReply("no candidates[0].content")
        content = typed.mapping(candidates[0].get("content"), "content")
        said = typed.mappings(content.get("parts"), "parts")
        text = "".join(typed.text(part.get("text"), "text") for part in said if not part.get("thought"))
        calls = parts.calls(said)
        reason = typed.text(candidates[0].get("finishReason"), "finishReason") or "STOP"
        if reason in ("MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL"):
            raise MalformedReply(f"finishReason {reason}")
        end = Finish.FILTERED if reason in _FILTERS else _FINISH.get(reason, Finish.UNFINISHED)
        if calls and end is Finish.COMPLETE:
            # Unchanged: its thoughts are signed.
            echo = ProviderMessage(self.format_name, orjson.dumps(content).decode())
            return Reply(text=text, finish=Finish.CALLED, calls=calls, echo=echo, **about)
        return Reply(text=text, finish=end, detail="" if reason == "STOP" else reason, **about)

    def error_from(self, raw: RawReply) -> Failure:
        body = errors.body_of(raw)
        error: dict[str, Any] = body["error"] if isinstance(body.get("error"), dict) else {}
        kind, wait, field = None, None, ""
        for detail in error.get("details") or []:
            kind_of = str(detail.get("@type", "")).rpartition(".")[2]
            if detail.get("reason") == "API_KEY_INVALID":
                kind = FailureKind.AUTHENTICATION
            elif kind_of == "RetryInfo":
                wait = errors.seconds(detail.get("retryDelay"))
            elif kind_of == "BadRequest":
                field = str((detail.get("fieldViolations") or [{}])[0].get("field") or "")
            elif kind_of == "QuotaFailure" and "PerDay" in str(detail.get("violations")):
                kind = FailureKind.QUOTA  # a daily quota is not restored within a run
        message = str(error.get("message") or "")
        return errors.failure(
            raw, message, kind=kind, field=field, retry_after=wait, usage=_usage(body.get("usageMetadata"))
        )

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return None  # Gemini sends none


def _ask_tokens(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **body,
        "generationConfig": {**object_at(body, "generationConfig"), "responseLogprobs": True, "logprobs": TOP},
    }


def _take_tokens(body: dict[str, Any]) -> list[Token] | None:
    found = body["candidates"][0].pop("logprobsResult", None)
    if not found:
        return None
    tops = [step.get("candidates") or () for step in found.get("topCandidates") or ()]
    chosen = found["chosenCandidates"]
    tops += [()] * (len(chosen) - len(tops))
    return [token(each, top, "token", "logProbability") for each, top in zip(chosen, tops, strict=False)]


TOKENS = TokenFormat(ask=_ask_tokens, take=_take_tokens)


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    # A count of 0 is omitted. Thinking is billed as output, and a tool's prompt as input.
    names = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    counted = [typed.tokens(0 if usage.get(name) is None else usage[name]) for name in names]
    given, tools, answer, thoughts = counted
    if given is None or tools is None or answer is None or thoughts is None or usage.get(names[0]) is None:
        return None
    return typed.usage(given + tools, answer + thoughts, usage.get("cachedContentTokenCount"), 0, thoughts)
