"""Conversion of an answer to the next turns of its conversation: the assistant's turn and the tool results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import ToolCall, ToolCallOutput, Turn
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.protocols import Wire
from pllm_notebook.tools import StructuredTool

__all__ = ["turns_of"]

# The result of a tool without a function, such as a form that the model fills in.
_RECEIVED = "Received."
_MISFIT = "The arguments do not fit the tool's schema."


def turns_of(
    output: LLMOutput, wire: Wire | None, tools: Iterable[StructuredTool], given: Sequence[ToolCallOutput]
) -> list[Turn]:
    """Return an answer's turn, followed by the results of its tool calls.

    Args:
        output: The answer.
        wire: The wire format of the prompt's model. If the raw body has this format, the turn keeps the data that the
            provider requires in later turns. None for plain turns.
        tools: Tools of the prompt.
        given: Results of some or all calls.

    Raises:
        UsageError: If the output has no answer, a result has no call, or a function call has no result.
    """
    if output.error is not None or output.str_content is None:
        raise UsageError(
            f"The output of {output.source_id!r} is not an answer that a conversation can continue from: "
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
    by_id = {result.id: result for result in given}
    unknown = by_id.keys() - {call.id for call in output.tool_calls}
    if unknown:
        raise UsageError(f"A result has the id {min(unknown)!r}, which no call of this output has.")
    results = []
    for call in output.tool_calls:
        result, tool = by_id.get(call.id), tools.get(call.name)
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
