"""One line of a request file, in any of the forms that people have them in; and the line that its result makes.

Four forms are told apart by their fields: a line of OpenAI's batch files (`custom_id`, `url`, `body`), of
Anthropic's (`custom_id`, `params`), of Google's (`key`, `request`), and a bare body (`model`, `messages`, perhaps
`metadata`), as the OpenAI cookbook's parallel processor has it. A result has the form of its line, with the request
beside it, so that each result line says by itself which line it is of.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from pllm_notebook.records import Failure, FailureKind

__all__ = [
    "FORMS",
    "Form",
    "RequestFileLine",
    "ResultFileLine",
    "identity_of",
    "read_line",
    "read_result",
    "result_line",
]

Form = Literal["openai", "anthropic", "google", "bare"]

FORMS: tuple[Form, ...] = ("openai", "anthropic", "google", "bare")

# Endpoints that a line of OpenAI's may name, to the wire format that serves them (`Wire.form`).
_ENDPOINTS = {"/chat/completions": "chat", "/responses": "responses"}
# Fields that are read on the way, by the type that they must have there.
_OBJECTS = ("response_format", "text", "reasoning", "generationConfig", "output_config", "systemInstruction")


@dataclass(frozen=True, slots=True)
class RequestFileLine:
    """What one line of a request file says.

    Attributes:
        form: The line's.
        id: Its `custom_id` or `key`, whatever JSON that is; None for none.
        endpoint: The wire format that its body is written in (`Wire.form`); "" where the model must tell.
        body: The request as written. Of a line that is no JSON object, its text.
        metadata: As given, None for none.
        fault: Why it cannot be sent, "" for nothing.
    """

    form: Form
    id: Any
    endpoint: str
    body: dict[str, Any] | str
    metadata: Any = None
    fault: str = ""

    @property
    def model(self) -> str:
        """The model as the line names it, "" for none."""
        named = self.body.get("model") if isinstance(self.body, dict) else None
        return named.removeprefix("models/") if isinstance(named, str) else ""


@dataclass(frozen=True, slots=True)
class ResultFileLine:
    """What one line of a results file says.

    Attributes:
        form: As of its request's line.
        id: Likewise.
        request: Likewise, the body.
        metadata: Likewise.
        body: The provider's response, None where there is an error.
        error: "kind: message", "" where there is a response.
        number: The line of the request file, counted from 1; None where the form has no place for it.
        cost_usd: None for unknown.
        latency_s: Seconds, None for unknown.
    """

    form: Form
    id: Any
    request: dict[str, Any] | str
    metadata: Any
    body: dict[str, Any] | None
    error: str
    number: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None


def read_line(raw: bytes) -> RequestFileLine:
    """Read one line; what is wrong with it is said in its `fault`."""
    try:
        said = orjson.loads(raw.removeprefix(codecs.BOM_UTF8))  # which some editors begin a file with
    except ValueError as error:
        return _no_request(raw, f"The line is no JSON ({error})")
    if not isinstance(said, dict):
        return _no_request(raw, "The line is no JSON object")
    try:
        orjson.dumps([[[[said]]]])  # as deep as it stands in a result
    except TypeError as error:
        return _no_request(raw, f"The line cannot be written as JSON again ({error})")
    if isinstance(said.get("body"), dict):
        return _from_openai(said)
    if isinstance(said.get("params"), dict):
        body = said["params"]
        return _checked(RequestFileLine("anthropic", said.get("custom_id"), "messages", body, said.get("metadata")))
    if isinstance(said.get("request"), dict):
        return _checked(RequestFileLine("google", said.get("key"), "generate", said["request"], said.get("metadata")))
    if "custom_id" in said or "key" in said:
        return _no_request(raw, "The line has neither 'body' (OpenAI), 'params' (Anthropic) nor 'request' (Google)")
    if "messages" in said or "input" in said or "contents" in said:
        body = {name: value for name, value in said.items() if name != "metadata"}
        return _checked(RequestFileLine("bare", None, "", body, said.get("metadata")))
    return _no_request(raw, "The line is no request: it has no 'messages'")


def result_line(
    line: RequestFileLine,
    number: int,
    answer: Mapping[str, Any] | Failure,
    *,
    request_id: str = "",
    cost_usd: float | None = None,
    latency_s: float | None = None,
) -> bytes:
    """Return the line of a results file, its end included.

    Args:
        line: The request.
        number: Of its line, counted from 1.
        answer: The provider's response, or why there is none.
        request_id: The provider's name for the call, "" for none.
        cost_usd: What the call cost, None for unknown.
        latency_s: What it took, None for unknown.
    """
    failure = answer if isinstance(answer, Failure) else None
    if line.form == "bare":
        second = answer if failure is None else [f"{failure.kind}: {failure.message}"]
        written: Any = [line.body, second]
        return _to_json_line(written if line.metadata is None else [*written, line.metadata])
    written = {"id": f"line_{number}"}
    if line.form == "openai":
        written |= {"custom_id": line.id} | _for_openai(answer, request_id)
    elif line.form == "anthropic":
        written |= {"custom_id": line.id, "result": _for_anthropic(answer)}
    else:
        written |= {"key": line.id} | _for_google(answer)
    written["request"] = line.body
    if line.metadata is not None:
        written["metadata"] = line.metadata
    if failure is None:
        written |= {"cost_usd": cost_usd, "latency_s": latency_s}
    return _to_json_line(written)


def read_result(raw: bytes) -> ResultFileLine | None:
    """Read one line of a results file; None for one that is none. A provider's own batch results are read too."""
    try:
        said = orjson.loads(raw)
    except ValueError:
        return None
    if isinstance(said, list):
        return _bare_result(said)
    if not isinstance(said, dict):
        return None
    if isinstance(said.get("result"), dict):
        form: Form = "anthropic"
        told = said["result"]
        body, error = told.get("message"), _anthropic_error(told)
    elif "custom_id" in said:
        form = "openai"
        response = said.get("response") or {}
        body, error = response.get("body"), _openai_error(said.get("error"), response)
    elif "key" in said:
        form = "google"
        body, error = said.get("response"), _google_error(said.get("error"))
    else:
        return None
    if error or not isinstance(body, dict):
        body, error = None, error or "malformed_reply: the line has no response"
    own, _, count = str(said.get("id", "")).partition("_")
    return ResultFileLine(
        form=form,
        id=said.get("key") if form == "google" else said.get("custom_id"),
        request=said.get("request") or {},
        metadata=said.get("metadata"),
        body=body,
        error=error,
        number=int(count) if own == "line" and count.isdecimal() else None,
        cost_usd=said.get("cost_usd"),
        latency_s=said.get("latency_s"),
    )


def identity_of(one: RequestFileLine | ResultFileLine) -> int:
    """Name a request in 64 bits, the same from its line and from its result's."""
    said = orjson.dumps([one.form, one.id, one.request if isinstance(one, ResultFileLine) else one.body, one.metadata])
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")


def _from_openai(said: dict[str, Any]) -> RequestFileLine:
    url = said.get("url")
    served = next((form for end, form in _ENDPOINTS.items() if str(url or "/chat/completions").endswith(end)), None)
    line = RequestFileLine("openai", said.get("custom_id"), served or "", said["body"], said.get("metadata"))
    if served is None:
        return _invalid_line(line, f"The line asks {url!r}; only {' and '.join(_ENDPOINTS)} are asked for text")
    return _checked(line)


def _no_request(raw: bytes, why: str) -> RequestFileLine:
    # As OpenAI's form, whose result has a place for everything.
    return _invalid_line(RequestFileLine("openai", None, "", raw.strip().decode("utf-8", "replace")), why)


def _invalid_line(line: RequestFileLine, why: str) -> RequestFileLine:
    return RequestFileLine(
        line.form, line.id, line.endpoint, line.body, line.metadata, f"{why}. Nothing was sent for this line."
    )


def _checked(line: RequestFileLine) -> RequestFileLine:
    """Find what no provider could be sent, or would be misread on the way back."""
    body = line.body
    assert isinstance(body, dict)
    if body.get("stream") or body.get("background"):
        named = "stream" if body.get("stream") else "background"
        return _invalid_line(line, f"The request asks for {named!r}, and its response would come in pieces, or later")
    for name in _OBJECTS:
        if body.get(name) is not None and not isinstance(body[name], dict):
            return _invalid_line(line, f"{name!r} is an object, not {body[name]!r:.100}")
    for name in ("messages", "contents", "tools"):
        value = body.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            return _invalid_line(line, f"{name!r} is a list of objects, not {value!r:.100}")
    if "input" in body and line.endpoint != "responses" and "messages" not in body:
        return _invalid_line(line, "The line has 'input' and no 'messages': embeddings are not asked for here")
    needed = {"responses": "input", "generate": "contents"}.get(line.endpoint, "messages")
    if not body.get(needed) and not (line.form == "bare" and body.get("contents")):
        return _invalid_line(line, f"The request has no {needed!r}")
    if not all("role" in message and ("content" in message or message["role"] == "assistant")
               for message in body.get("messages", ())):  # fmt: skip
        return _invalid_line(line, "Each message has a 'role' and a 'content'")
    return line


def _to_json_line(written: Any) -> bytes:
    return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE)


def _for_openai(answer: Mapping[str, Any] | Failure, request_id: str) -> dict[str, Any]:
    if isinstance(answer, Failure):
        error = {"code": answer.kind, "message": answer.message, "status_code": answer.status}
        return {"response": None, "error": error}
    return {"response": {"status_code": 200, "request_id": request_id, "body": answer}, "error": None}


def _for_anthropic(answer: Mapping[str, Any] | Failure) -> dict[str, Any]:
    if isinstance(answer, Failure):
        error = {"type": "error", "error": {"type": answer.kind, "message": answer.message}}
        return {"type": "errored", "error": error}
    return {"type": "succeeded", "message": answer}


def _for_google(answer: Mapping[str, Any] | Failure) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"error": {"code": answer.status, "message": answer.message, "status": answer.kind}}
    return {"response": answer}


def _openai_error(error: Any, response: Mapping[str, Any]) -> str:
    if isinstance(error, dict):
        return f"{error.get('code') or FailureKind.SERVER}: {error.get('message') or ''}"
    if response.get("status_code", 200) != 200:  # a provider's own batch results have it so
        told = (response.get("body") or {}).get("error") or {}
        return f"{told.get('code') or response['status_code']}: {told.get('message') or ''}"
    return ""


def _anthropic_error(told: Mapping[str, Any]) -> str:
    if told.get("type") == "succeeded":
        return ""
    error = told.get("error") or {}
    error = error.get("error") or error
    return f"{error.get('type') or told.get('type')}: {error.get('message') or ''}"


def _google_error(error: Any) -> str:
    return f"{error.get('status') or error.get('code')}: {error.get('message')}" if isinstance(error, dict) else ""


def _bare_result(said: list[Any]) -> ResultFileLine | None:
    if len(said) not in (2, 3) or not isinstance(said[0], dict):
        return None
    request, answer, *metadata = said
    body = answer if isinstance(answer, dict) else None
    error = "" if body is not None else "; ".join(map(str, answer)) if isinstance(answer, list) else str(answer)
    return ResultFileLine("bare", None, request, metadata[0] if metadata else None, body, error)
