"""Build the output of one prompt from its outcome."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from pllm_notebook.execution import CallSpec, Outcome, decoded_body
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompt_lists.llm_output import GeneratedJsonObject, LLMOutput, LLMToolCall
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.schema import Invalid, extract_json
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import Called, CalledTool, plain_json, unvalidated_call

__all__ = ["error_text", "output_for", "output_without_call"]


def error_text(failure: Failure) -> str:
    """Return a failure as the `error` of an output."""
    return f"{failure.kind}: {failure.message}"


def output_without_call(context: LLMPromptContext, failure: Failure | None) -> LLMOutput:
    """Return the output of a prompt that has no outcome. *failure* is None if it is pending."""
    error = "pending: there is no answer yet" if failure is None else error_text(failure)
    return LLMOutput(source_id=context.id, error=error)


def output_for(
    context: LLMPromptContext, spec: CallSpec, outcome: Outcome, last: StoredReply | None, prompt: Prompt, prefill: str
) -> LLMOutput:
    """Return the output of a prompt whose call has ended.

    Args:
        context: The prompt.
        spec: The spec of its call.
        outcome: The outcome of the call.
        last: The last reply, None if it is not stored.
        prompt: The prompt as it was sent.
        prefill: The prefill that was sent, "" if there was none.
    """
    replies = outcome.replies()
    failure = outcome.failure
    output = LLMOutput(
        source_id=context.id,
        usage=outcome.usage if replies else None,
        cost=outcome.cost_usd if replies or failure is None else failure.cost_usd,
        time_taken=replies[-1]["latency_s"] if replies and not outcome.cached else None,
        start_time=replies[0]["created_at"] - replies[0]["latency_s"] if replies else None,
        end_time=replies[-1]["created_at"] if replies else None,
    )
    output._request = partial(spec.whole, prompt)
    if last is not None:
        body = decoded_body(last.raw)  # text if a client has accepted what is not quite JSON, such as NaN
        output.raw_result = body if isinstance(body, dict) else None
        output.result_type = spec.target.wire.format_name
        output.str_content = _with_prefill(context, prefill, last.text.decode("utf-8", "replace"))
    if failure is None:
        _answer(output, context, outcome.value, prefill)
    else:
        output.error = error_text(failure)
        output.str_content = output.str_content or failure.raw or None
        output.tool_calls = [] if last is None else [_call(unvalidated_call(call)) for call in last.calls]
    return output


def _answer(output: LLMOutput, context: LLMPromptContext, value: Any, prefill: str) -> None:
    """Set the answer in *output*, or the error."""
    form = context.llm_config.response_format
    if isinstance(value, Called):
        output.str_content = _with_prefill(context, prefill, value.text)
        output.tool_calls = [_call(call) for call in value.calls]
        if form == "tool":
            _read_forced_call(output, context)
            return
        if value.calls or form == "text":
            return
        value = value.text
    if isinstance(value, str):
        output.str_content = _with_prefill(context, prefill, value)
        if form != "text":
            _object(output, context)
        return
    output.json_object = GeneratedJsonObject(plain_json(value))


def _with_prefill(context: LLMPromptContext, prefill: str, text: str) -> str:
    """Return an answer with its prefill, unless the model has repeated it (after the prefill of "json_beg")."""
    repeated = context.llm_config.response_format == "json_beg" and text.lstrip().startswith(prefill)
    return text if repeated else prefill + text


def _read_forced_call(output: LLMOutput, context: LLMPromptContext) -> None:
    """Read the required tool call."""
    wanted = context.structured_output
    calls = [call for call in output.tool_calls if wanted is None or call.name == wanted.name]
    if not calls:
        named = "" if wanted is None else f" of {wanted.name!r}"
        output.error = f"{FailureKind.TOOL_CALL}: A call{named} was required, and the model made none."
    elif isinstance(calls[0].arguments, dict):
        output.json_object = GeneratedJsonObject(calls[0].arguments, name=calls[0].name)


def _object(output: LLMOutput, context: LLMPromptContext) -> None:
    """Extract the JSON object from a text, and validate it against the prompt's schema if it has one."""
    found = extract_json(output.str_content or "")
    value = None if found is None else orjson.loads(found)
    if not isinstance(value, dict):
        output.error = f"{FailureKind.INVALID_JSON}: The answer contains no JSON object."
        return
    wanted = context.structured_output
    if wanted is not None and found is not None:
        read = wanted.parse(found)
        if isinstance(read, Invalid):
            output.error = f"{read.kind}: {read.message}"
            return
    output.json_object = GeneratedJsonObject(value)


def _call(call: CalledTool) -> LLMToolCall:
    return LLMToolCall(id=call.id, name=call.name, arguments=plain_json(call.arguments), text=call.text)
