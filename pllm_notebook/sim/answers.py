"""What an `answers` function is given, and what it may give back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

__all__ = ["AnswerFunction", "Kind", "SimAnswer", "SimRequest", "to_answer"]

Kind = Literal["text", "tool_calls", "refusal", "truncated", "filtered", "status", "malformed", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One request as it reached the simulator.

    Attributes:
        provider: "openai", "anthropic", "google" or "compatible".
        model: As the request named it.
        system: The instructions, "" for none.
        prompt: The last user text.
        messages: All turns in order, as (role, text), a tool's result as one of role "tool"; the system text is
            not among them.
        schema: The JSON schema asked for, also if it is in the prompt only; None for text.
        tools: Names of the tools that the request offers.
        body: The request's body.
        index: How many requests came before this one since the start or the last `reset`, lines of batch
            jobs among them.
        batch: Whether this is a line of a batch job.
        media: How many images and documents the conversation shows.
        results: What tools gave since the model's last word, as (name of the tool, text).
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
    """One scripted answer. Made by the functions below; each takes `latency_s`, `usage` and `probabilities` too.

    Attributes:
        kind: What happens.
        content: Text of the answer, the refusal or the error.
        calls: Tool calls in order, as (name, arguments).
        code: HTTP status where `kind` is "status".
        headers: Response headers where `kind` is "status".
        body: Response body where `kind` is "status"; None for the provider's own error body.
        latency_s: Seconds, in place of the simulator's own; None leaves it.
        usage: Any of input_tokens, output_tokens, cached_tokens, reasoning_tokens, in place of the counted ones.
        probabilities: By field, that of each option (as text, or as JSON writes it), for requests that ask for token
            probabilities, and by name of the question for a decision endpoint; what is not given is made up.
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
        """Answer *text* as it is."""
        return cls("text", text, **also)

    @classmethod
    def value(cls, value: Any, **also: Any) -> SimAnswer:
        """Answer *value* (JSON-able, or with Pydantic models in it) as JSON."""
        # Not yet text: whether it is wrapped in {"value": …} depends on the request's schema.
        return cls("text", body=value, code=_UNDRESSED, **also)

    @classmethod
    def tool_calls(cls, calls: Iterable[tuple[str, Mapping[str, Any]]], **also: Any) -> SimAnswer:
        """Call these tools, in order; the first alone where one at a time is asked for. *content* is said beside."""
        return cls("tool_calls", calls=tuple(calls), **also)

    @classmethod
    def refusal(cls, text: str = "SIMULATED refusal: I can't help with that.", **also: Any) -> SimAnswer:
        """Refuse, with the model's words where the provider carries them."""
        return cls("refusal", text, **also)

    @classmethod
    def truncated(cls, text: str = "", **also: Any) -> SimAnswer:
        """Answer *text* and say that the output limit cut it."""
        return cls("truncated", text, **also)

    @classmethod
    def filtered(cls, **also: Any) -> SimAnswer:
        """Let the provider's filter take the answer."""
        return cls("filtered", **also)

    @classmethod
    def status(cls, code: int, headers: Mapping[str, str] | None = None, body: Any = None, **also: Any) -> SimAnswer:
        """Answer an HTTP status; *body* is text or JSON-able, None for the provider's own error body."""
        return cls("status", code=code, headers=dict(headers or {}), body=body, **also)

    @classmethod
    def malformed(cls, **also: Any) -> SimAnswer:
        """Answer 200 with a body that is not JSON."""
        return cls("malformed", **also)

    @classmethod
    def reset(cls, **also: Any) -> SimAnswer:
        """Reset the connection."""
        return cls("reset", **also)

    @classmethod
    def hang(cls, **also: Any) -> SimAnswer:
        """Leave the request without an answer."""
        return cls("hang", **also)


AnswerFunction = Callable[[SimRequest], Any]

_UNDRESSED = -1  # `SimAnswer.code` of a value that is not JSON text yet.


def to_answer(value: Any, schema: Mapping[str, Any] | None) -> SimAnswer:
    """Make an answer of what an `answers` function gave back.

    A `SimAnswer` stays; text is the answer as it is; any other value becomes JSON. Where the schema is an
    object with the single property "value" (a wrapped list, number or union), a value that is not such an
    object is wrapped.

    Raises:
        TypeError: For a value that JSON cannot carry.
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
