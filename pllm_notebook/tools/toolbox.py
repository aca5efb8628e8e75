"""The tools of one question, and the validation of a model's calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from pllm_notebook import messages_types
from pllm_notebook.exceptions import UnsupportedSchemaError, UsageError, guess
from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import ToolCall
from pllm_notebook.schema import Dialect, Invalid, check_limits
from pllm_notebook.tools.called_tools import CalledTool
from pllm_notebook.tools.structured_tool import StructuredTool

__all__ = ["ReadCall", "Toolbox", "unvalidated_call"]

_CHOICES = ("auto", "required", "none")
# Maximum number of strict tools per request, from Anthropic's page "Structured outputs". The limits on optional and
# union-typed parameters apply to all strict tools together.
_MAX_STRICT = 20


class ReadCall(NamedTuple):
    """One validated call.

    Attributes:
        call: The call. Its arguments are validated unless `invalid` is set.
        tool: The tool. None for a name that was not offered.
        invalid: Why the call is invalid. None if it is valid.
    """

    call: CalledTool
    tool: StructuredTool | None
    invalid: Invalid | None


class Toolbox:
    """The tools of one question. Created by `Toolbox.of`.

    Attributes:
        tools: The tools, in order.
        choice: "auto", "required", "none" or the name of a tool.
        parallel: Whether the model may call several tools at once. None for the provider's default.
    """

    def __init__(self, tools: tuple[StructuredTool, ...], choice: str, parallel: bool | None) -> None:
        self.tools = tools
        self.choice = choice
        self.parallel = parallel
        self._by_name: Mapping[str, StructuredTool] = {tool.name: tool for tool in tools}

    def __repr__(self) -> str:
        return f"Toolbox({', '.join(self._by_name)}; choice={self.choice!r})"

    @classmethod
    def of(cls, sources: Iterable[Any], choice: str = "auto", parallel: bool | None = None) -> Toolbox:
        """Build the tools from the caller's sources.

        Args:
            sources: Functions, models, mappings or `StructuredTool`s, at least one.
            choice: See `Toolbox.choice`.
            parallel: See `Toolbox.parallel`.

        Raises:
            UsageError: For an invalid tool, two tools of one name, no tools, or an unknown choice. Nothing was sent.
        """
        tools = tuple(StructuredTool.of(source) for source in sources)
        names = [tool.name for tool in tools]
        if not tools:
            raise UsageError("tools= is an empty list. Pass at least one tool, or leave it out. Nothing was sent.")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"Two tools are named {twice!r}, so it would be unclear which of them a model calls. Rename one. "
                f"Nothing was sent."
            )
        if choice not in _CHOICES and choice not in names:
            raise UsageError(
                f"tool_choice is {', '.join(map(repr, _CHOICES))} or the name of a tool ({', '.join(names)}), not "
                f"{choice!r}.{guess(choice, [*_CHOICES, *names])} Nothing was sent."
            )
        return cls(tools, choice, parallel)

    def fit(self, dialect: Dialect, beside: Mapping[str, Any] | None = None) -> tuple[messages_types.Tool, ...]:
        """Return the tools as sent to one provider.

        If a provider limits the guaranteed schemas of a request, tools beyond the limit are sent without the guarantee,
        starting with the last.

        Args:
            dialect: The provider's dialect.
            beside: The fitted schema of the answer, which counts too. None for none.
        """
        tools = [tool.fit(dialect) for tool in self.tools]
        if dialect.max_optional is None:
            return tuple(tools)
        guaranteed: dict[str, Any] = {} if beside is None else {"": beside}
        most = _MAX_STRICT + len(guaranteed)
        fitted = []
        for tool in tools:
            more = {**guaranteed, tool.name: tool.schema}
            strict = tool.strict and len(more) <= most and _within_limits(more, dialect)
            guaranteed = more if strict else guaranteed
            fitted.append(replace(tool, strict=strict))
        return tuple(fitted)

    def unrunnable(self) -> list[str]:
        """Return the names of the tools without a function."""
        return [tool.name for tool in self.tools if not tool.runnable]

    def read(self, calls: Sequence[ToolCall], dialect: Dialect) -> list[ReadCall]:
        """Validate calls, in order. Runs the types' validators and sends nothing."""
        return [self._read(call, dialect) for call in calls]

    def _read(self, call: ToolCall, dialect: Dialect) -> ReadCall:
        tool = self._by_name.get(call.name)
        if tool is None:
            names = ", ".join(self._by_name)
            message = f"the tool {call.name!r} was not offered; there are {names}"
            return ReadCall(unvalidated_call(call), None, Invalid(FailureKind.SCHEMA, message, (((), "unknown_tool"),)))
        value = tool.read(call.arguments, dialect)
        if isinstance(value, Invalid):
            return ReadCall(unvalidated_call(call), tool, value)
        return ReadCall(CalledTool(call.id, call.name, value, call.arguments), tool, None)


def _within_limits(schemas: Mapping[str, Any], dialect: Dialect) -> bool:
    try:
        check_limits({"type": "object", "properties": schemas, "required": list(schemas)}, dialect)
    except UnsupportedSchemaError:
        return False
    return True


def unvalidated_call(call: ToolCall) -> CalledTool:
    """Return a call with its arguments parsed from JSON but not validated."""
    arguments: Any
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    return CalledTool(call.id, call.name, arguments, call.arguments)
