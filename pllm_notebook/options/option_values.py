"""Shared parts of options: the front ends that take them, their choices, and checks beyond annotations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from pllm_notebook.options.option_fields import is_finite

__all__ = ["CacheUse", "Effort", "Mode", "ServiceTier", "Voting"]

Mode = Literal["async", "sync", "batch"]
CacheUse = Literal["use", "refresh", "only", "off"]
Effort = Literal["none", "minimal", "low", "medium", "high", "max"]
ServiceTier = Literal["auto", "standard", "flex", "priority"]


class Voting(Protocol):
    """The type of `Vote(…)` for type checkers."""

    @property
    def numbers(self) -> str:
        """The rule for numbers."""

    @property
    def lists(self) -> str:
        """The rule for lists."""


# The front ends: methods of `df.llm`, lists of prompts, one call of a program, one request of `ParallelLLM`. The lab's
# methods take the options of `parse`, except for those that they set themselves.
LAB = frozenset({"race", "improve", "recheck"})
PARSE = LAB | {"parse"}
ROWS = PARSE | {"complete"}
ALL_BUT_DECIDE = ROWS | {"call_tools"}
FRAMES = ALL_BUT_DECIDE | {"decide"}
DATA = FRAMES - {"complete"}
LISTS = FRAMES | {"prompt_list"}
CALLS = LISTS | {"ask_llm"}


def is_names(value: Any) -> bool:
    """Return whether a value is a list or tuple of strings."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def is_columns(value: Any) -> bool:
    """Return whether a value is an ordered collection of strings: a list, an Index or an array.

    An iterator would be empty on the second read, and the order of a set differs between processes.
    """
    if isinstance(value, (str, Mapping, set, frozenset)) or not hasattr(value, "__len__"):
        return False
    return all(isinstance(item, str) for item in value)


def is_text(value: Any) -> bool:
    """Return whether a value is a non-empty string."""
    return isinstance(value, str) and value != ""


def is_models(value: Any) -> bool:
    """Return whether a value is a non-empty collection of strings."""
    return is_columns(value) and len(value) > 0


def is_paths(value: Any) -> bool:
    """Return whether a value is a path or a non-empty list of paths."""
    paths = value if isinstance(value, (list, tuple)) else [value]
    return bool(paths) and all(isinstance(one, (str, os.PathLike)) and os.fspath(one) for one in paths)


def is_stop(value: Any) -> bool:
    """Return whether a value is a non-empty string, or a non-empty list of such strings."""
    return bool(value) and (isinstance(value, str) or (is_names(value) and all(value)))


def is_prices(value: Any) -> bool:
    """Return whether a value maps models to a price, or to a pair of prices."""
    if not isinstance(value, Mapping):
        return False
    pairs = [each if isinstance(each, (list, tuple)) else (each, 0) for each in value.values()]
    return all(len(pair) == 2 and all(is_finite(one) and one >= 0 for one in pair) for pair in pairs)


def is_shard(value: Any) -> bool:
    """Return whether a value is a sender's index and the number of senders, as integers or command-line text."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    if not all(type(each) is int or (isinstance(each, str) and each.isdecimal()) for each in value):
        return False
    return 0 <= int(value[0]) < int(value[1])
