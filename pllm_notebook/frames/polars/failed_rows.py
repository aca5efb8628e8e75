"""The frame of `df.llm.errors`, which begins with its rows by kind."""

from __future__ import annotations

from typing import Any

import polars as pl

from pllm_notebook.frames.error_groups import error_head_html, error_head_text

__all__ = ["Errors"]


class Errors(pl.DataFrame):
    """Failed rows, shown below their kinds (see `df.llm.errors`).

    A selection of it may be of this class too: it shows the kinds of its own rows, or nothing without their columns.

    Attributes:
        retry_usd: What asking one row again costs, None for unknown.
    """

    retry_usd: float | None = None

    def __str__(self) -> str:
        """Return the kinds, and the rows below them; Polars' `repr` is this."""
        head = self._head(error_head_text)
        return f"{head}\n\n{super().__str__()}" if head else super().__str__()

    def _repr_html_(self, **given: Any) -> str:
        """Return the kinds, and the rows below them, as tables."""
        return f"{self._head(error_head_html)}{super()._repr_html_(**given)}"

    def _head(self, made: Any) -> str:
        # Polars keeps this class where rows are selected, and where columns are taken away.
        if not {"kind", "message"} <= set(self.columns):
            return ""
        return str(made(self["kind"].to_list(), self["message"].to_list(), self.retry_usd))
