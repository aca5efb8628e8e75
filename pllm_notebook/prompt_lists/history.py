"""From an answer to the turns that a conversation goes on from: the model's own, and the results of its calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import ToolCall, ToolCallOutput, Turn
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.protocols import Wire
from pllm_notebook.tools import StructuredTool

__all__ = ["turns_of"]

# A form that the model fills in has nobody behind it who could answer.
_RECEIVED = "Received."
_MISFIT = "The arguments do not fit the tool's schema."


def turns_of(
    output: LLMOutput, wire: Wire | None, tools: Iterable[StructuredTool], given: Sequence[ToolCallOutput]
) -> list[Turn]:
    """Return an answer's turn, and after it the results of its calls.

    Args:
        output: The answer.
        wire: The format that its provider's own body is in, so that the turn is kept as the provider wants it back;
            None to keep it as plain turns alone.
        tools: Those that were offered.
        given: Results, of some calls or all.

    Raises:
        UsageError: For an output without an answer, a result of no call, or a function's call that has no result.
    """
    if output.error is not None or output.str_content is None:
        raise UsageError(
            f"The output of {output.source_id!r} is no answer that a conversation could go on from: "
            f"{output.error or 'it is empty'}"
        )
    echo = None
    if output.raw_result is not None and wire is not None and wire.format_name == output.result_type:
        echo = wire.decode(output.raw_result).echo
    calls = tuple(ToolCall(call.id, call.name, call.text) for call in output.tool_calls)
    results = _results(output, {tool.name: tool for tool in tools}, given)
    answer = Turn("assistant", output.str_content, calls=calls, echo=echo)
    return [answer, Turn("tool", "", results=results)] if results else [answer]


def _results(
    output: LLMOutput, tools: dict[str, StructuredTool], given: Sequence[ToolCallOutput]
) -> tuple[ToolCallOutput, ...]:
    told = {result.id: result for result in given}
    strangers = told.keys() - {call.id for call in output.tool_calls}
    if strangers:
        raise UsageError(f"No call of this output has the id {min(strangers)!r}, which a result bears.")
    results = []
    for call in output.tool_calls:
        result, tool = told.get(call.id), tools.get(call.name)
        if result is not None:
            results.append(ToolCallOutput(call.id, call.name, result.content, result.failed))
        elif isinstance(call.arguments, str):
            results.append(ToolCallOutput(call.id, call.name, _MISFIT, failed=True))
        elif tool is not None and tool.runnable:
            raise UsageError(
                f"The call {call.id!r} of the function {call.name!r} has no result. Give one: "
                f"results=[ToolCallOutput(id={call.id!r}, name={call.name!r}, content=…)]."
            )
        else:
            results.append(ToolCallOutput(call.id, call.name, _RECEIVED))
    return tuple(results)
