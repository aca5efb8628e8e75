"""Callbacks that do not keep their object alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["weak_callback"]


def weak_callback(method: Callable[[], Any]) -> Callable[[], Any]:
    """Return what calls *method* for as long as somebody holds its object, and does nothing after that."""
    held = weakref.WeakMethod(method)

    def call() -> Any:
        found = held()
        return None if found is None else found()

    return call
