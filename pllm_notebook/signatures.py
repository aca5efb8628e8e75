"""Signatures and docstrings, for `inspect.signature` and Shift-Tab, that show every option with default and meaning.

A type checker reads `**options: Unpack[ParseOptions]`; a person in a notebook sees the options themselves.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from pllm_notebook.options import OptionField, plain

__all__ = ["lists", "shows", "signature_with"]

ClassT = TypeVar("ClassT", bound=type[Any])
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_WIDTH = 100


class _Annotation(str):
    """An annotation's source, which a signature shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


def shows(
    *known: Mapping[str, OptionField],
    defaults: Mapping[str, Any] | None = None,
    unset: bool = False,
    also: type[Any] | None = None,
    as_for: Callable[..., Any] | None = None,
) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator that adds the options of a function or class to its signature and docstring.

    Args:
        *known: The options, by name. Parameters of the function itself are left out.
        defaults: Defaults that differ from the options' own.
        unset: Whether all defaults are shown as None, meaning not set.
        also: A TypedDict of further keywords, which are sent only if given.
        as_for: A function with the same arguments, whose docstring describes them.
    """
    options = {name: each for some in known for name, each in some.items()}

    def decorate(function: FunctionT) -> FunctionT:
        shown: Any = function
        own: Any = shown.__init__ if isinstance(function, type) else function
        named = inspect.signature(own).parameters
        if as_for is not None:
            shown.__doc__ = _with_arguments_of(as_for, shown)
        if shown.__doc__:
            shown.__doc__ = _documented(shown.__doc__, [each for name, each in options.items() if name not in named])
        own.__signature__ = signature_with(own, options, defaults, unset=unset, also=also)
        return function

    return decorate


def lists(*names: str) -> Callable[[ClassT], ClassT]:
    """Return a class decorator that makes `dir` of an object, and thus Tab, show only *names*."""

    def decorate(cls: ClassT) -> ClassT:
        def listed(self: Any) -> list[str]:
            return [*(name for name in object.__dir__(self) if name.startswith("__")), *names]

        cls.__dir__ = listed  # type: ignore[assignment]  # of the class, where it is not bound yet
        return cls

    return decorate


def signature_with(
    function: Callable[..., Any],
    options: Mapping[str, OptionField],
    defaults: Mapping[str, Any] | None = None,
    *,
    unset: bool = False,
    also: type[Any] | None = None,
) -> inspect.Signature:
    """Return a function's signature with its options as keyword-only parameters instead of `**options`."""
    own = inspect.signature(function)
    kept = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if unset else (defaults or {}).get(name, each.default),
            annotation=_Annotation(f"{each.accepts} | None" if unset and "None" not in each.accepts else each.accepts),
        )
        for name, each in options.items()
        if name not in own.parameters
    ]
    for name, hint in ({} if also is None else also.__annotations__).items():
        if name not in own.parameters and name not in options:
            annotation = _Annotation(getattr(hint, "__forward_arg__", hint))
            added.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return own.replace(parameters=kept + added)


def _documented(doc: str, options: list[OptionField]) -> str:
    """Return the docstring with `**options` replaced by the options."""
    found = re.search(r"^( +)\*\*\w+: .*\n(?:\1 +.*\n)*", doc, flags=re.MULTILINE)
    if found is None:
        return doc
    return doc[: found.start()] + "".join(_entry(each, found[1]) for each in options) + doc[found.end() :]


def _with_arguments_of(other: Callable[..., Any], function: Callable[..., Any]) -> str:
    """Return a function's docstring with the arguments of another's. From its sync version, all except the summary."""
    summary, *own = _sections(function)
    shared = _sections(other)[1:]
    if not inspect.iscoroutinefunction(function):
        shared = [one for one in shared if one.startswith("Args:")]
    return "\n\n".join([summary, *shared, *own])


def _sections(function: Callable[..., Any]) -> list[str]:
    """Return a docstring's text before `Args:` and each following section."""
    return [one.strip() for one in re.split(r"^(?=[A-Z]\w+:$)", inspect.getdoc(function) or "", flags=re.MULTILINE)]


@lru_cache(maxsize=1024)
def _entry(option: OptionField, indent: str) -> str:
    text = f"{option.name}: {plain(option.text)}"
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ") + "\n"
