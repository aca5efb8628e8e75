"""`pllm.frame`: the accessor's methods where `df.llm` is another package's."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.pandas.accessor import FrameLLM, SeriesLLM

__all__ = ["accessor_of"]


def accessor_of(data: Any) -> FrameLLM | SeriesLLM:
    """Return what `df.llm` gives for a DataFrame or a Series (see `pllm.frame`)."""
    if isinstance(data, pd.DataFrame):
        return FrameLLM(data)
    if isinstance(data, pd.Series):
        return SeriesLLM(data)
    raise UsageError(f"pllm.frame takes a DataFrame or a Series, not {type(data).__name__}. Nothing was sent.")
