"""Requests that OpenAI rejects, with its messages: keys, parameters, sampling on reasoning models.

Sources: the SDK's request types for the parameters; pydantic-ai's profiles for the reasoning models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from typing import Any

import orjson

from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.token_author import SimToken
from pllm_notebook.sim.wire_types import Headers, Rejected

__all__ = [
    "check_body",
    "check_key",
    "check_logprobs",
    "check_sampling",
    "error_body",
    "limit_headers",
    "logprobs",
    "reasons",
    "text_of",
]

_FOREIGN = ("missing-model", "claude-", "gemini-")
_REASONING = ("gpt-5", "gpt-6", "o1", "o3", "o4")
# Reasoning is off by default.
_OFF_BY_DEFAULT = ("gpt-5.1", "gpt-5.2", "gpt-5.3", "gpt-5.4")
# Reasoning cannot be switched off.
_ALWAYS_ON = ("gpt-6-astra", "gpt-6.1-sol", "o1", "o3", "o4")
# The lowest effort above "none" is "low".
_NO_MINIMAL = ("gpt-6", "gpt-5.")
_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs")
MOST_LOGPROBS = 20
_TYPES = {500: "server_error", 503: "service_unavailable_error", 529: "service_unavailable_error"}


def check_key(headers: Mapping[str, str]) -> None:
    """Reject a request without a key, or with the key "bad-key"."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise Rejected(401, "You didn't provide an API key. You need to provide it in an Authorization header.")
    if key == "bad-key":
        raise Rejected(
            401,
            "Incorrect API key provided: bad-key. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )


def check_body(body: Mapping[str, Any], known: Set[str], options: SimOptions) -> str:
    """Reject unknown parameters and models, and return the model's name. An empty *known* accepts all parameters."""
    for name in options.unsupported_parameters:
        if name in body:
            raise Rejected(
                400,
                f"Unsupported parameter: '{name}' is not supported with this model.",
                code="unsupported_parameter",
                param=name,
            )
    if known and not body.keys() <= known:
        name = next(name for name in body if name not in known)
        raise Rejected(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Rejected(400, "you must provide a model parameter")
    if model.startswith(_FOREIGN if known else _FOREIGN[:1]):
        raise Rejected(
            404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found"
        )
    if body.get("stream"):
        raise Rejected(400, "Streaming is not simulated.", code="unsupported_value", param="stream")
    return model


def check_sampling(body: Mapping[str, Any], model: str, effort: Any, effort_param: str) -> None:
    """Reject what a reasoning model does not accept: max_tokens, sampling while reasoning, an unsupported effort."""
    if not reasons(model):
        return
    if "max_tokens" in body:
        raise Rejected(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
            param="max_tokens",
        )
    fixed = model.startswith(_ALWAYS_ON) or "-pro" in model or "-chat" in model
    fixed = fixed or (model.startswith("gpt-5") and not model.startswith("gpt-5."))
    if effort == "none" and fixed:
        raise Rejected(
            400,
            f"Unsupported value: '{effort_param}' does not support 'none' with this model.",
            code="unsupported_value",
            param=effort_param,
        )
    if effort == "minimal" and model.startswith(_NO_MINIMAL):
        raise Rejected(
            400,
            f"Unsupported value: '{effort_param}' does not support 'minimal' with this model.",
            code="unsupported_value",
            param=effort_param,
        )
    if effort is None and model.startswith(_OFF_BY_DEFAULT) and not fixed:
        effort = "none"
    if effort == "none":
        return
    for name in _SAMPLING:
        value = body.get(name)
        if value is None or (value == 1 and name in ("temperature", "top_p")):
            continue
        if name in ("temperature", "top_p"):
            raise Rejected(
                400,
                f"Unsupported value: '{name}' does not support {value} with this model. "
                "Only the default (1) value is supported.",
                code="unsupported_value",
                param=name,
            )
        raise Rejected(
            400,
            f"Unsupported parameter: '{name}' is not supported with this model.",
            code="unsupported_parameter",
            param=name,
        )


def check_logprobs(body: Mapping[str, Any]) -> None:
    """Check the number of alternatives per token. Raises `Rejected`."""
    if not 0 <= (body.get("top_logprobs") or 0) <= MOST_LOGPROBS:
        message = f"Invalid 'top_logprobs': integer above maximum value. Expected a value <= {MOST_LOGPROBS}."
        raise Rejected(400, message, code="integer_above_max_value", param="top_logprobs")


def logprobs(tokens: Iterable[SimToken], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tokens in OpenAI's format, with the requested number of alternatives."""
    most = body.get("top_logprobs") or 0
    return [
        _logprob(token.text, token.p) | {"top_logprobs": [_logprob(text, p) for text, p in token.top[:most]]}
        for token in tokens
    ]


def _logprob(text: str, p: float) -> dict[str, Any]:
    return {"token": text, "logprob": math.log(p), "bytes": list(text.encode())}


def reasons(model: str) -> bool:
    """Return whether *model* is a reasoning model."""
    return model.startswith(_REASONING)


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part.get("text") or "" for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def error_body(rejected: Rejected) -> bytes:
    """Return OpenAI's error body."""
    kind = _TYPES.get(rejected.status, "invalid_request_error")
    if rejected.status == 429:
        kind = rejected.param or "requests"
    return orjson.dumps(
        {
            "error": {
                "message": rejected.message,
                "type": kind,
                "param": None if rejected.status == 429 else rejected.param,
                "code": rejected.code,
            }
        }
    )


def limit_headers(limit_state: LimitState, refused: bool) -> Headers:
    """Return x-ratelimit-*, with reset times as Go durations, and on a 429 also the waiting time."""
    headers: Headers = []
    for name, bucket in (("requests", limit_state.requests), ("tokens", limit_state.tokens)):
        if bucket is not None:
            headers.append((f"x-ratelimit-limit-{name}", str(int(bucket.per_min))))
            headers.append((f"x-ratelimit-remaining-{name}", str(max(0, int(bucket.level)))))
            headers.append((f"x-ratelimit-reset-{name}", _go_duration(bucket.full_in_s)))
    if refused:
        headers.append(("retry-after", limit_state.retry_after))
        headers.append(("retry-after-ms", str(max(1, int(limit_state.wait_s * 1000 + 0.999)))))
    return headers


def _go_duration(seconds: float) -> str:
    ms = int(seconds * 1000 + 0.999)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    hours, rest = divmod(ms, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    last = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{f'{hours}h' if hours else ''}{f'{minutes}m' if hours or minutes else ''}{last}"
