"""The frame of `df.llm.errors`, displayed with a summary by kind."""

from __future__ import annotations

from typing import Any

import polars as pl

from pllm_notebook.frames.error_groups import error_head_html, error_head_text

__all__ = ["Errors"]


class Errors(pl.DataFrame):
    """Failed rows, displayed below a summary by kind (see `df.llm.errors`).

    A selection from it may also have this class. It then has a summary of its own rows, or none without the columns
    that a summary needs.

    Attributes:
        retry_usd: Cost of retrying one row in US dollars, None if unknown.
    """

    retry_usd: float | None = None

    def __str__(self) -> str:
        """Return the summary by kind, followed by the rows. Polars uses this for `repr`."""
        head = self._head(error_head_text)
        return f"{head}\n\n{super().__str__()}" if head else super().__str__()

    def _repr_html_(self, **given: Any) -> str:
        """Return the summary by kind, followed by the rows, as HTML tables."""
        return f"{self._head(error_head_html)}{super()._repr_html_(**given)}"

    def _head(self, made: Any) -> str:
        # Polars keeps this class when rows are selected or columns are removed.
        if not {"kind", "message"} <= set(self.columns):
            return ""
        return str(made(self["kind"].to_list(), self["message"].to_list(), self.retry_usd))
