"""Arguments and return values of `answers` functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

__all__ = ["AnswerFunction", "Kind", "SimAnswer", "SimRequest", "to_answer"]

Kind = Literal["text", "tool_calls", "refusal", "truncated", "filtered", "status", "malformed", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One request that the simulator received.

    Attributes:
        provider: "openai", "anthropic", "google" or "compatible".
        model: Model name in the request.
        system: System prompt, "" if there is none.
        prompt: The last user text.
        messages: All turns in order, as (role, text), without the system prompt. A tool's result has the role
            "tool".
        schema: JSON schema of the answer, even if it is only in the prompt; None for text.
        tools: Names of the tools that the request offers.
        body: The request's body.
        index: Number of requests before this one since the start or the last `reset`, including lines of
            batch jobs.
        batch: Whether this is a line of a batch job.
        media: Number of images and documents in the conversation.
        results: Tool results since the model's last message, as (tool name, text).
    """

    provider: str
    model: str
    system: str
    prompt: str
    messages: tuple[tuple[str, str], ...]
    schema: Mapping[str, Any] | None
    tools: tuple[str, ...]
    body: Mapping[str, Any]
    index: int
    batch: bool = False
    media: int = 0
    results: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SimAnswer:
    """One scripted answer, built by the methods below. Each also takes `latency_s`, `usage` and `probabilities`.

    Attributes:
        kind: Kind of answer, refusal, error or fault.
        content: Text of the answer, the refusal or the error.
        calls: Tool calls in order, as (name, arguments).
        code: HTTP status if `kind` is "status".
        headers: Response headers if `kind` is "status".
        body: Response body if `kind` is "status"; None for the provider's own error body.
        latency_s: Latency in seconds; None for the simulator's own.
        usage: Any of input_tokens, output_tokens, cached_tokens, reasoning_tokens, in place of the counted ones.
        probabilities: Probability of each option (as text, or in its JSON form), by field for requests that ask for
            token probabilities, by question name for a decision endpoint. Missing ones are generated.
        refused: Names of the questions that a decision endpoint refuses.
    """

    kind: Kind
    content: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    latency_s: float | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    @classmethod
    def text(cls, text: str, **also: Any) -> SimAnswer:
        """Answer with *text*, unchanged."""
        return cls("text", text, **also)

    @classmethod
    def value(cls, value: Any, **also: Any) -> SimAnswer:
        """Answer with *value* as JSON. It may contain Pydantic models."""
        # Serialized later, because the request's schema decides whether it is wrapped in {"value": …}.
        return cls("text", body=value, code=_UNDRESSED, **also)

    @classmethod
    def tool_calls(cls, calls: Iterable[tuple[str, Mapping[str, Any]]], **also: Any) -> SimAnswer:
        """Call these tools, in order, or only the first if one at a time is requested. *content* is sent along."""
        return cls("tool_calls", calls=tuple(calls), **also)

    @classmethod
    def refusal(cls, text: str = "SIMULATED refusal: I can't help with that.", **also: Any) -> SimAnswer:
        """Refuse, with *text* if the provider's format has a field for it."""
        return cls("refusal", text, **also)

    @classmethod
    def truncated(cls, text: str = "", **also: Any) -> SimAnswer:
        """Answer with *text*, marked as cut off by the output limit."""
        return cls("truncated", text, **also)

    @classmethod
    def filtered(cls, **also: Any) -> SimAnswer:
        """Withhold the answer, as a provider's content filter does."""
        return cls("filtered", **also)

    @classmethod
    def status(cls, code: int, headers: Mapping[str, str] | None = None, body: Any = None, **also: Any) -> SimAnswer:
        """Answer with an HTTP status. *body* is text or JSON-serializable, None for the provider's own error body."""
        return cls("status", code=code, headers=dict(headers or {}), body=body, **also)

    @classmethod
    def malformed(cls, **also: Any) -> SimAnswer:
        """Answer with status 200 and a body that is not JSON."""
        return cls("malformed", **also)

    @classmethod
    def reset(cls, **also: Any) -> SimAnswer:
        """Reset the connection."""
        return cls("reset", **also)

    @classmethod
    def hang(cls, **also: Any) -> SimAnswer:
        """Leave the request unanswered."""
        return cls("hang", **also)


AnswerFunction = Callable[[SimRequest], Any]

_UNDRESSED = -1  # `SimAnswer.code` of a value that is not serialized yet.


def to_answer(value: Any, schema: Mapping[str, Any] | None) -> SimAnswer:
    """Convert the return value of an `answers` function to an answer.

    A `SimAnswer` is kept, text is used unchanged, and any other value becomes JSON. If the schema is an
    object with the single property "value" (a wrapped list, number or union), a value that is not such an
    object is wrapped.

    Raises:
        TypeError: If the value cannot be serialized as JSON.
    """
    if isinstance(value, SimAnswer):
        if value.kind != "text" or value.code != _UNDRESSED:
            return value
        text = _as_answer(value.body, schema)
        return replace(value, code=200, content=text, body=None)
    return SimAnswer("text", value if isinstance(value, str) else _as_answer(value, schema))


def _as_answer(value: Any, schema: Mapping[str, Any] | None) -> str:
    plain = orjson.loads(orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS))
    wrapped = schema is not None and list(schema.get("properties") or ()) == ["value"]
    if wrapped and not (isinstance(plain, dict) and list(plain) == ["value"]):
        plain = {"value": plain}
    return orjson.dumps(plain).decode()


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)
