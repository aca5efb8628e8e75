"""Check that the options of a call fit the tools that it offers."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.settings import Options
from pllm_notebook.tools import Toolbox

__all__ = ["toolbox_for"]


def toolbox_for(options: Options, *, calls: bool) -> Toolbox:
    """Return the toolbox of a call.

    Args:
        options: As resolved, with tools.
        calls: Whether the answer is the model's tool calls, which are not run.

    Raises:
        UsageError: If the tools cannot be offered, or not with these options. Nothing was sent.
    """
    box = Toolbox.of(options.tools or (), options.tool_choice, options.parallel_tool_calls)
    if options.pack is not None and options.pack > 1:
        raise UsageError(
            "Rows that share a call (pack=) cannot each call tools. Leave one of them out. Nothing was sent."
        )
    if calls and options.run_tools:
        raise UsageError(
            "run_tools=True runs what the model calls, and then there are no calls left to give. Leave it out, or ask "
            "for the answer (parse, complete). Nothing was sent."
        )
    if options.run_tools and (without := box.unrunnable()):
        raise UsageError(
            f"run_tools=True runs Python functions, and there is none behind {', '.join(map(repr, without))}. Give "
            f"functions, or take the calls and run them yourself (df.llm.call_tools). Nothing was sent."
        )
    return box
