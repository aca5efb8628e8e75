"""Running the functions that a reply has called, in the program itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.messages_types import ToolCallOutput
from pllm_notebook.tools import StructuredTool, plain_json

if TYPE_CHECKING:
    from pllm_notebook.sessions.llm_response import LLMResponse

__all__ = ["run_called_functions", "to_tool_schema"]


def run_called_functions(
    reply: LLMResponse, functions: Mapping[str, Callable[..., Any]], missing: str | Exception | None = None
) -> list[ToolCallOutput]:
    """Run the functions that a reply has called, one after the other, and return their outputs. Sends nothing.

    Args:
        reply: Waited for.
        functions: By the names that the model calls them.
        missing: What the model is told of a function that is not among them, or what is raised; None for a
            `UsageError`.

    Returns:
        An output for each call, in order: a text as it is, anything else as JSON.

    Raises:
        Exception: Whatever a function raises.
    """
    outputs = []
    for call in reply.resolve_function_calls():
        function = functions.get(call.name)
        if function is not None:
            outputs.append(ToolCallOutput(call.id, call.name, _as_text(function(**call.args))))
        elif isinstance(missing, str):
            outputs.append(ToolCallOutput(call.id, call.name, missing, failed=True))
        elif missing is not None:
            raise missing
        else:
            raise UsageError(
                f"The model called the function {call.name!r}, which was not given.{guess(call.name, functions)} Give "
                f"it, or say with if_func_not_exist= what the model is told. A call without an output is refused by "
                f"providers. Nothing was sent."
            )
    return outputs


def to_tool_schema(functions: Any) -> list[StructuredTool]:
    """Return functions as tools: one for each, in order; a function alone is a list of one.

    Raises:
        UsageError: For what can be no tool. Nothing was sent.
    """
    return [StructuredTool.of(each) for each in (functions if isinstance(functions, (list, tuple)) else [functions])]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(plain_json(value)).decode()
