"""`df.llm` and `series.llm` of pandas."""

from __future__ import annotations

from typing import Any, TypeAlias

import pandas as pd

from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.frame_accessor import FrameAccessor
from pllm_notebook.frames.pandas.agreement import Agreement

__all__ = ["FrameLLM", "SeriesLLM"]

_Column: TypeAlias = "pd.Series[Any]"


class FrameLLM(FrameAccessor[pd.DataFrame, _Column, Agreement]):
    """`df.llm`: ask a language model the same question of every row."""


class SeriesLLM(LLMAccessor[pd.DataFrame, _Column, Agreement]):
    """`series.llm`: ask a language model the same question of every value, `{value}` in the prompt."""
