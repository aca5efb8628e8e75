"""The line of a program that called this package, for warnings."""

from __future__ import annotations

import sys
import warnings
from typing import Any, NamedTuple

__all__ = ["Caller", "caller", "caller_stack_level"]

_PACKAGE = __name__.partition(".")[0]
# What drives a coroutine or a thread is not a line of the caller's.
_DRIVERS = frozenset({_PACKAGE, "asyncio", "concurrent", "threading"})


class Caller(NamedTuple):
    """A line of the caller's own.

    Attributes:
        file: Its file, or a notebook's name for a cell.
        line: Counted from 1.
        module: Of the line.
        registry: Where Python notes which warnings the module has shown.
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

    Take it where the caller calls. A coroutine may be driven by a task, and a result be read in a thread: then the
    stack has only the loop's or the thread's own lines, and no count of levels finds the caller's.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _DRIVERS:
        frame = frame.f_back
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    return Caller(frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__", "")), registry)


def caller_stack_level() -> int:
    """Count the frames up to the caller's own line, which a warning should name."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pllm_notebook"):
        frame, level = frame.f_back, level + 1
    return level
