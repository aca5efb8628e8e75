"""The line of the user's program that called this package, for warnings."""

from __future__ import annotations

import sys
import warnings
from typing import Any, NamedTuple

__all__ = ["Caller", "caller", "caller_stack_level"]

_PACKAGE = __name__.partition(".")[0]
# Modules that run coroutines and threads, whose lines are not the caller's.
_DRIVERS = frozenset({_PACKAGE, "asyncio", "concurrent", "threading"})


class Caller(NamedTuple):
    """A line of the caller's code.

    Attributes:
        file: Its file, or the notebook's name for a cell.
        line: The line number, from 1.
        module: Name of its module.
        registry: Python's record of the warnings that the module has shown.
    """

    file: str
    line: int
    module: str
    registry: dict[Any, Any]

    def warn(self, message: str) -> None:
        """Show a warning at this line."""
        warnings.warn_explicit(message, UserWarning, self.file, self.line, self.module, self.registry)


def caller() -> Caller:
    """Return the nearest line outside this package on the stack.

    Call this directly in the function that the caller calls. In a task or another thread, the stack has only lines of
    the loop or the thread, so that no stack level leads to the caller.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _DRIVERS:
        frame = frame.f_back
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    return Caller(frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__", "")), registry)


def caller_stack_level() -> int:
    """Count the frames up to the caller's line, which a warning should name."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pllm_notebook"):
        frame, level = frame.f_back, level + 1
    return level
