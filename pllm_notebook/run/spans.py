"""A length of time in words, as exact as somebody who waits wants it."""

from __future__ import annotations

__all__ = ["span"]


def span(seconds: float) -> str:
    """Write a time in one unit: 17 s, 2 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
