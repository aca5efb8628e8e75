"""The format of Google's generateContent."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.thought_signatures import signature
from pllm_notebook.sim.wire_types import GeneratedAnswer, Headers, OfferedTool, ParsedRequest, Rejected, Tokens
from pllm_notebook.sim.wires.google_turns import read_contents, signs

__all__ = ["CONFIG", "PARAMETERS", "GoogleGenerate"]

_PARAMETERS_TEXT = (
    "model contents systemInstruction tools toolConfig safetySettings generationConfig cachedContent labels "
    "serviceTier store continuationToken"
)
PARAMETERS = frozenset(_PARAMETERS_TEXT.split())
_CONFIG_TEXT = (
    "temperature topP topK candidateCount maxOutputTokens stopSequences responseLogprobs logprobs presencePenalty "
    "frequencyPenalty seed responseMimeType responseSchema responseJsonSchema responseFormat responseModalities "
    "mediaResolution speechConfig thinkingConfig imageConfig enableEnhancedCivicAnswers "
    "audioTranscriptionConfig"
)
CONFIG = frozenset(_CONFIG_TEXT.split())
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISH = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}


class GoogleGenerate:
    """POST /{version}/models/{model}:generateContent.

    Field names may be in camelCase or snake_case, as in Google's own parser; the SDK sends both.
    """

    provider = "google"

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check the API key."""
        key = headers.get("x-goog-api-key")
        if not key:
            raise Rejected(403, "Method doesn't allow unregistered callers. Please use API Key.")
        if key == "bad-key":
            raise Rejected(400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as generateContent does."""
        body = _camel(body, PARAMETERS, "")
        config = _camel(body.get("generationConfig") or {}, CONFIG, "generation_config")
        for name in options.unsupported_parameters:
            if name in body or name in config or _snake_to_camel(name) in config:
                raise Rejected(400, f"{name} is not supported for this model.", param=name)
        if model.startswith(("missing-model", "gpt-", "claude-")):
            raise Rejected(
                404,
                f"models/{model} is not found for API version v1, or is not supported for generateContent. "
                "Call ListModels to see the list of available models and their supported methods.",
            )
        contents = body.get("contents")
        if not contents:
            raise Rejected(400, "* GenerateContentRequest.contents: contents is not specified", param="contents")
        said = read_contents(contents, body.get("systemInstruction"), signed=signs(model))
        ask = ParsedRequest("google", model, body, said, output_limit=config.get("maxOutputTokens"))
        self._read_format(ask, config)
        if body.get("tools"):
            self._read_tools(ask, body)
        return ask

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return a response. A refusal is a blocked candidate, a filtered answer a blocked prompt."""
        usage: dict[str, Any] = {
            "promptTokenCount": tokens.input,
            "totalTokenCount": tokens.input + tokens.output,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.input}],
        }
        if tokens.cached:
            usage["cachedContentTokenCount"] = tokens.cached
        response: dict[str, Any] = {}
        if made.finish == "filtered":
            response["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
            usage["totalTokenCount"] = tokens.input
        else:
            usage["candidatesTokenCount"] = tokens.output - tokens.reasoning
            if tokens.reasoning:
                usage["thoughtsTokenCount"] = tokens.reasoning
            candidate: dict[str, Any] = {"finishReason": _FINISH[made.finish], "index": 0}
            if made.finish == "refusal":
                candidate["finishMessage"] = made.text
            else:
                parts: list[dict[str, Any]] = [{"text": made.text}] if made.text else []
                parts += _calls(ask.model, made, number)
                if made.tokens:
                    candidate["logprobsResult"] = _logprobs(made)
                candidate["content"] = {"role": "model", **({"parts": parts} if parts else {})}
            response["candidates"] = [candidate]
        return orjson.dumps({**response, "usageMetadata": usage, "modelVersion": ask.model, "responseId": number})

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return Google's error body, which has the waiting time of a 429."""
        details: list[dict[str, Any]] = []
        if rejected.status == 429:
            metric = f"generativelanguage.googleapis.com/generate_content_free_tier_{rejected.param}"
            details.append(
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": metric}]}
            )
        elif rejected.code:
            info = {"reason": rejected.code, "domain": "googleapis.com"}
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info})
        elif rejected.param:
            violations = [{"field": rejected.param, "description": rejected.message}]
            details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
        if rejected.wait_s is not None:
            delay = f"{rejected.wait_s:.9f}".rstrip("0").rstrip(".") + "s"
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
        error: dict[str, Any] = {
            "code": rejected.status,
            "message": rejected.message,
            "status": _STATUS.get(rejected.status, "UNKNOWN"),
        }
        return orjson.dumps({"error": {**error, "details": details} if details else error})

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return an empty list: Google sends no limit headers."""
        return []

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
        return "x-request-id", number

    def _read_format(self, ask: ParsedRequest, config: Mapping[str, Any]) -> None:
        kind = config.get("responseMimeType")
        schema = config.get("responseJsonSchema", config.get("responseSchema"))
        for form in config.get("responseFormat") or ():
            text = form.get("text") or {}
            kind = text.get("mimeType", text.get("mime_type", kind))
            kind = "application/json" if kind == "APPLICATION_JSON" else kind
            schema = text.get("schema", schema)
        if schema is not None and kind != "application/json":
            raise Rejected(
                400,
                "* GenerateContentRequest.generation_config: a response schema is only allowed for response mime type "
                "'application/json'.",
                param="generation_config.response_mime_type",
            )
        if kind == "application/json":
            ask.schema, ask.json_mode = schema, schema is None

    def _read_tools(self, ask: ParsedRequest, body: Mapping[str, Any]) -> None:
        ask.tools = [
            OfferedTool(
                function["name"],
                function.get("parametersJsonSchema")
                or function.get("parameters_json_schema")
                or function.get("parameters")
                or {},
            )
            for tool in body["tools"]
            for function in tool.get("functionDeclarations") or tool.get("function_declarations") or ()
        ]
        config = body.get("toolConfig") or {}
        calling = config.get("functionCallingConfig") or config.get("function_calling_config") or {}
        if calling.get("mode") == "ANY" and ask.tools:
            allowed = calling.get("allowedFunctionNames") or calling.get("allowed_function_names")
            ask.forced = list(allowed or [ask.tools[0].name])[:1]
            if ask.forced[0] not in {tool.name for tool in ask.tools}:
                raise Rejected(
                    400, f"Function {ask.forced[0]} is not among function_declarations.", param="tool_config"
                )


def _camel(given: Mapping[str, Any], known: Collection[str], where: str) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in given.items():
        plain = name if name in known else _snake_to_camel(name)
        if plain not in known:
            at = f" at '{where}'" if where else ""
            raise Rejected(
                400,
                f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.',
                param=where or name,
            )
        read[plain] = value
    return read


def _snake_to_camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _logprobs(made: GeneratedAnswer) -> dict[str, Any]:
    """Return the answer's tokens in Google's format."""
    return {
        "chosenCandidates": [_logprob(token.text, token.p) for token in made.tokens],
        "topCandidates": [{"candidates": [_logprob(text, p) for text, p in token.top]} for token in made.tokens],
    }


def _logprob(text: str, p: float) -> dict[str, Any]:
    return {"token": text, "tokenId": len(text), "logProbability": math.log(p)}


def _calls(model: str, made: GeneratedAnswer, number: str) -> list[dict[str, Any]]:
    calls = [{"name": name, "args": arguments} for name, arguments in made.calls]
    if not signs(model):  # a model that does not sign calls gives them no ids either
        return [{"functionCall": call} for call in calls]
    parts: list[dict[str, Any]] = [
        {"functionCall": {"id": f"{number}{index}", **call}} for index, call in enumerate(calls)
    ]
    if parts:  # only the first of several calls is signed
        parts[0]["thoughtSignature"] = signature(number)
    return parts
