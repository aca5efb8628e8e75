"""Read the lines of request files, in any of four formats, and write the lines of their results.

The formats are recognized by their fields: lines of OpenAI's batch files (`custom_id`, `url`, `body`), of Anthropic's
(`custom_id`, `params`), of Google's (`key`, `request`), and bare bodies (`model`, `messages`, optionally `metadata`),
as in the OpenAI cookbook's parallel processor. A result has the format of its line and contains the request, so that
each result line identifies its request.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.failures import Failure
from pllm_notebook.protocols import Wire
from pllm_notebook.providers import COMPATIBLE, JsonLines, Provider, providers, wires

__all__ = ["BARE", "RequestFileLine", "ResultFileLine", "identity_of", "read_line", "read_result", "result_line"]

BARE = "bare"
"""The format of a line that consists of the body alone."""

# Fields that are read here and must be objects.
_OBJECTS = ("response_format", "text", "reasoning", "generationConfig", "output_config", "systemInstruction")


@dataclass(frozen=True, slots=True)
class RequestFileLine:
    """One line of a request file.

    Attributes:
        form: Name of the provider whose format it has, or `BARE`.
        id: Its `custom_id` or `key`, any JSON value; None if it has no id.
        endpoint: The wire format of its body (`Wire.format_name`); "" if that depends on the model.
        body: The request as written; the line's text if it is not a JSON object.
        metadata: The line's metadata, any JSON value; None if it has none.
        fault: The reason why the line cannot be sent. "" if it can.
    """

    form: str
    id: Any
    endpoint: str
    body: dict[str, Any] | str
    metadata: Any = None
    fault: str = ""

    @property
    def model(self) -> str:
        """The model that the line names, "" for none."""
        named = self.body.get("model") if isinstance(self.body, dict) else None
        return named.removeprefix("models/") if isinstance(named, str) else ""


@dataclass(frozen=True, slots=True)
class ResultFileLine:
    """One line of a results file.

    Attributes:
        form: Format of the request's line.
        id: The request's id.
        request: The request's body.
        metadata: The request's metadata.
        body: The provider's response, None for an error.
        error: "kind: message", "" for a response.
        number: Number of the request's line, counted from 1; None in a format without it.
        cost_usd: Cost of the call in US dollars, None if unknown.
        latency_s: Duration of the call in seconds, None if unknown.
    """

    form: str
    id: Any
    request: dict[str, Any] | str
    metadata: Any
    body: dict[str, Any] | None
    error: str
    number: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None


def read_line(raw: bytes) -> RequestFileLine:
    """Read one line. If it cannot be sent, its `fault` is the reason."""
    try:
        said = orjson.loads(raw.removeprefix(codecs.BOM_UTF8))  # some editors write one
    except ValueError as error:
        return _no_request(raw, f"The line is not JSON ({error})")
    if not isinstance(said, dict):
        return _no_request(raw, "The line is not a JSON object")
    try:
        orjson.dumps([[[[said]]]])  # nested as deeply as in a result
    except TypeError as error:
        return _no_request(raw, f"The line cannot be written as JSON again ({error})")
    for provider, lines in _forms():
        if isinstance(said.get(lines.body_field), dict):
            return _of_provider(provider, lines, said)
    if "custom_id" in said or "key" in said:
        return _no_request(raw, "The line has neither 'body' (OpenAI), 'params' (Anthropic) nor 'request' (Google)")
    if "messages" in said or "input" in said or "contents" in said:
        body = {name: value for name, value in said.items() if name != "metadata"}
        return _checked(RequestFileLine(BARE, None, "", body, said.get("metadata")))
    return _no_request(raw, "The line is not a request: it has no 'messages'")


def result_line(
    line: RequestFileLine,
    number: int,
    answer: Mapping[str, Any] | Failure,
    *,
    request_id: str = "",
    cost_usd: float | None = None,
    latency_s: float | None = None,
) -> bytes:
    """Return the line of a results file, with its line end.

    Args:
        line: The request.
        number: The number of its line, counted from 1.
        answer: The provider's response, or the reason why there is none.
        request_id: The provider's id of the call. "" for none.
        cost_usd: Cost of the call in US dollars. None if unknown.
        latency_s: Duration of the call in seconds. None if unknown.
    """
    failure = answer if isinstance(answer, Failure) else None
    if line.form == BARE:
        second = answer if failure is None else [f"{failure.kind}: {failure.message}"]
        written: Any = [line.body, second]
        return _to_json_line(written if line.metadata is None else [*written, line.metadata])
    lines = _lines_of(line.form)
    written = {"id": f"line_{number}", lines.id_field: line.id} | lines.write_result(answer, request_id)
    written["request"] = line.body
    if line.metadata is not None:
        written["metadata"] = line.metadata
    if failure is None:
        written |= {"cost_usd": cost_usd, "latency_s": latency_s}
    return _to_json_line(written)


def read_result(raw: bytes) -> ResultFileLine | None:
    """Read one line of a results file, or of a provider's own batch results; return None for any other line."""
    try:
        said = orjson.loads(raw)
    except ValueError:
        return None
    if isinstance(said, list):
        return _bare_result(said)
    if not isinstance(said, dict):
        return None
    found = next(((one, lines, read) for one, lines in _forms() if (read := lines.read_result(said))), None)
    if found is None:
        return None
    provider, lines, (body, error) = found
    if error or not isinstance(body, dict):
        body, error = None, error or "malformed_reply: the line has no response"
    own, _, count = str(said.get("id", "")).partition("_")
    return ResultFileLine(
        form=provider.name,
        id=said.get(lines.id_field),
        request=said.get("request") or {},
        metadata=said.get("metadata"),
        body=body,
        error=error,
        number=int(count) if own == "line" and count.isdecimal() else None,
        cost_usd=said.get("cost_usd"),
        latency_s=said.get("latency_s"),
    )


def identity_of(one: RequestFileLine | ResultFileLine) -> int:
    """Return a 64-bit hash of a request, equal for its line and its result's line."""
    said = orjson.dumps([one.form, one.id, one.request if isinstance(one, ResultFileLine) else one.body, one.metadata])
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")


def _forms() -> Iterator[tuple[Provider, JsonLines]]:
    return ((provider, provider.lines) for provider in providers() if provider.lines is not None)


def _lines_of(form: str) -> JsonLines:
    return next(lines for provider, lines in _forms() if provider.name == form)


def _of_provider(provider: Provider, lines: JsonLines, said: dict[str, Any]) -> RequestFileLine:
    url = said.get(lines.url_field) if lines.url_field else None
    wire: Wire | None = provider.wires[0]
    if url is not None:
        wire = next((wire for wire in provider.wires if str(url).endswith(wire.path(""))), None)
    endpoint = "" if wire is None else wire.format_name
    line = RequestFileLine(
        provider.name, said.get(lines.id_field), endpoint, said[lines.body_field], said.get("metadata")
    )
    if wire is None:
        served = " and ".join(wire.path("") for wire in provider.wires)
        return _invalid_line(line, f"The line asks {url!r}; only {served} are asked for text")
    return _checked(line)


def _no_request(raw: bytes, why: str) -> RequestFileLine:
    # This format is used because its results have a field for everything.
    return _invalid_line(RequestFileLine(COMPATIBLE.name, None, "", raw.strip().decode("utf-8", "replace")), why)


def _invalid_line(line: RequestFileLine, why: str) -> RequestFileLine:
    return RequestFileLine(
        line.form, line.id, line.endpoint, line.body, line.metadata, f"{why}. Nothing was sent for this line."
    )


def _checked(line: RequestFileLine) -> RequestFileLine:
    """Set the fault of a line that cannot be sent, or whose response could not be read."""
    body = line.body
    assert isinstance(body, dict)
    if body.get("stream") or body.get("background"):
        named = "stream" if body.get("stream") else "background"
        return _invalid_line(line, f"The request asks for {named!r}: its response would arrive in pieces, or later")
    for name in _OBJECTS:
        if body.get(name) is not None and not isinstance(body[name], dict):
            return _invalid_line(line, f"{name!r} is an object, not {body[name]!r:.100}")
    for name in ("messages", "contents", "tools"):
        value = body.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            return _invalid_line(line, f"{name!r} is a list of objects, not {value!r:.100}")
    if "input" in body and line.endpoint != "responses" and "messages" not in body:
        return _invalid_line(line, "The line has 'input' but no 'messages': embeddings are not supported here")
    needed = next((wire.input_field for wire, _ in wires() if wire.format_name == line.endpoint), "messages")
    if not body.get(needed) and not (line.form == BARE and body.get("contents")):
        return _invalid_line(line, f"The request has no {needed!r}")
    if not all("role" in message and ("content" in message or message["role"] == "assistant")
               for message in body.get("messages", ())):  # fmt: skip
        return _invalid_line(line, "Each message has a 'role' and a 'content'")
    return line


def _to_json_line(written: Any) -> bytes:
    return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE)


def _bare_result(said: list[Any]) -> ResultFileLine | None:
    if len(said) not in (2, 3) or not isinstance(said[0], dict):
        return None
    request, answer, *metadata = said
    body = answer if isinstance(answer, dict) else None
    error = "" if body is not None else "; ".join(map(str, answer)) if isinstance(answer, list) else str(answer)
    return ResultFileLine(BARE, None, request, metadata[0] if metadata else None, body, error)
