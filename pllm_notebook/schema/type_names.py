"""Names of types, for the provider and in messages, and docstrings of types, which are their instructions."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from enum import Enum
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from pllm_notebook.schema.fields import bare

__all__ = ["as_name", "shown_type", "type_doc", "type_name"]


def shown_type(kind: Any) -> str:
    """Return a type's name for messages."""
    return kind.__qualname__ if isinstance(kind, type) else repr(kind)


def type_name(kind: Any) -> str:
    """Return a type's name for a provider: letters, digits, `_` and `-`, at most 64."""
    return as_name(_spelled(kind))


def as_name(text: str) -> str:
    """Convert a text to a name that every provider accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:64] or "answer"


def _spelled(kind: Any) -> str:
    kind = bare(kind)
    arguments = get_args(kind)
    if arguments and get_origin(kind) not in (Union, types.UnionType):
        words = [str(one) if isinstance(one, str | int) else _spelled(one) for one in arguments if one is not ...]
        origin = get_origin(kind)
        return "_".join([getattr(origin, "__name__", None) or str(origin).rpartition(".")[2], *words])
    if arguments:
        return "_or_".join(_spelled(one) for one in arguments)
    return getattr(kind, "__name__", None) or "answer"


def type_doc(kind: Any) -> str:
    """Return a type's own docstring, "" if it has none or one that does not describe an answer."""
    kind = bare(kind)
    if not isinstance(kind, type):
        return ""
    # The docstring of another class, such as date or UUID, is about Python, not about the answer.
    ours = issubclass(kind, BaseModel | Enum) or dataclasses.is_dataclass(kind) or hasattr(kind, "__annotations__")
    if not ours or kind.__module__.partition(".")[0] == "pydantic":
        return ""
    generic = getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")
    own = kind.__dict__.get("__doc__") or (generic.__dict__.get("__doc__") if generic else None)
    # Dataclasses and named tuples without a docstring get their signature as one.
    if not own or own.startswith(f"{kind.__name__}("):
        return ""
    return inspect.cleandoc(own)
