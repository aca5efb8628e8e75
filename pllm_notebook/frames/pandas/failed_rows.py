"""The frame of `df.llm.errors`, displayed with a summary by kind."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pllm_notebook.frames.error_groups import error_head_html, error_head_text

__all__ = ["Errors"]


class Errors(pd.DataFrame):
    """Failed rows, displayed below a summary by kind (see `df.llm.errors`). Frames derived from it are plain frames.

    Attributes:
        retry_usd: Cost of retrying one row in US dollars, None if unknown.
    """

    _metadata = ["retry_usd"]  # noqa: RUF012  # how pandas declares attributes that are not columns
    retry_usd: float | None = None

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        """Return the summary by kind, followed by the rows."""
        head = self._head(error_head_text)
        return f"{head}\n\n{super().__repr__()}" if head else super().__repr__()

    def _repr_html_(self) -> str:
        """Return the summary by kind, followed by the rows, as HTML tables."""
        rows: str = super()._repr_html_()  # type: ignore[misc]  # not part of the published types
        return f"{self._head(error_head_html)}{rows}"

    def _head(self, made: Any) -> str:
        # A column may have been renamed or removed in place.
        if not {"kind", "message"} <= set(self.columns):
            return ""
        return str(made(self["kind"].tolist(), self["message"].tolist(), self.retry_usd))
