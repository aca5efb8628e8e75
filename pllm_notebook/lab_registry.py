"""Registry of the prompt lab for the methods of `.llm`: the lab is a layer above frames and registers here.

The package's `__init__` registers it before any frame is used, so this module imports neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pllm_notebook.runtime import Slot

__all__ = ["Lab", "lab", "register_lab"]


class Lab(Protocol):
    """The functions of the lab for an accessor's table (see the methods of `df.llm` with these names)."""

    def compare_table(self, table: Any, old: Any, against: Any, field: str | None) -> Any:
        """Compare the answers of a table with other answers to its rows."""

    def review_table(
        self, table: Any, fields: Any, order: Any, n: int, random_share: float, old: Any, by: str | None
    ) -> Any:
        """Show answers of a table one by one, to accept or correct them."""

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
        """Return steps that run a race on the labelled rows of a table."""

    def report_table(self, table: Any, path: Any, **how: Any) -> Any:
        """Report on the questions, answers, labels and comparisons of a table."""

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
    """The function that loads the lab. None before it is registered."""

    load: Callable[[], Any] | None = None


_LOADER: Slot[_Loader] = Slot("prompt lab", _Loader, is_kept=True)


def register_lab(load: Callable[[], Any]) -> None:
    """Set the function that loads the lab on first use."""
    _LOADER.value.load = load


def lab() -> Lab:
    """Return the lab."""
    load = _LOADER.value.load
    assert load is not None  # the package's `__init__` is always imported first
    loaded: Lab = load()
    return loaded
