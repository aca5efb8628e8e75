"""Python functions as tools: the type of the arguments is derived from the signature."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, create_model

from pllm_notebook.exceptions import UsageError
from pllm_notebook.threads import DaemonLoop
from pllm_notebook.tools.docstrings import parse_docstring

__all__ = ["Function"]


class Function:
    """A function that a model may call.

    Args:
        call: The function; plain or async.

    Attributes:
        call: As given.
        name: Its name.
        description: The part of its docstring before the first section. "" for none.
        kind: A model with a field for each parameter, whose alias is the parameter's name.

    Raises:
        UsageError: For a function without a name, and for a parameter without a type, that cannot be passed by name, or
            that no schema can describe. Nothing was sent.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.name: str = getattr(call, "__name__", "")
        if not self.name or self.name == "<lambda>":
            raise UsageError(
                f"A tool needs a name, and {call!r} has none. Write it as a function with def. Nothing was sent."
            )
        self.description, said = parse_docstring(inspect.getdoc(call))
        # Fields do not have the names of the parameters, because `schema` or `_x` cannot be a field's name.
        self._fields: dict[str, str] = {}
        fields: dict[str, Any] = {}
        hints = _hints(call, self.name)
        for at, parameter in enumerate(_parameters(call, self.name)):
            self._fields[parameter.name] = own = f"argument_{at}"
            if parameter.name not in hints:
                raise UsageError(
                    f"The parameter {parameter.name!r} of the tool {self.name!r} has no type to show to the model. "
                    f"Annotate it, for example {parameter.name}: str. Nothing was sent."
                )
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            hint = hints[parameter.name]
            # A description in the annotation takes precedence over the docstring.
            description = None if _has_description(hint) else said.get(parameter.name)
            more: dict[str, Any] = {} if description is None else {"description": description}
            fields[own] = (hint, Field(default, alias=parameter.name, **more))
        try:
            self.kind: type[BaseModel] = create_model(
                self.name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields
            )
        except PydanticUserError as error:
            raise UsageError(
                f"The tool {self.name!r} has a parameter whose type no schema can describe: {error.message}. Give it "
                f"a type that JSON can hold. Nothing was sent."
            ) from error

    def given(self, arguments: BaseModel) -> dict[str, Any]:
        """Return the model's arguments by parameter name. Missing ones are left to the function's defaults."""
        there = arguments.model_fields_set
        return {name: getattr(arguments, own) for name, own in self._fields.items() if own in there}

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function and return its result. An async function runs in a new event loop."""
        result = self.call(**arguments)
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> Any:
            return await result

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return _run(awaited())
        return _in_a_thread(lambda: _run(awaited()))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=DaemonLoop) as runner:
        return runner.run(work)


def _in_a_thread(work: Callable[[], Any]) -> Any:
    """Run *work* in a new thread, which has no running event loop."""
    ended: list[Any] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            ended.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=do, name="pllm-tool", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return ended[0]


def _parameters(call: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The parameters of the tool {name!r} cannot be read: {error}. Wrap it in a function with annotated "
            f"parameters. Nothing was sent."
        ) from error
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            shown = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
            raise UsageError(
                f"The tool {name!r} has the parameter {shown!r}, which cannot be passed by name, but a model passes "
                f"every argument by name. Declare each argument as a separate parameter. Nothing was sent."
            )
    return parameters


def _hints(call: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing_extensions.get_type_hints(inspect.unwrap(call), include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(
            f"The types of the tool {name!r} cannot be read: {error}. Annotate its parameters with names that are "
            f"defined where it is. Nothing was sent."
        ) from error


def _has_description(hint: Any) -> bool:
    return any(getattr(extra, "description", None) for extra in getattr(hint, "__metadata__", ()))
