"""`df.llm.call_tools`: what a model calls for each row, in columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Unpack

import pandas as pd

from pllm_notebook import ensemble
from pllm_notebook.ensemble import Spec
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Run
from pllm_notebook.frames.pandas.rows import PandasRows
from pllm_notebook.option_fields import taken_by
from pllm_notebook.option_types import CallToolsOptions
from pllm_notebook.options import Options
from pllm_notebook.signatures import shows

__all__ = ["ToolCallingLLM"]


class ToolCallingLLM(ABC):
    """What an accessor can do with tools, besides asking for answers."""

    @abstractmethod
    def _prepare(
        self, kind: Any, prompt: str | None, given: dict[str, Any], *, calls: bool = False
    ) -> tuple[Spec, PandasRows]:
        """Make a question and its rows ready."""

    @shows(taken_by(Options, "call_tools"))
    def call_tools(
        self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]
    ) -> pd.DataFrame:
        """Ask the model which tools to call for every row, and with what. Runs none of them.

        Args:
            tools: Functions (signature and docstring tell the model about them), Pydantic models, `StructuredTool`s,
                or definitions as mappings.
            prompt: Text with `{column}` where a row's values go; None sends the row's columns as data.
            **options: As for `parse`; `tool_choice` ("required" has every row call one) and `parallel_tool_calls`.

        Returns:
            The input columns, and of the first call `tool` (string) and `arguments` (an instance of the model that
            the tool was made of, else a dict of validated values); `calls` lists all of them, each with id, name,
            arguments and text. With `explode=True` each call has a line of its own, and there is no `calls`. A row
            for which the model called nothing has NA in `tool` and `arguments` and an empty list in `calls`; a row
            without an answer has NA in all three. Arguments that do not fit are asked for again (`max_repairs`),
            and then are a failure of kind `schema`.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
            ProviderRejectedError: When key, model or quota were refused; what finished is kept.
        """
        frame: pd.DataFrame = self.submit_calls(tools, prompt, **options).result()
        return frame

    @shows(taken_by(Options, "call_tools"))
    async def acall_tools(
        self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]
    ) -> pd.DataFrame:
        """Do as `call_tools` does, awaited. Cancelling it stops the run."""
        frame: pd.DataFrame = await self.submit_calls(tools, prompt, **options)
        return frame

    @shows(taken_by(Options, "call_tools"))
    def submit_calls(self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]) -> Run:
        """Start `call_tools` in the background and give a live handle at once."""
        if isinstance(tools, Sequence) and not tools:
            raise UsageError("call_tools needs tools, and there are none in the list. Nothing was sent.")
        return ensemble.submit(*self._prepare(None, prompt, options | {"tools": tools}, calls=True))
