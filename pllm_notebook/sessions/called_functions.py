"""Run the functions that a reply calls, in the program itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.messages_types import ToolCallOutput
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.tools import StructuredTool, plain_json

__all__ = ["run_called_functions", "to_tool_schema"]


def run_called_functions(
    reply: LLMResponse, functions: Mapping[str, Callable[..., Any]], missing: str | Exception | None = None
) -> list[ToolCallOutput]:
    """Run the functions that a reply calls, one after the other, and return their outputs. Sends nothing.

    A function gets the validated arguments as plain JSON data: a date is a string, a model is a dictionary.

    Args:
        reply: The reply, which is waited for.
        functions: Functions by the names that the model calls.
        missing: Output for a call of an unknown function, or an exception to raise; None for a `UsageError`.

    Returns:
        One output per call, in order: strings unchanged, other values as JSON.

    Raises:
        ErrorResponse: If the call has failed.
        UsageError: If the model calls an unknown function and *missing* is None.
        Exception: Any exception of a function, or *missing* if it is an exception.
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
                f"The model called the function {call.name!r}, which was not given.{guess(call.name, functions)} Pass "
                f"it, or set if_func_not_exist= to the output for the model. Providers reject a call without an "
                f"output. Nothing was sent."
            )
    return outputs


def to_tool_schema(functions: Any) -> list[StructuredTool]:
    """Return one tool for each function, in order; a single function makes a list of one.

    Raises:
        UsageError: For a value that cannot be a tool. Nothing was sent.
    """
    return [StructuredTool.of(each) for each in (functions if isinstance(functions, (list, tuple)) else [functions])]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(plain_json(value)).decode()
