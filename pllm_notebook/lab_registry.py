"""The prompt lab, as the methods of `.llm` reach it: the lab is above the frames that it compares, and registers here.

The front door registers it before any frame is asked, so this imports nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pllm_notebook.runtime import Slot

__all__ = ["Lab", "lab", "register_lab"]


class Lab(Protocol):
    """What the lab does with a table that an accessor gives it (see the methods of `df.llm` by these names)."""

    def compare_table(self, table: Any, old: Any, against: Any, field: str | None) -> Any:
        """Compare the answers of a table with other answers to its rows."""


class _Loader:
    """What loads the lab, None before the front door has registered it."""

    load: Callable[[], Any] | None = None


_LOADER: Slot[_Loader] = Slot("prompt lab", _Loader, is_kept=True)


def register_lab(load: Callable[[], Any]) -> None:
    """Set what loads the lab, with its first use."""
    _LOADER.value.load = load


def lab() -> Lab:
    """Return the lab."""
    load = _LOADER.value.load
    assert load is not None  # the front door is imported before anything below it
    loaded: Lab = load()
    return loaded
