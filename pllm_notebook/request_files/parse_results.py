"""Read a results file as outputs, in the order of the requests."""

from __future__ import annotations

import os
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.messages_types import ToolCall
from pllm_notebook.prices import Rate, rate_of
from pllm_notebook.prompt_lists import GeneratedJsonObject, LLMOutput, LLMToolCall
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import decoded, wires
from pllm_notebook.request_files.line_formats import ResultFileLine, read_result
from pllm_notebook.request_files.process_file import one_of
from pllm_notebook.schema import extract_json
from pllm_notebook.types import Finish, Reply

__all__ = ["parse_results_file"]

_UNUSABLE = {
    Finish.TRUNCATED: (FailureKind.TRUNCATED, "The reply was cut off at the output limit."),
    Finish.REFUSED: (FailureKind.REFUSAL, "The model refused."),
    Finish.FILTERED: (FailureKind.FILTERED, "The provider's content filter stopped the reply."),
    Finish.UNFINISHED: (FailureKind.UNFINISHED, "The reply ended for a reason that is not a normal end."),
}


def parse_results_file(
    path: str | os.PathLike[str] | None = None, *, filepath: str | os.PathLike[str] | None = None
) -> list[LLMOutput]:
    """Read a results file: one output for each line, in the order of the requests. Sends nothing.

    A complete file is already in that order. An interrupted file is sorted by the numbers in its lines, which bare
    lines do not have. Results of a provider's own batch can also be read, in their order.

    Nothing is validated or repaired: a line is a provider's response to one request. An answer has a `json_object` if
    the request asked for JSON in the provider's format, or if its text is a JSON object.

    Args:
        path: Path of the results file.
        filepath: Alias of *path*.

    Returns:
        Outputs whose `source_id` is the line's `custom_id` or `key`, or "line_1" and so on if it has none. Their `cost`
        is the cost of the call when it was paid, in US dollars; at current prices if the file has no cost; None if
        unknown.

    Raises:
        UsageError: For a line that is not a result, and if no file is named or both arguments are given.
        FileError: If the file cannot be read.
    """
    path = file_path(one_of(path=path, filepath=filepath), "a results file")
    results: list[ResultFileLine] = []
    with file_errors(path, "a results file"), open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            result = read_result(raw)
            if result is None and not raw.endswith(b"\n"):
                continue  # a partial line of a killed process
            if result is None:
                raise UsageError(
                    f"Line {number:,} of {os.fspath(path)} is not a result of a request. Nothing was sent."
                )
            results.append(result)
    if all(result.number is not None for result in results):
        results.sort(key=lambda result: result.number or 0)
    rates: dict[tuple[str, str], Rate | None] = {}
    return [_output(result, place, rates) for place, result in enumerate(results, 1)]


def _output(result: ResultFileLine, place: int, rates: dict[tuple[str, str], Rate | None]) -> LLMOutput:
    source = f"line_{result.number or place}" if result.id is None else str(result.id)
    body = result.body
    if body is None:
        return LLMOutput(source_id=source, error=result.error, cost=result.cost_usd)
    output = LLMOutput(source_id=source, raw_result=body, cost=result.cost_usd, time_taken=result.latency_s)
    request = result.request
    if isinstance(request, dict):
        output._request = lambda: request
    found = next((one for one in wires() if any(field in body for field in one[0].reply_fields)), None)
    if found is None:
        output.error = f"{FailureKind.MALFORMED}: The format of the response is unknown."
        return output
    wire, provider = found
    output.result_type = wire.format_name
    try:
        reply = decoded(wire, body)
    except MalformedReply as error:
        output.error = f"{FailureKind.MALFORMED}: The provider's reply does not match its documentation: {error}."
        return output
    output.str_content = _with_prefill(_prefill_of(result.request), reply.text)
    output.tool_calls = [_call(call) for call in reply.calls]
    output.usage = reply.usage
    if output.cost is None:
        output.cost = _cost(reply, provider.name, rates)
    if reply.finish in _UNUSABLE:
        kind, message = _UNUSABLE[reply.finish]
        output.error = f"{kind}: {reply.detail or message}"
    elif not reply.calls and (_wants_json(result.request) or _is_braced(output.str_content)):
        value = extract_json(output.str_content)
        loaded = None if value is None else orjson.loads(value)
        output.json_object = GeneratedJsonObject(loaded) if isinstance(loaded, dict) else None
    return output


def _call(call: ToolCall) -> LLMToolCall:
    try:
        arguments = orjson.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    return LLMToolCall(id=call.id, name=call.name, arguments=arguments, text=call.arguments)


def _cost(reply: Reply, maker: str, rates: dict[tuple[str, str], Rate | None]) -> float | None:
    if reply.usage is None or not reply.model:
        return None
    asked = maker, reply.model
    if asked not in rates:
        rates[asked] = rate_of(*asked)
    rate = rates[asked]
    return None if rate is None else rate.cost_usd(reply.usage)


def _prefill_of(request: dict[str, Any] | str) -> str:
    """Return the prefill of a request, "" for none."""
    messages = (request.get("messages") or request.get("contents")) if isinstance(request, dict) else None
    last = messages[-1] if isinstance(messages, list) and messages else {}
    if last.get("role") not in ("assistant", "model"):
        return ""
    said = last.get("content", last.get("parts")) or ""
    if isinstance(said, str):
        return said
    return "".join(str(part.get("text") or "") for part in said if isinstance(part, dict))


def _with_prefill(beginning: str, text: str) -> str:
    """Return an answer with its prefill. If the prefill is a brace, a model may begin the object a second time."""
    return text if beginning == "{" and text.lstrip().startswith("{") else beginning + text


def _is_braced(text: str) -> bool:
    said = text.strip()
    return said.startswith("{") and said.endswith("}")


def _wants_json(request: dict[str, Any] | str) -> bool:
    """Return whether a request asks for JSON, in any provider's format."""
    if isinstance(request, str):
        return False
    asked = (request.get("response_format") or {}).get("type") in ("json_object", "json_schema")
    form = (request.get("text") or {}).get("format") or (request.get("output_config") or {}).get("format") or {}
    config = request.get("generationConfig") or {}
    return asked or form.get("type") in ("json_object", "json_schema") or "json" in config.get("responseMimeType", "")
