"""The stack level of the caller of this package."""

from __future__ import annotations

import sys

__all__ = ["caller_stack_level"]


def caller_stack_level() -> int:
    """Count the frames up to the caller's own line, which a warning should name."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pllm_notebook"):
        frame, level = frame.f_back, level + 1
    return level
