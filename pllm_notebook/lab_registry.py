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

    def review_table(
        self, table: Any, fields: Any, order: Any, n: int, random_share: float, old: Any, by: str | None
    ) -> Any:
        """Show answers of a table one by one, to be accepted or corrected."""

    def recheck_table(self, table: Any, response_format: Any, n: int, options: Any) -> Any:
        """Return steps (`execution.steps`) that ask rows of a table again, each twice."""

    def race_table(
        self,
        table: Any,
        response_format: Any,
        prompts: Any,
        models: Any,
        efforts: Any,
        against: Any,
        field: str | None,
        rule: Any,
        options: Any,
    ) -> Any:
        """Return steps that race ways to ask about the labelled rows of a table."""

    def report_table(self, table: Any, path: Any, **how: Any) -> Any:
        """Report on a table: what was asked, answered, labelled and tried."""

    def improve_table(
        self,
        table: Any,
        response_format: Any,
        against: Any,
        field: str | None,
        proposer: str | None,
        proposals: int,
        seed: int,
        options: Any,
    ) -> Any:
        """Return steps that search for a better prompt by labelled rows of a table."""


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
